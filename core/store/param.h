/* param.h: the parameters of many runs, read in one pass and kept by name: a
 * comparison needs to know of each which values occur and who has them. What
 * all runs say alike is held once, whatever their number.
 *
 * A whole number and the real of that value are the same; numbers, booleans,
 * texts and JSON are not, nor are a NaN or -0.0 and any other number. */
#ifndef PIO_STORE_PARAM_H
#define PIO_STORE_PARAM_H

#include "store/store.h"

typedef struct pio_param_value {
	char *text;                     /* of a text or JSON; no NUL at its end */
	size_t text_bytes;
	int64_t bits;                   /* the integer, 1 or 0, or the bits of the real */
	char kind;                      /* 'i'nt, 'r'eal, 't'ext, 'b'ool, 'j'son; 0: null */
	uint32_t same_as;               /* index of the first of the column's values that is the same */
} pio_param_value;

typedef struct pio_param_column {
	char *name;
	size_t name_bytes;
	size_t count;                   /* runs that have it */
	bool differs;                   /* runs lack it, or their values are not all the same */
	pio_param_value *values;        /* each that occurs, in the order of the runs; never none */
	size_t values_count;
	uint32_t *by_run;               /* index of each run's value + 1, 0: it has none; NULL: all have
	                                   the first */
} pio_param_column;

typedef struct pio_params pio_params;

/* Give the store's connection the function that the reading is done with. */
int pio_store_param_register(pio_store *store, pio_err *err);

/* Read the parameters of these runs, each once. PIO_ENOMEM, or what SQLite says. */
int pio_params_read(pio_params **params, pio_store *store, const int64_t *run_ids, size_t count,
                    pio_err *err);
/* The columns, in no order worth anything. Borrowed. */
const pio_param_column *pio_params_columns(const pio_params *params, size_t *count);
void pio_params_free(pio_params *params);

#endif
