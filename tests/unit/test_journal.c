#include <fcntl.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "sys/journal.h"
#include "test.h"

static const pio_journal_header header = { .attempt = 3, .node = 1, .created_ns = 42,
	                                   .run = { { 1, 2, 3 } } };

static void put(const char *path, const char *const *texts, size_t count)
{
	pio_journal_writer *writer;
	check_ok(pio_journal_open(&writer, path, &header, &err));
	for (size_t i = 0; i < count; i++)
		check_ok(pio_journal_append(writer, PIO_RECORD_EVENT, "h", 1, texts[i], strlen(texts[i]),
		                            &err));
	check_ok(pio_journal_close(&writer, &err));
}

/* Number of whole records; *end is the offset behind the last. */
static int count_records(const char *path, int64_t *end)
{
	pio_journal_reader *reader;
	pio_journal_header found;
	pio_record record;
	int count = 0, rc;
	check_ok(pio_journal_reader_open(&reader, &found, path, &err));
	*end = PIO_JOURNAL_HEADER_BYTES;
	while ((rc = pio_journal_next(reader, &record, NULL)) == 1) {
		count++;
		*end = record.end_offset;
	}
	assert_int_equal(rc, 0);
	pio_journal_reader_close(reader);
	return count;
}

static void records_come_back(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1");
	put(path, (const char *[]){ "one", "", "three" }, 3);
	pio_journal_reader *reader;
	pio_journal_header found;
	pio_record record;
	check_ok(pio_journal_reader_open(&reader, &found, path, &err));
	assert_memory_equal(&found, &header, sizeof found);
	assert_int_equal(pio_journal_next(reader, &record, NULL), 1);
	assert_int_equal(record.type, PIO_RECORD_EVENT);
	assert_int_equal(record.size_bytes, 4);
	assert_memory_equal(record.payload, "hone", 4);
	int64_t second = record.end_offset;
	assert_int_equal(pio_journal_next(reader, &record, NULL), 1);
	assert_int_equal(pio_journal_next(reader, &record, NULL), 1);
	assert_memory_equal(record.payload, "hthree", 6);
	assert_int_equal(pio_journal_next(reader, &record, NULL), 0);
	check_ok(pio_journal_seek(reader, second, &err));
	assert_int_equal(pio_journal_next(reader, &record, NULL), 1);
	assert_int_equal(record.size_bytes, 1);
	pio_journal_reader_close(reader);
	scratch_remove(dir);
}

/* Cut the file at every length: what is whole is read, the rest is a tail; a
 * writer that reopens it goes on behind the last whole record. */
static void torn_tail_is_cut_at_every_byte(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1");
	put(path, (const char *[]){ "first", "second" }, 2);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	pio_str whole = PIO_STR_INIT;
	check_ok(pio_fs_read(&whole, path, &err));
	const int64_t one = PIO_JOURNAL_HEADER_BYTES + 9 + 6;
	for (int64_t length = 0; length <= st.st_size; length++) {
		check_ok(pio_fs_write(path, whole.data, (size_t)length, 0644, &err));
		int64_t end;
		int expected = length == st.st_size ? 2 : length >= one ? 1 : 0;
		assert_int_equal(count_records(path, &end), expected);
		put(path, (const char *[]){ "more" }, 1);
		assert_int_equal(count_records(path, &end), expected + 1);
	}
	pio_str_fini(&whole);
	scratch_remove(dir);
}

static void flipped_bits_end_the_journal_without_failing(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1");
	put(path, (const char *[]){ "first", "second" }, 2);
	pio_str whole = PIO_STR_INIT;
	check_ok(pio_fs_read(&whole, path, &err));
	for (size_t i = PIO_JOURNAL_HEADER_BYTES; i < whole.len; i++) {
		whole.data[i] ^= 0x10;
		check_ok(pio_fs_write(path, whole.data, whole.len, 0644, &err));
		int64_t end;
		assert_true(count_records(path, &end) < 2);
		whole.data[i] ^= 0x10;
	}
	for (size_t i = 0; i < PIO_JOURNAL_HEADER_BYTES; i++) {
		whole.data[i] ^= 0x10;
		check_ok(pio_fs_write(path, whole.data, whole.len, 0644, &err));
		pio_journal_reader *reader;
		pio_journal_header found;
		assert_true(pio_journal_reader_open(&reader, &found, path, NULL) < 0);
		whole.data[i] ^= 0x10;
	}
	pio_str_fini(&whole);
	scratch_remove(dir);
}

static void another_attempts_journal_is_refused(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "journal.1");
	put(path, (const char *[]){ "x" }, 1);
	pio_journal_header other = header;
	other.attempt = 4;
	pio_journal_writer *writer;
	check_fails(pio_journal_open(&writer, path, &other, &err), PIO_ECORRUPT, "another attempt");
	int64_t end;
	assert_int_equal(count_records(path, &end), 1);
	scratch_remove(dir);
}

static void a_failed_sync_breaks_the_writer_for_good(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_journal_writer *writer;
	check_ok(pio_journal_open(&writer, path_in(dir, "j"), &header, &err));
	check_ok(pio_journal_append(writer, PIO_RECORD_HEARTBEAT, NULL, 0, "12345678", 8, &err));
	pio_fs_fault_at("s", 1, EIO);
	check_fails(pio_journal_flush(writer, 1, &err), PIO_EIO, "cannot sync");
	uint64_t syncs = pio_fs_counts_get().syncs;
	check_fails(pio_journal_flush(writer, 1, &err), PIO_EIO, "cannot sync");
	assert_int_equal(pio_fs_counts_get().syncs, syncs);
	assert_int_equal(pio_journal_close(&writer, NULL), -PIO_EIO);
	assert_null(writer);
	scratch_remove(dir);
}

