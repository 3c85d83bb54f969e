/* param.h: which parameters are the same in many runs; for this room alone.
 *
 * The SQL aggregate param_facts(name, value, kind, bits) over rows of `param`
 * gives one text: for each name "COUNT DIFFERS BYTES:NAME", DIFFERS being 1
 * or 0 and BYTES the length of the name. A comparison of many runs so reads in one pass which columns it
 * needs, instead of every value. A whole number and the real of that value are
 * the same; numbers, booleans, texts and JSON are not. */
#ifndef PIO_STORE_PARAM_H
#define PIO_STORE_PARAM_H

#include "store/store.h"

/* Register param_facts on the store's connection. */
int pio_store_param_register(pio_store *store, pio_err *err);

#endif
