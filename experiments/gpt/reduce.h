/* reduce.h: the sum of a gradient over all ranks.
 *
 * Ranges of it are told as they become final, from the last layer's on, so that
 * a device with a network of its own sends some while it computes others (cuda/,
 * by NCCL). The CPU sends all at the end, by pio_comm (cpu/). The sum is the same
 * bits from run to run, for one world size. */
#ifndef GPT_REDUCE_H
#define GPT_REDUCE_H

#include "err.h"

#include "client/pioche.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gpt_reduce gpt_reduce;

/* For `count` floats at `data`, on the device. All ranks call it; `comm` is NULL
 * when the world is one rank, else borrowed. */
int gpt_reduce_open(gpt_reduce **reduce, pio_comm *comm, float *data, size_t count,
                    int timeout_ms, gpt_err *err);

/* [at, at + count) is final on this rank. Each range ends where the one told
 * before began. */
void gpt_reduce_ready(gpt_reduce *reduce, size_t at, size_t count);

/* All was told: wait until all is summed; on a GPU for `patience_ms` at most, since a
 * rank that lives may never come. */
int gpt_reduce_finish(gpt_reduce *reduce, int patience_ms, gpt_err *err);

/* With `abort_reason` NULL in good order: all ranks must come. */
void gpt_reduce_close(gpt_reduce **reduce, const char *abort_reason);

#ifdef __cplusplus
}
#endif
#endif
