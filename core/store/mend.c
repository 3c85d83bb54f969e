#include "store/mend.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/encoder.h"
#include "store/fold_batch.h"
#include "store/sql.h"

/* ---- telling ----------------------------------------------------------------------------- */

/* `insert` takes ?1: the id, ?2: now, ?3: what is told. */
static int note(pio_store *store, const char *insert, const char *what, int64_t id, const char *why,
                pio_err *err)
{
	pio_str message = PIO_STR_INIT;
	pio_str_printf(&message, "%s %lld: %s", what, (long long)id, why);
	int rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_sql_exec(store, err, insert, "iit", id, pio_clock_wall_ns(), message.data);
	pio_str_fini(&message);
	return rc;
}

int pio_mend_note_chunk(pio_store *store, int64_t chunk_id, const char *why, pio_err *err)
{
	return note(store, "INSERT INTO event (run_id, attempt_id, rank, time_ns, kind, message) SELECT"
	            " s.run_id, a.id, s.rank, ?2, 'damage', ?3 FROM chunk c JOIN main.series s ON"
	            " s.id = c.series_id JOIN attempt a ON a.run_id = s.run_id AND a.number = c.attempt"
	            " WHERE c.id = ?1 AND NOT EXISTS (SELECT 1 FROM event e WHERE e.run_id = s.run_id AND"
	            " e.attempt_id = a.id AND e.rank = s.rank AND e.kind = 'damage' AND e.message = ?3)",
	            "chunk", chunk_id, why, err);
}

int pio_mend_note_recent(pio_store *store, int64_t recent_id, const char *why, pio_err *err)
{
	return note(store, "INSERT INTO event (run_id, attempt_id, rank, time_ns, kind, message) SELECT"
	            " r.run_id, j.attempt_id, r.rank, ?2, 'damage', ?3 FROM recent r JOIN journal j ON"
	            " j.id = r.journal_id WHERE r.id = ?1", "recent row", recent_id, why, err);
}

/* ---- folding again --------------------------------------------------------------------------- */

typedef struct mend {
	pio_store *store;
	fold_attempt of;
	int rank;
	pio_encoder *encoder;
	pio_fold_result result;
	int64_t direct;             /* as a fold counts it; not asked for */
} mend;

/* A journal that named keys of the rank, and how far it is folded. */
typedef struct mend_journal {
	int64_t id, offset;
	uint32_t node, segment;
} mend_journal;

/* Both kinds of records that are of use begin with their rank. */
static bool is_wanted(const mend *m, const pio_record *record)
{
	uint32_t rank;
	if ((record->type != PIO_RECORD_KEY && record->type != PIO_RECORD_POINTS) ||
	    record->size_bytes < sizeof rank)
		return false;
	memcpy(&rank, record->payload, sizeof rank);
	return rank == (uint32_t)m->rank;
}

static int batch_end(fold_batch *batch, pio_err *err)
{
	int rc = pio_fold_write(batch, err);
	batch->held_bytes = pio_fold_index_empty(&batch->index);
	return rc;
}

/* Up to an offset; 0: to its end. */
static int fold_segment(mend *m, fold_batch *batch, const mend_journal *journal, uint32_t segment,
                        int64_t end, pio_err *err)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	int rc = pio_fold_segment_open(&reader, &header, m->store, &m->of, journal->node, segment, err);
	while (!rc && (rc = pio_journal_next(reader, &record, err)) == 1 && (!end || record.end_offset <= end)) {
		rc = 0;
		if (is_wanted(m, &record))
			rc = record.type == PIO_RECORD_KEY ? pio_fold_record(batch, &record, err)
			                                   : pio_fold_points(batch, &record, err);
		if (!rc && batch->held_bytes >= PIO_FOLD_HELD_BYTES_MAX)
			rc = batch_end(batch, err);
	}
	pio_journal_reader_close(reader);
	if (rc < 0)
		pio_err_context(err, "segment %u of journal.%u", segment, journal->node);
	return rc < 0 ? rc : 0;
}

static int fold_journal(mend *m, const mend_journal *journal, pio_err *err)
{
	fold_batch batch = { .store = m->store, .result = &m->result, .attempt_id = m->of.id,
	                     .run_id = m->of.run_id, .attempt = m->of.number, .journal_id = journal->id,
	                     .dir = m->of.dir, .path = m->of.dir, .encoder = m->encoder, .direct = &m->direct,
	                     .complaints = PIO_FOLD_COMPLAINTS_MAX /* they were made already */ };
	int rc = pio_sql_exec(m->store, err, "DELETE FROM journal_key WHERE journal_id = ?1 AND rank = ?2",
	                      "ii", journal->id, (int64_t)m->rank);
	for (uint32_t segment = 0; !rc && segment <= journal->segment; segment++)
		rc = fold_segment(m, &batch, journal, segment, segment == journal->segment ? journal->offset : 0, err);
	if (!rc)
		rc = batch_end(&batch, err);
	pio_fold_batch_fini(&batch);
	return rc;
}

