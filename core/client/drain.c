/* Order of a drain, on which exactly-once rests:
 *
 *  1. find the end of the published points,
 *  2. append the side ring's records (the keys of these points are among them,
 *     by invariant 2 of ring.h), then the points,
 *  3. flush the journal, so that the bytes are the kernel's,
 *  4. move the tails.
 *
 * A drainer killed between 3 and 4 leaves points in ring and journal both;
 * each carries the low half of its claim index (`seq`), by which recovery
 * knows them. */
#include "client/drain.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/ring_layout.h"

#define BATCH_POINTS 4096u
#define ANCHOR_NS 1000000u          /* closer anchors would tell the rate badly */
#define STUCK_NS 10000000000LL
#define IDLE_LOOKS 16               /* in a row, then all is done as if there were something */

#define BACKLOG_BYTES_MAX (32u << 20)

/* Where drained records go: the journal, or while it cannot be written memory. */
typedef struct sink {
	pio_journal_writer *journal;
	pio_str *backlog;  /* frames as in the side ring */
} sink;

typedef struct anchors {
	ring_anchor now;
	double ns_per_tick;
} anchors;

static anchors anchors_take(pio_ring *ring)
{
	anchors a = { ring_anchor_now(ring->clock), 1.0 };
	int64_t ticks = (int64_t)(a.now.ticks - ring->anchor.ticks);
	double wall_ns = (double)a.now.wall_ns - (double)ring->anchor.wall_ns;
	if (ticks > 0 && wall_ns >= 0)
		a.ns_per_tick = wall_ns / (double)ticks;
	return a;
}

static void anchors_keep(pio_ring *ring, const anchors *a)
{
	/* The anchor of a ring that was overwritten may be any number. */
	if (a->now.wall_ns >= ring->anchor.wall_ns &&
	    (uint64_t)a->now.wall_ns - (uint64_t)ring->anchor.wall_ns < ANCHOR_NS)
		return;
	ring_header *header = ring->header;
	uint32_t next = ~atomic_load(&header->newest) & 1;
	ring->anchor = a->now;
	header->anchors[next] = a->now;
	atomic_store(&header->newest, next);
}

/* Between two anchors, time is a straight line. The counter of a slot is not
 * trusted: whatever it holds, the result is a number. */
static int64_t wall_ns_of(const anchors *a, uint64_t ticks)
{
	double back_ns = (double)(int64_t)(a->now.ticks - ticks) * a->ns_per_tick;
	if (!(back_ns > -4e18 && back_ns < 4e18))
		return a->now.wall_ns;
	return (int64_t)((uint64_t)a->now.wall_ns - (uint64_t)(int64_t)back_ns);
}

static bool is_published(const pio_ring *ring, uint64_t index)
{
	const ring_slot *slot = &ring->slots[index & (ring->slot_count - 1)];
	return atomic_load_explicit(&slot->lap, memory_order_acquire) == ring_lap(ring, index);
}

/* One past the last point to take now. */
static uint64_t points_end(pio_ring *ring, bool rank_is_dead)
{
	uint64_t head = atomic_load_explicit(&ring->header->head, memory_order_acquire);
	uint64_t claimed = head - ring->tail;
	uint64_t limit = ring->tail + (claimed > ring->slot_count ? ring->slot_count : claimed);
	if (rank_is_dead)
		return limit;
	uint64_t end = ring->tail;
	while (end < limit && is_published(ring, end))
		end++;
	return end;
}

static int put(const sink *to, enum pio_record_type type, const void *head, size_t head_bytes,
               const void *body, size_t body_bytes, pio_err *err)
{
	if (to->journal)
		return pio_journal_append(to->journal, type, head, head_bytes, body, body_bytes, err);
	uint32_t size = (uint32_t)(head_bytes + body_bytes);
	size_t before = to->backlog->len;
	pio_str_append(to->backlog, &size, sizeof size);
	pio_str_putc(to->backlog, (char)type);
	pio_str_append(to->backlog, head, head_bytes);
	if (body_bytes)
		pio_str_append(to->backlog, body, body_bytes);
	int rc = pio_str_check(to->backlog, err);
	if (rc) { /* no part of a frame stays */
		to->backlog->len = before;
		to->backlog->failed = false;
	}
	return rc;
}

