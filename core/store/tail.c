#include "store/tail.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "store/encoder.h"
#include "store/mend.h"
#include "store/recount.h"
#include "store/sql.h"

#define MERGE 16 /* open chunks of one tier become one of the next */
#define GROWN 64 /* a chunk of so many points grows no more in place */

/* What series.tail holds: a pio_tail without what the other columns say. */
typedef struct tail_memo {
	int64_t first_step, growing;
	int32_t attempt;
	uint16_t open_points;
	uint8_t open_chunks[PIO_TAIL_TIERS];
	uint8_t alone, newest;
	uint32_t zero;
} tail_memo;

_Static_assert(sizeof(tail_memo) == 32, "a tail is remembered in 32 bytes");

/* ---- rows and aggregates ------------------------------------------------------------- */

static int insert_row(pio_store *store, const pio_encoder_chunk *chunk, const uint8_t *data,
                      size_t size_bytes, pio_err *err)
{
	const pio_chunk_stats *s = &chunk->stats;
	return pio_sql_exec(store, err,
	                    "INSERT INTO chunk (series_id, attempt, tier, count, first_step, last_step,"
	                    " first_ns, last_ns, min, min_step, max, max_step, sum, sum_low, finite, nans,"
	                    " data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
	                    " CASE WHEN ?9 IS NOT NULL THEN ?10 END, ?11,"
	                    " CASE WHEN ?9 IS NOT NULL THEN ?12 END, ?13, ?14, ?15, ?16, ?17)",
	                    "iiiiiiii" "didi" "ddii" "b", chunk->series_id, (int64_t)chunk->attempt,
	                    (int64_t)chunk->tier, s->count, s->first_step, s->last_step, s->first_ns,
	                    s->last_ns, s->min, s->min_step, s->max, s->max_step, s->sum, s->sum_low,
	                    s->finite, s->nans, data, size_bytes);
}

int pio_tail_encoder_new(pio_encoder **encoder, pio_store *store, int threads, pio_err *err)
{
	return pio_encoder_new(encoder, store, threads, insert_row, err);
}

/* Rows of a series are inserted in the order logged, so what waits in the
 * encoder goes first. */
static int insert_chunk(pio_tail *tail, pio_store *store, int tier, const pio_chunk_point *points,
                        size_t count, const pio_chunk_stats *stats, pio_err *err)
{
	const uint8_t *data;
	size_t size_bytes;
	bool full = count == PIO_CHUNK_POINTS_MAX;
	pio_encoder_chunk chunk = { tail->series_id, tail->attempt, full ? PIO_TAIL_TIERS : tier, *stats };
	if (tail->encoder && full)
		return pio_encoder_put(tail->encoder, &chunk, points, err);
	int rc = tail->encoder ? pio_encoder_flush(tail->encoder, err) : 0;
	pio_chunk_codec *codec = rc ? NULL : pio_store_codec(store, err);
	if (!codec)
		return rc ? rc : -PIO_ENOMEM;
	rc = pio_chunk_encode(&data, &size_bytes, codec, points, count, err);
	return rc ? rc : insert_row(store, &chunk, data, size_bytes, err);
}

/* A chunk that cannot be decoded keeps no later point out: it stays as it is, and
 * grows and merges no more. `rc` and `why` are of the decoding. */
static int leave_alone(pio_store *store, int64_t chunk_id, int rc, const pio_err *why, pio_err *err)
{
	if (!pio_chunk_is_damaged(rc))
		return pio_fail(err, why->code, "%s", why->message);
	rc = pio_sql_exec(store, err, "UPDATE chunk SET tier = 4 WHERE id = ?1", "i", chunk_id);
	return rc ? rc : pio_mend_note_chunk(store, chunk_id, why->message, err);
}

/* Decode the open chunks of a tier (tier < 0: all) in the order logged. *bad: the
 * one where that failed, for the reason in `why`. */
