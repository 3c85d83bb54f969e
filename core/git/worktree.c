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
#include "git/repo.h"

/* One repository of the walk: the outer one, a submodule or a nested one. */
struct scope {
	git_repository *repo;
	git_index *index;
	size_t prefix_bytes;        /* of the walk's path: where this repository's paths begin */
	struct timespec index_time; /* entries that are not older may be racy */
	bool trust_executable;      /* core.fileMode */
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
	bool is_dir;
	ino_t ino;
};

static int read_dir(struct walk *walk, const struct scope *scope, int fd, pio_tree *tree,
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
                    bool is_dir, pio_err *err)
{
	if (*count == *capacity) {
		size_t grown_capacity = *capacity ? 2 * *capacity : 32;
		struct name *grown = pio_realloc(*names, grown_capacity * sizeof *grown);
		if (!grown)
			return pio_fail(err, PIO_ENOMEM, "out of memory while listing the work tree");
		*names = grown;
		*capacity = grown_capacity;
	}
	struct name *name = &(*names)[*count];
	*name = (struct name){ pio_strdup(item->d_name), is_dir, item->d_ino };
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
		bool is_dir = item->d_type == DT_DIR;
		if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, ".."))
			continue;
		if (!strcmp(item->d_name, ".git")) {
			*nested = true;
			continue;
		}
		if (item->d_type == DT_UNKNOWN) {
			struct stat st;
			is_dir = !fstatat(dirfd(dir), item->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
			         S_ISDIR(st.st_mode);
		}
		rc = list_add(names, count, &capacity, item, is_dir, err);
	}
	if (!rc && errno)
		rc = pio_fail_errno(err, errno, "%s: cannot list the directory", path);
	closedir(dir);
	if (*count)
		qsort(*names, *count, sizeof **names, compare_names);
	return rc;
}

static int scope_open(struct scope *scope, git_repository *repo, size_t prefix_bytes, bool outer,
                      pio_err *err)
{
	struct stat st;
	git_buf path = { NULL, 0, 0 };
	git_config *config = NULL;
	int mode = 1;
	*scope = (struct scope){ .repo = repo, .prefix_bytes = prefix_bytes, .outer = outer };
	/* Before the index is read: if it is replaced meanwhile, more is read, not less. */
	if (git_repository_item_path(&path, repo, GIT_REPOSITORY_ITEM_INDEX) >= 0 &&
	    !stat(path.ptr, &st))
		scope->index_time = st.st_mtim;
	git_buf_dispose(&path);
	int rc = git_repository_index(&scope->index, repo);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot read the index", git_repository_path(repo));
	if (git_repository_config_snapshot(&config, repo) >= 0 &&
	    git_config_get_bool(&mode, config, "core.filemode") < 0)
		mode = 1;
	git_config_free(config);
	scope->trust_executable = mode != 0;
	return 0;
}

static int is_ignored(bool *ignored, const struct scope *scope, const char *path, pio_err *err)
{
	int answer = 0, rc = git_ignore_path_is_ignored(&answer, scope->repo, path);
	*ignored = answer != 0;
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot evaluate the ignore rules", path);
	return 0;
}

static bool has_tracked(const struct scope *scope, const char *path, size_t path_bytes)
{
	size_t at;
	char stack[512], *prefix = path_bytes + 2 <= sizeof stack ? stack : pio_alloc(path_bytes + 2);
	if (!prefix)
		return true;
	memcpy(prefix, path, path_bytes);
	memcpy(prefix + path_bytes, "/", 2);
	bool found = git_index_find_prefix(&at, scope->index, prefix) >= 0;
	if (prefix != stack)
		pio_free(prefix);
	return found;
}

static const git_index_entry *tracked_entry(const struct scope *scope, const char *path)
{
	const git_index_entry *entry = NULL;
	/* Stages 1 to 3 are an unfinished merge: tracked, whatever the ignore rules say. */
	for (int stage = 0; stage <= 3 && !entry; stage++)
		entry = git_index_get_bypath(scope->index, path, stage);
	return entry;
}

/* True if the file is certainly what the index says. */
static bool is_unchanged(const struct scope *scope, const git_index_entry *entry,
                         const struct stat *st)
{
	const struct timespec *racy = &scope->index_time;
	if (git_index_entry_stage(entry) ||
	    entry->flags_extended & GIT_INDEX_ENTRY_INTENT_TO_ADD)
		return false;
	if (entry->mtime.seconds > racy->tv_sec ||
	    (entry->mtime.seconds == racy->tv_sec && entry->mtime.nanoseconds >= racy->tv_nsec))
		return false;
	if ((S_ISLNK(st->st_mode)) != ((entry->mode & S_IFMT) == S_IFLNK) ||
	    (S_ISREG(st->st_mode)) != ((entry->mode & S_IFMT) == S_IFREG))
		return false;
	return entry->mtime.seconds == (int32_t)st->st_mtim.tv_sec &&
	       entry->mtime.nanoseconds == (uint32_t)st->st_mtim.tv_nsec &&
	       entry->ctime.seconds == (int32_t)st->st_ctim.tv_sec &&
	       entry->ctime.nanoseconds == (uint32_t)st->st_ctim.tv_nsec &&
	       entry->ino == (uint32_t)st->st_ino && entry->file_size == (uint32_t)st->st_size;
}

