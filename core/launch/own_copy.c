#include "launch/own_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/fs.h"
#include "sys/hash.h"

/* Enough that two versions never share a name. */
#define NAME_CHARS 24
#define PROGRAM "pioche"
#define LIBRARY "lib/libpioche.so"
#define FOLDER "lib/pioche"

/* One file of the copy. Its bytes are there while a copy is made: what is hashed is
 * what is kept. */
typedef struct part {
	struct part *next;
	char *name;                   /* below the copy */
	int fd;
	pio_str bytes;
} part;

struct pio_own_copy {
	part *first;
};

/* ---- what is copied ---------------------------------------------------------------------- */

/* At *last, which moves on. */
static int part_open(part ***last, const char *name, const char *path, pio_err *err)
{
	part *p = pio_calloc(1, sizeof *p);
	if (!p)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a copy of this program");
	**last = p;
	*last = &p->next;
	p->fd = -1;
	p->bytes = (pio_str)PIO_STR_INIT;
	p->name = pio_strdup(name);
	if (!p->name)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a copy of this program");
	return pio_fs_open(&p->fd, path, O_RDONLY, 0, err);
}

static int open_folder(part ***last, const char *lib_dir, pio_err *err)
{
	pio_str path = PIO_STR_INIT, name = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	pio_str_printf(&path, "%s/pioche", lib_dir);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; i < count && !rc; i++) {
		pio_str_clear(&path);
		pio_str_clear(&name);
		pio_str_printf(&path, "%s/pioche/%s", lib_dir, names[i]);
		pio_str_printf(&name, FOLDER "/%s", names[i]);
		if ((rc = pio_str_check(&path, err)) == 0 && (rc = pio_str_check(&name, err)) == 0 &&
		    pio_fs_type(path.data) == PIO_FS_FILE)
			rc = part_open(last, name.data, path.data, err);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	pio_str_fini(&name);
	return rc;
}

int pio_own_copy_new(pio_own_copy **own, const char *executable, const char *lib_dir, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	*own = pio_calloc(1, sizeof **own);
	if (!*own)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a copy of this program");
	part **last = &(*own)->first;
	pio_str_printf(&path, "%s/libpioche.so", lib_dir);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = part_open(&last, PROGRAM, executable, err);
	if (!rc)
		rc = part_open(&last, LIBRARY, path.data, err);
	if (!rc)
		rc = open_folder(&last, lib_dir, err);
	pio_str_fini(&path);
	if (rc) {
		pio_own_copy_free(*own);
		*own = NULL;
	}
	return rc;
}

void pio_own_copy_free(pio_own_copy *own)
{
	if (!own)
		return;
	for (part *p = own->first, *next; p; p = next) {
		next = p->next;
		if (p->fd >= 0)
			(void)pio_fs_close(&p->fd, p->name, NULL);
		pio_str_fini(&p->bytes);
		pio_free(p->name);
		pio_free(p);
	}
	pio_free(own);
}

static int read_parts(pio_own_copy *own, pio_err *err)
{
	char bytes[65536];
	int rc = 0;
	for (part *p = own->first; p && !rc; p = p->next) {
		ssize_t n = 1;
		if (lseek(p->fd, 0, SEEK_SET) != 0)
			rc = pio_fail_errno(err, errno, "read %s", p->name);
		while (!rc && n > 0)
			if ((rc = pio_fs_read_some(&n, p->fd, bytes, sizeof bytes, p->name, err)) == 0)
				pio_str_append(&p->bytes, bytes, (size_t)n);
		if (!rc)
			rc = pio_str_check(&p->bytes, err);
	}
	return rc;
}

static void drop_bytes(pio_own_copy *own)
{
	for (part *p = own->first; p; p = p->next)
		pio_str_fini(&p->bytes);
}

/* ---- the copy ------------------------------------------------------------------------------ */

