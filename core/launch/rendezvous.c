#include "launch/rendezvous.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "launch/door.h"
#include "sys/sock.h"

#define NS_PER_MS INT64_C(1000000)
#define PATIENCE_MS 30000        /* of a HELLO that names none */
#define MARGIN_MS 1000           /* the answer is there before the rank gives up */
#define REASON_BYTES 1000

typedef struct local_rank {
	pio_guest *guest;            /* NULL: not here */
	pio_frame_address address;   /* where its ring neighbour connects */
	bool is_seated, has_met;
	int64_t patience_ns;         /* when it is told who is missing; 0: it was, or need not be */
	bool is_told;                /* who is missing, with the next WAITING */
} local_rank;

struct pio_rendezvous {
	pio_door *door;
	pio_rendezvous_owner owner;
	char name[PIO_RENDEZVOUS_NAME_BYTES];
	char *token, *abort_reason;
	int world, first_rank, ranks, connected, met;
	local_rank local[];
};

/* ---- sending ------------------------------------------------------------------------------- */

static void send_text(pio_guest *guest, enum pio_frame_type type, const char *text)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_text(&frame, type, text);
	pio_guest_send(guest, &frame);
}

static void send_next(const local_rank *rank, const pio_frame_address *next)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_next(&frame, next);
	pio_guest_send(rank->guest, &frame);
}

static void up_plain(pio_rendezvous *r, enum pio_frame_type type)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_plain(&frame, type);
	r->owner.up(r->owner.context, &frame);
}

/* ---- what the assembly says ------------------------------------------------------------------ */

/* Each rank's neighbour is the next of this node, the last one's on the next node. */
static void hear_next(pio_rendezvous *r, const pio_frame *frame)
{
	pio_frame_address next_node;
	if (pio_frame_get_next(&next_node, frame, NULL) != 0)
		return;
	r->met = 0;
	for (int i = 0; i < r->ranks; i++) {
		local_rank *rank = &r->local[i];
		rank->has_met = rank->is_told = false;
		if (!rank->guest)
			continue;
		rank->is_seated = true;
		rank->patience_ns = 0;
		send_next(rank, i + 1 < r->ranks ? &r->local[i + 1].address : &next_node);
	}
}

static void hear_abort(pio_rendezvous *r, const pio_frame *frame)
{
	char reason[REASON_BYTES];
	if (r->abort_reason || pio_frame_get_text(reason, sizeof reason, frame, NULL) != 0)
		return;
	r->abort_reason = pio_strdup(reason);
	for (int i = 0; i < r->ranks; i++)
		if (r->local[i].guest)
			send_text(r->local[i].guest, PIO_FRAME_ABORT, reason);
}

static void hear_waiting(pio_rendezvous *r, const pio_frame *frame)
{
	char text[REASON_BYTES];
	if (pio_frame_get_text(text, sizeof text, frame, NULL) != 0)
		return;
	for (int i = 0; i < r->ranks; i++)
		if (r->local[i].guest && r->local[i].is_told) {
			r->local[i].is_told = false;
			send_text(r->local[i].guest, PIO_FRAME_WAITING, text);
		}
}

/* All have met, or somebody shares: the same bytes for every rank. */
static void pass_down(pio_rendezvous *r, const pio_frame *frame)
{
	const char *bytes = NULL;
	size_t size_bytes = 0;
	if (frame->type == PIO_FRAME_SHARE && pio_frame_get_bytes(&bytes, &size_bytes, frame, NULL) != 0)
		return;
	r->met = frame->type == PIO_FRAME_MEET ? 0 : r->met;
	for (int i = 0; i < r->ranks; i++) {
		local_rank *rank = &r->local[i];
		pio_str out = PIO_STR_INIT;
		if (!rank->guest || !rank->is_seated)
			continue;
		if (frame->type == PIO_FRAME_MEET) {
			rank->has_met = false;
			pio_frame_put_plain(&out, PIO_FRAME_MEET);
		} else {
			pio_frame_put_bytes(&out, PIO_FRAME_SHARE, bytes, size_bytes);
		}
		pio_guest_send(rank->guest, &out);
	}
}

