/* own_copy.h: this program and its library, kept in the store for the jobs that run
 * them: <store>/cache/pioche-<digest>/{pioche, lib/}, the same arrangement as in a
 * build tree.
 *
 * A job starts hours or days after it was submitted, and on many machines. Whatever
 * is built or installed over pioche meanwhile, its nodes run what its supervisor is.
 * A copy is made once for each version, whole or not at all, and never changed. Only
 * the holder of the store's lease makes or removes one, and removes none while an
 * attempt is open: jobs that wait in a queue refer to them. */
#ifndef PIO_LAUNCH_OWN_COPY_H
#define PIO_LAUNCH_OWN_COPY_H

#include "base/err.h"
#include "base/str.h"

typedef struct pio_own_copy pio_own_copy;

/* Open what is copied, which from here on may be replaced: the program, and what ranks
 * load from lib_dir, that is libpioche.so and all files in pioche/. */
int pio_own_copy_new(pio_own_copy **own, const char *executable, const char *lib_dir, pio_err *err);
void pio_own_copy_free(pio_own_copy *own);

/* Make the copy where it is not there yet. *dir, appended, is its path. Nothing is
 * appended where the store lies on a file system that starts no programs: then they
 * run from where they are. */
int pio_own_copy_make(pio_str *dir, pio_own_copy *own, const char *store_path, pio_err *err);

#endif
