/* ring.h: the shared memory that one rank logs into and one drainer reads.
 *
 * One file per rank: a versioned header, an array of 32-byte slots for points,
 * and a byte ring for everything of variable length (key names, text, facts,
 * events, checkpoint reports: journal records, journal.h). Any thread of the
 * rank, and its forked children, may log; one process drains.
 *
 * Invariants:
 *  1. A slot is claimed by an atomic add and published by a store-release of
 *     its lap number; a drainer takes only published slots, in order.
 *  2. A KEY record is published before the first point that uses its number.
 *  3. A claim never overwrites an undrained slot: the writer waits (bounded
 *     spin, then futex) and adds the wait to the loss totals.
 *  4. The drainer checks every index it reads: a rank that scribbles over its
 *     ring harms its own run alone.
 *  5. When the rank is dead, slots that were claimed but never published are
 *     skipped; every published one is kept. */
#ifndef PIO_CLIENT_RING_H
#define PIO_CLIENT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/journal.h"

#define PIO_RING_SLOTS 32768u          /* default; a power of two; 1 MiB */
#define PIO_RING_SIDE_BYTES (1u << 20) /* default; a record larger than half of it is refused */

typedef struct pio_ring pio_ring;

/* Make the ring of `rank` at `path` (sys/shm.h); 0 for a default size. */
int pio_ring_create(pio_ring **ring, const char *path, uint32_t rank, uint32_t slots,
                    uint32_t side_bytes, pio_err *err);
/* What such a ring takes of memory. */
size_t pio_ring_bytes(uint32_t slots, uint32_t side_bytes);
int pio_ring_attach(pio_ring **ring, const char *path, pio_err *err);
void pio_ring_close(pio_ring **ring);
uint32_t pio_ring_rank(const pio_ring *ring);

/* ---- the rank's side ----------------------------------------------------- */
/* Number of a name; new ones publish a KEY record. 0 on failure. */
uint32_t pio_ring_key(pio_ring *ring, const char *name, size_t name_bytes, pio_err *err);
void pio_ring_log(pio_ring *ring, uint32_t key, int64_t step, double value);
/* One record of variable length, all or nothing; waits while the ring is full. */
int pio_ring_record(pio_ring *ring, enum pio_record_type type, const void *payload,
                    size_t size_bytes, pio_err *err);

/* ---- the drainer's side ---------------------------------------------------- */
/* Append all that is published to the journal: records first, so that every
 * key is known. `rank_is_dead`: also pass over holes. *moved counts points and
 * records. Also appends LOSS when the totals grew. */
int pio_ring_drain(pio_ring *ring, pio_journal_writer *journal, bool rank_is_dead,
                   uint64_t *moved, pio_err *err);
/* Newest step seen by the drainer; INT64_MIN before the first point. */
int64_t pio_ring_last_step(const pio_ring *ring);
/* Grows with every point and record that the drainer took. */
uint64_t pio_ring_taken(const pio_ring *ring);
/* The rank failed because a collective told it that a peer is gone: its death
 * is a consequence, not a cause. Set by the client, read by the agent. */
void pio_ring_mark_secondary(pio_ring *ring);
bool pio_ring_is_secondary(const pio_ring *ring);

#endif
