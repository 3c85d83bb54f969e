/* worktree.h: the walk that reads a work tree into a pio_tree.
 *
 * Tracked files whose stat is that of the index are not read. Untracked files
 * are asked against the ignore rules. Submodules and nested repositories are
 * walked with their own index and ignore rules and stored as plain files.
 * Symbolic links stay links, sockets and devices are left out, as git does. */
#ifndef PIO_GIT_WORKTREE_H
#define PIO_GIT_WORKTREE_H

#include <stdbool.h>
#include <stdint.h>

#include "git/tree.h"

typedef struct pio_worktree_spec {
	git_repository *repo;       /* with a work tree */
	pio_stage *stage;           /* of the repository that new blobs go to */
	const char *store_dir;      /* left out of the tree; NULL: none */
	int64_t file_bytes_max;     /* refuse larger files */
	int64_t total_bytes_max;    /* 0: any */
	int64_t files_max;          /* 0: any */
} pio_worktree_spec;

typedef struct pio_worktree_counts {
	int64_t files, bytes, hashed;
} pio_worktree_counts;

/* The caller frees *tree. New blobs are staged, not flushed. */
int pio_worktree_read(pio_tree **tree, pio_worktree_counts *counts,
                      const pio_worktree_spec *spec, pio_err *err);

#endif
