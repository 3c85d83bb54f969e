#include "exchange/incoming.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "sys/fs.h"

#define SUFFIX ".import"
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

/* Of a process that is gone: its lock is free. */
static void sweep_one(const char *dir, const pio_ulid *ulid)
{
	pio_str lock = PIO_STR_INIT;
	int64_t made_ms = 0;
	int fd = -1;
	for (int i = 0; i < 6; i++)
		made_ms = made_ms << 8 | ulid->bytes[i];
	pio_str_printf(&lock, "%s/lock", dir);
	bool young = pio_fs_type(lock.data) == PIO_FS_NONE && pio_clock_wall_ns() / 1000000 - made_ms < LOCK_GRACE_MS;
	if (!lock.failed && !young && pio_fs_lock(&fd, lock.data, NULL) == 0)
		(void)pio_fs_remove_tree(dir, NULL);
	pio_fs_unlock(&fd);
	pio_str_fini(&lock);
}

static void sweep(const pio_store *store)
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
		if (!path.failed)
			sweep_one(path.data, &ulid);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
}

int pio_incoming_open(pio_incoming *incoming, const pio_store *store, pio_err *err)
{
	sweep(store);
	return make_directory(incoming, store, err);
}

void pio_incoming_close(pio_incoming *incoming)
{
	if (incoming->dir)
		(void)pio_fs_remove_tree(incoming->dir, NULL);
	pio_fs_unlock(&incoming->lock_fd);
	pio_free(incoming->dir);
	incoming->dir = NULL;
}
