#include "git/worktree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "git/file.h"
#include "git/fresh.h"
#include "git/repo.h"

/* One repository of the walk: the outer one, a submodule or a nested one. */
struct scope {
	git_repository *repo;
	pio_fresh fresh;
	size_t prefix_bytes;        /* of the walk's path: where this repository's paths begin */
	bool outer;                 /* its blobs are in the repository that we write to */
};

struct walk {
	const pio_worktree_spec *spec;
	pio_worktree_counts *counts;
	pio_str path;               /* relative to the work tree; "" is its root */
	dev_t store_dev;
	ino_t store_ino;
	bool foreign_filters;       /* a .gitattributes speaks of filter drivers */
};

struct name {
	char *text;
	unsigned char type;         /* DT_..., DT_UNKNOWN only if stat failed */
	bool is_dir;
	ino_t ino;
};

static int read_dir(struct walk *walk, struct scope *scope, int fd, pio_tree *tree,
                    pio_err *err);

/* Git's order: a directory sorts as if its name ended in '/'. */
static int compare_names(const void *left, const void *right)
{
	const struct name *a = left, *b = right;
	size_t a_len = strlen(a->text), b_len = strlen(b->text);
	size_t common = a_len < b_len ? a_len : b_len;
	int order = memcmp(a->text, b->text, common);
	if (order)
		return order;
	unsigned char a_next = a_len > common ? (unsigned char)a->text[common] : a->is_dir ? '/' : 0;
	unsigned char b_next = b_len > common ? (unsigned char)b->text[common] : b->is_dir ? '/' : 0;
	return (a_next > b_next) - (a_next < b_next);
}

static int list_add(struct name **names, size_t *count, size_t *capacity, const struct dirent *item,
                    unsigned char type, pio_err *err)
{
	int rc = pio_grow(names, capacity, *count, "names of a directory", err);
	if (rc)
		return rc;
	struct name *name = &(*names)[*count];
	*name = (struct name){ pio_strdup(item->d_name), type, type == DT_DIR, item->d_ino };
	if (!name->text)
		return pio_fail(err, PIO_ENOMEM, "out of memory while listing the work tree");
	(*count)++;
	return 0;
}

/* Takes `fd`. Names without ".", ".." and ".git", in git's order. */
static int list(struct name **names, size_t *count, bool *nested, int fd, const char *path,
                pio_err *err)
{
	size_t capacity = 0;
	int rc = 0;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		rc = pio_fail_errno(err, errno, "%s: cannot list the directory", path);
		close(fd);
		return rc;
	}
	const struct dirent *item;
	while (!rc && (errno = 0, item = readdir(dir))) {
		unsigned char type = item->d_type;
		if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, ".."))
			continue;
		if (!strcmp(item->d_name, ".git")) {
			*nested = true;
			continue;
		}
		if (type == DT_UNKNOWN) {
			struct stat st;
			if (!fstatat(dirfd(dir), item->d_name, &st, AT_SYMLINK_NOFOLLOW))
				type = (unsigned char)IFTODT(st.st_mode);
		}
		rc = list_add(names, count, &capacity, item, type, err);
	}
	if (!rc && errno)
		rc = pio_fail_errno(err, errno, "%s: cannot list the directory", path);
	closedir(dir);
	if (*count)
		qsort(*names, *count, sizeof **names, compare_names);
	return rc;
}

static int is_ignored(bool *ignored, const struct scope *scope, const char *path, pio_err *err)
{
	int answer = 0, rc = git_ignore_path_is_ignored(&answer, scope->repo, path);
	*ignored = answer != 0;
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot evaluate the ignore rules", path);
	return 0;
}

static int check_limits(const struct walk *walk, int64_t size_bytes, pio_err *err)
{
	const pio_worktree_spec *spec = walk->spec;
	if (size_bytes > spec->file_bytes_max)
		return pio_fail(err, PIO_EINVAL, "%s: %.1f MB, but a snapshot of the code takes files up to "
		                "%.1f MB. Ignore it in .gitignore, and if the program reads it, declare it as "
		                "an input (inputs = { ... })",
		                walk->path.data, (double)size_bytes / 1e6, (double)spec->file_bytes_max / 1e6);
	if ((spec->files_max && walk->counts->files > spec->files_max) ||
	    (spec->total_bytes_max && walk->counts->bytes > spec->total_bytes_max))
		return pio_fail(err, PIO_EINVAL, "%s: there is no git repository, and this directory holds "
		                "more than %lld files or %lld bytes. Run `git init` where the code begins, "
		                "or list what is no code in a .gitignore",
		                git_repository_workdir(spec->repo), (long long)spec->files_max,
		                (long long)spec->total_bytes_max);
	return 0;
}