void pio_rendezvous_hear(pio_rendezvous *r, const pio_frame *frame)
{
	switch (frame->type) {
	case PIO_FRAME_NEXT:
		hear_next(r, frame);
		break;
	case PIO_FRAME_WAITING:
		hear_waiting(r, frame);
		break;
	case PIO_FRAME_ABORT:
		hear_abort(r, frame);
		break;
	case PIO_FRAME_MEET:
	case PIO_FRAME_SHARE:
		pass_down(r, frame);
		break;
	default:
		break;
	}
}

void pio_rendezvous_abort(pio_rendezvous *r, const char *reason)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_text(&frame, PIO_FRAME_ABORT, reason);
	r->owner.up(r->owner.context, &frame);
}

/* ---- what the ranks say ------------------------------------------------------------------------ */

static void join(pio_rendezvous *r, pio_guest *guest, const pio_frame_hello *hello)
{
	int index = (int)hello->rank - r->first_rank;
	int64_t patience_ms = hello->patience_ms ? hello->patience_ms : PATIENCE_MS;
	int64_t margin_ms = patience_ms < 5 * MARGIN_MS ? patience_ms / 5 : MARGIN_MS;
	pio_frame_here here = { .rank = hello->rank, .address = hello->address };
	pio_str frame = PIO_STR_INIT;
	r->local[index] = (local_rank){ .guest = guest, .address = hello->address };
	r->local[index].patience_ns = pio_clock_mono_ns() + (patience_ms - margin_ms) * NS_PER_MS;
	r->connected++;
	pio_guest_admit(guest, index);
	if (r->abort_reason) {
		send_text(guest, PIO_FRAME_ABORT, r->abort_reason);
		return;
	}
	pio_frame_put_here(&frame, &here);
	r->owner.up(r->owner.context, &frame);
}

static void hear_hello(pio_rendezvous *r, pio_guest *guest, const pio_frame *frame)
{
	pio_frame_hello hello;
	if (frame->type != PIO_FRAME_HELLO)
		pio_guest_refuse(guest, "something else than a HELLO");
	else if (pio_frame_get_hello(&hello, frame, NULL) != 0 || !hello.address.host[0])
		pio_guest_refuse(guest, "a broken HELLO");
	else if (!pio_token_matches(r->token, hello.token))
		pio_guest_refuse(guest, "a wrong token");
	else if (hello.world != (uint32_t)r->world || hello.rank < (uint32_t)r->first_rank ||
	         hello.rank >= (uint32_t)(r->first_rank + r->ranks))
		pio_guest_refuse(guest, "a HELLO with a rank or world size that this node has not");
	else if (r->local[hello.rank - (uint32_t)r->first_rank].guest)
		pio_guest_refuse(guest, "a second HELLO of a rank that is connected");
	else
		join(r, guest, &hello);
}

static void leave(pio_rendezvous *r, pio_guest *guest, bool without_bye)
{
	local_rank *rank = &r->local[pio_guest_index(guest)];
	pio_str frame = PIO_STR_INIT;
	if (rank->guest != guest)
		return;
	r->met -= rank->has_met;
	*rank = (local_rank){ .guest = NULL };
	r->connected--;
	pio_frame_put_left(&frame, (uint32_t)(r->first_rank + pio_guest_index(guest)), without_bye);
	r->owner.up(r->owner.context, &frame);
}

static void hear_own_abort(pio_rendezvous *r, pio_guest *guest, const pio_frame *frame)
{
	char reason[REASON_BYTES];
	if (r->abort_reason || pio_frame_get_text(reason, sizeof reason, frame, NULL) != 0)
		return;
	pio_str message = PIO_STR_INIT;
	pio_str_printf(&message, "rank %d aborted: %s", r->first_rank + pio_guest_index(guest), reason);
	r->owner.tell(r->owner.context, "abort", message.data);
	pio_str_fini(&message);
	pio_rendezvous_abort(r, reason);
}

