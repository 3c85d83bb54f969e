/* data.h: a text as training and validation windows.
 *
 * The file is mapped, never copied. Its last tenth is validation, never
 * trained on. A window is `context` + 1 bytes: inputs and, one later, what to
 * predict. Which window is sample `index` of step `step` depends on the seed
 * and these two numbers alone: the place in the data is the step, and however
 * many ranks share a batch, together they see the same windows. The file must
 * not shrink while it is open. */
#ifndef GPT_DATA_H
#define GPT_DATA_H

#include "err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct gpt_data {
	const unsigned char *text;
	size_t size_bytes;
	size_t train_bytes; /* validation is the rest */
	size_t context;
} gpt_data;

/* GPT_MISTAKE if the file cannot be opened or is too short for one window of
 * either part. */
int gpt_data_open(gpt_data *data, const char *path, size_t context, gpt_err *err);
void gpt_data_close(gpt_data *data);

/* Training window `index` of the global batch of `step`; borrowed. */
const unsigned char *gpt_data_train(const gpt_data *data, uint64_t seed, int64_t step,
                                    size_t index);

/* Validation window `index` of `count` that are spread evenly over the
 * validation part, the same for every seed; borrowed. */
const unsigned char *gpt_data_validation(const gpt_data *data, size_t index, size_t count);

/* Cross-entropy, in nats a byte, of what the `count` validation windows ask to
 * predict, by bigram counts of the training part with one added to each pair:
 * what a model that sees one byte back can reach. Negative if out of memory. */
double gpt_data_bigram(const gpt_data *data, size_t count);

#endif
