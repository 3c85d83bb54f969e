#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "store/archive.h"
#include "store/archiver.h"
#include "test.h"

static const pio_journal_header header = { .attempt = 3, .node = 1, .created_ns = 42,
	                                   .run = { { 1, 2, 3 } } };

enum { RECORDS = 3000 };

static void make_journal(const char *path, int records)
{
	pio_journal_writer *writer;
	check_ok(pio_journal_open(&writer, path, &header, &err));
	for (int i = 0; i < records; i++)
		check_ok(pio_journal_append(writer, PIO_RECORD_EVENT, &i, sizeof i, "0123456789", 10, &err));
	check_ok(pio_journal_close(&writer, &err));
}

/* The records, whether the file is compressed or not. */
static void check_journal(const char *path, int records)
{
	pio_journal_reader *reader;
	pio_journal_header found;
	pio_record record;
	int64_t middle = 0;
	int i = 0;
	check_ok(pio_archive_open(&reader, &found, path, &err));
	assert_memory_equal(&found, &header, sizeof found);
	for (; pio_journal_next(reader, &record, NULL) == 1; i++) {
		assert_memory_equal(record.payload, &i, sizeof i);
		if (i == records / 2)
			middle = record.end_offset;
	}
	assert_int_equal(i, records);
	assert_false(pio_journal_has_rest(reader));
	pio_journal_reader_close(reader);
	check_ok(pio_archive_open(&reader, &found, path, &err));
	check_ok(pio_journal_seek(reader, middle, &err));
	assert_int_equal(pio_journal_next(reader, &record, NULL), 1);
	assert_memory_equal(record.payload, &(int){ records / 2 + 1 }, sizeof i);
	pio_journal_reader_close(reader);
}

static void a_segment_is_replaced_by_its_archive(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1"), *archive = path_in(dir, "journal.1.zst");
	struct stat plain, packed;
	make_journal(path, RECORDS);
	assert_int_equal(stat(path, &plain), 0);
	check_ok(pio_archive_make(path, &err));
	assert_int_equal(pio_fs_type(path), PIO_FS_NONE);
	assert_int_equal(stat(archive, &packed), 0);
	assert_true(packed.st_size * 2 < plain.st_size);
	check_journal(path, RECORDS);
	check_journal(archive, RECORDS);
	check_ok(pio_archive_make(path, &err)); /* there is nothing left to do */
	pio_journal_reader *reader;
	pio_journal_header found;
	check_ok(pio_archive_open(&reader, &found, path, &err));
	pio_record record;
	assert_int_equal(pio_journal_next(reader, &record, NULL), 1);
	int64_t first = record.end_offset;
	while (pio_journal_next(reader, &record, NULL) == 1)
		continue;
	check_fails(pio_journal_seek(reader, first, &err), PIO_EINVAL, "backwards");
	pio_journal_reader_close(reader);
	scratch_remove(dir);
}

static void a_small_segment_stays(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1");
	make_journal(path, 10);
	check_ok(pio_archive_make(path, &err));
	assert_int_equal(pio_fs_type(path), PIO_FS_FILE);
	check_journal(path, 10);
	scratch_remove(dir);
}

static void a_cut_archive_ends_where_it_ends(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1"), *archive = path_in(dir, "journal.1.zst");
	pio_str bytes = PIO_STR_INIT;
	make_journal(path, RECORDS);
	check_ok(pio_archive_make(path, &err));
	check_ok(pio_fs_read(&bytes, archive, &err));
	for (size_t n = 4; n < bytes.len; n += bytes.len / 50) {
		pio_journal_reader *reader;
		pio_journal_header found;
		pio_record record;
		int rc;
		check_ok(pio_fs_write(archive, bytes.data, n, 0644, &err));
		check_ok(pio_archive_open(&reader, &found, archive, &err));
		while ((rc = pio_journal_next(reader, &record, NULL)) == 1)
			continue;
		assert_int_equal(rc, 0);
		pio_journal_reader_close(reader);
	}
	bytes.data[bytes.len / 2] ^= 0x55;
	check_ok(pio_fs_write(archive, bytes.data, bytes.len, 0644, &err));
	pio_journal_reader *reader;
	pio_journal_header found;
	pio_record record;
	int rc = pio_archive_open(&reader, &found, archive, NULL);
	while (!rc && (rc = pio_journal_next(reader, &record, NULL)) == 1)
		rc = 0;
	assert_int_equal(rc, -PIO_ECORRUPT);
	pio_journal_reader_close(reader);
	pio_str_fini(&bytes);
	scratch_remove(dir);
}

