#include "launch/assembly.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define LOST_NS INT64_C(500000000)   /* from a broken connection to the abort it causes */
#define MISSING_NAMED_MAX 8          /* ranks of one machine, or nodes */
#define REASON_BYTES 1000

enum state { AWAY, WAITING, SEATED };

struct pio_assembly {
	pio_assembly_owner owner;
	int nodes, ranks_per_node, world;
	uint8_t *states;             /* one enum state a rank */
	pio_frame_address *doors;    /* one a node: of its first rank */
	int *waiting;                /* ranks a node */
	int waiting_in_all;
	bool *has_met;               /* nodes in the barrier */
	int met;
	char *abort_reason;
	int lost_rank;               /* the first that left without BYE; -1: none */
	int64_t lost_ns;
};

int pio_assembly_new(pio_assembly **assembly, int nodes, int ranks_per_node,
                     const pio_assembly_owner *owner, pio_err *err)
{
	size_t n = (size_t)nodes;
	pio_assembly *a = pio_calloc(1, sizeof *a);
	*assembly = NULL;
	if (a) {
		*a = (pio_assembly){ .owner = *owner, .nodes = nodes, .ranks_per_node = ranks_per_node,
		                     .world = nodes * ranks_per_node, .lost_rank = -1 };
		a->states = pio_calloc(n * (size_t)ranks_per_node, sizeof *a->states);
		a->doors = pio_calloc(n, sizeof *a->doors);
		a->waiting = pio_calloc(n, sizeof *a->waiting);
		a->has_met = pio_calloc(n, sizeof *a->has_met);
	}
	if (!a || !a->states || !a->doors || !a->waiting || !a->has_met) {
		pio_assembly_free(a);
		return pio_fail(err, PIO_ENOMEM, "out of memory for an assembly of %d nodes", nodes);
	}
	*assembly = a;
	return 0;
}

void pio_assembly_free(pio_assembly *a)
{
	if (!a)
		return;
	pio_free(a->states);
	pio_free(a->doors);
	pio_free(a->waiting);
	pio_free(a->has_met);
	pio_free(a->abort_reason);
	pio_free(a);
}

static void send_text(pio_assembly *a, int node, enum pio_frame_type type, const char *text)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_text(&frame, type, text);
	a->owner.send(a->owner.context, node, &frame);
}

void pio_assembly_abort(pio_assembly *a, const char *reason)
{
	if (a->abort_reason || !(a->abort_reason = pio_strdup(reason)))
		return;
	for (int node = 0; node < a->nodes; node++)
		send_text(a, node, PIO_FRAME_ABORT, reason);
}

/* ---- who is here ------------------------------------------------------------------------- */

static void leave(pio_assembly *a, int rank)
{
	if (a->states[rank] == WAITING) {
		a->waiting[rank / a->ranks_per_node]--;
		a->waiting_in_all--;
	}
	a->states[rank] = AWAY;
}

/* All wait: whoever met in a barrier before belongs to an earlier assembly. */
static void seat(pio_assembly *a)
{
	memset(a->states, SEATED, (size_t)a->world);
	memset(a->waiting, 0, (size_t)a->nodes * sizeof *a->waiting);
	memset(a->has_met, 0, (size_t)a->nodes * sizeof *a->has_met);
	a->waiting_in_all = a->met = 0;
	for (int node = 0; node < a->nodes; node++) {
		pio_str frame = PIO_STR_INIT;
		pio_frame_put_next(&frame, &a->doors[(node + 1) % a->nodes]);
		a->owner.send(a->owner.context, node, &frame);
	}
}

static int first_rank(const pio_assembly *a, int node)
{
	return node * a->ranks_per_node;
}

static bool is_of(const pio_assembly *a, int node, uint32_t rank)
{
	return rank < (uint32_t)a->world && (int)rank / a->ranks_per_node == node;
}

static void hear_here(pio_assembly *a, int node, const pio_frame *frame)
{
	pio_frame_here here;
	if (pio_frame_get_here(&here, frame, NULL) != 0 || !is_of(a, node, here.rank) || a->abort_reason)
		return;
	leave(a, (int)here.rank);
	a->states[here.rank] = WAITING;
	a->waiting[node]++;
	a->waiting_in_all++;
	if ((int)here.rank == first_rank(a, node))
		a->doors[node] = here.address;
	if (a->waiting_in_all == a->world)
		seat(a);
}

static void hear_left(pio_assembly *a, int node, const pio_frame *frame)
{
	uint32_t rank;
	bool without_bye;
	if (pio_frame_get_left(&rank, &without_bye, frame, NULL) != 0 || !is_of(a, node, rank))
		return;
	if (without_bye && a->states[rank] == SEATED && a->lost_rank < 0) {
		a->lost_rank = (int)rank;
		a->lost_ns = pio_clock_mono_ns();
	}
	leave(a, (int)rank);
}

