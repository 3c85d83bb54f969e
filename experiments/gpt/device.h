/* device.h: what a training program computes on, one a process: the CPU (cpu/)
 * in `gpt`, a GPU (cuda/) in `gpt_cuda`. All else is the same source in both.
 *
 * Memory of the device is not the host's: it is written and read by the calls
 * below, saved where it is (pio_checkpoint_add), and worked on by those of kernel.h, attention.h and reduce.h.
 * A device may still be at work when such a call returns. It works in the order
 * of the calls, and a failure shows at the next call that waits: those that
 * return a status here.
 *
 * Weights, gradients and sums are floats. Activations are cells: floats too, or
 * bf16 where the device was opened so. One thread calls. */
#ifndef GPT_DEVICE_H
#define GPT_DEVICE_H

#include "options.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gpt_cell gpt_cell;

/* Before all else. GPT_MISTAKE if the device cannot do what the options want,
 * GPT_SYSTEM if there is none for this rank of its node. */
int gpt_device_open(const gpt_options *options, int local_rank, gpt_err *err);
void gpt_device_close(void);

/* Rows (tokens) that should go through the layers together. */
size_t gpt_device_rows(void);
size_t gpt_device_cell_bytes(void);
/* cells + index */
gpt_cell *gpt_device_at(gpt_cell *cells, size_t index);

/* Zeroed and aligned for any use; NULL if there is no memory. */
void *gpt_device_new(size_t size_bytes);
void gpt_device_free(void *memory);
void gpt_device_zero(void *memory, size_t size_bytes);
/* From the host; `from` may change when it returns. */
void gpt_device_write(void *memory, const void *from, size_t size_bytes);
/* Wait, then copy to the host. */
int gpt_device_read(void *to, const void *memory, size_t size_bytes, gpt_err *err);

/* Until it has done all that it was asked. */
int gpt_device_wait(gpt_err *err);

#ifdef __cplusplus
}
#endif
#endif
