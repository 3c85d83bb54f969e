/* repo.h: what the files of this room share: opening, errors, names.
 *
 * The only place that turns libgit2's codes and thread-local messages into a
 * pio_err. Not for other rooms: they use snapshot.h. */
#ifndef PIO_GIT_REPO_H
#define PIO_GIT_REPO_H

#include <git2.h>

#include "base/err.h"

#define PIO_GIT_IDENTITY_NAME "pioche"
#define PIO_GIT_IDENTITY_EMAIL "pioche@localhost"

/* Fill `err` from libgit2's last error; the format says what was attempted.
 * Returns -PIO_ENOTFOUND, -PIO_ENOMEM, -PIO_ENOSPC or -PIO_EIO. */
int pio_git_fail(pio_err *err, int git_code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Open by the path of the git directory. The caller frees *repo. */
int pio_git_open(git_repository **repo, const char *repository, pio_err *err);
/* Commit by its full hexadecimal name. */
int pio_git_commit_lookup(git_commit **commit, git_repository *repo, const char *hex,
                          pio_err *err);
/* The same, and its tree. */
int pio_git_tree_of(git_tree **tree, git_repository *repo, const char *commit_hex, pio_err *err);

#endif