static int put_event(pio_ring *ring, const sink *to, const char *kind, const char *message,
                     pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, ring->rank);
	pio_record_put_i64(&payload, pio_clock_wall_ns());
	pio_record_put_str(&payload, kind, strlen(kind));
	pio_record_put_str(&payload, message, strlen(message));
	int rc = pio_str_check(&payload, err);
	if (!rc)
		rc = put(to, PIO_RECORD_EVENT, payload.data, payload.len, NULL, 0, err);
	pio_str_fini(&payload);
	return rc;
}

/* ---- the side ring ---------------------------------------------------------- */

static void side_get(const pio_ring *ring, uint64_t at, void *bytes, size_t size_bytes)
{
	size_t start = (size_t)at & (ring->side_bytes - 1), first = ring->side_bytes - start;
	if (first > size_bytes)
		first = size_bytes;
	memcpy(bytes, ring->side + start, first);
	memcpy((uint8_t *)bytes + first, ring->side, size_bytes - first);
}

bool ring_side_next(pio_ring *ring, uint64_t *at, uint64_t head, uint8_t *type, uint32_t *size)
{
	uint64_t left = head - *at;
	if (left < RING_FRAME_BYTES)
		return false;
	side_get(ring, *at, size, sizeof *size);
	side_get(ring, *at + sizeof *size, type, 1);
	bool known = *type == PIO_RECORD_KEY || *type == PIO_RECORD_TEXT || *type == PIO_RECORD_FACT ||
	             *type == PIO_RECORD_EVENT || *type == PIO_RECORD_CHECKPOINT ||
	             *type == PIO_RECORD_MEDIA || *type == PIO_RECORD_ENVIRONMENT;
	if (!known || *size < sizeof ring->rank || *size > left - RING_FRAME_BYTES)
		return false;
	side_get(ring, *at + RING_FRAME_BYTES, ring->frame, *size);
	/* A rank speaks for itself, whatever it wrote. */
	memcpy(ring->frame, &ring->rank, sizeof ring->rank);
	*at += RING_FRAME_BYTES + *size;
	return true;
}

static int drain_side(pio_ring *ring, const sink *to, uint64_t *side_end, uint64_t *moved,
                      pio_err *err)
{
	uint64_t head = atomic_load_explicit(&ring->header->side_head, memory_order_acquire);
	uint64_t at = ring->side_tail;
	*side_end = head;
	if (ring->side_broken)
		return 0;
	bool sound = head - at <= ring->side_bytes;
	while (sound && at != head) {
		uint8_t type;
		uint32_t size;
		sound = ring_side_next(ring, &at, head, &type, &size);
		if (!sound)
			break;
		int rc = put(to, (enum pio_record_type)type, ring->frame, size, NULL, 0, err);
		if (rc)
			return rc;
		++*moved;
	}
	if (sound)
		return 0;
	ring->side_broken = true;
	return put_event(ring, to, "ring.corrupt",
	                 "the rank overwrote its log buffer; texts, facts and new metrics are lost", err);
}

/* ---- points ----------------------------------------------------------------- */

static int append_batch(pio_ring *ring, const sink *to, uint32_t count, pio_err *err)
{
	uint32_t head[2] = { ring->rank, count };
	if (!count)
		return 0;
	if (!to->journal && to->backlog->len > BACKLOG_BYTES_MAX) {
		atomic_fetch_add(&ring->header->lost, count);
		return 0;
	}
	return put(to, PIO_RECORD_POINTS, head, sizeof head, ring->batch,
	           count * sizeof ring->batch[0], err);
}

static int drain_points(pio_ring *ring, const sink *to, uint64_t end, uint64_t *moved,
                        pio_err *err)
{
	anchors a = anchors_take(ring);
	uint32_t count = 0;
	for (uint64_t i = ring->tail; i != end; i++) {
		if (!is_published(ring, i))
			continue;
		const ring_slot *slot = &ring->slots[i & (ring->slot_count - 1)];
		ring->batch[count++] = (pio_journal_point){
			.time_ns = wall_ns_of(&a, slot->ticks), .step = slot->step,
			.value_bits = slot->value_bits, .key = slot->key, .seq = (uint32_t)i,
		};
		ring->last_step = slot->step;
		++*moved;
		if (count == BATCH_POINTS) {
			int rc = append_batch(ring, to, count, err);
			if (rc)
				return rc;
			count = 0;
		}
	}
	anchors_keep(ring, &a);
	return append_batch(ring, to, count, err);
}

