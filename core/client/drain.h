/* drain.h: where rings lie, waiting for them, and what to do with those that
 * a dead process left behind.
 *
 * A ring file is named by run, attempt and rank, so that whoever finds the
 * attempt dead finds its rings. Recovery moves each published point and record
 * that is not yet in the journal: a drainer that was killed between writing
 * the journal and moving its tail has left both, and nothing is kept twice. */
#ifndef PIO_CLIENT_DRAIN_H
#define PIO_CLIENT_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "client/ring.h"
#include "sys/journal.h"

/* Append <pio_shm_dir()>/pioche-<ulid>-<attempt>-<rank>.ring to `path`. */
int pio_ring_path(pio_str *path, const char *ulid, int attempt, int rank, pio_err *err);

/* While the journal cannot be written: once the ring is three quarters full or
 * a writer waits, move what is published into `backlog`, so that nobody waits;
 * beyond 32 MiB points are given up and counted, records never. What is below
 * that stays in the ring, where it survives the process, unless `all` is to go
 * because the rank has ended. */
int pio_ring_spill(pio_ring *ring, pio_str *backlog, bool all, pio_err *err);
/* Empty the backlog into the journal and sync it. On failure, or with `journal`
 * NULL, its points count as lost, and the next drain says so. */
int pio_ring_unspill(pio_ring *ring, pio_str *backlog, pio_journal_writer *journal, pio_err *err);
int pio_ring_backlog_put(pio_str *backlog, enum pio_record_type type, const pio_str *payload,
                         pio_err *err);
/* An event of the ring's rank, into the journal, or where that is NULL the backlog. */
int pio_ring_tell(pio_ring *ring, pio_journal_writer *journal, pio_str *backlog, const char *kind,
                  const char *message, pio_err *err);
/* Points that were given up so far. */
uint64_t pio_ring_lost(const pio_ring *ring);
/* Leave a backlog beside the ring, for whoever recovers that. */
int pio_ring_leave_backlog(const char *ring_path, const pio_str *backlog, pio_err *err);
/* Move the tails over what the journal has already, after a drainer failed or
 * was killed between the journal and the tails. */
int pio_ring_skip_journaled(pio_ring *ring, const char *journal_path, pio_err *err);
/* Start anew as the drainer of a ring that another process drained until now. */
void pio_ring_adopt_tails(pio_ring *ring);

/* Sleep until a writer waits for room, at most timeout_ms. */
void pio_ring_wait(pio_ring *ring, int timeout_ms);

/* End such a sleep now. */
void pio_ring_kick(pio_ring *ring);

/* Nobody will drain this ring any more: writers neither wait nor keep. */
void pio_ring_shut(pio_ring *ring);

/* Opens a segment of a journal: pio_journal_reader_open, or what also reads those
 * that are archived (store/archive.h). PIO_ENOTFOUND: there is none to open. */
typedef int pio_ring_open_segment(pio_journal_reader **reader, pio_journal_header *header,
                                  const char *path, pio_err *err);

/* Ranks [first, first + count) of a dead attempt. */
typedef struct pio_ring_node {
	const char *dir, *ulid;      /* of the attempt */
	int attempt, node, first, count;
	int64_t *last_steps;         /* count steps, raised to the newest of each ring; or NULL */
	pio_ring_open_segment *open; /* NULL: archived segments are older than what is in the rings */
} pio_ring_node;

/* Drain the rings that they left on this node into <dir>/journal.<node> and unlink
 * them. The caller makes sure that no other drainer lives (the lock of the attempt,
 * DIR/agent.lock). 0 also when there is none. */
int pio_ring_recover_node(const pio_ring_node *node, pio_err *err);
/* Those of ranks [0, world), into the journal of node 0. */
int pio_ring_recover(const char *dir, const char *ulid, int attempt, int world, pio_err *err);
/* Is any ring of them on this node? */
bool pio_ring_is_left(const pio_ring_node *node);

#endif
