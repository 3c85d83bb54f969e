/* rung.h: what a sweep's stopping rule said of runs as they passed a rung.
 *
 * The rows are in the order of arrival, and a rule decides by nothing else: so a sweep
 * that is gone on with decides as it would have, and every decision can be derived again.
 *
 * Every function is one transaction, or part of the caller's. */
#ifndef PIO_STORE_RUNG_H
#define PIO_STORE_RUNG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

typedef struct pio_store_rung {
	int64_t sweep_id, run_id;
	int64_t step, at_step;        /* of the rung, and of the goal's newest point there */
	double value, best, mean;     /* of that point, and of all up to it; may be NaN */
	const char *verdict;          /* go, stop or pause */
	const char *reason;           /* NULL: none */
	const char *forecast;         /* JSON; NULL: none */
	bool audited;                 /* the rule said stop, and it goes on */
} pio_store_rung;
/* A run passes each rung once; a second time is PIO_EEXIST. */
int pio_store_rung_add(pio_store *store, const pio_store_rung *rung, pio_err *err);
/* A run that was paused there may go on, which is on record with the newest arrival
 * before it; no change where it was not, or goes on already. */
int pio_store_rung_promote(pio_store *store, int64_t sweep_id, int64_t run_id, int64_t step,
                           pio_err *err);

#endif
