#include "git/fresh.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "git/repo.h"
#include "git/tree.h"

#define PRELOAD_MIN 2000        /* entries a thread is worth */
#define PRELOAD_THREADS_MAX 8

int pio_fresh_open(pio_fresh *fresh, git_repository *repo, pio_err *err)
{
	struct stat st;
	git_buf path = { NULL, 0, 0 };
	git_config *config = NULL;
	int mode = 1;
	*fresh = (pio_fresh){ .index = NULL };
	/* Before the index is read: if it is replaced meanwhile, more is read, not less. */
	if (git_repository_item_path(&path, repo, GIT_REPOSITORY_ITEM_INDEX) >= 0 &&
	    !stat(path.ptr, &st))
		fresh->index_time = st.st_mtim;
	git_buf_dispose(&path);
	int rc = git_repository_index(&fresh->index, repo);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot read the index (if it is split or sparse: "
		                    "git update-index --no-split-index, git sparse-checkout reapply "
		                    "--no-sparse-index)", git_repository_path(repo));
	fresh->count = git_index_entrycount(fresh->index);
	if (git_repository_config_snapshot(&config, repo) >= 0 &&
	    git_config_get_bool(&mode, config, "core.filemode") < 0)
		mode = 1;
	git_config_free(config);
	fresh->trust_executable = mode != 0;
	return 0;
}

bool pio_fresh_unchanged(const pio_fresh *fresh, const git_index_entry *entry,
                         const struct stat *st)
{
	const struct timespec *racy = &fresh->index_time;
	if (git_index_entry_stage(entry) ||
	    entry->flags_extended & GIT_INDEX_ENTRY_INTENT_TO_ADD)
		return false;
	if (entry->mtime.seconds > racy->tv_sec ||
	    (entry->mtime.seconds == racy->tv_sec && entry->mtime.nanoseconds >= racy->tv_nsec))
		return false;
	if (S_ISLNK(st->st_mode) != ((entry->mode & S_IFMT) == S_IFLNK) ||
	    S_ISREG(st->st_mode) != ((entry->mode & S_IFMT) == S_IFREG))
		return false;
	return entry->mtime.seconds == (int32_t)st->st_mtim.tv_sec &&
	       entry->mtime.nanoseconds == (uint32_t)st->st_mtim.tv_nsec &&
	       entry->ctime.seconds == (int32_t)st->st_ctim.tv_sec &&
	       entry->ctime.nanoseconds == (uint32_t)st->st_ctim.tv_nsec &&
	       entry->ino == (uint32_t)st->st_ino && (int64_t)entry->file_size == st->st_size;
}

uint32_t pio_fresh_mode(const pio_fresh *fresh, const git_index_entry *entry,
                        const struct stat *st)
{
	if (S_ISLNK(st->st_mode))
		return PIO_GIT_MODE_LINK;
	if (!fresh->trust_executable)
		return entry && entry->mode == PIO_GIT_MODE_EXECUTABLE ? PIO_GIT_MODE_EXECUTABLE :
		       PIO_GIT_MODE_FILE;
	return st->st_mode & S_IXUSR ? PIO_GIT_MODE_EXECUTABLE : PIO_GIT_MODE_FILE;
}

/* ---- preload ---------------------------------------------------------------------- */

struct part {
	const pio_fresh *fresh;
	int root_fd;
	size_t from, to;
};

static void *preload_part(void *context)
{
	const struct part *part = context;
	const pio_fresh *fresh = part->fresh;
	for (size_t i = part->from; i < part->to; i++) {
		const git_index_entry *entry = git_index_get_byindex(fresh->index, i);
		struct stat st;
		if (entry && !fstatat(part->root_fd, entry->path, &st, AT_SYMLINK_NOFOLLOW) &&
		    pio_fresh_unchanged(fresh, entry, &st) &&
		    pio_fresh_mode(fresh, entry, &st) == entry->mode)
			fresh->known[i] = 1;
	}
	return NULL;
}

void pio_fresh_preload(pio_fresh *fresh, int root_fd)
{
	pthread_t threads[PRELOAD_THREADS_MAX];
	struct part parts[PRELOAD_THREADS_MAX];
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t count = fresh->count / PRELOAD_MIN, started = 0;
	if (!count)
		return;
	fresh->known = pio_calloc(fresh->count, 1);
	if (!fresh->known)
		return;
	if (processors > 0 && count > (size_t)processors)
		count = (size_t)processors;
	if (count > PRELOAD_THREADS_MAX)
		count = PRELOAD_THREADS_MAX;
	for (size_t i = 0; i < count; i++)
		parts[i] = (struct part){ fresh, root_fd, fresh->count * i / count,
			fresh->count * (i + 1) / count };
	while (started + 1 < count &&
	       !pthread_create(&threads[started], NULL, preload_part, &parts[started]))
		started++;
	/* This thread does the last part and those that found no thread. */
	for (size_t i = started; i < count; i++)
		preload_part(&parts[i]);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
}

/* ---- look-up ------------------------------------------------------------------------ */

/* The walk goes in the order of the index, so the next entry is mostly the
 * right one; after a file that is new or gone, the search finds the place. */
const git_index_entry *pio_fresh_find(bool *unchanged, pio_fresh *fresh, const char *path)
{
	const git_index_entry *entry = fresh->cursor < fresh->count ?
	                               git_index_get_byindex(fresh->index, fresh->cursor) : NULL;
	size_t at = fresh->cursor;
	*unchanged = false;
	if (!entry || strcmp(entry->path, path)) {
		if (git_index_find(&at, fresh->index, path) < 0)
			return NULL;
		entry = git_index_get_byindex(fresh->index, at);
	}
	fresh->cursor = at + 1;
	*unchanged = fresh->known && fresh->known[at];
	return entry;
}

bool pio_fresh_has_below(const pio_fresh *fresh, const char *dir)
{
	const git_index_entry *entry = fresh->cursor < fresh->count ?
	                               git_index_get_byindex(fresh->index, fresh->cursor) : NULL;
	size_t len = strlen(dir), at;
	if (entry && !strncmp(entry->path, dir, len) && entry->path[len] == '/')
		return true;
	char *prefix = pio_alloc(len + 2);
	if (!prefix)
		return true;    /* the ignore rules are asked for each of its files, then */
	memcpy(prefix, dir, len);
	memcpy(prefix + len, "/", 2);
	bool found = git_index_find_prefix(&at, fresh->index, prefix) >= 0;
	pio_free(prefix);
	return found;
}

void pio_fresh_close(pio_fresh *fresh)
{
	git_index_free(fresh->index);
	pio_free(fresh->known);
	*fresh = (pio_fresh){ .index = NULL };
}
