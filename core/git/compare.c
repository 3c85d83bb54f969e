#include <stdlib.h>
#include <string.h>

#include <git2.h>

#include "base/mem.h"
#include "base/str.h"
#include "git/repo.h"
#include "git/snapshot.h"
#include "git/tree.h"
#include "sys/hash.h"

static int compare_lines(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

/* "./a//b/" becomes "a/b", "." becomes "". */
static int normalize(pio_str *out, const char *path, pio_err *err)
{
	if (*path == '/')
		return pio_fail(err, PIO_EINVAL, "path \"%s\" is absolute, expected one relative to the "
		                "root of the work tree", path);
	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");
		if (len == 2 && !memcmp(at, "..", 2))
			return pio_fail(err, PIO_EINVAL, "path \"%s\" leaves the work tree", path);
		if (len && !(len == 1 && *at == '.')) {
			if (out->len)
				pio_str_putc(out, '/');
			pio_str_append(out, at, len);
		}
		at += len;
		at += *at == '/';
	}
	return pio_str_check(out, err);
}

static int line_of(char **line, git_tree *root, const char *path, const char *commit, pio_err *err)
{
	pio_str name = PIO_STR_INIT, text = PIO_STR_INIT;
	git_tree_entry *entry = NULL;
	char oid[PIO_GIT_HEX + 1];
	int rc = normalize(&name, path, err);
	if (rc)
		goto out;
	unsigned mode = PIO_GIT_MODE_TREE;
	const git_oid *id = git_tree_id(root);
	if (name.len) {
		rc = git_tree_entry_bypath(&entry, root, name.data);
		if (rc == GIT_ENOTFOUND) {
			rc = pio_fail(err, PIO_ENOTFOUND, "\"%s\" is not in the code on record (commit %.12s): "
			              "it does not exist or is ignored", path, commit);
			goto out;
		}
		if (rc < 0) {
			rc = pio_git_fail(err, rc, "\"%s\" in commit %.12s", path, commit);
			goto out;
		}
		mode = (unsigned)git_tree_entry_filemode(entry);
		id = git_tree_entry_id(entry);
	}
	git_oid_tostr(oid, sizeof oid, id);
	pio_str_printf(&text, "%06o %s %s\n", mode, name.len ? name.data : ".", oid);
	rc = pio_str_check(&text, err);
	if (!rc)
		*line = pio_str_take(&text);
out:
	git_tree_entry_free(entry);
	pio_str_fini(&name);
	pio_str_fini(&text);
	return rc;
}

int pio_snapshot_subtree(char hex[PIO_SNAPSHOT_IDENTITY_HEX + 1], const char *repository,
                         const char *commit, const char *const *paths, size_t count, pio_err *err)
{
	static const char *const everything[] = { "." };
	git_repository *repo = NULL;
	git_tree *tree = NULL;
	pio_str text = PIO_STR_INIT;
	char **lines = NULL;
	if (!count) {
		paths = everything;
		count = 1;
	}
	int rc = pio_git_open(&repo, repository, err);
	if (!rc)
		rc = pio_git_tree_of(&tree, repo, commit, err);
	if (rc)
		goto out;
	lines = pio_calloc(count, sizeof *lines);
	if (!lines)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for %zu paths", count);
	for (size_t i = 0; i < count && !rc; i++)
		rc = line_of(&lines[i], tree, paths[i], commit, err);
	if (rc)
		goto out;
	qsort(lines, count, sizeof *lines, compare_lines);
	for (size_t i = 0; i < count; i++) {
		if (!i || strcmp(lines[i - 1], lines[i]))
			pio_str_puts(&text, lines[i]);
	}
	rc = pio_str_check(&text, err);
	if (!rc)
		rc = pio_sha256_bytes(text.data, text.len, hex, err);
out:
	for (size_t i = 0; lines && i < count; i++)
		pio_free(lines[i]);
	pio_free(lines);
	pio_str_fini(&text);
	git_tree_free(tree);
	git_repository_free(repo);
	return rc;
}

/* Nothing of the user's configuration and nothing of the repository's size may
 * show: the same two trees give the same bytes everywhere. */
static int append_patch(pio_str *out, git_repository *repo, git_tree *a, git_tree *b, bool binary,
                        pio_err *err)
{
	git_diff_options options;
	git_diff_find_options renames;
	git_diff *diff = NULL;
	git_buf text = { NULL, 0, 0 };
	git_diff_options_init(&options, GIT_DIFF_OPTIONS_VERSION);
	git_diff_find_options_init(&renames, GIT_DIFF_FIND_OPTIONS_VERSION);
	options.flags = binary ? GIT_DIFF_SHOW_BINARY : GIT_DIFF_NORMAL;
	options.id_abbrev = PIO_GIT_HEX;
	options.old_prefix = "a";
	options.new_prefix = "b";
	renames.flags = GIT_DIFF_FIND_RENAMES;
	int rc = git_diff_tree_to_tree(&diff, repo, a, b, &options);
	if (rc >= 0 && !binary)
		rc = git_diff_find_similar(diff, &renames);
	if (rc >= 0)
		rc = git_diff_to_buf(&text, diff, GIT_DIFF_FORMAT_PATCH);
	if (rc < 0) {
		rc = pio_git_fail(err, rc, "%s: cannot compare two commits", git_repository_path(repo));
	} else {
		pio_str_append(out, text.ptr, text.size);
		rc = pio_str_check(out, err);
	}
	git_buf_dispose(&text);
	git_diff_free(diff);
	return rc;
}

int pio_snapshot_diff(pio_str *out, const char *repository, const char *commit_a,
                      const char *commit_b, pio_err *err)
{
	git_repository *repo = NULL;
	git_tree *a = NULL, *b = NULL;
	int rc = pio_git_open(&repo, repository, err);
	if (!rc)
		rc = pio_git_tree_of(&a, repo, commit_a, err);
	if (!rc)
		rc = pio_git_tree_of(&b, repo, commit_b, err);
	if (!rc)
		rc = append_patch(out, repo, a, b, false, err);
	git_tree_free(a);
	git_tree_free(b);
	git_repository_free(repo);
	return rc;
}

int pio_snapshot_diff_parent(pio_str *out, const char *repository, const char *commit_hex,
                             pio_err *err)
{
	git_repository *repo = NULL;
	git_commit *commit = NULL, *parent = NULL;
	git_tree *a = NULL, *b = NULL;
	int rc = pio_git_open(&repo, repository, err), git_rc = 0;
	if (!rc)
		rc = pio_git_commit_lookup(&commit, repo, commit_hex, err);
	/* A commit that pioche did not make is HEAD itself: the work tree was clean. */
	if (rc || strcmp(git_commit_author(commit)->email, PIO_GIT_IDENTITY_EMAIL))
		goto out;
	if (git_commit_parentcount(commit)) {
		git_rc = git_commit_parent(&parent, commit, 0);
		if (git_rc >= 0)
			git_rc = git_commit_tree(&a, parent);
	}
	if (git_rc >= 0)
		git_rc = git_commit_tree(&b, commit);
	rc = git_rc < 0 ? pio_git_fail(err, git_rc, "%s: parent of %s", repository, commit_hex) :
	     append_patch(out, repo, a, b, true, err);
out:
	git_tree_free(a);
	git_tree_free(b);
	git_commit_free(parent);
	git_commit_free(commit);
	git_repository_free(repo);
	return rc;
}
