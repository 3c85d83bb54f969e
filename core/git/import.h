/* import.h: code that somebody else packed (git/export.h) becomes commits here.
 *
 * It goes into bare repositories of the store, in which nobody works. What is taken
 * is what it says it is: git names objects by their hashes, and libgit2 computes
 * them anew. Call pio_git_init first. */
#ifndef PIO_GIT_IMPORT_H
#define PIO_GIT_IMPORT_H

#include <stddef.h>

#include "base/err.h"

typedef struct pio_git_taken {
	const char *commit, *tree;      /* 40 hexadecimal digits */
	const char *text;               /* of the commit object */
} pio_git_taken;

/* The trees of a git bundle file, and these commits, into the bare repository at
 * `path`, which is made where there is none. Durable on return, and taking it again
 * changes nothing. The commits' parents are not there. PIO_ECORRUPT: no git bundle,
 * a text that is not the commit's, a tree that is not in it. */
int pio_git_import(const char *path, const char *bundle_path, const pio_git_taken *commits, size_t count,
                   pio_err *err);

#endif
