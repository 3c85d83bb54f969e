/* train.h: the training loop, on one rank or on many.
 *
 * Every rank computes the gradient of its slice of the global batch; the sum
 * goes round (reduce.h), and every rank takes the same step. Rank 0 alone
 * logs; each saves its part (state.h). Steps are numbered from 1 and logged after
 * the update; val/bigram stands at step 0. The same options, seed and world size give the
 * same bits of every loss, whether or not the run was interrupted and resumed.
 * On another number of ranks it goes on from the same bits of weights and state,
 * and the losses part in their last digits: a sum of gradients has another order
 * there, and a rank adds up the windows of its slice before the ring does.
 *
 * On a GPU also on the same GPU and the same libraries.
 *
 * It asks after each step whether the run is to end there, then saves, and the status is
 * 0. SIGTERM or SIGINT on any rank: all ranks agree at the end of the step, save,
 * and the status is 128 plus the signal. */
#ifndef GPT_TRAIN_H
#define GPT_TRAIN_H

#include "options.h"

#include "client/pioche.h"

/* Train; returns the exit status of the program: 0, GPT_MISTAKE, GPT_SYSTEM
 * (message in err) or 128 + signal after a polite stop. */
int gpt_train(const gpt_options *options, pio_run *run, gpt_err *err);

/* Print options->generate bytes from the checkpoint to start from to stdout. */
int gpt_generate(gpt_options *options, pio_run *run, gpt_err *err);

/* Windows of the global batch that belong to `rank`: [*first, *first + *count).
 * GPT_MISTAKE when batch is not a multiple of world. */
int gpt_train_slice(size_t *first, size_t *count, int64_t batch, int rank, int world,
                    gpt_err *err);

#endif
