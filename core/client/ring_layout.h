/* ring_layout.h: what lies in a ring file; private to core/client.
 *
 * A header of one page, `slots` slots of 32 bytes, then the side ring of
 * `side_bytes` bytes. Indices (head, tail) count up for ever and are taken
 * modulo the size, so that full and empty differ. Writers own head, the
 * drainer owns tail. The header is shared with a process that may scribble
 * over it: whoever attaches keeps sizes and rank in private memory.
 *
 * Time in a slot is in ticks: the processor's counter where it is invariant,
 * else CLOCK_MONOTONIC in ns. Two anchors (ticks, wall ns) tell their meaning. */
#ifndef PIO_CLIENT_RING_LAYOUT_H
#define PIO_CLIENT_RING_LAYOUT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "client/ring.h"
#include "sys/shm.h"

#define RING_MAGIC "PIORING\n"
#define RING_VERSION 2u
#define RING_HEADER_BYTES 4096u
#define RING_SLOTS_MAX (1u << 24)
#define RING_SIDE_BYTES_MAX (1u << 28)
#define RING_FRAME_BYTES 5u /* u32 size of the payload, u8 type */

enum ring_clock { RING_CLOCK_COUNTER = 1, RING_CLOCK_MONOTONIC = 2 };

typedef struct ring_anchor {
	uint64_t ticks;
	int64_t wall_ns;
} ring_anchor;

typedef struct ring_slot {
	uint64_t ticks;
	int64_t step;
	uint64_t value_bits;
	uint32_t key;
	_Atomic uint32_t lap; /* claim index / slots + 1 once published */
} ring_slot;

typedef struct ring_header {
	char magic[8];
	uint32_t version, slots, side_bytes, rank, clock, zero;
	uint64_t boot;
	ring_anchor anchors[2];          /* of creation or of drains; see newest */
	_Atomic uint32_t newest;         /* the one that is whole and newer */
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
	_Atomic uint64_t side_tail;
	_Atomic uint32_t drained;        /* futex: grows when a tail moves */
	_Atomic uint32_t closed;         /* nobody will drain any more: do not wait */
	_Atomic uint32_t next_key;       /* grows under the mutex alone */
	_Alignas(64) _Atomic uint32_t hurry; /* futex: grows when a writer waits */
	_Atomic uint32_t waiters;
	_Atomic uint32_t secondary;
	_Atomic uint64_t stalls, stalled_ns;
	_Atomic uint64_t lost;           /* points given up while the disk was full */
	_Alignas(64) _Atomic uint64_t side_head;
	pthread_mutex_t side_mutex;      /* of writers alone; a drainer never takes it */
	_Alignas(64) _Atomic int64_t asked;  /* vote.h: the highest step asked about; INT64_MIN: none */
	_Atomic int64_t stop_step;
	_Atomic uint32_t vote;           /* futex: enum pio_vote */
} ring_header;

_Static_assert(sizeof(ring_slot) == 32, "two slots a cache line");
_Static_assert(sizeof(ring_header) <= RING_HEADER_BYTES, "the header is one page");

typedef struct key_entry {
	uint64_t hash;
	uint32_t number;
	uint32_t name_bytes;
	char name[];
} key_entry;

typedef struct key_table {
	size_t mask, used;
	struct key_table *retired; /* smaller tables that a reader may still hold */
	_Atomic(key_entry *) entries[];
} key_table;

struct pio_ring {
	ring_header *header;
	ring_slot *slots;
	uint8_t *side;
	uint32_t slot_count, slot_shift, side_bytes, rank, clock;
	pio_shm shm;
	_Atomic(key_table *) keys;
	/* Called now and then by a writer that waits: is there still a drainer? */
	void (*rescue)(void *context);
	void *rescue_context;
	/* The drainer's own, never read back from shared memory. */
	uint64_t tail, side_tail, stalls_told, stalled_ns_told, lost_told;
	int64_t last_step, stuck_since_ns;
	unsigned idle_looks;       /* in a row */
	ring_anchor anchor;
	pio_journal_point *batch;
	uint8_t *frame;
	bool side_broken;
};

