#include "git/tree.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "git/repo.h"

pio_tree *pio_tree_new(void)
{
	return pio_calloc(1, sizeof(pio_tree));
}

int pio_tree_add(pio_tree *tree, const char *name, uint32_t mode, const git_oid *oid,
                 pio_tree *child, pio_err *err)
{
	int rc = pio_grow(&tree->entries, &tree->capacity, tree->count, "entries of a git tree", err);
	if (rc)
		return rc;
	pio_tree_entry *entry = &tree->entries[tree->count];
	*entry = (pio_tree_entry){ .name = pio_strdup(name), .mode = mode, .child = child };
	if (!entry->name)
		return pio_fail(err, PIO_ENOMEM, "out of memory while listing the work tree");
	if (oid)
		entry->oid = *oid;
	tree->count++;
	return 0;
}

static void serialize(pio_str *text, const pio_tree *tree)
{
	for (size_t i = 0; i < tree->count; i++) {
		const pio_tree_entry *entry = &tree->entries[i];
		pio_str_puts(text, entry->mode == PIO_GIT_MODE_FILE ? "100644 " :
		             entry->mode == PIO_GIT_MODE_EXECUTABLE ? "100755 " :
		             entry->mode == PIO_GIT_MODE_LINK ? "120000 " : "40000 ");
		pio_str_append(text, entry->name, strlen(entry->name) + 1);
		pio_str_append(text, entry->oid.id, sizeof entry->oid.id);
	}
}

int pio_tree_hash(pio_tree *tree, pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	int rc = 0;
	for (size_t i = 0; i < tree->count && !rc; i++) {
		pio_tree_entry *entry = &tree->entries[i];
		if (!entry->child)
			continue;
		rc = pio_tree_hash(entry->child, err);
		entry->oid = entry->child->oid;
	}
	if (rc)
		goto out;
	serialize(&text, tree);
	rc = pio_str_check(&text, err);
	if (!rc && git_odb_hash(&tree->oid, text.data, text.len, GIT_OBJECT_TREE) < 0)
		rc = pio_git_fail(err, -1, "cannot hash a git tree");
out:
	pio_str_fini(&text);
	return rc;
}

int pio_tree_write(pio_tree *tree, pio_stage *stage, git_repository *repo, const git_oid *known,
                   pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	git_tree *old = NULL;
	git_oid written;
	int rc = 0;
	if (known && git_oid_equal(known, &tree->oid))
		return 0;
	/* A known tree that cannot be read only means more to write. */
	if (known && git_tree_lookup(&old, repo, known) < 0)
		old = NULL;
	for (size_t i = 0; i < tree->count && !rc; i++) {
		pio_tree_entry *entry = &tree->entries[i];
		if (!entry->child)
			continue;
		const git_tree_entry *same = old ? git_tree_entry_byname(old, entry->name) : NULL;
		if (same && git_tree_entry_type(same) != GIT_OBJECT_TREE)
			same = NULL;
		rc = pio_tree_write(entry->child, stage, repo, same ? git_tree_entry_id(same) : NULL, err);
	}
	git_tree_free(old);
	if (rc)
		goto out;
	serialize(&text, tree);
	rc = pio_str_check(&text, err);
	if (!rc)
		rc = pio_stage_put(&written, stage, text.data, text.len, GIT_OBJECT_TREE, err);
out:
	pio_str_fini(&text);
	return rc;
}

void pio_tree_free(pio_tree *tree)
{
	if (!tree)
		return;
	for (size_t i = 0; i < tree->count; i++) {
		pio_free(tree->entries[i].name);
		pio_tree_free(tree->entries[i].child);
	}
	pio_free(tree->entries);
	pio_free(tree);
}
