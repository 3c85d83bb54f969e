/* rounds.h: how often a process has begun to save each step; private to core/client.
 *
 * All writers of a checkpoint do the same saves in the same order, so that the n-th
 * of one of them is the n-th of each (sys/save.h). Threads may share it. */
#ifndef PIO_CLIENT_ROUNDS_H
#define PIO_CLIENT_ROUNDS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct pio_round {
	int64_t step;
	uint32_t writers, next;
} pio_round;

typedef struct pio_rounds {
	pthread_mutex_t mutex;
	pio_round *list;               /* by step, then writers */
	size_t count, capacity;
} pio_rounds;

void pio_rounds_init(pio_rounds *rounds);
/* The round of a save that begins now: 0 for the first of this step with so many
 * writers. */
int pio_rounds_next(uint32_t *round, pio_rounds *rounds, int64_t step, uint32_t writers, pio_err *err);
void pio_rounds_fini(pio_rounds *rounds);

#endif