static int decode_open(int64_t *bad, pio_err *why, const pio_tail *tail, pio_store *store, int tier,
                       pio_chunk_point *points, size_t *count, pio_err *err)
{
	pio_chunk_codec *codec = pio_store_codec(store, err);
	*count = 0;
	*bad = 0;
	if (!codec)
		return -PIO_ENOMEM;
	pio_chunk_point *block = pio_chunk_scratch(codec, 1);
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT data, id FROM chunk WHERE series_id = ?1"
	                                  " AND attempt = ?2 AND tier < 4 AND (?3 < 0 OR tier = ?3)"
	                                  " ORDER BY id", "iii", tail->series_id, (int64_t)tail->attempt,
	                                  (int64_t)tier);
	int rc = row ? pio_sql_row(store, row, err) : -PIO_EIO;
	while (rc == 1) {
		size_t n = 0;
		rc = pio_chunk_decode(block, &n, codec, sqlite3_column_blob(row, 0),
		                      (size_t)sqlite3_column_bytes(row, 0), why);
		if (!rc && *count + n > PIO_CHUNK_POINTS_MAX)
			rc = pio_fail(why, PIO_ECORRUPT, "it is more than its series has room for");
		if (rc) {
			*bad = sqlite3_column_int64(row, 1);
			pio_sql_reset(row);
			return rc;
		}
		memcpy(points + *count, block, n * sizeof *block);
		*count += n;
		rc = pio_sql_row(store, row, err);
	}
	return rc;
}

/* Take them out of the table. `points` is the first scratch block of the store's
 * codec. */
static int take_open(pio_tail *tail, pio_store *store, int tier, pio_chunk_point *points,
                     size_t *count, pio_err *err)
{
	int64_t bad = 0;
	int rc;
	do {
		pio_err why = PIO_ERR_INIT;
		rc = decode_open(&bad, &why, tail, store, tier, points, count, err);
		if (bad)
			rc = leave_alone(store, bad, rc, &why, err);
	} while (!rc && bad);
	if (rc)
		return rc;
	return pio_sql_exec(store, err, "DELETE FROM chunk WHERE series_id = ?1 AND attempt = ?2"
	                    " AND tier < 4 AND (?3 < 0 OR tier = ?3)", "iii", tail->series_id,
	                    (int64_t)tail->attempt, (int64_t)tier);
}

/* ---- growing in place --------------------------------------------------------------------- */

/* Put the points behind those of the growing chunk. *grown false: there is no
 * such chunk any more. `all` is as in take_open. */
static int grow_chunk(bool *grown, pio_tail *tail, pio_store *store, const pio_chunk_point *points,
                      size_t count, pio_chunk_point *all, pio_err *err)
{
	size_t held = 0, size_bytes;
	const uint8_t *data;
	pio_chunk_stats s;
	pio_err why = PIO_ERR_INIT;
	*grown = false;
	pio_chunk_codec *codec = pio_store_codec(store, err);
	if (!codec)
		return -PIO_ENOMEM;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT data, first_step FROM chunk WHERE id = ?1", "i",
	                                  tail->growing);
	int rc = row ? pio_sql_row(store, row, err) : -PIO_EIO;
	if (rc <= 0)
		return rc;
	rc = pio_chunk_decode(all, &held, codec, sqlite3_column_blob(row, 0),
	                      (size_t)sqlite3_column_bytes(row, 0), &why);
	int64_t first_step = sqlite3_column_int64(row, 1);
	pio_sql_reset(row);
	if (rc)
		return leave_alone(store, tail->growing, rc, &why, err);
	if (held + count > PIO_CHUNK_POINTS_MAX)
		return 0;
	memcpy(all + held, points, count * sizeof *points);
	pio_chunk_stats_init(&s);
	pio_chunk_stats_add(&s, all, held + count);
	rc = pio_chunk_encode(&data, &size_bytes, codec, all, held + count, err);
	/* first_step stands in an index, which is left alone as long as it can be. */
	if (!rc && s.first_step != first_step)
		rc = pio_sql_exec(store, err, "UPDATE chunk SET first_step = ?2 WHERE id = ?1", "ii",
		                  tail->growing, s.first_step);
	if (!rc)
		rc = pio_sql_exec(store, err, "UPDATE chunk SET count = ?2, last_step = ?3, first_ns = ?4,"
		                  " last_ns = ?5, min = ?6, min_step = CASE WHEN ?6 IS NOT NULL THEN ?7 END,"
		                  " max = ?8, max_step = CASE WHEN ?6 IS NOT NULL THEN ?9 END, sum = ?10,"
		                  " sum_low = ?11, finite = ?12, nans = ?13, data = ?14 WHERE id = ?1",
		                  "iiiii" "didi" "ddii" "b", tail->growing, s.count, s.last_step, s.first_ns,
		                  s.last_ns, s.min, s.min_step, s.max, s.max_step, s.sum, s.sum_low, s.finite,
		                  s.nans, data, size_bytes);
	*grown = true;
	if (held + count >= GROWN)
		tail->growing = 0;
	return rc;
}

