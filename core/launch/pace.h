/* pace.h: how fast ranks make steps, and how long they may make none.
 *
 * A pure calculation on what an agent sees of its ranks' rings at each beat:
 * newest step and how much was logged. No clock, no process, no I/O.
 *
 * What counts as silence is learned from the run itself: the times between two
 * rises of a rank's step, of all ranks of the node. Three phases have limits of
 * their own:
 *
 *   first   no rank has made a second step: loading, compiling, warming up
 *           max(30 min, 5 x the longest time between steps)
 *   busy    no steps, but the processes work: an evaluation, a checkpoint:
 *           max(10 floors, 5 x the longest)
 *   idle    no steps, and nobody works: max(a floor of 60 s, 5 x their p99)
 *
 * Whoever has logged no step yet has no pace and is never silent. */
#ifndef PIO_LAUNCH_PACE_H
#define PIO_LAUNCH_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pio_pace_phase { PIO_PACE_FIRST, PIO_PACE_BUSY, PIO_PACE_IDLE };

/* Quarters of an octave from 1 ms up to a year. */
#define PIO_PACE_BUCKETS 140

/* What is known of the times between steps. Zeroed, it knows nothing. */
typedef struct pio_pace_book {
	uint32_t counts[PIO_PACE_BUCKETS];
	uint64_t count;
	int64_t longest_ns;
} pio_pace_book;

/* One rank. Begins as PIO_PACE_INIT. */
typedef struct pio_pace {
	int64_t step;              /* newest; INT64_MIN: none yet */
	uint64_t taken;            /* of its ring: points and records */
	uint64_t rises;            /* of its step, the first one counted */
	int64_t rose_ns;           /* the last of them; monotonic, as all here */
	int64_t alive_ns;          /* when it last logged anything */
	int64_t window_step, window_ns;  /* where the present window began */
	int64_t step_ns;           /* a step in the last whole window; 0: none yet */
	bool is_slow;              /* in an episode of slow steps */
} pio_pace;
#define PIO_PACE_INIT { .step = INT64_MIN, .window_step = INT64_MIN }

/* A rank is seen with this newest step and this much logged. True when a window
 * of at least 20 steps and 5 s has ended: step_ns is new. */
bool pio_pace_see(pio_pace *pace, pio_pace_book *book, int64_t step, uint64_t taken, int64_t now_ns);
/* Nobody looked for this long: it is nobody's silence. */
void pio_pace_forgive(pio_pace *pace, int64_t gap_ns);
/* The longest silence of a phase. */
int64_t pio_pace_limit_ns(const pio_pace_book *book, enum pio_pace_phase phase, int64_t floor_ns);
/* What a step takes in the middle one of `*count` ranks that log steps, which is
 * the lower one of an even number: of two, the slower one is the straggler. 0 in
 * `steps_ns` is who has not told it yet; 0 is the answer where less than half have,
 * or less than two. Sorts them; *count becomes how many have. */
int64_t pio_pace_median_ns(int64_t *steps_ns, size_t *count);
/* True when an episode begins: its steps take more than 1.3 times the median. It
 * ends below 1.15. */
bool pio_pace_falls_behind(pio_pace *pace, int64_t median_ns);
/* Upper bound, within a fifth, of what 99 of 100 steps took; 0 when none is known. */
int64_t pio_pace_p99_ns(const pio_pace_book *book);

#endif