static uint32_t file_mode(const struct scope *scope, const git_index_entry *entry,
                          const struct stat *st)
{
	if (S_ISLNK(st->st_mode))
		return PIO_GIT_MODE_LINK;
	if (!scope->trust_executable)
		return entry && entry->mode == PIO_GIT_MODE_EXECUTABLE ? PIO_GIT_MODE_EXECUTABLE :
		       PIO_GIT_MODE_FILE;
	return st->st_mode & S_IXUSR ? PIO_GIT_MODE_EXECUTABLE : PIO_GIT_MODE_FILE;
}

static int check_limits(const struct walk *walk, int64_t size_bytes, pio_err *err)
{
	const pio_worktree_spec *spec = walk->spec;
	if (size_bytes > spec->file_bytes_max)
		return pio_fail(err, PIO_EINVAL, "%s: %.1f MB, but a snapshot of the code takes files up to "
		                "%.1f MB. Ignore it in .gitignore, or declare it as an input of the program "
		                "(inputs = { ... }), or raise the limit (snapshot.file_bytes_max)",
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

static int read_file(struct walk *walk, const struct scope *scope, int fd, const char *name,
                     pio_tree *tree, pio_err *err)
{
	const char *path = walk->path.data + scope->prefix_bytes;
	struct stat st;
	git_oid oid;
	bool ignored = false, foreign = false;
	int rc = 0;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 :
		       pio_fail_errno(err, errno, "%s: cannot be examined", walk->path.data);
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return 0;
	const git_index_entry *entry = tracked_entry(scope, path);
	if (!entry)
		rc = is_ignored(&ignored, scope, path, err);
	if (rc || ignored)
		return rc;
	walk->counts->files++;
	walk->counts->bytes += st.st_size;
	rc = check_limits(walk, st.st_size, err);
	if (!rc && walk->foreign_filters && S_ISREG(st.st_mode))
		rc = pio_git_file_foreign(&foreign, scope->repo, path, err);
	if (rc)
		return rc;
	if (entry && !foreign && is_unchanged(scope, entry, &st) &&
	    (scope->outer || pio_stage_has(walk->spec->stage, &entry->id))) {
		oid = entry->id;
	} else {
		walk->counts->hashed++;
		rc = pio_git_file_put(&oid, walk->spec->stage, scope->repo, fd, name, path,
		                      walk->path.data, &st, err);
		if (rc == -PIO_ENOTFOUND)
			return 0;   /* it was removed since it was listed */
	}
	if (!rc)
		rc = pio_tree_add(tree, name, file_mode(scope, entry, &st), &oid, NULL, err);
	return rc;
}

/* True when the subdirectory is the store. */
static bool is_store(const struct walk *walk, int fd)
{
	struct stat st;
	return walk->store_ino && !fstat(fd, &st) && st.st_ino == walk->store_ino &&
	       st.st_dev == walk->store_dev;
}

static int read_subdir(struct walk *walk, const struct scope *scope, int fd,
                       const struct name *name, pio_tree *tree, pio_err *err)
{
	const char *path = walk->path.data + scope->prefix_bytes;
	size_t path_bytes = walk->path.len - scope->prefix_bytes;
	bool ignored = false;
	int rc = 0;
	if (!strcmp(name->text, ".pioche"))
		return 0;
	const git_index_entry *entry = git_index_get_bypath(scope->index, path, 0);
	if (!entry && !has_tracked(scope, path, path_bytes)) {
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

static int read_names(struct walk *walk, const struct scope *scope, int fd,
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
			rc = read_file(walk, scope, fd, names[i].text, tree, err);
		walk->path.len = base;
		if (walk->path.capacity)
			walk->path.data[base] = 0;
	}
	return rc;
}

/* Read a nested repository's directory with its own rules. */
static int read_nested(struct walk *walk, const struct scope *scope, int fd,
                       const struct name *names, size_t count, pio_tree *tree, pio_err *err)
{
	git_repository *repo = NULL;
	struct scope nested;
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
	rc = scope_open(&nested, repo, walk->path.len + 1, false, err);
	if (!rc)
		rc = read_names(walk, &nested, fd, names, count, tree, err);
	git_index_free(nested.index);
out:
	git_repository_free(repo);
	pio_str_fini(&dir);
	return rc;
}

/* Takes `fd`. */
static int read_dir(struct walk *walk, const struct scope *scope, int fd, pio_tree *tree,
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
	struct scope scope = { .repo = NULL };
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
	int rc = scope_open(&scope, spec->repo, 0, true, err);
	if (!rc) {
		int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = fd < 0 ? pio_fail_errno(err, errno, "%s: cannot open the work tree", root) :
		     read_dir(&walk, &scope, fd, *tree, err);
	}
	git_index_free(scope.index);
	pio_str_fini(&walk.path);
	if (rc) {
		pio_tree_free(*tree);
		*tree = NULL;
	}
	return rc;
}
