/* run_json.h: runs as JSON, by SQL; for this room alone.
 *
 * A list of runs for scripts is mostly parameters and metrics: read into a
 * scripting language row by row and encoded again they would cost twenty times
 * what reading them does. So SQL writes that JSON:
 *
 *   json_members(name, value, kind, bits)   of rows of `param` (kind 'json':
 *       `value` is JSON as it is)
 *   json_series(key, count, first_step, last_step, last, last_int, last_bits,
 *       min, max, sum, sum_low, finite)     of rows of `series`
 *
 * Both are aggregates and give one object, its members in the order of the rows.
 * Numbers are the shortest text that reads back the same, what is no number is
 * the text "NaN", "Infinity" or "-Infinity", what is not UTF-8 becomes U+FFFD. */
#ifndef PIO_STORE_RUN_JSON_H
#define PIO_STORE_RUN_JSON_H

#include "store/store.h"

/* Register the functions on the store's connection. */
int pio_store_run_json_register(pio_store *store, pio_err *err);

#endif
