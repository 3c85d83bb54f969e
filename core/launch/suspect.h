/* suspect.h: of many ranks that make no steps, who came to a stand first.
 *
 * A pure calculation on what agents see of their ranks: no clock, no process, no
 * I/O. An agent alone asks it of its own ranks; under a head, each agent reports
 * its ranks, those that log nothing too, and the head asks it of all:
 *
 *   { "rank": 3, "state": "S", "wait": "futex_wait_queue", "step": 812, "alive_ns": t }
 *
 * state and wait as in pio_proc_look; step (the newest) and alive_ns (when it last
 * logged anything, the head's monotonic clock) are null where it logs none. */
#ifndef PIO_LAUNCH_SUSPECT_H
#define PIO_LAUNCH_SUSPECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "sys/proc.h"

typedef struct pio_suspect {
	int rank;
	int index;             /* the caller's: of the agent's rank, or of the head's place */
	pio_proc_look look;    /* state and wait of the process that the others wait for */
	int64_t step;          /* INT64_MIN: it logs none */
	int64_t alive_ns;
	bool is_behind, is_odd;  /* set by pio_suspects_line_up */
} pio_suspect;

/* One of them was stopped by a signal: it holds up all others, however busily they
 * wait. Not so one that a person looks at with a debugger. */
bool pio_suspects_are_held_up(const pio_suspect *suspects, size_t count);
/* Sort them, who came to a stand first in front: the stopped; those whose newest
 * step is not that of the others, the lowest first; the odd, which do something
 * else than most of more than two; those that log steps; those silent for longest. */
void pio_suspects_line_up(pio_suspect *suspects, size_t count);

/* NULL when memory is out. */
json_t *pio_suspect_to_json(const pio_suspect *suspect);
/* From JSON that may be anything. */
pio_suspect pio_suspect_of_json(const json_t *json, int index);

#endif