/* Cut when full; what is left behind is synced, and so is the successor's name. */
static void a_full_journal_goes_on_in_the_next_segment(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *base = path_in(dir, "journal.1");
	pio_journal_writer *writer;
	pio_str path = PIO_STR_INIT;
	uint32_t segments;
	setenv("PIOCHE_SEGMENT_BYTES", "500", 1);
	pio_fs_counts before = pio_fs_counts_get();
	int next = 0;
	for (int life = 0; life < 2; life++) { /* a writer that reopens goes on at the end */
		check_ok(pio_journal_open(&writer, base, &header, &err));
		for (int i = 0; i < 50; i++, next++) {
			check_ok(pio_journal_append(writer, PIO_RECORD_EVENT, &next, sizeof next, "0123456789", 10,
			                            &err));
			check_ok(pio_journal_flush(writer, 0, &err));
		}
		check_ok(pio_journal_close(&writer, &err));
	}
	check_ok(pio_journal_segments(&segments, base, &err));
	assert_true(segments > 3);
	pio_fs_counts after = pio_fs_counts_get();
	assert_int_equal(after.syncs - before.syncs, segments - 1 + 2);
	assert_int_equal(after.dir_syncs - before.dir_syncs, segments - 1);
	int found = 0;
	for (uint32_t s = 0; s < segments; s++) {
		pio_journal_reader *reader;
		pio_journal_header head;
		pio_record record;
		pio_str_clear(&path);
		check_ok(pio_journal_segment_path(&path, base, s, &err));
		check_ok(pio_journal_reader_open(&reader, &head, path.data, &err));
		assert_memory_equal(&head, &header, sizeof head);
		while (pio_journal_next(reader, &record, NULL) == 1)
			assert_memory_equal(record.payload, &(int){ found++ }, sizeof found);
		assert_false(pio_journal_has_rest(reader));
		pio_journal_reader_close(reader);
	}
	assert_int_equal(found, next);
	/* Behind a segment that is archived, a new one is begun. */
	pio_str archived = PIO_STR_INIT;
	pio_str_printf(&archived, "%s.zst", path.data);
	check_ok(pio_fs_rename(path.data, archived.data, &err));
	check_ok(pio_journal_open(&writer, base, &header, &err));
	check_ok(pio_journal_close(&writer, &err));
	uint32_t then;
	check_ok(pio_journal_segments(&then, base, &err));
	assert_int_equal(then, segments + 1);
	unsetenv("PIOCHE_SEGMENT_BYTES");
	pio_str_fini(&path);
	pio_str_fini(&archived);
	scratch_remove(dir);
}

static void names_of_segments_are_understood(void **state)
{
	(void)state;
	uint32_t node, segment;
	bool archived;
	assert_true(pio_journal_name_parse(&node, &segment, &archived, "journal.0"));
	assert_true(node == 0 && segment == 0 && !archived);
	assert_true(pio_journal_name_parse(&node, &segment, &archived, "journal.126.17.zst"));
	assert_true(node == 126 && segment == 17 && archived);
	static const char *const others[] = { "journal", "journal.", "journal.x", "journal.0.", "journal.0.0",
		"journal.0.zst.part", "journal.01", "journal.0.1.2", "journal.99999999999", "agent.lock" };
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		assert_false(pio_journal_name_parse(&node, &segment, &archived, others[i]));
}

static void a_cursor_stops_at_the_end(void **state)
{
	(void)state;
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, 7);
	pio_record_put_i64(&payload, INT64_MIN);
	pio_record_put_str(&payload, "ab", 2);
	pio_cursor cursor = { (uint8_t *)payload.data, (uint8_t *)payload.data + payload.len, 0 };
	size_t n;
	assert_int_equal(pio_cursor_u32(&cursor), 7);
	assert_true(pio_cursor_i64(&cursor) == INT64_MIN);
	assert_memory_equal(pio_cursor_str(&cursor, &n), "ab", 2);
	assert_int_equal(n, 2);
	assert_int_equal(cursor.bad, 0);
	assert_int_equal(pio_cursor_u8(&cursor), 0);
	assert_int_equal(cursor.bad, 1);
	cursor = (pio_cursor){ (uint8_t *)payload.data + 12, (uint8_t *)payload.data + 17, 0 };
	pio_cursor_str(&cursor, &n);
	assert_int_equal(cursor.bad, 1);
	assert_int_equal(n, 0);
	pio_str_fini(&payload);
}

static void allocation_failures_leak_nothing(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "j");
	put(path, (const char *[]){ "x" }, 1);
	int64_t live = pio_mem_live();
	int rc = -1;
	for (uint64_t n = 1; rc != 0; n++) {
		pio_journal_writer *writer;
		pio_mem_fail_at(n);
		rc = pio_journal_open(&writer, path, &header, NULL);
		pio_mem_fail_at(0);
		if (rc == 0)
			check_ok(pio_journal_close(&writer, &err));
		assert_int_equal(pio_mem_live(), live);
		assert_true(n < 100);
	}
	scratch_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_back),
		cmocka_unit_test(torn_tail_is_cut_at_every_byte),
		cmocka_unit_test(flipped_bits_end_the_journal_without_failing),
		cmocka_unit_test(another_attempts_journal_is_refused),
		cmocka_unit_test(a_failed_sync_breaks_the_writer_for_good),
		cmocka_unit_test(a_full_journal_goes_on_in_the_next_segment),
		cmocka_unit_test(names_of_segments_are_understood),
		cmocka_unit_test(a_cursor_stops_at_the_end),
		cmocka_unit_test(allocation_failures_leak_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