/* ---- a tail's life ------------------------------------------------------------------------ */

/* False where nothing is remembered, or of another attempt. */
static bool recall(pio_tail *tail, sqlite3_stmt *row, int column)
{
	tail_memo memo;
	if (sqlite3_column_bytes(row, column) != sizeof memo)
		return false;
	memcpy(&memo, sqlite3_column_blob(row, column), sizeof memo);
	if (memo.attempt != tail->attempt || memo.open_points >= PIO_CHUNK_POINTS_MAX)
		return false;
	tail->first_step = memo.first_step;
	tail->growing = memo.growing;
	tail->open_points = memo.open_points;
	for (int tier = 0; tier < PIO_TAIL_TIERS; tier++)
		tail->open_chunks[tier] = memo.open_chunks[tier];
	tail->alone = memo.alone;
	tail->newest = memo.newest;
	return true;
}

static tail_memo memo_of(const pio_tail *tail)
{
	tail_memo memo = { .first_step = tail->first_step, .growing = tail->growing,
	                   .attempt = tail->attempt, .open_points = (uint16_t)tail->open_points,
	                   .alone = tail->alone, .newest = tail->newest };
	for (int tier = 0; tier < PIO_TAIL_TIERS; tier++)
		memo.open_chunks[tier] = (uint8_t)tail->open_chunks[tier];
	return memo;
}

static int load_series(bool *recalled, pio_tail *tail, pio_store *store, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT count, first_step, last_step, 0, 0, min,"
	                                  " min_step, max, max_step, sum, sum_low, finite, nans, last,"
	                                  " last_bits, last_int, tail FROM main.series WHERE id = ?1", "i",
	                                  tail->series_id);
	int rc = pio_sql_row(store, row, err);
	if (rc == 1) {
		pio_stats_read(&tail->shown, row, 0);
		double last = sqlite3_column_double(row, 13);
		memcpy(&tail->shown.last_bits, &last, 8);
		if (sqlite3_column_type(row, 14) != SQLITE_NULL)
			tail->shown.last_bits = (uint64_t)sqlite3_column_int64(row, 14);
		tail->shown.last_integer = sqlite3_column_type(row, 15) != SQLITE_NULL;
		if (tail->shown.last_integer)
			tail->shown.last_bits = (uint64_t)sqlite3_column_int64(row, 15);
		*recalled = recall(tail, row, 16) || !tail->shown.count; /* without points, without chunks */
	} else if (rc == 0) {
		rc = pio_fail(err, PIO_ENOTFOUND, "there is no series %lld", (long long)tail->series_id);
	}
	pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

static int load_chunks(pio_tail *tail, pio_store *store, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT (SELECT min(attempt) FROM chunk WHERE"
	                                  " series_id = ?1), (SELECT max(attempt) FROM chunk WHERE"
	                                  " series_id = ?1), (SELECT min(first_step) FROM chunk WHERE"
	                                  " series_id = ?1 AND attempt = ?2)", "ii", tail->series_id,
	                                  (int64_t)tail->attempt);
	int rc = pio_sql_row(store, row, err);
	if (rc < 0)
		return rc;
	if (sqlite3_column_type(row, 0) != SQLITE_NULL) {
		tail->alone = sqlite3_column_int(row, 0) == tail->attempt &&
		              sqlite3_column_int(row, 1) == tail->attempt;
		tail->newest = sqlite3_column_int(row, 1) <= tail->attempt;
	}
	if (sqlite3_column_type(row, 2) != SQLITE_NULL)
		tail->first_step = sqlite3_column_int64(row, 2);
	pio_sql_reset(row);
	row = pio_sql_query(store, err, "SELECT tier, count(*), sum(count) FROM chunk WHERE"
	                    " series_id = ?1 AND attempt = ?2 AND tier < 4 GROUP BY tier", "ii",
	                    tail->series_id, (int64_t)tail->attempt);
	rc = pio_sql_row(store, row, err);
	while (rc == 1) {
		int tier = sqlite3_column_int(row, 0);
		tail->open_chunks[tier] += sqlite3_column_int(row, 1);
		tail->open_points += (size_t)sqlite3_column_int64(row, 2);
		rc = pio_sql_row(store, row, err);
	}
	return rc;
}

