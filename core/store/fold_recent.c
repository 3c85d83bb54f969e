/* Points that wait to become chunks: recent.h says what they are. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/fold_batch.h"
#include "store/mend.h"
#include "store/sql.h"

/* What one row will hold. */
typedef struct row_maker {
	fold_batch *batch;
	pio_chunk_codec *codec;
	pio_chunk_point *points;    /* scratch of the codec */
	size_t count, series_count;
	pio_str series;             /* the list of series, without their number */
	pio_str data;
	int64_t last_id;
	uint32_t rank;
} row_maker;

static void put_varint(pio_str *out, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		pio_str_putc(out, (char)(value | 0x80));
	pio_str_putc(out, (char)value);
}

static int row_end(row_maker *m, pio_err *err)
{
	const uint8_t *chunk;
	size_t chunk_bytes;
	if (!m->count)
		return 0;
	int rc = pio_chunk_encode_plain(&chunk, &chunk_bytes, m->codec, m->points, m->count, err);
	if (rc)
		return rc;
	pio_str_clear(&m->data);
	put_varint(&m->data, m->series_count);
	pio_str_append(&m->data, m->series.data, m->series.len);
	pio_str_append(&m->data, chunk, chunk_bytes);
	rc = m->series.failed ? pio_str_check(&m->series, err) : pio_str_check(&m->data, err);
	if (!rc)
		rc = pio_sql_exec(m->batch->store, err, "INSERT INTO recent (journal_id, run_id, rank, attempt,"
		                  " folded_ns, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", "iiiiib",
		                  m->batch->journal_id, m->batch->run_id, (int64_t)m->rank,
		                  (int64_t)m->batch->attempt, pio_clock_wall_ns(), m->data.data, m->data.len);
	pio_str_clear(&m->series);
	m->count = m->series_count = 0;
	m->last_id = 0;
	return rc;
}

