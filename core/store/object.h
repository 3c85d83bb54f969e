/* object.h: immutable files named by their SHA-256, under objects/ab/<sha256>.
 *
 * An object is put by rename from a file that was hashed and synced while it
 * was written, is 0444 and never opened for writing again. Its row is inserted
 * in the transaction that first refers to it; a file without a row is an
 * orphan of a crash, adopted by the next put of the same bytes, as is one that replaced a damaged one.
 *
 * One may be encoded instead (object_code.h); its bytes are read by sys/stored.h,
 * whichever way it lies there. */
#ifndef PIO_STORE_OBJECT_H
#define PIO_STORE_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "store/store.h"

/* Append the absolute path of an object, as sys/stored.h takes it: that of its bytes, if
 * it is not encoded. */
int pio_store_object_path(pio_str *path, const pio_store *store, const char *sha256, pio_err *err);
/* Move a staged, synced file into place and insert its row; where there is one that
 * is good, the staged one is removed. The directory is synced by
 * pio_store_object_sync, once for many. */
int pio_store_object_put(pio_store *store, const char *staged_path, const char *sha256,
                         int64_t size_bytes, pio_err *err);
int pio_store_object_sync(pio_store *store, const char *sha256, pio_err *err);
/* Remove its files, whichever there are. Durable on return. */
int pio_store_object_unlink(pio_store *store, const char *sha256, pio_err *err);
/* Is `name` in objects/ that of the file by which some row's object is read? */
int pio_store_object_owns(bool *owned, pio_store *store, const char *name, pio_err *err);

#endif
