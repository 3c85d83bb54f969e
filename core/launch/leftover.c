#include "launch/leftover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "client/env.h"
#include "store/archive.h"
#include "store/late.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/shm.h"

#define PREFIX "pioche-"
#define SUFFIX ".node"

static int note_path(pio_str *path, const pio_agent_spec *spec, pio_err *err)
{
	pio_str_printf(path, "%s/" PREFIX "%s-%d-%d" SUFFIX, pio_shm_dir(), spec->run, spec->attempt, spec->node);
	return pio_str_check(path, err);
}

pio_ring_node pio_leftover_rings(const pio_agent_spec *spec)
{
	return (pio_ring_node){ .dir = spec->dir, .ulid = spec->run, .attempt = spec->attempt, .node = spec->node,
	                        .first = spec->first_rank, .count = spec->ranks_per_node };
}

/* ---- the note ---------------------------------------------------------------------------------- */

static char *note_text(const pio_agent_spec *spec)
{
	json_t *note = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "store", spec->store, "dir", spec->dir,
	                         "run", spec->run, "attempt", spec->attempt, "node", spec->node, "first",
	                         spec->first_rank, "count", spec->ranks_per_node);
	char *text = note ? pio_json_canonical(note) : NULL;
	json_decref(note);
	return text;
}

/* It gets its name when it is whole and locked. */
int pio_leftover_announce(int *lock_fd, const pio_agent_spec *spec, pio_err *err)
{
	pio_str path = PIO_STR_INIT, part = PIO_STR_INIT;
	char *text = note_text(spec);
	*lock_fd = -1;
	int rc = text ? note_path(&path, spec, err) : pio_fail(err, PIO_ENOMEM, "out of memory for a note");
	if (!rc) {
		pio_str_printf(&part, "%s.part", path.data);
		rc = pio_str_check(&part, err);
	}
	if (!rc)
		rc = pio_fs_lock(lock_fd, part.data, err);
	if (!rc && fchmod(*lock_fd, 0600) != 0) /* the umask may let others write */
		rc = pio_fail_errno(err, errno, "set the mode of %s", part.data);
	if (!rc)
		rc = pio_fs_write_all(*lock_fd, text, strlen(text), part.data, err);
	if (!rc)
		rc = pio_fs_rename(part.data, path.data, err);
	if (rc && *lock_fd >= 0) {
		(void)pio_fs_unlink(part.data, NULL);
		pio_fs_unlock(lock_fd);
	}
	pio_str_fini(&path);
	pio_str_fini(&part);
	free(text);
	return rc;
}

void pio_leftover_end(const pio_agent_spec *spec)
{
	pio_str path = PIO_STR_INIT;
	const pio_ring_node rings = pio_leftover_rings(spec);
	if (!pio_ring_is_left(&rings) && note_path(&path, spec, NULL) == 0)
		(void)pio_fs_unlink(path.data, NULL);
	pio_str_fini(&path);
}

/* ---- what a dead one left ------------------------------------------------------------------------ */

typedef struct leftover {
	json_t *note;
	pio_ring_node rings;       /* its texts are the note's, */
	const char *store;         /* this one too */
} leftover;

/* Into a directory that all may write to, others may have put a file of this name;
 * and what others may write to says nothing. */