int pio_tail_load(pio_tail *tail, pio_store *store, int64_t series_id, int attempt, bool is_new,
                  pio_err *err)
{
	*tail = (pio_tail){ .series_id = series_id, .attempt = attempt, .alone = true, .newest = true,
	                    .first_step = INT64_MAX };
	pio_chunk_stats_init(&tail->shown);
	bool recalled = is_new;
	int rc = is_new ? 0 : load_series(&recalled, tail, store, err);
	if (!rc && !recalled)
		rc = load_chunks(tail, store, err);
	tail->loaded = rc == 0;
	return rc;
}

size_t pio_tail_room(const pio_tail *tail)
{
	return tail->open_points < PIO_CHUNK_POINTS_MAX ? PIO_CHUNK_POINTS_MAX - tail->open_points : 1;
}

static int merge_tiers(pio_tail *tail, pio_store *store, pio_chunk_point *points, pio_err *err)
{
	for (int tier = 0; tier + 1 < PIO_TAIL_TIERS && tail->open_chunks[tier] >= MERGE; tier++) {
		size_t count;
		pio_chunk_stats stats;
		int rc = take_open(tail, store, tier, points, &count, err);
		if (rc)
			return rc;
		tail->growing = 0;
		tail->open_chunks[tier] = 0;
		if (!count)
			return 0;
		pio_chunk_stats_init(&stats);
		pio_chunk_stats_add(&stats, points, count);
		rc = insert_chunk(tail, store, tier + 1, points, count, &stats, err);
		if (rc)
			return rc;
		tail->open_chunks[tier + 1]++;
	}
	return 0;
}

/* The open chunks and the new points, which fit into one chunk exactly or with
 * a rest, become full; or not, where a damaged one of them was left out. */
static int close_open(pio_tail *tail, pio_store *store, const pio_chunk_point *points,
                      size_t count, pio_chunk_point *all, pio_err *err)
{
	size_t held = 0;
	int rc = take_open(tail, store, -1, all, &held, err);
	if (rc)
		return rc;
	size_t take = PIO_CHUNK_POINTS_MAX - held < count ? PIO_CHUNK_POINTS_MAX - held : count;
	memcpy(all + held, points, take * sizeof *points);
	pio_chunk_stats stats;
	pio_chunk_stats_init(&stats);
	pio_chunk_stats_add(&stats, all, held + take);
	rc = insert_chunk(tail, store, 0, all, held + take, &stats, err);
	memset(tail->open_chunks, 0, sizeof tail->open_chunks);
	tail->open_chunks[0] = held + take < PIO_CHUNK_POINTS_MAX;
	tail->open_points = tail->open_chunks[0] ? held + take : 0;
	tail->growing = 0;
	if (!rc && take < count) {
		pio_chunk_stats_init(&stats);
		pio_chunk_stats_add(&stats, points + take, count - take);
		rc = insert_chunk(tail, store, 0, points + take, count - take, &stats, err);
		tail->open_points = count - take;
		tail->open_chunks[0] = 1;
	}
	return rc;
}

/* Points that do not fill a chunk by themselves. */
static int append_open(pio_tail *tail, pio_store *store, const pio_chunk_point *points, size_t count,
                       const pio_chunk_stats *fresh, pio_chunk_point *all, pio_err *err)
{
	bool grown = false;
	if (tail->open_points + count >= PIO_CHUNK_POINTS_MAX)
		return close_open(tail, store, points, count, all, err);
	int rc = tail->growing ? grow_chunk(&grown, tail, store, points, count, all, err) : 0;
	if (rc)
		return rc;
	tail->open_points += count;
	if (grown)
		return 0;
	rc = insert_chunk(tail, store, 0, points, count, fresh, err);
	tail->growing = count < GROWN ? sqlite3_last_insert_rowid(pio_store_db(store)) : 0;
	tail->open_chunks[0]++;
	return rc || tail->open_chunks[0] < MERGE ? rc : merge_tiers(tail, store, all, err);
}