/* One after the other: what they share is asked for anew. */
static int fold_journals(mend *m, pio_err *err)
{
	bool found = false;
	for (mend_journal journal = { .id = 0 };; found = true) {
		sqlite3_stmt *row = pio_sql_query(m->store, err, "SELECT id, node, segment, offset FROM journal j"
		                                  " WHERE attempt_id = ?1 AND id > ?3 AND EXISTS (SELECT 1 FROM"
		                                  " journal_key WHERE journal_id = j.id AND rank = ?2) ORDER BY id"
		                                  " LIMIT 1", "iii", m->of.id, (int64_t)m->rank, journal.id);
		int rc = pio_sql_row(m->store, row, err);
		if (rc == 0 && !found)
			return pio_fail(err, PIO_ENOTFOUND, "no journal has anything of rank %d", m->rank);
		if (rc <= 0)
			return rc;
		journal = (mend_journal){ sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 3),
		                          (uint32_t)sqlite3_column_int64(row, 1),
		                          (uint32_t)sqlite3_column_int64(row, 2) };
		pio_sql_reset(row);
		rc = fold_journal(m, &journal, err);
		if (rc)
			return rc;
	}
}

/* ---- in place of what is there --------------------------------------------------------------- */

#define CHUNKS " FROM chunk WHERE attempt = ?3 AND series_id IN (SELECT id FROM main.series WHERE" \
	" run_id = ?1 AND rank = ?2)"

/* Points of chunks that can be decoded: less than these the journals must not have. */
static int count_good(int64_t *points, const mend *m, pio_err *err)
{
	pio_chunk_codec *codec = pio_store_codec(m->store, err);
	*points = 0;
	if (!codec)
		return -PIO_ENOMEM;
	sqlite3_stmt *row = pio_sql_query(m->store, err, "SELECT data" CHUNKS, "iii", m->of.run_id,
	                                  (int64_t)m->rank, (int64_t)m->of.number);
	int rc = pio_sql_row(m->store, row, err);
	while (rc == 1) {
		size_t count;
		pio_err why = PIO_ERR_INIT;
		rc = pio_chunk_decode(pio_chunk_scratch(codec, 0), &count, codec, sqlite3_column_blob(row, 0),
		                      (size_t)sqlite3_column_bytes(row, 0), &why);
		if (rc && !pio_chunk_is_damaged(rc)) {
			pio_sql_reset(row);
			return pio_fail(err, why.code, "%s", why.message);
		}
		*points += rc ? 0 : (int64_t)count;
		rc = pio_sql_row(m->store, row, err);
	}
	return rc;
}

static int forget_points(const mend *m, pio_err *err)
{
	int rc = pio_sql_exec(m->store, err, "DELETE" CHUNKS, "iii", m->of.run_id, (int64_t)m->rank,
	                      (int64_t)m->of.number);
	if (!rc)
		rc = pio_sql_exec(m->store, err, "DELETE FROM recent WHERE run_id = ?1 AND rank = ?2 AND"
		                  " attempt = ?3", "iii", m->of.run_id, (int64_t)m->rank, (int64_t)m->of.number);
	/* What it says of its chunks is not so any more. */
	return rc ? rc : pio_sql_exec(m->store, err, "UPDATE main.series SET tail = NULL WHERE run_id = ?1 AND"
	                              " rank = ?2", "ii", m->of.run_id, (int64_t)m->rank);
}

static int count_series(const mend *m, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(m->store, err, "SELECT id FROM main.series WHERE run_id = ?1 AND"
	                                  " rank = ?2", "ii", m->of.run_id, (int64_t)m->rank);
	int rc = pio_sql_row(m->store, row, err);
	while (rc == 1) {
		int failed = pio_tail_save_anew(m->store, sqlite3_column_int64(row, 0), err);
		rc = failed ? failed : pio_sql_row(m->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

static int mend_all(mend *m, pio_err *err)
{
	int64_t good;
	int rc = count_good(&good, m, err);
	if (!rc)
		rc = forget_points(m, err);
	if (!rc)
		rc = fold_journals(m, err);
	if (!rc && m->result.points < good)
		rc = pio_fail(err, PIO_ECORRUPT, "the journals have %lld points of rank %d, and the database %lld",
		              (long long)m->result.points, m->rank, (long long)good);
	if (!rc)
		rc = count_series(m, err);
	return rc ? rc : pio_sql_exec(m->store, err, "UPDATE event SET kind = 'mended' WHERE run_id = ?1 AND"
	                              " attempt_id = ?2 AND rank = ?3 AND kind = 'damage'", "iii", m->of.run_id,
	                              m->of.id, (int64_t)m->rank);
}

int pio_mend_points(int64_t *points, pio_store *store, int64_t attempt_id, int rank, pio_err *err)
{
	mend m = { .store = store, .rank = rank, .result = { .last_step = INT64_MIN } };
	*points = 0;
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_fold_attempt_load(&m.of, store, attempt_id, err);
	if (!rc)
		rc = pio_tail_encoder_new(&m.encoder, store, 0, err);
	if (!rc)
		rc = mend_all(&m, err);
	if (!rc)
		rc = pio_store_commit(store, err);
	else
		pio_store_rollback(store);
	pio_encoder_free(m.encoder);
	pio_free(m.of.dir);
	*points = rc ? 0 : m.result.points;
	return rc;
}
