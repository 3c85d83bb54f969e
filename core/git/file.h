/* file.h: one file of the work tree becomes a blob, as `git add` would make
 * it: line endings and idents are cleaned by the library's own filters.
 *
 * Filter drivers that are other programs (git-lfs) are not run: the bytes are
 * stored as they lie in the work tree, because those are what ran. */
#ifndef PIO_GIT_FILE_H
#define PIO_GIT_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

#include <git2.h>

#include "base/err.h"
#include "git/stage.h"

/* Stage the file or link `name` in the directory `fd`. `path` is relative to
 * `repo` (whose attributes count), `shown` is for messages. PIO_ENOTFOUND if it
 * vanished. */
int pio_git_file_put(git_oid *oid, pio_stage *stage, git_repository *repo, int fd,
                     const char *name, const char *path, const char *shown,
                     const struct stat *st, pio_err *err);
/* True if attributes give the path a filter driver: then the index may know a
 * stand-in, not its bytes. */
int pio_git_file_foreign(bool *foreign, git_repository *repo, const char *path, pio_err *err);
/* True if the file contains the word; false also if it cannot be read. */
int pio_git_file_mentions(bool *mentions, int fd, const char *name, const char *word,
                          pio_err *err);

#endif
