/* A checkout distrusts the commit: names that would leave the directory or
 * make a repository are refused, and nothing is ever written through a link. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <git2.h>

#include "base/str.h"
#include "git/repo.h"
#include "git/snapshot.h"
#include "sys/fs.h"

struct checkout {
	git_repository *repo;
	git_oid commit;
	struct timespec times[2];   /* access and modification: the commit's */
	pio_str path;               /* of the file in the file system */
	size_t root_bytes;          /* of `path` that are before the commit's own path */
	bool filters;               /* attributes or core.autocrlf may change bytes */
};

static const char *inner_path(const struct checkout *checkout)
{
	return checkout->path.len < checkout->root_bytes ? "" :
	       checkout->path.data + checkout->root_bytes;
}

static int check_name(const struct checkout *checkout, const char *name, pio_err *err)
{
	if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || !strcasecmp(name, ".git") ||
	    strchr(name, '/'))
		return pio_fail(err, PIO_ECORRUPT, "the commit has an entry named \"%s\" in \"%s\", which "
		                "cannot be checked out", name, inner_path(checkout));
	return 0;
}

/* Fills `clean` when a filter applies. */
static int filter_blob(git_buf *clean, const struct checkout *checkout, git_blob *blob,
                       pio_err *err)
{
	git_filter_options options = { .version = GIT_FILTER_OPTIONS_VERSION,
		.flags = GIT_FILTER_ATTRIBUTES_FROM_COMMIT, .attr_commit_id = checkout->commit };
	git_filter_list *filters = NULL;
	int rc = git_filter_list_load_ext(&filters, checkout->repo, blob, inner_path(checkout),
	                                  GIT_FILTER_TO_WORKTREE, &options);
	if (rc >= 0 && filters)
		rc = git_filter_list_apply_to_blob(clean, filters, blob);
	git_filter_list_free(filters);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot apply git's filters", inner_path(checkout));
	return 0;
}

static int write_file(const struct checkout *checkout, const void *bytes, size_t size_bytes,
                      mode_t mode, pio_err *err)
{
	const char *path = checkout->path.data;
	int fd = -1;
	int rc = pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode, err);
	if (rc)
		return rc;
	rc = pio_fs_write_all(fd, bytes, size_bytes, path, err);
	if (!rc && futimens(fd, checkout->times))
		rc = pio_fail_errno(err, errno, "%s: cannot set the time", path);
	int closed = pio_fs_close(&fd, path, rc ? NULL : err);
	return rc ? rc : closed;
}

static int write_link(const struct checkout *checkout, const git_blob *blob, pio_err *err)
{
	const char *path = checkout->path.data;
	pio_str target = PIO_STR_INIT;
	pio_str_append(&target, git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob));
	int rc = pio_str_check(&target, err);
	if (!rc && symlink(target.data, path))
		rc = pio_fail_errno(err, errno, "%s: cannot make the link", path);
	if (!rc && utimensat(AT_FDCWD, path, checkout->times, AT_SYMLINK_NOFOLLOW))
		rc = pio_fail_errno(err, errno, "%s: cannot set the time", path);
	pio_str_fini(&target);
	return rc;
}

static int write_blob(const struct checkout *checkout, const git_tree_entry *entry, pio_err *err)
{
	git_filemode_t mode = git_tree_entry_filemode(entry);
	git_buf clean = { NULL, 0, 0 };
	git_blob *blob = NULL;
	int rc = git_blob_lookup(&blob, checkout->repo, git_tree_entry_id(entry));
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: the commit's file cannot be read", inner_path(checkout));
	if (mode == GIT_FILEMODE_LINK) {
		rc = write_link(checkout, blob, err);
		goto out;
	}
	rc = checkout->filters ? filter_blob(&clean, checkout, blob, err) : 0;
	if (rc)
		goto out;
	if (clean.ptr)
		rc = write_file(checkout, clean.ptr, clean.size,
		                mode == GIT_FILEMODE_BLOB_EXECUTABLE ? 0755 : 0644, err);
	else
		rc = write_file(checkout, git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob),
		                mode == GIT_FILEMODE_BLOB_EXECUTABLE ? 0755 : 0644, err);
out:
	git_buf_dispose(&clean);
	git_blob_free(blob);
	return rc;
}

static int write_tree(struct checkout *checkout, const git_oid *oid, pio_err *err);

