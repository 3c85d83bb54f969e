/* heard.h: what a journal holds, read back for the tests of the client. */
#ifndef PIO_TEST_HEARD_H
#define PIO_TEST_HEARD_H

#include <string.h>

#include "sys/journal.h"
#include "test.h"

typedef struct heard {
	pio_journal_point *points;
	size_t count, capacity;
	size_t records[16];          /* by type */
	uint32_t key_numbers[256];
	char key_names[256][4200];
	size_t key_bytes[256], keys;
	uint64_t stalls, stalled_ns;
	char last[16][4096];         /* newest payload of each type, its last str, as text */
	bool point_before_key;
} heard;

static inline void heard_points(heard *h, pio_cursor *cursor)
{
	uint32_t count = (pio_cursor_u32(cursor), pio_cursor_u32(cursor));
	assert_int_equal((size_t)(cursor->end - cursor->at), count * sizeof(pio_journal_point));
	while (h->count + count > h->capacity) {
		h->capacity = h->capacity ? 2 * h->capacity : 1024;
		h->points = realloc(h->points, h->capacity * sizeof h->points[0]);
		assert_non_null(h->points);
	}
	memcpy(h->points + h->count, cursor->at, count * sizeof(pio_journal_point));
	for (size_t i = h->count; i < h->count + count; i++) {
		bool known = false;
		for (size_t k = 0; k < h->keys && !known; k++)
			known = h->key_numbers[k] == (h->points[i].key & ~PIO_POINT_INTEGER);
		h->point_before_key |= !known;
	}
	h->count += count;
}

static inline void heard_segment(heard *h, const char *path)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	int rc;
	check_ok(pio_journal_reader_open(&reader, &header, path, &err));
	while ((rc = pio_journal_next(reader, &record, NULL)) == 1) {
		pio_cursor cursor = { record.payload, record.payload + record.size_bytes, 0 };
		const char *text = NULL;
		size_t n = 0;
		h->records[record.type & 15]++;
		switch (record.type) {
		case PIO_RECORD_POINTS:
			heard_points(h, &cursor);
			break;
		case PIO_RECORD_KEY:
			pio_cursor_u32(&cursor);
			h->key_numbers[h->keys] = pio_cursor_u32(&cursor);
			text = pio_cursor_str(&cursor, &n);
			memcpy(h->key_names[h->keys], text, n);
			h->key_bytes[h->keys++] = n;
			break;
		case PIO_RECORD_LOSS:
			pio_cursor_u32(&cursor);
			pio_cursor_i64(&cursor);
			h->stalls = pio_cursor_u64(&cursor);
			h->stalled_ns = pio_cursor_u64(&cursor);
			break;
		case PIO_RECORD_TEXT:
			pio_cursor_u32(&cursor), pio_cursor_i64(&cursor), pio_cursor_i64(&cursor);
			pio_cursor_str(&cursor, &n);
			text = pio_cursor_str(&cursor, &n);
			break;
		case PIO_RECORD_FACT:
			pio_cursor_u32(&cursor), pio_cursor_i64(&cursor), pio_cursor_u8(&cursor);
			pio_cursor_str(&cursor, &n);
			text = pio_cursor_str(&cursor, &n);
			break;
		case PIO_RECORD_EVENT:
			pio_cursor_u32(&cursor), pio_cursor_i64(&cursor);
			pio_cursor_str(&cursor, &n);
			text = pio_cursor_str(&cursor, &n);
			break;
		case PIO_RECORD_RUN:
		case PIO_RECORD_EXIT:
			pio_cursor_i64(&cursor);
			text = pio_cursor_str(&cursor, &n);
			break;
		default:
			break;
		}
		assert_false(cursor.bad);
		if (text && n < sizeof h->last[0]) {
			memcpy(h->last[record.type & 15], text, n);
			h->last[record.type & 15][n] = 0;
		}
	}
	assert_int_equal(rc, 0);
	pio_journal_reader_close(reader);
}

/* All segments of the journal. */
static inline heard *heard_read(const char *path)
{
	heard *h = calloc(1, sizeof *h);
	uint32_t segments;
	assert_non_null(h);
	check_ok(pio_journal_segments(&segments, path, &err));
	assert_true(segments > 0);
	for (uint32_t i = 0; i < segments; i++) {
		pio_str segment = PIO_STR_INIT;
		check_ok(pio_journal_segment_path(&segment, path, i, &err));
		heard_segment(h, segment.data);
		pio_str_fini(&segment);
	}
	return h;
}

static inline void heard_free(heard *h)
{
	free(h->points);
	free(h);
}

static inline pio_journal_writer *journal_new(const char *path)
{
	pio_journal_writer *writer;
	pio_journal_header header = { .attempt = 1, .created_ns = 1 };
	check_ok(pio_journal_open(&writer, path, &header, &err));
	return writer;
}

#endif
