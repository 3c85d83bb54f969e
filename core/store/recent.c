#include "store/recent.h"

#include <string.h>

#include "base/mem.h"

/* ---- one row --------------------------------------------------------------------------------- */

typedef struct input {
	const uint8_t *at, *end;
	bool bad;
} input;

static uint64_t get_varint(input *in)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 64; shift += 7) {
		if (in->at == in->end)
			break;
		uint8_t byte = *in->at++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return value;
	}
	in->bad = true;
	return 0;
}

/* What stands before the chunk. */
static int get_series(pio_recent *recent, input *in, pio_err *err)
{
	uint64_t n = get_varint(in), id = 0;
	size_t count = 0;
	in->bad |= n < 1 || n > PIO_CHUNK_POINTS_MAX;
	for (uint64_t i = 0; !in->bad && i < n; i++) {
		uint64_t step = get_varint(in), points = get_varint(in);
		id += step >> 1 ^ (0 - (step & 1));
		in->bad |= points < 1 || points > PIO_CHUNK_POINTS_MAX - count;
		recent->series_id[i] = (int64_t)id;
		recent->series_points[i] = (uint32_t)points;
		count += in->bad ? 0 : (size_t)points;
	}
	recent->series_count = in->bad ? 0 : (size_t)n;
	recent->count = count;
	return in->bad ? pio_fail(err, PIO_ECORRUPT, "the list of its series is damaged") : 0;
}

static int get_points(pio_recent *recent, input *in, pio_chunk_decoder *decoder, pio_err *err)
{
	size_t count;
	int rc = pio_chunk_decode_some(recent->points, &count, decoder, in->at, (size_t)(in->end - in->at),
	                               true, err);
	if (!rc && count != recent->count)
		rc = pio_fail(err, PIO_ECORRUPT, "%zu points of series with %zu", count, recent->count);
	return rc;
}

int pio_recent_decode(pio_recent *recent, pio_chunk_decoder *decoder, const uint8_t *data,
                      size_t size_bytes, pio_err *err)
{
	input in = { data, data + size_bytes, data == NULL };
	int rc = get_series(recent, &in, err);
	return rc ? rc : get_points(recent, &in, decoder, err);
}

/* ---- one series -------------------------------------------------------------------------------- */

typedef struct found {
	pio_chunk_point *points;
	size_t count, capacity;
} found;

static int keep(found *all, const pio_chunk_point *points, size_t count, pio_err *err)
{
	if (all->count + count > all->capacity) {
		size_t capacity = all->count + count > 2 * all->capacity ? all->count + count : 2 * all->capacity;
		pio_chunk_point *grown = pio_realloc(all->points, capacity * sizeof *grown);
		if (!grown)
			return pio_fail(err, PIO_ENOMEM, "no memory for %zu points", capacity);
		all->points = grown;
		all->capacity = capacity;
	}
	memcpy(all->points + all->count, points, count * sizeof *points);
	all->count += count;
	return 0;
}

/* Rows of the same rank may be of other series: their points are not unpacked. */
static int take_row(found *all, pio_reader *reader, int64_t series_id, const uint8_t *data,
                    size_t size_bytes, pio_err *err)
{
	pio_recent *recent = reader->recent;
	input in = { data, data + size_bytes, data == NULL };
	int rc = get_series(recent, &in, err);
	size_t at = 0;
	bool unpacked = false;
	for (size_t i = 0; !rc && i < recent->series_count; at += recent->series_points[i++]) {
		if (recent->series_id[i] != series_id)
			continue;
		if (!unpacked)
			rc = get_points(recent, &in, reader->decoder, err);
		unpacked = true;
		if (!rc)
			rc = keep(all, recent->points + at, recent->series_points[i], err);
	}
	return rc;
}

static int make_buffers(pio_reader *reader, pio_err *err)
{
	int rc = reader->decoder ? 0 : pio_chunk_decoder_new(&reader->decoder, err);
	if (!rc && !reader->recent && !(reader->recent = pio_alloc(sizeof *reader->recent)))
		rc = pio_fail(err, PIO_ENOMEM, "no memory to read recent points");
	return rc;
}

int pio_recent_of_series(pio_chunk_point **points, size_t *count, int *attempt, pio_reader *reader,
                         int64_t series_id, pio_err *err)
{
	found all = { 0 };
	int step = SQLITE_DONE;
	*points = NULL;
	*count = 0;
	*attempt = 0;
	sqlite3_stmt *row = pio_reader_statement(reader, PIO_READER_RECENT, err);
	int rc = row ? 0 : pio_err_code(err);
	if (row)
		sqlite3_bind_int64(row, 1, series_id);
	while (!rc && (step = sqlite3_step(row)) == SQLITE_ROW) {
		*attempt = sqlite3_column_int(row, 1);
		rc = make_buffers(reader, err);
		if (!rc)
			rc = take_row(&all, reader, series_id, sqlite3_column_blob(row, 2),
			              (size_t)sqlite3_column_bytes(row, 2), err);
		if (pio_chunk_is_damaged(rc))
			pio_err_context(err, "%s, recent row %lld", sqlite3_db_filename(reader->db, "main"),
			                (long long)sqlite3_column_int64(row, 0));
	}
	if (!rc && step != SQLITE_DONE)
		rc = pio_reader_fail(reader, err, "reading recent points");
	sqlite3_reset(row);
	if (rc) {
		pio_free(all.points);
		return rc;
	}
	*points = all.points;
	*count = all.count;
	return 0;
}