/* A new smallest step of an attempt hides more of the earlier ones. */
static void join(pio_tail *tail, const pio_chunk_stats *fresh)
{
	if (tail->alone || (tail->newest && fresh->first_step >= tail->first_step))
		pio_chunk_stats_merge(&tail->shown, fresh);
	else
		tail->recount = true;
	if (fresh->first_step < tail->first_step)
		tail->first_step = fresh->first_step;
}

int pio_tail_append(pio_tail *tail, pio_store *store, const pio_chunk_point *points, size_t count,
                    pio_err *err)
{
	if (!count)
		return 0;
	if (count > PIO_CHUNK_POINTS_MAX)
		return pio_fail(err, PIO_EINVAL, "%zu points at once, expected at most %d", count,
		                PIO_CHUNK_POINTS_MAX);
	pio_chunk_stats fresh;
	pio_chunk_stats_init(&fresh);
	pio_chunk_stats_add(&fresh, points, count);
	join(tail, &fresh);
	tail->changed = true;
	if (!tail->open_points && count == PIO_CHUNK_POINTS_MAX)
		return insert_chunk(tail, store, 0, points, count, &fresh, err);
	pio_chunk_codec *codec = pio_store_codec(store, err);
	return codec ? append_open(tail, store, points, count, &fresh, pio_chunk_scratch(codec, 0), err)
	             : -PIO_ENOMEM;
}

int pio_tail_save(pio_tail *tail, pio_store *store, pio_err *err)
{
	if (!tail->changed)
		return 0;
	if (tail->recount) {
		int rc = pio_tail_recount(&tail->shown, store, tail->series_id, err);
		if (rc)
			return rc;
		tail->recount = false;
	}
	const pio_chunk_stats *s = &tail->shown;
	double last;
	memcpy(&last, &s->last_bits, 8);
	if (s->last_integer)
		last = (double)(int64_t)s->last_bits;
	tail_memo memo = memo_of(tail);
	bool odd = !s->last_integer && (isnan(last) || (last == 0 && s->last_bits));
	int rc = pio_sql_exec(store, err,
	                      "UPDATE main.series SET count = ?2, first_step = ?3, last_step = ?4, last = ?5,"
	                      " last_bits = CASE WHEN ?6 THEN ?7 END, min = ?8,"
	                      " min_step = CASE WHEN ?8 IS NOT NULL THEN ?9 END, max = ?10,"
	                      " max_step = CASE WHEN ?8 IS NOT NULL THEN ?11 END, sum = ?12,"
	                      " sum_low = ?13, finite = ?14, nans = ?15,"
	                      " last_int = CASE WHEN ?16 THEN ?7 END, tail = ?17 WHERE id = ?1",
	                      "iiii" "dii" "didi" "ddiii" "b", tail->series_id, s->count, s->first_step,
	                      s->last_step, last, (int64_t)odd, (int64_t)s->last_bits,
	                      s->min, s->min_step, s->max, s->max_step, s->sum, s->sum_low, s->finite,
	                      s->nans, (int64_t)s->last_integer, &memo, sizeof memo);
	tail->changed = rc != 0;
	return rc;
}

/* ---- recount -------------------------------------------------------------------------------- */

int pio_tail_recount(pio_chunk_stats *stats, pio_store *store, int64_t series_id, pio_err *err)
{
	return pio_recount(stats, store, series_id, 0, &(pio_chunk_stats){ 0 }, err);
}

int pio_tail_save_anew(pio_store *store, int64_t series_id, pio_err *err)
{
	pio_tail tail = { .series_id = series_id, .loaded = true, .changed = true, .recount = true };
	return pio_tail_save(&tail, store, err);
}

int pio_tail_foresee(pio_chunk_stats *shown, pio_store *store, int64_t series_id, int attempt,
                     const pio_chunk_stats *recent, pio_err *err)
{
	pio_tail tail;
	int rc = pio_tail_load(&tail, store, series_id, attempt, false, err);
	if (rc)
		return rc;
	join(&tail, recent);
	*shown = tail.shown;
	return tail.recount ? pio_recount(shown, store, series_id, attempt, recent, err) : 0;
}
