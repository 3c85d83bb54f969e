#include "exchange/incoming.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define SUFFIX ".import"
#define OBJECTS "objects"
#define LEFT "left"
#define LOCK_GRACE_MS 60000     /* between making a directory and locking it */

static int make_directory(pio_incoming *s, const pio_store *store, pio_err *err)
{
	pio_ulid ulid;
	char name[PIO_ULID_CHARS + 1];
	pio_str path = PIO_STR_INIT;
	pio_ulid_new(&ulid);
	pio_ulid_format(&ulid, name);
	pio_str_printf(&path, "%s/staging/%s" SUFFIX, pio_store_path(store), name);
	s->dir = pio_str_take(&path);
	if (!s->dir)
		return pio_fail(err, PIO_ENOMEM, "out of memory for an import");
	int rc = pio_fs_mkdirs(s->dir, 0777, err);
	pio_str_printf(&path, "%s/lock", s->dir);
	rc = rc ? rc : pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_lock(&s->lock_fd, path.data, err);
	pio_str_fini(&path);
	return rc;
}

/* ---- what others left ------------------------------------------------------------------ */

static bool has_fetched(const char *dir)
{
	bool has = false;
	for (int i = 0; i < 2; i++) {
		pio_str path = PIO_STR_INIT;
		pio_str_printf(&path, "%s/%s", dir, i ? LEFT : OBJECTS);
		has |= !path.failed && pio_fs_type(path.data) == PIO_FS_DIR;
		pio_str_fini(&path);
	}
	return has;
}

/* Files of from/ab/ become those of to/ab/. False where one could not. */
static bool move_prefix(const char *from, const char *to, const char *prefix)
{
	char **names = NULL;
	size_t count = 0;
	bool made = false;
	pio_str old = PIO_STR_INIT, new = PIO_STR_INIT;
	pio_str_printf(&old, "%s/%s", from, prefix);
	pio_str_printf(&new, "%s/%s", to, prefix);
	size_t old_len = old.len, new_len = new.len;
	bool moved = !old.failed && !new.failed && pio_fs_list(&names, &count, old.data, NULL) == 0;
	for (size_t i = 0; i < count; i++) {
		if (!pio_hex_valid(names[i], PIO_SHA256_HEX))
			continue;
		made = made || pio_fs_mkdirs(new.data, 0777, NULL) == 0;
		old.len = old_len;
		new.len = new_len;
		pio_str_printf(&old, "/%s", names[i]);
		pio_str_printf(&new, "/%s", names[i]);
		moved = made && !old.failed && !new.failed && pio_fs_rename(old.data, new.data, NULL) == 0 && moved;
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&old);
	pio_str_fini(&new);
	return moved;
}

/* The objects of from_dir/kind/, if there are any, become those of heir/left/. False where one could not. */
static bool move_objects(const char *from_dir, const char *kind, const char *heir)
{
	char **prefixes = NULL;
	size_t count = 0;
	pio_str from = PIO_STR_INIT, to = PIO_STR_INIT;
	pio_str_printf(&from, "%s/%s", from_dir, kind);
	pio_str_printf(&to, "%s/" LEFT, heir);
	bool moved = !from.failed && !to.failed;
	if (moved && pio_fs_type(from.data) == PIO_FS_DIR)
		moved = pio_fs_list(&prefixes, &count, from.data, NULL) == 0;
	for (size_t i = 0; i < count; i++)
		if (pio_hex_valid(prefixes[i], 2))
			moved = move_prefix(from.data, to.data, prefixes[i]) && moved;
	pio_fs_list_free(prefixes, count);
	pio_str_fini(&from);
	pio_str_fini(&to);
	return moved;
}

/* Of a process that is gone: its lock is free. Without an heir, what it fetched waits for one. */
static void settle_one(const char *dir, const pio_ulid *ulid, const char *heir)
{
	pio_str lock = PIO_STR_INIT;
	int64_t made_ms = 0;
	int fd = -1;
	for (int i = 0; i < 6; i++)
		made_ms = made_ms << 8 | ulid->bytes[i];
	pio_str_printf(&lock, "%s/lock", dir);
	bool young = pio_fs_type(lock.data) == PIO_FS_NONE && pio_clock_wall_ns() / 1000000 - made_ms < LOCK_GRACE_MS;
	if (!lock.failed && !young && (heir || !has_fetched(dir)) && pio_fs_lock(&fd, lock.data, NULL) == 0) {
		bool moved = !heir || move_objects(dir, OBJECTS, heir);
		moved = (!heir || move_objects(dir, LEFT, heir)) && moved;
		if (moved)
			(void)pio_fs_remove_tree(dir, NULL);
	}
	pio_fs_unlock(&fd);
	pio_str_fini(&lock);
}

static void settle(const pio_store *store, const char *heir)
{
	char **names = NULL;
	size_t count = 0;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/staging", pio_store_path(store));
	size_t len = path.len;
	if (path.failed || pio_store_is_network(store) || pio_fs_list(&names, &count, path.data, NULL))
		count = 0;
	for (size_t i = 0; i < count; i++) {
		char text[PIO_ULID_CHARS + 1] = "";
		pio_ulid ulid;
		strncpy(text, names[i], PIO_ULID_CHARS);
		if (strlen(names[i]) != PIO_ULID_CHARS + strlen(SUFFIX) || !pio_ulid_parse(&ulid, text) ||
		    strcmp(names[i] + PIO_ULID_CHARS, SUFFIX) != 0)
			continue;
		path.len = len;
		pio_str_printf(&path, "/%s", names[i]);
		if (!path.failed && (!heir || strcmp(path.data, heir) != 0))
			settle_one(path.data, &ulid, heir);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
}

int pio_incoming_open(pio_incoming *incoming, const pio_store *store, pio_err *err)
{
	settle(store, NULL);
	return make_directory(incoming, store, err);
}

void pio_incoming_inherit(pio_incoming *incoming, const pio_store *store)
{
	if (pio_store_is_network(store)) /* where nobody can tell by a lock who is gone */
		return;
	incoming->keeps = true;
	settle(store, incoming->dir);
}

void pio_incoming_close(pio_incoming *incoming)
{
	if (incoming->dir && !(incoming->keeps && has_fetched(incoming->dir)))
		(void)pio_fs_remove_tree(incoming->dir, NULL);
	pio_fs_unlock(&incoming->lock_fd);
	pio_free(incoming->dir);
	incoming->dir = NULL;
}