/* Points that were given up are told once, by whoever drains when there is room. */
static int drain_lost(pio_ring *ring, const sink *to, pio_err *err)
{
	uint64_t lost = atomic_load(&ring->header->lost);
	char message[128];
	if (lost == ring->lost_told)
		return 0;
	snprintf(message, sizeof message, "the disk was full: %llu points are missing",
	         (unsigned long long)(lost - ring->lost_told));
	ring->lost_told = lost;
	return put_event(ring, to, "log.lost", message, err);
}

static int drain_losses(pio_ring *ring, const sink *to, pio_err *err)
{
	uint64_t stalls = atomic_load(&ring->header->stalls);
	uint64_t stalled_ns = atomic_load(&ring->header->stalled_ns);
	if (stalls <= ring->stalls_told && stalled_ns <= ring->stalled_ns_told)
		return 0;
	struct __attribute__((packed)) {
		uint32_t rank;
		int64_t time_ns;
		uint64_t stalls, stalled_ns;
	} loss = { ring->rank, pio_clock_wall_ns(), stalls, stalled_ns };
	int rc = put(to, PIO_RECORD_LOSS, &loss, sizeof loss, NULL, 0, err);
	if (rc)
		return rc;
	ring->stalls_told = stalls;
	ring->stalled_ns_told = stalled_ns;
	return 0;
}

/* A forked child that was killed between claiming a slot and publishing it
 * would block its siblings for ever. When the ring is full behind such a hole
 * for 10 s, pass over it, and say so. */
static int pass_hole(pio_ring *ring, const sink *to, uint64_t *end, pio_err *err)
{
	uint64_t head = atomic_load(&ring->header->head);
	if (*end != ring->tail || head - ring->tail < ring->slot_count) {
		ring->stuck_since_ns = 0;
		return 0;
	}
	int64_t now_ns = pio_clock_mono_ns();
	if (!ring->stuck_since_ns)
		ring->stuck_since_ns = now_ns;
	if (now_ns - ring->stuck_since_ns < STUCK_NS)
		return 0;
	ring->stuck_since_ns = 0;
	++*end;
	return put_event(ring, to, "ring.hole",
	                 "a process that shared the log buffer died while logging; one point is lost", err);
}

int ring_drain_prepare(pio_ring *ring, pio_err *err)
{
	if (!ring->batch)
		ring->batch = pio_alloc(BATCH_POINTS * sizeof ring->batch[0]);
	if (!ring->frame)
		ring->frame = pio_alloc(ring->side_bytes);
	if (!ring->batch || !ring->frame)
		return pio_fail(err, PIO_ENOMEM, "out of memory to drain the ring of rank %u", ring->rank);
	return 0;
}

/* Most looks into a ring find nothing, and those into eight of them every 10 ms
 * would cost more than what they do find. The anchor stays young all the same. */
static bool is_idle(pio_ring *ring)
{
	ring_header *header = ring->header;
	bool idle = atomic_load_explicit(&header->head, memory_order_relaxed) == ring->tail &&
	            atomic_load_explicit(&header->side_head, memory_order_relaxed) == ring->side_tail &&
	            atomic_load_explicit(&header->stalls, memory_order_relaxed) <= ring->stalls_told &&
	            atomic_load_explicit(&header->stalled_ns, memory_order_relaxed) <= ring->stalled_ns_told &&
	            atomic_load_explicit(&header->lost, memory_order_relaxed) == ring->lost_told;
	ring->idle_looks = idle ? ring->idle_looks + 1 : 0;
	return idle && ring->idle_looks % IDLE_LOOKS;
}

static int drain(pio_ring *ring, const sink *to, bool rank_is_dead, uint64_t *moved, pio_err *err)
{
	ring_header *header = ring->header;
	uint64_t side_end;
	*moved = 0;
	if (!rank_is_dead && is_idle(ring))
		return 0;
	int rc = ring_drain_prepare(ring, err);
	if (rc)
		return rc;
	uint64_t end = points_end(ring, rank_is_dead);
	rc = drain_side(ring, to, &side_end, moved, err);
	if (!rc)
		rc = drain_points(ring, to, end, moved, err);
	if (!rc && !rank_is_dead)
		rc = pass_hole(ring, to, &end, err);
	if (!rc)
		rc = drain_losses(ring, to, err);
	if (!rc && to->journal)
		rc = drain_lost(ring, to, err);
	if (!rc && to->journal)
		rc = pio_journal_flush(to->journal, 0, err);
	if (rc || (end == ring->tail && side_end == ring->side_tail))
		return rc;
	ring->tail = end;
	ring->side_tail = side_end;
	atomic_store_explicit(&header->tail, end, memory_order_release);
	atomic_store_explicit(&header->side_tail, side_end, memory_order_release);
	atomic_fetch_add(&header->drained, 1);
	if (atomic_load(&header->waiters))
		ring_futex_wake(&header->drained);
	return 0;
}

