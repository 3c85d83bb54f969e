/* tree.h: a directory tree in memory on its way to git tree objects.
 *
 * Entries are kept in git's order (by bytes, a directory as if its name ended
 * in '/'). Every tree is hashed from the leaves up; only those that differ
 * from a tree that the repository is known to have are written. */
#ifndef PIO_GIT_TREE_H
#define PIO_GIT_TREE_H

#include <stdint.h>

#include <git2.h>

#include "base/err.h"
#include "git/stage.h"

#define PIO_GIT_MODE_TREE 040000u
#define PIO_GIT_MODE_FILE 0100644u
#define PIO_GIT_MODE_EXECUTABLE 0100755u
#define PIO_GIT_MODE_LINK 0120000u

typedef struct pio_tree pio_tree;

typedef struct pio_tree_entry {
	char *name;
	uint32_t mode;      /* PIO_GIT_MODE_... */
	git_oid oid;        /* of a tree only after pio_tree_hash */
	pio_tree *child;    /* of a tree: owned; else NULL */
} pio_tree_entry;

struct pio_tree {
	pio_tree_entry *entries;
	size_t count, capacity;
	git_oid oid;
};

pio_tree *pio_tree_new(void);
/* Append; the caller adds in git's order. `child` is owned by the tree on
 * success, `name` is copied. */
int pio_tree_add(pio_tree *tree, const char *name, uint32_t mode, const git_oid *oid,
                 pio_tree *child, pio_err *err);
/* Set the oid of this tree and of all below. */
int pio_tree_hash(pio_tree *tree, pio_err *err);
/* Stage every tree object that `known` (a tree of `repo`, or NULL) does not
 * have at the same place. After pio_tree_hash. */
int pio_tree_write(pio_tree *tree, pio_stage *stage, git_repository *repo, const git_oid *known,
                   pio_err *err);
void pio_tree_free(pio_tree *tree);

#endif
