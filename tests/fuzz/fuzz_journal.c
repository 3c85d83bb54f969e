/* Any bytes as a journal, plain or compressed: the reader never crashes, never
 * reads beyond the file, and ends; payload cursors stay inside their record.
 * Then with every checksum made right, folded into a store: what its records
 * say is never a reason to fail. The transaction is rolled back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "store/archive.h"
#include "store/fold.h"
#include "store/run.h"
#include "sys/fs.h"

#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[200], attempt_dir[300], path[400];
static pio_store *store;
static int64_t attempt;

static void clean(void)
{
	pio_store_close(&store);
	pio_fs_remove_tree(dir, NULL);
}

static void set_up(void)
{
	const char *tmp = getenv("TMPDIR");
	int64_t experiment, run;
	int number;
	pio_store_run_spec spec = { .ulid = ULID };
	snprintf(dir, sizeof dir, "%s/pioche-fuzz-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || pio_store_open(&store, dir, PIO_STORE_CREATE, NULL) != 0)
		abort();
	atexit(clean);
	if (pio_store_experiment(&experiment, store, "fuzz", NULL, NULL, NULL) != 0)
		abort();
	spec.experiment_id = experiment;
	if (pio_store_run_create(&run, store, &spec, NULL) != 0 ||
	    pio_store_attempt_create(&attempt, &number, store, run, "standalone", 1, NULL, NULL) != 0)
		abort();
	snprintf(attempt_dir, sizeof attempt_dir, "%s/runs/" ULID "/1", dir);
	snprintf(path, sizeof path, "%s/journal.0", attempt_dir);
	if (pio_fs_mkdirs(attempt_dir, 0700, NULL) != 0)
		abort();
}

static void put_file(const uint8_t *data, size_t size)
{
	FILE *file = fopen(path, "wb");
	if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
		abort();
}

static void read_all(size_t size)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	bool packed = false;
	if (pio_archive_open(&reader, &header, path, NULL) != 0)
		return;
	FILE *file = fopen(path, "rb");
	packed = file && fgetc(file) == 0x28;
	if (file)
		fclose(file);
	int64_t end = PIO_JOURNAL_HEADER_BYTES;
	while (pio_journal_next(reader, &record, NULL) == 1) {
		if (record.end_offset <= end || (!packed && record.end_offset > (int64_t)size))
			abort();
		end = record.end_offset;
		pio_cursor cursor = { record.payload, record.payload + record.size_bytes, 0 };
		while (!cursor.bad) {
			size_t length;
			const char *text = pio_cursor_str(&cursor, &length);
			if (length && (text < (const char *)record.payload ||
			               text + length > (const char *)record.payload + record.size_bytes))
				abort();
			pio_cursor_u8(&cursor);
		}
	}
	pio_journal_reader_close(reader);
}

/* A header of the attempt, and right checksums as far as the lengths make sense. */
static void repair(uint8_t *data, size_t size)
{
	pio_ulid ulid;
	const uint32_t version = PIO_JOURNAL_VERSION, number = 1, none = 0;
	pio_ulid_parse(&ulid, ULID);
	memcpy(data, "PIOJRNL\n", 8);
	memcpy(data + 8, &version, 4);
	memcpy(data + 12, &none, 4);
	memcpy(data + 16, ulid.bytes, 16);
	memcpy(data + 32, &number, 4);
	uint32_t crc = pio_crc32c(0, data, PIO_JOURNAL_HEADER_BYTES);
	memcpy(data + 12, &crc, 4);
	for (size_t at = PIO_JOURNAL_HEADER_BYTES; at + 9 <= size;) {
		uint32_t length;
		memcpy(&length, data + at, 4);
		if (!length || length > size - at - 8)
			break;
		crc = pio_crc32c(0, data + at + 8, length);
		memcpy(data + at + 4, &crc, 4);
		at += 8 + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	pio_fold_result result;
	pio_err err = PIO_ERR_INIT;
	if (!store)
		set_up();
	put_file(data, size);
	read_all(size);
	if (size < PIO_JOURNAL_HEADER_BYTES + 9)
		return 0;
	uint8_t *copy = malloc(size);
	if (!copy)
		abort();
	memcpy(copy, data, size);
	repair(copy, size);
	put_file(copy, size);
	free(copy);
	if (pio_store_begin(store, NULL) != 0)
		abort();
	if (pio_store_fold_attempt(&result, store, attempt, size % 2, &err) != 0) {
		fprintf(stderr, "fuzz_journal: %s\n", err.message);
		abort();
	}
	pio_store_rollback(store);
	pio_fs_unlink(path, NULL);
	strcat(path, PIO_JOURNAL_ARCHIVED);
	pio_fs_unlink(path, NULL);
	path[strlen(path) - strlen(PIO_JOURNAL_ARCHIVED)] = 0;
	return 0;
}