int pio_ring_drain(pio_ring *ring, pio_journal_writer *journal, bool rank_is_dead, uint64_t *moved,
                   pio_err *err)
{
	sink to = { .journal = journal };
	return drain(ring, &to, rank_is_dead, moved, err);
}

int pio_ring_spill(pio_ring *ring, pio_str *backlog, bool all, pio_err *err)
{
	const ring_header *header = ring->header;
	sink to = { .backlog = backlog };
	uint64_t moved = 1;
	int rc = 0;
	while (all && !rc && moved)
		rc = drain(ring, &to, true, &moved, err);
	uint64_t held = atomic_load_explicit(&header->head, memory_order_relaxed) - ring->tail;
	uint64_t side_held = atomic_load_explicit(&header->side_head, memory_order_relaxed) - ring->side_tail;
	if (all || (held < ring->slot_count / 4 * 3 && side_held < ring->side_bytes / 4 &&
	            !atomic_load(&header->waiters)))
		return rc; /* in the ring they survive the process */
	return drain(ring, &to, false, &moved, err);
}

int pio_ring_tell(pio_ring *ring, pio_journal_writer *journal, pio_str *backlog, const char *kind,
                  const char *message, pio_err *err)
{
	sink to = { .journal = journal, .backlog = journal ? NULL : backlog };
	return put_event(ring, &to, kind, message, err);
}

uint64_t pio_ring_lost(const pio_ring *ring)
{
	return atomic_load(&ring->header->lost);
}

int pio_ring_backlog_put(pio_str *backlog, enum pio_record_type type, const pio_str *payload,
                         pio_err *err)
{
	sink to = { .backlog = backlog };
	return put(&to, type, payload->data, payload->len, NULL, 0, err);
}

int pio_ring_unspill(pio_ring *ring, pio_str *backlog, pio_journal_writer *journal, pio_err *err)
{
	uint64_t points = 0;
	int rc = 0;
	for (size_t at = 0; backlog->len - at >= RING_FRAME_BYTES;) {
		uint32_t size;
		memcpy(&size, backlog->data + at, sizeof size);
		uint8_t type = (uint8_t)backlog->data[at + sizeof size];
		at += RING_FRAME_BYTES;
		if (size < 2 * sizeof size || size > backlog->len - at || type > PIO_RECORD_ENVIRONMENT)
			break; /* a file that is none of ours */
		if (type == PIO_RECORD_POINTS)
			points += (size - 2 * sizeof size) / sizeof(pio_journal_point);
		if (!rc && journal)
			rc = pio_journal_append(journal, (enum pio_record_type)type, backlog->data + at, size, NULL, 0,
			                        err);
		at += size;
	}
	if (!rc && journal)
		rc = pio_journal_flush(journal, 1, err);
	if (rc || !journal) /* how much of it was written cannot be known: nothing comes twice */
		atomic_fetch_add(&ring->header->lost, points);
	pio_str_clear(backlog);
	return rc;
}

int64_t pio_ring_last_step(const pio_ring *ring)
{
	return ring->last_step;
}

uint64_t pio_ring_taken(const pio_ring *ring)
{
	return ring->tail + ring->side_tail;
}

void pio_ring_wait(pio_ring *ring, int timeout_ms)
{
	uint32_t seen = atomic_load(&ring->header->hurry);
	if (!atomic_load(&ring->header->waiters))
		ring_futex_wait(&ring->header->hurry, seen, (int64_t)timeout_ms * 1000000);
}

void pio_ring_kick(pio_ring *ring)
{
	atomic_fetch_add(&ring->header->hurry, 1);
	ring_futex_wake(&ring->header->hurry);
}

void pio_ring_shut(pio_ring *ring)
{
	atomic_store(&ring->header->closed, 1);
	atomic_fetch_add(&ring->header->drained, 1);
	ring_futex_wake(&ring->header->drained);
}