static void what_is_no_journal_is_refused(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	pio_journal_reader *reader;
	pio_journal_header found;
	const char *path = path_in(dir, "notes.txt");
	check_fails(pio_archive_open(&reader, &found, path, &err), PIO_ENOTFOUND, "notes.txt");
	check_ok(pio_fs_write(path, "to be or not to be, that is the question: whether 'tis nobler in the mind",
	                      70, 0644, &err));
	check_fails(pio_archive_open(&reader, &found, path, &err), PIO_ECORRUPT, "is not a journal");
	check_ok(pio_fs_write(path, "\x28\xb5\x2f\xfd and no more of that kind follows here", 40, 0644, &err));
	check_fails(pio_archive_open(&reader, &found, path, &err), PIO_ECORRUPT, "decompressed");
	scratch_remove(dir);
}

/* Fail, or die, at every operation of the disk: the journal is always there,
 * plain or compressed, and the next time it is compressed. */
static void nothing_is_lost_on_the_way(void **unused)
{
	(void)unused;
	static const int faults[] = { 0, ENOSPC };
	for (size_t f = 0; f < 2; f++) {
		int status = 1;
		for (unsigned n = 1; status; n++) {
			char *dir = scratch_new();
			const char *path = path_in(dir, "journal.1");
			make_journal(path, RECORDS);
			pio_fs_fault_at("wsru", n, faults[f]);
			fflush(NULL);
			pid_t child = fork();
			if (!child)
				_exit(pio_archive_make(path, NULL) ? 1 : 0);
			assert_int_equal(waitpid(child, &status, 0), child);
			pio_fs_fault_at("", 0, 0);
			check_journal(path, RECORDS);
			check_ok(pio_archive_make(path, &err));
			check_journal(path, RECORDS);
			assert_int_equal(pio_fs_type(path), PIO_FS_NONE);
			assert_int_equal(pio_fs_type(path_in(dir, "journal.1.zst.part")), PIO_FS_NONE);
			scratch_remove(dir);
			assert_true(n < 50);
		}
	}
}

static void allocation_failures_leak_nothing(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1");
	make_journal(path, RECORDS);
	int64_t live = pio_mem_live();
	int rc = -1;
	for (uint64_t n = 1; rc; n++) {
		pio_mem_fail_at(n);
		rc = pio_archive_make(path, NULL);
		pio_mem_fail_at(0);
		assert_int_equal(pio_mem_live(), live);
		check_journal(path, RECORDS);
		assert_true(n < 100);
	}
	scratch_remove(dir);
}

static void make_large(const char *path)
{
	enum { BODY = 1 << 20 };
	pio_journal_writer *writer;
	char *body = pio_calloc(BODY, 1);
	check_ok(pio_journal_open(&writer, path, &header, &err));
	for (int i = 0; i <= PIO_ARCHIVER_BYTES_MIN / BODY; i++)
		check_ok(pio_journal_append(writer, PIO_RECORD_EVENT, &i, sizeof i, body, BODY, &err));
	check_ok(pio_journal_close(&writer, &err));
	pio_free(body);
}

/* Small ones at once, large ones by a thread, which is done when it is freed. */
static void what_was_put_is_done_at_the_end(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	const char *small = path_in(dir, "journal.1"), *large = path_in(dir, "journal.2");
	const char *later = path_in(dir, "journal.3");
	pio_archiver *archiver = NULL;
	int64_t live = pio_mem_live();
	make_journal(small, RECORDS);
	check_ok(pio_archiver_put(&archiver, small, &err));
	check_ok(pio_archiver_put(&archiver, later, &err));
	assert_null(archiver);
	assert_int_equal(pio_fs_type(small), PIO_FS_NONE);
	make_large(large);
	make_large(later);
	for (int i = 0; i < 3; i++) {
		check_ok(pio_archiver_put(&archiver, large, &err));
		check_ok(pio_archiver_put(&archiver, later, &err));
	}
	assert_non_null(archiver);
	pio_archiver_free(archiver);
	assert_int_equal(pio_mem_live(), live);
	assert_int_equal(pio_fs_type(large), PIO_FS_NONE);
	assert_int_equal(pio_fs_type(later), PIO_FS_NONE);
	assert_int_equal(pio_fs_type(path_in(dir, "journal.2.zst")), PIO_FS_FILE);
	assert_int_equal(pio_fs_type(path_in(dir, "journal.3.zst")), PIO_FS_FILE);
	pio_archiver_free(NULL);
	scratch_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_segment_is_replaced_by_its_archive),
		cmocka_unit_test(a_small_segment_stays),
		cmocka_unit_test(a_cut_archive_ends_where_it_ends),
		cmocka_unit_test(what_is_no_journal_is_refused),
		cmocka_unit_test(nothing_is_lost_on_the_way),
		cmocka_unit_test(allocation_failures_leak_nothing),
		cmocka_unit_test(what_was_put_is_done_at_the_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