static int digest(char hex[PIO_SHA256_HEX + 1], const part *first, pio_err *err)
{
	pio_sha256 *hash;
	int rc = pio_sha256_new(&hash, err);
	if (rc)
		return rc;
	for (const part *p = first; p && !rc; p = p->next) {
		uint64_t size = p->bytes.len;
		if ((rc = pio_sha256_update(hash, p->name, strlen(p->name) + 1, err)) == 0 &&
		    (rc = pio_sha256_update(hash, &size, sizeof size, err)) == 0)
			rc = pio_sha256_update(hash, p->bytes.data, p->bytes.len, err);
	}
	if (!rc)
		rc = pio_sha256_finish(hash, hex, err);
	pio_sha256_free(hash);
	return rc;
}

static int write_parts(const char *dir, const part *first, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/" FOLDER, dir);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_mkdirs_durable(path.data, 0777, err);
	for (const part *p = first; p && !rc; p = p->next) {
		pio_str_clear(&path);
		pio_str_printf(&path, "%s/%s", dir, p->name);
		if ((rc = pio_str_check(&path, err)) == 0)
			rc = pio_fs_write(path.data, p->bytes.data, p->bytes.len,
			                  strcmp(p->name, PROGRAM) == 0 ? 0555 : 0444, err);
	}
	pio_str_fini(&path);
	return rc;
}

/* Some file systems are swept of what nobody read for long, file by file. */
static int look(bool *is_whole, const char *dir, const part *first, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = 0;
	*is_whole = true;
	for (const part *p = first; p && !rc; p = p->next) {
		pio_str_clear(&path);
		pio_str_printf(&path, "%s/%s", dir, p->name);
		rc = pio_str_check(&path, err);
		*is_whole = *is_whole && !rc && pio_fs_type(path.data) == PIO_FS_FILE;
	}
	pio_str_fini(&path);
	return rc;
}

/* Made beside its place, and renamed when it is whole. */
static int publish(const char *cache, const char *dir, const part *first, pio_err *err)
{
	pio_str making = PIO_STR_INIT;
	pio_str_printf(&making, "%s.build", dir);
	int rc = pio_str_check(&making, err);
	if (!rc)
		rc = pio_fs_remove_tree(making.data, err);
	if (!rc)
		rc = write_parts(making.data, first, err);
	if (!rc)
		rc = pio_fs_remove_tree(dir, err); /* what was left of it */
	if (!rc)
		rc = pio_fs_rename(making.data, dir, err);
	if (!rc)
		rc = pio_fs_sync_dir(cache, err);
	pio_str_fini(&making);
	return rc;
}

int pio_own_copy_make(pio_str *dir, pio_own_copy *own, const char *store_path, pio_err *err)
{
	pio_str cache = PIO_STR_INIT, path = PIO_STR_INIT, file = PIO_STR_INIT;
	char hex[PIO_SHA256_HEX + 1];
	bool is_whole = false;
	int rc = read_parts(own, err);
	if (!rc)
		rc = digest(hex, own->first, err);
	if (!rc) {
		pio_str_printf(&cache, "%s/cache", store_path);
		pio_str_printf(&path, "%s/pioche-%.*s", cache.data, NAME_CHARS, hex);
		pio_str_printf(&file, "%s/" PROGRAM, path.data);
		if ((rc = pio_str_check(&cache, err)) == 0 && (rc = pio_str_check(&path, err)) == 0)
			rc = pio_str_check(&file, err);
	}
	if (!rc)
		rc = look(&is_whole, path.data, own->first, err);
	if (!rc && !is_whole)
		rc = publish(cache.data, path.data, own->first, err);
	/* Mounted with noexec, say. */
	if (!rc && access(file.data, X_OK) == 0) {
		pio_str_puts(dir, path.data);
		rc = pio_str_check(dir, err);
	}
	drop_bytes(own);
	pio_str_fini(&cache);
	pio_str_fini(&path);
	pio_str_fini(&file);
	return rc;
}