/* Nobody named a better reason in the meantime. */
void pio_assembly_tick(pio_assembly *a)
{
	if (a->lost_rank < 0 || a->abort_reason || pio_clock_mono_ns() - a->lost_ns < LOST_NS)
		return;
	int seated = 0;
	for (int i = 0; i < a->world; i++)
		seated += a->states[i] != AWAY;
	pio_str reason = PIO_STR_INIT;
	pio_str_printf(&reason, "rank %d is gone: its connection to its agent broke", a->lost_rank);
	a->lost_rank = -1;
	if (seated) {
		a->owner.tell(a->owner.context, "abort", reason.data);
		pio_assembly_abort(a, reason.data);
	}
	pio_str_fini(&reason);
}

/* ---- who is missing ------------------------------------------------------------------------ */

/* " 3", " 8-15" for each stretch of ranks of the node that do not wait. */
static int put_ranks(pio_str *text, const pio_assembly *a, int node, int named_max)
{
	int first = first_rank(a, node), end = first + a->ranks_per_node, named = 0;
	for (int i = first, last; i < end && named < named_max; i = last + 1) {
		last = i;
		if (a->states[i] == WAITING)
			continue;
		while (a->nodes > 1 && last + 1 < end && a->states[last + 1] != WAITING)
			last++;
		pio_str_printf(text, last > i ? "%s %d-%d" : "%s %d", named ? "," : "", i, last);
		named += last - i + 1;
	}
	return named;
}

/* "3 of 8 ranks did not come: rank 1, 2, 7", or, of many nodes, "17 of 1016 ranks
 * did not come: rank 371 (dgx-047), 1000-1007 (dgx-126), ..." */
static void hear_ask(pio_assembly *a, int node)
{
	pio_str text = PIO_STR_INIT;
	int missing = a->world - a->waiting_in_all, named = 0, nodes = 0;
	pio_str_printf(&text, "%d of %d ranks did not come: rank", missing, a->world);
	for (int i = 0; i < a->nodes && nodes < MISSING_NAMED_MAX; i++) {
		if (a->waiting[i] == a->ranks_per_node)
			continue;
		pio_str_puts(&text, nodes++ ? "," : "");
		named += put_ranks(&text, a, i, a->nodes > 1 ? a->ranks_per_node : MISSING_NAMED_MAX);
		if (a->owner.put_host && a->nodes > 1) {
			pio_str_puts(&text, " (");
			a->owner.put_host(a->owner.context, i, &text);
			pio_str_puts(&text, ")");
		}
	}
	if (missing > named)
		pio_str_puts(&text, ", ...");
	send_text(a, node, PIO_FRAME_WAITING, text.failed ? "ranks are missing" : text.data);
	pio_str_fini(&text);
}

/* ---- what is passed on ---------------------------------------------------------------------- */

static void hear_meet(pio_assembly *a, int node)
{
	if (a->has_met[node])
		return;
	a->has_met[node] = true;
	if (++a->met < a->nodes)
		return;
	a->met = 0;
	memset(a->has_met, 0, (size_t)a->nodes * sizeof *a->has_met);
	for (int i = 0; i < a->nodes; i++) {
		pio_str frame = PIO_STR_INIT;
		pio_frame_put_plain(&frame, PIO_FRAME_MEET);
		a->owner.send(a->owner.context, i, &frame);
	}
}

static void hear_share(pio_assembly *a, const pio_frame *frame)
{
	const char *bytes;
	size_t size_bytes;
	if (pio_frame_get_bytes(&bytes, &size_bytes, frame, NULL) != 0)
		return;
	for (int node = 0; node < a->nodes; node++) {
		pio_str out = PIO_STR_INIT;
		pio_frame_put_bytes(&out, PIO_FRAME_SHARE, bytes, size_bytes);
		a->owner.send(a->owner.context, node, &out);
	}
}

static void hear_abort(pio_assembly *a, const pio_frame *frame)
{
	char reason[REASON_BYTES];
	if (a->abort_reason || pio_frame_get_text(reason, sizeof reason, frame, NULL) != 0)
		return;
	pio_assembly_abort(a, reason);
}

bool pio_assembly_hear(pio_assembly *a, int node, const pio_frame *frame)
{
	switch (frame->type) {
	case PIO_FRAME_HERE:
		hear_here(a, node, frame);
		return true;
	case PIO_FRAME_LEFT:
		hear_left(a, node, frame);
		return true;
	case PIO_FRAME_ASK:
		hear_ask(a, node);
		return true;
	case PIO_FRAME_MEET:
		hear_meet(a, node);
		return true;
	case PIO_FRAME_SHARE:
		hear_share(a, frame);
		return true;
	case PIO_FRAME_ABORT:
		hear_abort(a, frame);
		return true;
	default:
		return false;
	}
}
