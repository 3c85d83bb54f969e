#include "git/import.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "git/repo.h"
#include "git/snapshot.h"
#include "sys/fs.h"

#define BLOCK_BYTES 65536
#define HEAD_BYTES_MAX (4 << 20)
#define MAGIC "# v2 git bundle\n"

/* What comes from outside is its fault, not the system's. */
static int outside(pio_err *err, int git_code, const char *what)
{
	const git_error *last = git_error_last();
	if (last && (last->klass == GIT_ERROR_OS || last->klass == GIT_ERROR_NOMEMORY))
		return pio_git_fail(err, git_code, "%s", what);
	return pio_fail(err, PIO_ECORRUPT, "%s: %s", what, last ? last->message : "it is damaged");
}

static int open_bare(git_repository **repo, const char *path, pio_err *err)
{
	int rc = git_repository_open_bare(repo, path);
	if (rc < 0)
		rc = git_repository_init(repo, path, 1);
	return rc < 0 ? pio_git_fail(err, rc, "%s: cannot be made a repository", path) : 0;
}

/* ---- the pack ------------------------------------------------------------------------ */

/* A bundle is lines of references, an empty one, and a pack: *pack is what of it came
 * in the same blocks. */
static int read_head(pio_str *head, size_t *pack, int fd, const char *path, pio_err *err)
{
	char block[BLOCK_BYTES];
	const char *end = NULL;
	ssize_t n = 1;
	int rc = 0;
	while (!rc && !end && n > 0 && head->len < HEAD_BYTES_MAX) {
		rc = pio_fs_read_some(&n, fd, block, sizeof block, path, err);
		if (!rc)
			pio_str_append(head, block, (size_t)n);
		rc = rc ? rc : pio_str_check(head, err);
		end = rc ? NULL : memmem(head->data, head->len, "\n\n", 2);
	}
	if (!rc && (!end || strncmp(head->data, MAGIC, strlen(MAGIC)) != 0))
		rc = pio_fail(err, PIO_ECORRUPT, "code.bundle is no git bundle");
	*pack = rc ? 0 : (size_t)(end + 2 - head->data);
	return rc;
}

static int take_pack(git_repository *repo, int fd, const char *path, pio_err *err)
{
	pio_str head = PIO_STR_INIT;
	char block[BLOCK_BYTES];
	git_odb *odb = NULL;
	git_odb_writepack *writer = NULL;
	git_indexer_progress progress = { 0 };
	size_t at = 0;
	ssize_t n = 1;
	int rc = read_head(&head, &at, fd, path, err);
	if (!rc && (git_repository_odb(&odb, repo) < 0 || git_odb_write_pack(&writer, odb, NULL, NULL) < 0))
		rc = outside(err, -1, "code.bundle");
	if (!rc && writer->append(writer, head.data + at, head.len - at, &progress) < 0)
		rc = outside(err, -1, "code.bundle");
	while (!rc && n > 0) {
		rc = pio_fs_read_some(&n, fd, block, sizeof block, path, err);
		if (!rc && n > 0 && writer->append(writer, block, (size_t)n, &progress) < 0)
			rc = outside(err, -1, "code.bundle");
	}
	if (!rc && writer->commit(writer, &progress) < 0)
		rc = outside(err, -1, "code.bundle");
	if (writer)
		writer->free(writer);
	git_odb_free(odb);
	pio_str_fini(&head);
	return rc;
}

/* ---- commits --------------------------------------------------------------------------- */

static int check_tree(git_repository *repo, const pio_git_taken *taken, pio_err *err)
{
	git_oid oid;
	git_tree *tree = NULL;
	char line[64];
	snprintf(line, sizeof line, "tree %.40s\n", taken->tree);
	if (strncmp(taken->text, line, strlen(line)) != 0)
		return pio_fail(err, PIO_ECORRUPT, "commit %.40s has another tree than its row says", taken->commit);
	if (git_oid_fromstr(&oid, taken->tree) < 0 || git_tree_lookup(&tree, repo, &oid) < 0)
		return pio_fail(err, PIO_ECORRUPT, "the files of commit %.40s are not in code.bundle", taken->commit);
	git_tree_free(tree);
	return 0;
}

static int take_commit(git_repository *repo, const pio_git_taken *taken, pio_err *err)
{
	git_oid wanted, oid;
	git_odb *odb = NULL;
	int rc = check_tree(repo, taken, err);
	if (!rc && (git_oid_fromstr(&wanted, taken->commit) < 0 ||
	            git_odb_hash(&oid, taken->text, strlen(taken->text), GIT_OBJECT_COMMIT) < 0 ||
	            !git_oid_equal(&oid, &wanted)))
		rc = pio_fail(err, PIO_ECORRUPT, "the text of commit %.40s is of another", taken->commit);
	if (!rc && (git_repository_odb(&odb, repo) < 0 ||
	            git_odb_write(&oid, odb, taken->text, strlen(taken->text), GIT_OBJECT_COMMIT) < 0))
		rc = outside(err, -1, "a commit of the bundle");
	git_odb_free(odb);
	return rc;
}

int pio_git_import(const char *path, const char *bundle_path, const pio_git_taken *commits, size_t count,
                   pio_err *err)
{
	git_repository *repo = NULL;
	int fd = -1;
	int rc = open_bare(&repo, path, err);
	if (!rc)
		rc = pio_fs_open(&fd, bundle_path, O_RDONLY, 0, err);
	if (!rc)
		rc = take_pack(repo, fd, bundle_path, err);
	for (size_t i = 0; !rc && i < count; i++)
		rc = take_commit(repo, &commits[i], err);
	if (fd >= 0)
		(void)pio_fs_close(&fd, bundle_path, NULL);
	git_repository_free(repo);
	return rc;
}