static void hear_meet(pio_rendezvous *r, local_rank *rank)
{
	if (rank->has_met)
		return;
	rank->has_met = true;
	if (++r->met == r->ranks)
		up_plain(r, PIO_FRAME_MEET);
}

static void hear(void *context, pio_guest *guest, const pio_frame *frame)
{
	pio_rendezvous *r = context;
	const char *bytes;
	size_t size_bytes;
	pio_str out = PIO_STR_INIT;
	if (pio_guest_index(guest) < 0) {
		hear_hello(r, guest, frame);
	} else if (frame->type == PIO_FRAME_ABORT) {
		hear_own_abort(r, guest, frame);
	} else if (frame->type == PIO_FRAME_MEET) {
		hear_meet(r, &r->local[pio_guest_index(guest)]);
	} else if (frame->type == PIO_FRAME_SHARE &&
	           pio_frame_get_bytes(&bytes, &size_bytes, frame, NULL) == 0) {
		pio_frame_put_bytes(&out, PIO_FRAME_SHARE, bytes, size_bytes);
		r->owner.up(r->owner.context, &out);
	} else {
		/* BYE; no client of ours says anything else. */
		leave(r, guest, frame->type != PIO_FRAME_BYE);
		pio_guest_close(guest);
	}
}

static void lost(void *context, pio_guest *guest)
{
	leave(context, guest, true);
}

static void tick(void *context)
{
	pio_rendezvous *r = context;
	int64_t now_ns = pio_clock_mono_ns();
	bool asks = false;
	for (int i = 0; i < r->ranks; i++) {
		local_rank *rank = &r->local[i];
		if (!rank->guest || !rank->patience_ns || now_ns <= rank->patience_ns || r->abort_reason)
			continue;
		rank->patience_ns = 0;
		rank->is_told = asks = true;
	}
	if (asks)
		up_plain(r, PIO_FRAME_ASK);
}

static void tell(void *context, const char *kind, const char *message)
{
	pio_rendezvous *r = context;
	r->owner.tell(r->owner.context, kind, message);
}

/* ---- life -------------------------------------------------------------------------------------- */

int pio_rendezvous_open(pio_rendezvous **rendezvous, uv_loop_t *loop, const char *token, int world,
                        int first_rank, int ranks, const pio_rendezvous_owner *owner, pio_err *err)
{
	int fd = -1, rc = 0;
	*rendezvous = NULL;
	pio_rendezvous *r = pio_calloc(1, sizeof *r + (size_t)ranks * sizeof *r->local);
	if (!r)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a rendezvous of %d ranks", ranks);
	r->owner = *owner;
	r->world = world;
	r->first_rank = first_rank;
	r->ranks = ranks;
	r->token = pio_strdup(token);
	if (!r->token)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a rendezvous of %d ranks", ranks);
	if (!rc)
		rc = pio_sock_listen_local(&fd, r->name, sizeof r->name, err);
	if (!rc) {
		pio_door_owner of_door = { r, hear, lost, tick, tell };
		rc = pio_door_open(&r->door, loop, &fd, "the rendezvous", ranks, &of_door, err);
	}
	pio_sock_close(&fd);
	*rendezvous = r;
	if (rc)
		pio_rendezvous_close(rendezvous);
	return rc;
}

const char *pio_rendezvous_name(const pio_rendezvous *rendezvous)
{
	return rendezvous->name;
}

uint64_t pio_rendezvous_refused(const pio_rendezvous *rendezvous)
{
	return pio_door_refused(rendezvous->door);
}

int pio_rendezvous_connected(const pio_rendezvous *rendezvous)
{
	return rendezvous->connected;
}

void pio_rendezvous_close(pio_rendezvous **rendezvous)
{
	pio_rendezvous *r = *rendezvous;
	*rendezvous = NULL;
	if (!r)
		return;
	pio_door_close(&r->door); /* it calls nobody any more */
	pio_free(r->token);
	pio_free(r->abort_reason);
	pio_free(r);
}