static bool is_own_file(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	       (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static int read_note(leftover *left, const char *path, pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	pio_ring_node *rings = &left->rings;
	int64_t attempt, node, first, count;
	int rc = pio_fs_read(&text, path, err);
	if (!rc)
		rc = pio_json_parse(&left->note, text.data, text.len, path, err);
	pio_str_fini(&text);
	if (rc || (rc = pio_json_get_string(left->note, "store", &left->store, path, err)) ||
	    (rc = pio_json_get_string(left->note, "dir", &rings->dir, path, err)) ||
	    (rc = pio_json_get_string(left->note, "run", &rings->ulid, path, err)) ||
	    (rc = pio_json_get_int(left->note, "attempt", &attempt, path, err)) ||
	    (rc = pio_json_get_int(left->note, "node", &node, path, err)) ||
	    (rc = pio_json_get_int(left->note, "first", &first, path, err)) ||
	    (rc = pio_json_get_int(left->note, "count", &count, path, err)))
		return rc;
	rings->attempt = (int)attempt;
	rings->node = (int)node;
	rings->first = (int)first;
	rings->count = (int)count;
	/* Its attempt has ended: the newest segment may be archived, too. */
	rings->open = pio_archive_open;
	return 0;
}

static bool is_same_place(const char *a, const char *b)
{
	struct stat x, y;
	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What a rank started may have outlived it, and log on. */
static bool is_any_alive(const leftover *left)
{
	pio_str mark = PIO_STR_INIT;
	pio_str_printf(&mark, PIO_ENV_DIR "=%s", left->rings.dir);
	bool is_alive = mark.failed || pio_proc_signal_marked(mark.data, 0) > 0;
	pio_str_fini(&mark);
	return is_alive;
}

/* Under the attempt's lock, so that nobody else drains these rings. */
static int move_rings(const leftover *left, pio_err *err)
{
	const pio_ring_node *rings = &left->rings;
	pio_str path = PIO_STR_INIT;
	int lock_fd = -1, late_fd = -1;
	pio_str_printf(&path, rings->node ? "%s/agent.%d.lock" : "%s/agent.lock", rings->dir, rings->node);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_lock(&lock_fd, path.data, err);
	if (!rc)
		rc = pio_late_begin(&late_fd, left->store, rings->ulid, rings->attempt, rings->node, err);
	if (!rc)
		rc = pio_ring_recover_node(rings, err);
	pio_fs_unlock(&late_fd);
	pio_fs_unlock(&lock_fd);
	pio_str_fini(&path);
	return rc;
}

/* Its note is locked by us. */
static int drain_one(pio_str *told, const char *path, const char *store, pio_err *err)
{
	leftover left = { .note = NULL };
	int rc = read_note(&left, path, err);
	if (rc || (store && !is_same_place(store, left.store)) || is_any_alive(&left))
		goto out;
	if (pio_fs_type(left.rings.dir) != PIO_FS_DIR)
		goto out; /* its store is not mounted, or removed */
	if (pio_ring_is_left(&left.rings)) {
		rc = move_rings(&left, err);
		if (!rc)
			pio_str_printf(told, "%s%s attempt %d node %d", told->len ? ", " : "", left.rings.ulid,
			               left.rings.attempt, left.rings.node);
	}
	if (!rc)
		rc = pio_fs_unlink(path, err);
out:
	json_decref(left.note);
	return rc;
}

/* Somebody was here since we looked: what we have locked is the note that he
 * removed, or an empty one that the lock has made. */
static bool is_removed(int lock_fd)
{
	struct stat st;
	return fstat(lock_fd, &st) != 0 || st.st_nlink == 0 || st.st_size == 0;
}

/* What somebody else works on is no error. */
static int look_at(pio_str *told, const char *name, const char *store, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int lock_fd = -1;
	pio_err why = PIO_ERR_INIT;
	pio_str_printf(&path, "%s/%s", pio_shm_dir(), name);
	int rc = pio_str_check(&path, err);
	if (rc || !is_own_file(path.data))
		goto out;
	rc = pio_fs_lock(&lock_fd, path.data, &why);
	if (!rc && is_removed(lock_fd))
		rc = pio_fs_unlink(path.data, &why);
	else if (!rc)
		rc = drain_one(told, path.data, store, &why);
	pio_fs_unlock(&lock_fd);
	if (rc == -PIO_EBUSY)
		rc = 0;
	if (rc && err)
		*err = why;
out:
	pio_str_fini(&path);
	return rc;
}

static bool is_note(const char *name)
{
	size_t length = strlen(name);
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0 && length > strlen(SUFFIX) &&
	       strcmp(name + length - strlen(SUFFIX), SUFFIX) == 0;
}

int pio_leftover_drain(pio_str *told, const char *store, pio_err *err)
{
	char **names;
	size_t count;
	int first = pio_fs_list(&names, &count, pio_shm_dir(), err);
	if (first)
		return first;
	for (size_t i = 0; i < count; i++) {
		pio_err why = PIO_ERR_INIT;
		int rc = is_note(names[i]) ? look_at(told, names[i], store, &why) : 0;
		if (rc && !first) {
			first = rc;
			if (err)
				*err = why;
		}
	}
	pio_fs_list_free(names, count);
	return first;
}
