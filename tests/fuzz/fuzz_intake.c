/* Any bytes as what a bundle tells of a run: the records, a line of 0xff, the events,
 * another such line, the points. Nothing is taken that the store would not hold, and
 * what is refused leaves nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "store/intake.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)
#define PARTS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static char root[64];
static pio_store *store;

static void remove_root(void)
{
	pio_store_close(&store);
	(void)pio_fs_remove_tree(root, NULL);
}

static void set_up(void)
{
	char path[80];
	snprintf(root, sizeof root, "/tmp/pio-fuzz-intake-XXXXXX");
	CHECK(mkdtemp(root));
	snprintf(path, sizeof path, "%s/.pioche", root);
	CHECK(pio_store_open(&store, path, PIO_STORE_CREATE, NULL) == 0);
	atexit(remove_root);
}

/* All the rows were good: they are looked at, and then rolled back, so that the next
 * input meets a store as new. */
static int refuse(void *context, const pio_intake_bag *bag, pio_err *err)
{
	(void)bag;
	*(bool *)context = true;
	return pio_fail(err, PIO_ECANCELLED, "enough");
}

static int64_t count(const char *sql)
{
	sqlite3_stmt *row = NULL;
	CHECK(sqlite3_prepare_v2(pio_store_db(store), sql, -1, &row, NULL) == SQLITE_OK);
	CHECK(sqlite3_step(row) == SQLITE_ROW);
	int64_t n = sqlite3_column_int64(row, 0);
	sqlite3_finalize(row);
	return n;
}

static void stage(pio_intake_file *file, const char *path, const uint8_t *bytes, size_t size_bytes)
{
	pio_str staged = PIO_STR_INIT;
	pio_str_printf(&staged, "%s/%c", root, path[4]);
	*file = (pio_intake_file){ .path = strdup(path), .staged = pio_str_take(&staged),
		.bytes = (int64_t)size_bytes };
	CHECK(file->path && file->staged && pio_fs_write(file->staged, bytes, size_bytes, 0600, NULL) == 0 &&
	      pio_sha256_bytes(bytes, size_bytes, file->sha256, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	/* In the order of their paths. */
	static const char *const paths[PARTS] = { "run/records.json", "run/events.jsonl", "run/points.bin" };
	static const int place[PARTS] = { 2, 0, 1 };
	pio_intake_file files[PARTS];
	pio_intake_run *runs;
	pio_err err = PIO_ERR_INIT;
	bool good = false;
	size_t n;
	if (!store)
		set_up();
	for (int i = 0; i < PARTS; i++) {
		const uint8_t *end = i < PARTS - 1 ? memmem(data, size_bytes, "\xff\n", 2) : NULL;
		size_t bytes = end ? (size_t)(end - data) : size_bytes;
		stage(&files[place[i]], paths[i], data, bytes);
		data += bytes + (end ? 2 : 0);
		size_bytes -= bytes + (end ? 2 : 0);
	}
	pio_intake_bag bag = { .bundle = "x.tar", .sha256 = files[0].sha256, .staging = root, .files = files,
		.count = PARTS, .before_commit = refuse, .context = &good };
	int rc = pio_store_intake(&runs, &n, store, &bag, &err);
	CHECK(err.message[0] && !runs && !n);
	CHECK(good ? rc == -PIO_ECANCELLED
	           : rc == -PIO_ECORRUPT || rc == -PIO_EVERSION || rc == -PIO_EINVAL || rc == -PIO_EEXIST);
	CHECK(count("SELECT (SELECT count(*) FROM run) + (SELECT count(*) FROM experiment) +"
	            " (SELECT count(*) FROM event) + (SELECT count(*) FROM series)") == 0);
	for (int i = 0; i < PARTS; i++) {
		free(files[i].path);
		free(files[i].staged);
	}
	return 0;
}