/* Count a file that will be in the tree, and refuse what is too much. */
static int count_file(struct walk *walk, int64_t size_bytes, pio_err *err)
{
	walk->counts->files++;
	walk->counts->bytes += size_bytes;
	return check_limits(walk, size_bytes, err);
}

static int read_file(struct walk *walk, struct scope *scope, int fd, const struct name *name,
                     pio_tree *tree, pio_err *err)
{
	const char *path = walk->path.data + scope->prefix_bytes;
	struct stat st;
	git_oid oid;
	bool ignored = false, foreign = false, unchanged;
	int rc = 0;
	if (name->type != DT_REG && name->type != DT_LNK && name->type != DT_UNKNOWN)
		return 0;
	const git_index_entry *entry = pio_fresh_find(&unchanged, &scope->fresh, path);
	if (unchanged && scope->outer && !walk->foreign_filters) {
		rc = count_file(walk, entry->file_size, err);
		return rc ? rc : pio_tree_add(tree, name->text, entry->mode, &entry->id, NULL, err);
	}
	if (fstatat(fd, name->text, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 :
		       pio_fail_errno(err, errno, "%s: cannot be examined", walk->path.data);
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return 0;
	if (!entry)
		rc = is_ignored(&ignored, scope, path, err);
	if (rc || ignored)
		return rc;
	rc = count_file(walk, st.st_size, err);
	if (!rc && walk->foreign_filters && S_ISREG(st.st_mode))
		rc = pio_git_file_foreign(&foreign, scope->repo, path, err);
	if (rc)
		return rc;
	if (entry && !foreign && pio_fresh_unchanged(&scope->fresh, entry, &st) &&
	    (scope->outer || pio_stage_has(walk->spec->stage, &entry->id))) {
		oid = entry->id;
	} else {
		walk->counts->hashed++;
		rc = pio_git_file_put(&oid, walk->spec->stage, scope->repo, fd, name->text, path,
		                      walk->path.data, &st, err);
		if (rc == -PIO_ENOTFOUND)
			return 0;   /* it was removed since it was listed */
	}
	if (!rc)
		rc = pio_tree_add(tree, name->text, pio_fresh_mode(&scope->fresh, entry, &st), &oid, NULL,
		                  err);
	return rc;
}

/* True when the subdirectory is the store. */
static bool is_store(const struct walk *walk, int fd)
{
	struct stat st;
	return walk->store_ino && !fstat(fd, &st) && st.st_ino == walk->store_ino &&
	       st.st_dev == walk->store_dev;
}

static int read_subdir(struct walk *walk, struct scope *scope, int fd,
                       const struct name *name, pio_tree *tree, pio_err *err)
{
	const char *path = walk->path.data + scope->prefix_bytes;
	bool ignored = false;
	int rc = 0;
	if (!strcmp(name->text, ".pioche"))
		return 0;
	/* The directory of a submodule is an entry itself. */
	if (!pio_fresh_has_below(&scope->fresh, path) &&
	    !git_index_get_bypath(scope->fresh.index, path, 0)) {
		pio_str_putc(&walk->path, '/');
		rc = pio_str_check(&walk->path, err);
		if (!rc)
			rc = is_ignored(&ignored, scope, walk->path.data + scope->prefix_bytes, err);
		if (!walk->path.failed)
			walk->path.data[--walk->path.len] = 0;
		if (rc || ignored)
			return rc;
	}
	int sub = openat(fd, name->text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0)
		return errno == ENOENT ? 0 :
		       pio_fail_errno(err, errno, "%s: cannot open the directory", walk->path.data);
	if (name->ino == walk->store_ino && is_store(walk, sub)) {
		close(sub);
		return 0;
	}
	pio_tree *child = pio_tree_new();
	if (!child) {
		close(sub);
		return pio_fail(err, PIO_ENOMEM, "out of memory while listing the work tree");
	}
	rc = read_dir(walk, scope, sub, child, err);
	if (!rc && child->count) {
		rc = pio_tree_add(tree, name->text, PIO_GIT_MODE_TREE, NULL, child, err);
		if (!rc)
			return 0;
	}
	pio_tree_free(child);
	return rc;
}

static int read_names(struct walk *walk, struct scope *scope, int fd,
                      const struct name *names, size_t count, pio_tree *tree, pio_err *err)
{
	size_t base = walk->path.len;
	int rc = 0;
	for (size_t i = 0; i < count && !rc; i++) {
		if (!strcmp(names[i].text, ".gitattributes") && !walk->foreign_filters)
			rc = pio_git_file_mentions(&walk->foreign_filters, fd, names[i].text, "filter=", err);
		if (rc)
			break;
		if (base)
			pio_str_putc(&walk->path, '/');
		pio_str_puts(&walk->path, names[i].text);
		rc = pio_str_check(&walk->path, err);
		if (!rc && names[i].is_dir)
			rc = read_subdir(walk, scope, fd, &names[i], tree, err);
		else if (!rc)
			rc = read_file(walk, scope, fd, &names[i], tree, err);
		walk->path.len = base;
		if (walk->path.capacity)
			walk->path.data[base] = 0;
	}
	return rc;
}

/* Read a nested repository's directory with its own rules. */
static int read_nested(struct walk *walk, struct scope *scope, int fd,
                       const struct name *names, size_t count, pio_tree *tree, pio_err *err)
{
	git_repository *repo = NULL;
	struct scope nested = { .prefix_bytes = walk->path.len + 1 };
	pio_str dir = PIO_STR_INIT;
	pio_str_printf(&dir, "%s%s", git_repository_workdir(walk->spec->repo), walk->path.data);
	int rc = pio_str_check(&dir, err);
	if (rc)
		goto out;
	if (git_repository_open_ext(&repo, dir.data, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL) < 0 ||
	    git_repository_is_bare(repo)) {
		/* Not a repository after all: part of the outer one. */
		rc = read_names(walk, scope, fd, names, count, tree, err);
		goto out;
	}
	nested.repo = repo;
	rc = pio_fresh_open(&nested.fresh, repo, err);
	if (!rc)
		rc = read_names(walk, &nested, fd, names, count, tree, err);
	pio_fresh_close(&nested.fresh);
out:
	git_repository_free(repo);
	pio_str_fini(&dir);
	return rc;
}

/* Takes `fd`. */
static int read_dir(struct walk *walk, struct scope *scope, int fd, pio_tree *tree,
                    pio_err *err)
{
	struct name *names = NULL;
	size_t count = 0;
	bool nested = false;
	int rc, own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0) {
		rc = pio_fail_errno(err, errno, "%s: cannot open the directory", walk->path.data);
		close(fd);
		return rc;
	}
	rc = list(&names, &count, &nested, own, walk->path.len ? walk->path.data : ".", err);
	if (!rc && nested && walk->path.len)
		rc = read_nested(walk, scope, fd, names, count, tree, err);
	else if (!rc)
		rc = read_names(walk, scope, fd, names, count, tree, err);
	for (size_t i = 0; i < count; i++)
		pio_free(names[i].text);
	pio_free(names);
	close(fd);
	return rc;
}

int pio_worktree_read(pio_tree **tree, pio_worktree_counts *counts,
                      const pio_worktree_spec *spec, pio_err *err)
{
	struct walk walk = { .spec = spec, .counts = counts, .path = PIO_STR_INIT };
	struct scope scope = { .repo = spec->repo, .outer = true };
	const char *root = git_repository_workdir(spec->repo);
	struct stat st;
	*counts = (pio_worktree_counts){ 0, 0, 0 };
	*tree = pio_tree_new();
	if (!*tree)
		return pio_fail(err, PIO_ENOMEM, "out of memory while listing the work tree");
	if (spec->store_dir && !stat(spec->store_dir, &st)) {
		walk.store_dev = st.st_dev;
		walk.store_ino = st.st_ino;
	}
	int rc = pio_fresh_open(&scope.fresh, spec->repo, err);
	if (!rc) {
		int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			pio_fresh_preload(&scope.fresh, fd);
		rc = fd < 0 ? pio_fail_errno(err, errno, "%s: cannot open the work tree", root) :
		     read_dir(&walk, &scope, fd, *tree, err);
	}
	pio_fresh_close(&scope.fresh);
	pio_str_fini(&walk.path);
	if (rc) {
		pio_tree_free(*tree);
		*tree = NULL;
	}
	return rc;
}
