#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "launch/rendezvous_parts.h"

#define PATIENCE_MS 30000        /* of a HELLO that names none */
#define MARGIN_MS 200            /* the answer is there before the rank gives up */
#define STRANGER_BYTES_MAX 4096u /* of a first frame: nobody unknown makes us allocate more */
#define MISSING_NAMED_MAX 8
#define REASON_BYTES 1000

/* ---- what the head says ---------------------------------------------------------------- */

static void send_text(pio_peer *peer, enum pio_frame_type type, const char *text)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_text(&frame, type, text);
	pio_peer_send(peer, &frame);
}

static bool is_missing(const pio_rendezvous *r, int rank)
{
	return !r->by_rank[rank] || r->by_rank[rank]->has_table;
}

void pio_peer_tell_missing(pio_peer *peer)
{
	const pio_rendezvous *r = peer->rendezvous;
	pio_str text = PIO_STR_INIT;
	int missing = 0, named = 0;
	for (int i = 0; i < r->world; i++)
		missing += is_missing(r, i);
	pio_str_printf(&text, "%d of %d ranks did not come: rank", missing, r->world);
	for (int i = 0; i < r->world && named < MISSING_NAMED_MAX; i++)
		if (is_missing(r, i))
			pio_str_printf(&text, "%s %d", named++ ? "," : "", i);
	if (missing > named)
		pio_str_puts(&text, ", ...");
	send_text(peer, PIO_FRAME_WAITING, text.failed ? "ranks are missing" : text.data);
	pio_str_fini(&text);
}

/* All here and nobody has a table yet: give it to them. */
static void settle(pio_rendezvous *r)
{
	for (int i = 0; i < r->world; i++)
		if (is_missing(r, i))
			return;
	pio_frame_address *table = pio_calloc((size_t)r->world, sizeof *table);
	for (int i = 0; table && i < r->world; i++)
		table[i] = r->by_rank[i]->address;
	for (int i = 0; i < r->world; i++) {
		pio_peer *peer = r->by_rank[i];
		pio_str frame = PIO_STR_INIT;
		peer->has_table = true;
		if (table)
			pio_frame_put_table(&frame, table, (uint32_t)r->world);
		else
			frame.failed = true;
		pio_peer_send(peer, &frame);
	}
	pio_free(table);
}

void pio_rendezvous_abort_but(pio_rendezvous *rendezvous, const char *reason, const pio_peer *except)
{
	if (rendezvous->abort_reason)
		return;
	rendezvous->abort_reason = pio_strdup(reason);
	for (int i = 0; i < rendezvous->world; i++)
		if (rendezvous->by_rank[i] && rendezvous->by_rank[i] != except)
			send_text(rendezvous->by_rank[i], PIO_FRAME_ABORT, reason);
}

/* ---- what the ranks say ------------------------------------------------------------------ */

/* The time it takes tells nothing about where the first difference is. */
static bool token_matches(const char *expected, const char *got)
{
	size_t n = strlen(expected), got_bytes = strlen(got);
	unsigned difference = got_bytes != n;
	for (size_t i = 0; i < n; i++)
		difference |= (unsigned char)expected[i] ^ (unsigned char)(got_bytes == n ? got[i] : 0);
	return difference == 0;
}

static void join(pio_peer *peer, const pio_frame_hello *hello)
{
	pio_rendezvous *r = peer->rendezvous;
	int64_t patience_ms = hello->patience_ms ? hello->patience_ms : PATIENCE_MS;
	int64_t margin_ms = patience_ms < 5 * MARGIN_MS ? patience_ms / 5 : MARGIN_MS;
	peer->address = hello->address;
	peer->rank = (int)hello->rank;
	peer->since_ns = pio_clock_mono_ns();
	peer->patience_ns = peer->since_ns + (patience_ms - margin_ms) * 1000000;
	r->by_rank[peer->rank] = peer;
	r->strangers--;
	r->connected++;
	if (r->abort_reason)
		send_text(peer, PIO_FRAME_ABORT, r->abort_reason);
	else
		settle(r);
}

static void hear_hello(pio_peer *peer, const pio_frame *frame)
{
	const pio_rendezvous *r = peer->rendezvous;
	pio_frame_hello hello;
	if (pio_frame_get_hello(&hello, frame, NULL) != 0 || !hello.address.host[0])
		pio_peer_refuse(peer, "a broken HELLO");
	else if (!token_matches(r->token, hello.token))
		pio_peer_refuse(peer, "a wrong token");
	else if (hello.rank >= (uint32_t)r->world || hello.world != (uint32_t)r->world)
		pio_peer_refuse(peer, "a HELLO with a rank or world size that this attempt has not");
	else if (r->by_rank[hello.rank])
		pio_peer_refuse(peer, "a second HELLO of a rank that is connected");
	else
		join(peer, &hello);
}

static void hear_abort(pio_peer *peer, const pio_frame *frame)
{
	char reason[REASON_BYTES];
	pio_rendezvous *r = peer->rendezvous;
	if (pio_frame_get_text(reason, sizeof reason, frame, NULL) != 0) {
		pio_peer_lose(peer);
		return;
	}
	if (!r->abort_reason) {
		pio_str message = PIO_STR_INIT;
		pio_str_printf(&message, "rank %d aborted: %s", peer->rank, reason);
		pio_rendezvous_tell(r, "abort", message.data);
		pio_str_fini(&message);
	}
	pio_rendezvous_abort_but(r, reason, peer);
}

static void hear_frame(pio_peer *peer, const pio_frame *frame)
{
	if (peer->rank < 0) {
		if (frame->type == PIO_FRAME_HELLO)
			hear_hello(peer, frame);
		else
			pio_peer_refuse(peer, "something else than a HELLO");
	} else if (frame->type == PIO_FRAME_ABORT) {
		hear_abort(peer, frame);
	} else if (frame->type == PIO_FRAME_BYE) {
		pio_peer_close(peer);
	} else {
		pio_peer_lose(peer); /* no client of ours says that */
	}
}

void pio_peer_hear(pio_peer *peer)
{
	size_t at = 0, used = 0;
	pio_frame frame;
	int rc = 0;
	while (!peer->is_closing &&
	       (rc = pio_frame_next(&frame, &used, peer->in + at, peer->in_bytes - at, NULL)) == 1) {
		hear_frame(peer, &frame);
		at += used;
	}
	if (peer->is_closing)
		return;
	if (rc < 0) {
		if (peer->rank < 0)
			pio_peer_refuse(peer, "a frame of an impossible length");
		else
			pio_peer_lose(peer);
		return;
	}
	memmove(peer->in, peer->in + at, peer->in_bytes - at);
	peer->in_bytes -= at;
	if (peer->rank < 0 && peer->in_bytes > STRANGER_BYTES_MAX)
		pio_peer_refuse(peer, "a first frame longer than a HELLO");
}
