/* fresh.h: the index as a memory of what was already read.
 *
 * A tracked file whose stat is exactly that of its index entry has the entry's
 * content, unless the entry is so young that a later edit could have left the
 * same stat ("racy"): then it must be read. The index is never written. */
#ifndef PIO_GIT_FRESH_H
#define PIO_GIT_FRESH_H

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include <git2.h>

#include "base/err.h"

typedef struct pio_fresh {
	git_index *index;
	struct timespec index_time; /* entries that are not older may be racy */
	bool trust_executable;      /* core.fileMode */
	size_t cursor;              /* where the next entry is likely to be */
	unsigned char *known;       /* per entry: found unchanged by preload; NULL: none */
	size_t count;
} pio_fresh;

int pio_fresh_open(pio_fresh *fresh, git_repository *repo, pio_err *err);
/* Compare all entries with the work tree at once, by several threads where
 * there are many. A help, not a duty: what it could not do is done later. */
void pio_fresh_preload(pio_fresh *fresh, int root_fd);
/* Entry of a path (of an unfinished merge: its first stage), NULL if it is not
 * tracked. *unchanged is true when preload has seen that it is. */
const git_index_entry *pio_fresh_find(bool *unchanged, pio_fresh *fresh, const char *path);
bool pio_fresh_has_below(const pio_fresh *fresh, const char *dir);
bool pio_fresh_unchanged(const pio_fresh *fresh, const git_index_entry *entry,
                         const struct stat *st);
/* Mode that git would give the file. */
uint32_t pio_fresh_mode(const pio_fresh *fresh, const git_index_entry *entry,
                        const struct stat *st);
void pio_fresh_close(pio_fresh *fresh);

#endif
