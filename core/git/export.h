/* export.h: the code of commits, for whoever has not their repository.
 *
 * Repositories are only read. The same commits give the same bytes, wherever they
 * lie and however their objects are packed there. Call pio_git_init first. */
#ifndef PIO_GIT_EXPORT_H
#define PIO_GIT_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct pio_git_source {
	const char *repository;   /* of its git directory */
	const char *commit;       /* 40 hexadecimal digits */
} pio_git_source;

/* Append the commit object's text, whose hash as a git object is its name. */
int pio_git_commit_text(pio_str *out, const pio_git_source *source, pio_err *err);

/* Told of each file: its path in the tree, its mode (0100644, 0100755; 0120000: the
 * bytes are where a symbolic link leads) and size. */
typedef int pio_git_file(void *context, const char *path, unsigned mode, int64_t size_bytes,
                         pio_err *err);
/* Append to `fd` the bytes of every file of the commit, one behind the other, as git
 * has them: no filter is applied. Submodules that are commits of another
 * repository are passed over. */
int pio_git_export_files(const pio_git_source *source, int fd, pio_git_file *tell, void *context,
                         pio_err *err);

/* Append a git bundle (version 2) to `fd`. For each commit, refs/heads/code-<its
 * first 12 digits> is a commit without parents that has the same tree and names it;
 * with `history` it is the commit itself, and all that led to it comes along. HEAD
 * is the first of them. */
int pio_git_export_bundle(const pio_git_source *sources, size_t count, bool history, int fd,
                          pio_err *err);

#endif