static inline uint64_t ring_ticks(uint32_t clock)
{
#if defined(__x86_64__)
	if (__builtin_expect(clock == RING_CLOCK_COUNTER, 1))
		return __rdtsc();
#elif defined(__aarch64__)
	if (__builtin_expect(clock == RING_CLOCK_COUNTER, 1)) {
		uint64_t ticks;
		__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
		return ticks;
	}
#endif
	(void)clock;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint32_t ring_lap(const pio_ring *ring, uint64_t index)
{
	return (uint32_t)(index >> ring->slot_shift) + 1;
}

/* Ticks and wall time of one instant, to well under a microsecond. */
ring_anchor ring_anchor_now(uint32_t clock);
/* First 8 bytes of the kernel's boot id; 0 where unknown. */
uint64_t ring_boot_id(void);
/* Futex operations on a word shared between processes. */
void ring_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns);
void ring_futex_wake(_Atomic uint32_t *word);
/* The part of pio_ring_log that is seldom taken. */
void ring_wait_slot(pio_ring *ring, uint64_t index);

/* The drainer's buffers, made on first use. */
int ring_drain_prepare(pio_ring *ring, pio_err *err);
/* The frame at *at into ring->frame, and *at moved past it; false if there is
 * none that may stand there. */
bool ring_side_next(pio_ring *ring, uint64_t *at, uint64_t head, uint8_t *type, uint32_t *size);

/* Will the next `count` points fit without waiting, as far as one can tell? */
static inline bool ring_has_room(const pio_ring *ring, uint64_t count)
{
	uint64_t head = atomic_load_explicit(&ring->header->head, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&ring->header->tail, memory_order_relaxed);
	return head + count - tail <= ring->slot_count;
}

/* The whole of logging a point; inline, because it is called a lot.
 *
 * Why the order of stores is right, on Arm as on x86 (C11 7.17.3):
 *  - The claim is relaxed: it need only be atomic, so that an index has one
 *    owner. Nothing is published by it; the drainer trusts laps, not head.
 *  - A slot is used again. The drainer reads it, then stores tail with release;
 *    a writer that finds room has loaded that tail, or a later one, with
 *    acquire. So the drainer's reads happen before the stores below, and the
 *    plain fields have no race.
 *  - The lap is stored with release after the fields and loaded with acquire
 *    before they are read: whoever sees the lap sees the whole point. The lap
 *    of a round differs from that of the round before, so an old one is never
 *    taken for it.
 *  - A KEY record is published (side_head, release) before its number leaves
 *    pio_ring_key, by program order or by the table's release and acquire. So
 *    it happens before the lap of any point with that number, and a drainer
 *    that saw the lap finds the record when it loads side_head afterwards.
 *  - A writer that waits adds itself to `waiters`, loads `drained`, then looks
 *    for room once more; the drainer stores tail, adds to `drained`, then loads
 *    `waiters`; all but the tail are sequentially consistent. Either the writer
 *    sees the new tail, or the drainer sees the waiter, or the futex finds
 *    `drained` changed: no wake-up is missed. (And it looks every 100 ms.) */
static inline void ring_log(pio_ring *ring, uint32_t key, int64_t step, uint64_t value_bits)
{
	ring_header *header = ring->header;
	uint64_t index = atomic_fetch_add_explicit(&header->head, 1, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&header->tail, memory_order_acquire);
	if (__builtin_expect(index - tail >= ring->slot_count, 0))
		ring_wait_slot(ring, index);
	ring_slot *slot = &ring->slots[index & (ring->slot_count - 1)];
	slot->ticks = ring_ticks(ring->clock);
	slot->step = step;
	slot->value_bits = value_bits;
	slot->key = key;
	atomic_store_explicit(&slot->lap, ring_lap(ring, index), memory_order_release);
}

#endif
