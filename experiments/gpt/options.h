/* options.h: the command line, --name=value each.
 *
 * A recipe's conditional parameter carries a dotted name: of
 * --optimizer.beta2=0.95 the last part counts. When a name is given twice the
 * later wins. A bad name or value is refused with a message that names the
 * flag, the value and what was expected; nothing is guessed. */
#ifndef GPT_OPTIONS_H
#define GPT_OPTIONS_H

#include "err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct gpt_options {
	const char *text, *optimizer, *precision, *prompt;
	int64_t width, heads, depth, context, batch, steps, until, step_ms, warmup, seed;
	int64_t log_every, eval_every, eval_batches, save_every; /* 0: at the end alone */
	int64_t sample_bytes, sample_every, generate, patience;
	double lr, beta1, beta2, momentum, weight_decay, clip, temperature;
	int help;
} gpt_options;

/* Defaults, then `argv[1..]`; strings are borrowed from argv. GPT_USAGE. */
int gpt_options_parse(gpt_options *options, int argc, char *const *argv, gpt_err *err);

/* One line a flag: name, default, meaning. */
void gpt_options_print(FILE *to);

/* Call `each` with every flag as name and JSON scalar, in the order of
 * gpt_options_print, except those that are empty. */
void gpt_options_walk(const gpt_options *options,
                      void (*each)(void *context, const char *name, const char *json),
                      void *context);

#endif
