/* copy.h: a file from one place to another, looked at on the way.
 *
 * It gets its name when all of it is there, durable, and has the digest that it
 * should have; until then it is called NAME.part, which who copies holds a lock on.
 * What a copy that was killed left is written anew by the next. */
#ifndef PIO_PACK_COPY_H
#define PIO_PACK_COPY_H

#include <stdint.h>

#include "base/err.h"
#include "pack/bundle.h"

/* `to`'s directory is made where there is none. PIO_ECORRUPT: `from` has other bytes
 * than `sha256` says, and there is no `to`; PIO_EBUSY: another process copies it.
 * `report` (which may be NULL) hears of bytes done and `size_bytes`. */
int pio_copy(const char *from, const char *to, const char *sha256, int64_t size_bytes,
             pio_bundle_report *report, void *context, pio_err *err);

#endif
