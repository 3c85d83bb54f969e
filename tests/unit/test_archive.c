#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zstd.h>

#include "base/mem.h"
#include "store/archive.h"
#include "store/archive_points.h"
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

static uint64_t noise(void)
{
	static uint64_t state = 88172645463325252u;
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

/* Records of points and others: of one point and of more than an archive takes
 * together, steps and times that jump, and at last a record that is torn. */
static void make_points(const char *path)
{
	static const uint32_t counts[] = { 1, 2, 7, 0, 4000, PIO_ARCHIVE_POINTS_MAX, PIO_ARCHIVE_POINTS_MAX + 1,
	                                   100000, 3, 20000, 20000, 20000 };
	pio_journal_writer *writer;
	check_ok(pio_journal_open(&writer, path, &header, &err));
	for (size_t r = 0; r < sizeof counts / sizeof *counts; r++) {
		uint32_t head[2] = { r % 3 ? (uint32_t)r : 1015, counts[r] };
		pio_journal_point *points = calloc(counts[r] + 1, sizeof *points);
		for (uint32_t i = 0; i < counts[r]; i++) {
			bool wild = i % 100 == 99;
			float value = (float)(noise() >> 40) / 1e6f;
			double wide = value;
			points[i] = (pio_journal_point){ .time_ns = 1700000000000000000 + i * 1000, .step = i / 4,
			                                 .key = i % 4, .seq = i };
			if (wild)
				points[i] = (pio_journal_point){ .time_ns = (int64_t)noise(), .step = (int64_t)noise(),
				                                 .key = PIO_POINT_INTEGER | 5, .seq = i };
			memcpy(&points[i].value_bits, &wide, 8);
		}
		check_ok(pio_journal_append(writer, PIO_RECORD_POINTS, head, sizeof head, points,
		                            counts[r] * sizeof *points, &err));
		check_ok(pio_journal_append(writer, PIO_RECORD_EVENT, &r, sizeof r, "between", 7, &err));
		free(points);
	}
	check_ok(pio_journal_close(&writer, &err));
	FILE *file = fopen(path, "ab");
	assert_non_null(file);
	assert_int_equal(fwrite("\x29\x00\x00\x00torn\x02", 1, 9, file), 9);
	assert_int_equal(fclose(file), 0);
}

/* All bytes of the segment, read through its records. */
static void same_records(const char *path, const pio_str *plain)
{
	pio_journal_reader *reader;
	pio_journal_header found;
	pio_record record;
	int64_t at = PIO_JOURNAL_HEADER_BYTES;
	check_ok(pio_archive_open(&reader, &found, path, &err));
	assert_memory_equal(&found, &header, sizeof found);
	while (pio_journal_next(reader, &record, NULL) == 1) {
		assert_int_equal(record.end_offset, at + 9 + (int64_t)record.size_bytes);
		assert_int_equal(record.type, (uint8_t)plain->data[at + 8]);
		assert_memory_equal(record.payload, plain->data + at + 9, record.size_bytes);
		at = record.end_offset;
	}
	assert_int_equal(at, (int64_t)plain->len - 9);
	assert_true(pio_journal_has_rest(reader));
	pio_journal_reader_close(reader);
}

static void points_are_archived_in_columns(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1"), *archive = path_in(dir, "journal.1.zst");
	pio_str plain = PIO_STR_INIT, bytes = PIO_STR_INIT;
	make_points(path);
	check_ok(pio_fs_read(&plain, path, &err));
	same_records(path, &plain);
	check_ok(pio_archive_make(path, &err));
	same_records(path, &plain);
	/* An archive of the time before there were columns: zstd alone. It is longer,
	 * although the two longest records are in no columns. */
	check_ok(pio_fs_read(&bytes, archive, &err));
	size_t bound = ZSTD_compressBound(plain.len);
	char *packed = malloc(bound);
	size_t n = ZSTD_compress(packed, bound, plain.data, plain.len, 1);
	assert_true(bytes.len < n - n / 5);
	check_ok(pio_fs_write(archive, packed, n, 0644, &err));
	same_records(archive, &plain);
	free(packed);
	pio_str_fini(&plain);
	pio_str_fini(&bytes);
	scratch_remove(dir);
}

/* zstd's own checksum stands at the very end: damage is told before its points are
 * handed out. */
static void a_damaged_part_is_told(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1"), *archive = path_in(dir, "journal.1.zst");
	static const char *const parts[] = {
		"PIOARCH1R\x04\0\0\0....abcd", "PIOARCH1P\x01\0\0\0....rank0123456789abcdef0123456789abcdef",
		"PIOARCH1Q\x04\0\0\0....abcd", "PIOARCH1R\0\0\0\0....abcd", "PIOARCH1P\0\0\0\x7f....rank0123",
		"PIOARCH1R\0\0\0\x7f....rank0123",
	};
	static const size_t sizes[] = { 21, 53, 21, 21, 25, 25 };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char packed[256];
		pio_journal_reader *reader;
		pio_journal_header found;
		size_t n = ZSTD_compress(packed, sizeof packed, parts[i], sizes[i], 1);
		check_ok(pio_fs_write(archive, packed, n, 0644, &err));
		check_fails(pio_archive_open(&reader, &found, path, &err), PIO_ECORRUPT, "journal.1.zst");
	}
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
		cmocka_unit_test(points_are_archived_in_columns),
		cmocka_unit_test(a_damaged_part_is_told),
		cmocka_unit_test(a_small_segment_stays),
		cmocka_unit_test(a_cut_archive_ends_where_it_ends),
		cmocka_unit_test(what_is_no_journal_is_refused),
		cmocka_unit_test(nothing_is_lost_on_the_way),
		cmocka_unit_test(allocation_failures_leak_nothing),
		cmocka_unit_test(what_was_put_is_done_at_the_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