static int write_entry(struct checkout *checkout, const git_tree_entry *entry, pio_err *err)
{
	struct stat st;
	switch (git_tree_entry_filemode(entry)) {
	case GIT_FILEMODE_TREE:
		/* A tree with the same name twice must not lead through a link. */
		if (!lstat(checkout->path.data, &st))
			return pio_fail(err, PIO_ECORRUPT, "the commit has \"%s\" twice", inner_path(checkout));
		return write_tree(checkout, git_tree_entry_id(entry), err);
	case GIT_FILEMODE_COMMIT:
		/* A submodule of a commit that pioche did not make: as git, an empty directory. */
		return pio_fs_mkdirs(checkout->path.data, 0755, err);
	default:
		return write_blob(checkout, entry, err);
	}
}

static int write_tree(struct checkout *checkout, const git_oid *oid, pio_err *err)
{
	git_tree *tree = NULL;
	size_t base = checkout->path.len;
	bool filters = checkout->filters;
	int rc = git_tree_lookup(&tree, checkout->repo, oid);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: the commit's directory cannot be read",
		                    inner_path(checkout));
	rc = pio_fs_mkdirs(checkout->path.data, 0755, err);
	if (git_tree_entry_byname(tree, ".gitattributes"))
		checkout->filters = true;
	for (size_t i = 0; i < git_tree_entrycount(tree) && !rc; i++) {
		const git_tree_entry *entry = git_tree_entry_byindex(tree, i);
		rc = check_name(checkout, git_tree_entry_name(entry), err);
		if (rc)
			break;
		pio_str_putc(&checkout->path, '/');
		pio_str_puts(&checkout->path, git_tree_entry_name(entry));
		rc = pio_str_check(&checkout->path, err);
		if (!rc)
			rc = write_entry(checkout, entry, err);
		checkout->path.len = base;
		checkout->path.data[base] = 0;
	}
	checkout->filters = filters;
	/* Last, because every file made in it renews it. */
	if (!rc && utimensat(AT_FDCWD, checkout->path.data, checkout->times, 0))
		rc = pio_fail_errno(err, errno, "%s: cannot set the time", checkout->path.data);
	git_tree_free(tree);
	return rc;
}

static int write_commit(struct checkout *checkout, const char *hex, pio_err *err)
{
	git_commit *commit = NULL;
	git_config *config = NULL;
	int autocrlf = 0;
	int rc = pio_git_commit_lookup(&commit, checkout->repo, hex, err);
	if (rc)
		return rc;
	checkout->commit = *git_commit_id(commit);
	checkout->times[0].tv_sec = checkout->times[1].tv_sec = git_commit_time(commit);
	/* "input" is no boolean and changes nothing on the way out. */
	if (git_repository_config_snapshot(&config, checkout->repo) >= 0 &&
	    git_config_get_bool(&autocrlf, config, "core.autocrlf") < 0)
		autocrlf = 0;
	git_config_free(config);
	checkout->filters = autocrlf != 0;
	rc = write_tree(checkout, git_commit_tree_id(commit), err);
	git_commit_free(commit);
	return rc;
}

int pio_snapshot_checkout(const char *repository, const char *commit, const char *dest_dir,
                          pio_err *err)
{
	struct checkout checkout = { .path = PIO_STR_INIT };
	pio_str parent = PIO_STR_INIT;
	const char *slash = strrchr(dest_dir, '/');
	struct stat st;
	int rc;
	if (!lstat(dest_dir, &st))
		return pio_fail(err, PIO_EEXIST, "%s exists, expected a new directory to check out into",
		                dest_dir);
	pio_str_append(&parent, dest_dir, slash ? (size_t)(slash - dest_dir) + (slash == dest_dir) : 0);
	if (!slash)
		pio_str_puts(&parent, ".");
	pio_str_printf(&checkout.path, "%s.part", dest_dir);
	rc = pio_str_check(&checkout.path, err);
	if (!rc)
		rc = pio_str_check(&parent, err);
	if (!rc)
		rc = pio_git_open(&checkout.repo, repository, err);
	if (rc)
		goto out;
	checkout.root_bytes = checkout.path.len + 1;
	rc = pio_fs_remove_tree(checkout.path.data, err);
	if (!rc)
		rc = write_commit(&checkout, commit, err);
	/* Contents before the name that says they are whole; one sync, not one a file. */
	if (!rc)
		rc = pio_fs_sync_filesystem(checkout.path.data, err);
	if (!rc)
		rc = pio_fs_rename(checkout.path.data, dest_dir, err);
	if (!rc)
		rc = pio_fs_sync_dir(parent.data, err);
	if (rc)
		pio_fs_remove_tree(checkout.path.data, NULL);
out:
	git_repository_free(checkout.repo);
	pio_str_fini(&checkout.path);
	pio_str_fini(&parent);
	return rc;
}