static int row_add(row_maker *m, const fold_slot *slot, pio_err *err)
{
	int rc = m->rank == slot->rank ? 0 : row_end(m, err);
	m->rank = slot->rank;
	for (uint32_t done = 0, n; !rc && done < slot->count; done += n) {
		if (m->count == PIO_CHUNK_POINTS_MAX && (rc = row_end(m, err)) != 0)
			break;
		size_t room = PIO_CHUNK_POINTS_MAX - m->count, left = slot->count - done;
		n = (uint32_t)(left < room ? left : room);
		uint64_t step = (uint64_t)slot->series_id - (uint64_t)m->last_id;
		put_varint(&m->series, step << 1 ^ (0 - (step >> 63)));
		put_varint(&m->series, n);
		m->last_id = slot->series_id;
		m->series_count++;
		memcpy(m->points + m->count, slot->points + done, n * sizeof *m->points);
		m->count += n;
	}
	return rc;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Slots that have points, rank after rank: rank << 32 | index. */
static uint64_t *by_rank(size_t *count, const fold_batch *batch)
{
	uint64_t *order = pio_alloc((batch->index.slots_count + 1) * sizeof *order);
	*count = 0;
	for (size_t i = 0; order && i < batch->index.slots_count; i++)
		if (batch->index.slots[i].count)
			order[(*count)++] = (uint64_t)batch->index.slots[i].rank << 32 | i;
	if (order)
		qsort(order, *count, sizeof *order, compare);
	return order;
}

int pio_fold_put_recent(fold_batch *batch, pio_err *err)
{
	size_t count;
	pio_chunk_codec *codec = pio_store_codec(batch->store, err);
	uint64_t *order = codec ? by_rank(&count, batch) : NULL;
	if (!order)
		return codec ? pio_fail(err, PIO_ENOMEM, "out of memory for recent points") : -PIO_ENOMEM;
	row_maker m = { .batch = batch, .codec = codec, .points = pio_chunk_scratch(codec, 0),
	                .series = PIO_STR_INIT, .data = PIO_STR_INIT };
	int rc = 0;
	for (size_t i = 0; !rc && i < count; i++)
		rc = row_add(&m, &batch->index.slots[(uint32_t)order[i]], err);
	if (!rc)
		rc = row_end(&m, err);
	pio_str_fini(&m.series);
	pio_str_fini(&m.data);
	pio_free(order);
	return rc;
}

int pio_fold_recent_age(bool *found, int64_t *age_ns, const fold_batch *batch, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(batch->store, err, "SELECT folded_ns FROM recent WHERE"
	                                  " journal_id = ?1 ORDER BY id LIMIT 1", "i", batch->journal_id);
	int rc = pio_sql_row(batch->store, row, err);
	*found = rc == 1;
	*age_ns = *found ? pio_clock_wall_ns() - sqlite3_column_int64(row, 0) : 0;
	if (*found)
		pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

/* ---- becoming chunks ------------------------------------------------------------------------------ */

/* Hand the points of one row to their slots. One that cannot be decoded keeps no
 * others out: its points are in the journal still. */
static int take_row(fold_batch *batch, pio_recent *recent, pio_chunk_decoder *decoder, sqlite3_stmt *row,
                    pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	int rc = pio_recent_decode(recent, decoder, sqlite3_column_blob(row, 2),
	                           (size_t)sqlite3_column_bytes(row, 2), &why);
	if (pio_chunk_is_damaged(rc))
		return pio_mend_note_recent(batch->store, sqlite3_column_int64(row, 0), why.message, err);
	if (rc)
		return pio_fail(err, why.code, "%s", why.message);
	uint32_t rank = (uint32_t)sqlite3_column_int64(row, 1);
	const pio_chunk_point *points = recent->points;
	for (size_t i = 0; !rc && i < recent->series_count; points += recent->series_points[i++])
		rc = pio_fold_add(batch, rank, recent->series_id[i], points, recent->series_points[i], err);
	return rc;
}

/* As many rows as a batch may hold; *last_id is the last one taken, 0: none. */
static int take_rows(int64_t *last_id, bool *more, fold_batch *batch, pio_err *err)
{
	pio_chunk_decoder *decoder = NULL;
	pio_recent *recent = pio_alloc(sizeof *recent);
	int rc = recent ? pio_chunk_decoder_new(&decoder, err)
	                : pio_fail(err, PIO_ENOMEM, "out of memory for recent points");
	sqlite3_stmt *row = rc ? NULL
		: pio_sql_query(batch->store, err, "SELECT id, rank, data FROM recent WHERE journal_id = ?1"
		                " ORDER BY id", "i", batch->journal_id);
	*last_id = 0;
	*more = false;
	rc = rc ? rc : pio_sql_row(batch->store, row, err);
	while (rc == 1 && !(*more = batch->held_bytes >= PIO_FOLD_HELD_BYTES_MAX)) {
		*last_id = sqlite3_column_int64(row, 0);
		int bad = take_row(batch, recent, decoder, row, err);
		rc = bad ? bad : pio_sql_row(batch->store, row, err);
	}
	pio_sql_reset(row);
	pio_chunk_decoder_free(decoder);
	pio_free(recent);
	return rc < 0 ? rc : 0;
}

int pio_fold_settle(bool *more, fold_batch *batch, pio_err *err)
{
	int64_t last_id = 0;
	int rc = take_rows(&last_id, more, batch, err);
	if (!rc && last_id)
		rc = pio_sql_exec(batch->store, err, "DELETE FROM recent WHERE journal_id = ?1 AND id <= ?2",
		                  "ii", batch->journal_id, last_id);
	return rc ? rc : pio_fold_write(batch, err);
}

bool pio_fold_is_wide(const fold_batch *batch)
{
	int64_t series = 0, points = 0;
	for (size_t i = 0; i < batch->index.slots_count; i++) {
		series += batch->index.slots[i].count > 0;
		points += batch->index.slots[i].count;
	}
	return series + *batch->direct > batch->direct_max && points < series * PIO_FOLD_WIDE_POINTS;
}
