/* belt.h: blocks that one thread fills and another works off, in order.
 *
 * A bundle's bytes are hashed twice: each file for the manifest, and the whole
 * tar. The belt gives the second pass (and the writing) a processor of its
 * own. It is bounded: who fills waits while all blocks are on it. The work's
 * first failure is kept, and the blocks after it are dropped unseen.
 *
 * One thread fills. The work must not call back into the belt. Signals stay
 * with the program's own threads. */
#ifndef PIO_PACK_BELT_H
#define PIO_PACK_BELT_H

#include <stddef.h>

#include "base/err.h"

#define PIO_BELT_BLOCK_BYTES (1u << 18)

typedef struct pio_belt pio_belt;

/* Work off a block; 0 or -PIO_E..., which ends all work. */
typedef int pio_belt_work(void *context, const void *bytes, size_t size_bytes, pio_err *err);

/* Makes the blocks and starts the thread; the caller ends it by pio_belt_free. */
int pio_belt_new(pio_belt **belt, pio_belt_work *work, void *context, pio_err *err);
/* The next block to fill, of PIO_BELT_BLOCK_BYTES. It stays readable until the
 * next call of this function, also after it was put. */
void *pio_belt_block(pio_belt *belt);
/* Hand the block over with this many bytes in it. */
void pio_belt_put(pio_belt *belt, size_t size_bytes);
/* The work's failure, or 0 as far as it has come. */
int pio_belt_check(pio_belt *belt, pio_err *err);
/* Wait until all that was put is worked off; then as pio_belt_check. */
int pio_belt_wait(pio_belt *belt, pio_err *err);
/* Ends the thread; what is still on the belt is dropped. */
void pio_belt_free(pio_belt *belt);

#endif
