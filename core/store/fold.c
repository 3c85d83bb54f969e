/* Definitions and invariants.
 *
 *   journal   what one node of an attempt said: segments, files in a row
 *   row       journal(segment, offset, done): all before that is folded
 *   group     one transaction, in which batches of several journals may be
 *
 *   1. A row moves in the transaction that inserts what was read up to there.
 *   2. A segment is left behind only when it was read to its end after its
 *      successor was seen: a writer makes that when the segment is whole.
 *   3. A file is compressed (archive.h) only after the commit that left its
 *      successor behind, or that said its journal is done: what a drainer that
 *      dies now may still have in a ring, too, is in the last two, which are
 *      read to know it (client/recover.c). */
#include "store/fold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/archive.h"
#include "store/archiver.h"
#include "store/encoder.h"
#include "store/fold_batch.h"
#include "store/fold_names.h"
#include "store/sql.h"
#include "sys/fs.h"

#define RECORDS_MAX 200000         /* of one batch */
#define GROUP_NS 100000000         /* others want to write, too */
#define DIRECT_SERIES 512          /* of each fold become chunks at once */
#define WAIT_NS 30000000000        /* then recent points become chunks, */
#define WAIT_NS_MAX 120000000000   /* or, where a fold has much to do, then */
#define SETTLE_NS 60000000         /* much: so much processor time is gone */

typedef struct journal_row {
	int64_t offset;
	uint32_t segment;
	bool done;
} journal_row;

typedef struct fold_job {
	pio_store *store;
	pio_fold_result *result;
	pio_fold_result committed;
	fold_attempt of;
	bool final;
	bool may_wait;             /* points may: of the newest attempt, while it goes on */
	int64_t begin_ns;          /* of the fold, processor time */
	int64_t direct, direct_max; /* see fold_batch */
	bool in_group;
	int64_t group_ns;          /* when it began */
	pio_encoder *encoder;
	pio_str ahead;             /* a MEDIA record whose large file is next to be read */
	pio_media_ready ready;     /* and that file */
	/* the segment that is open */
	pio_journal_reader *reader;
	int64_t begun_ns;          /* when its writer made it; 0: not known */
	uint32_t node, segment;
	uint32_t newest;           /* segment of the journal, when the directory was read */
} fold_job;

static fold_batch batch_of(fold_job *job)
{
	return (fold_batch){ .store = job->store, .result = job->result, .attempt_id = job->of.id,
	                     .run_id = job->of.run_id, .attempt = job->of.number, .dir = job->of.dir,
	                     .encoder = job->encoder, .ready = &job->ready, .ahead = &job->ahead,
	                     .direct = &job->direct, .direct_max = job->direct_max };
}

/* ---- recent points that become chunks ------------------------------------------------------------ */

/* Of one journal, as many as a batch may hold. */
static int settle(bool *more, fold_job *job, int64_t journal_id, int attempt, pio_err *err)
{
	int64_t settled = 0; /* that is no reason for others to wait */
	fold_batch batch = batch_of(job);
	batch.journal_id = journal_id;
	batch.attempt = attempt;
	batch.direct = &settled;
	int rc = pio_fold_settle(more, &batch, err);
	pio_fold_batch_fini(&batch);
	return rc;
}

/* Of all journals of the run's attempts up to `attempt`: those of the earlier
 * ones before the first chunk of this one (invariant 3 of recent.h), its own
 * when it is over, where a journal is gone. */
static int settle_until(fold_job *job, int attempt, pio_err *err)
{
	for (;;) {
		bool more;
		sqlite3_stmt *row = pio_sql_query(job->store, err, "SELECT f.journal_id, f.attempt FROM attempt a"
		                                  " JOIN journal j ON j.attempt_id = a.id JOIN recent f ON"
		                                  " f.journal_id = j.id WHERE a.run_id = ?1 AND a.number <= ?2"
		                                  " LIMIT 1", "ii", job->of.run_id, (int64_t)attempt);
		int rc = pio_sql_row(job->store, row, err);
		if (rc <= 0)
			return rc;
		int64_t journal_id = sqlite3_column_int64(row, 0);
		int of = sqlite3_column_int(row, 1);
		pio_sql_reset(row);
		rc = settle(&more, job, journal_id, of, err);
		if (rc)
			return rc;
	}
}

/* *waits: more points have to wait behind those that do already; *more: there
 * are more to settle than one batch holds. */
static int settle_due(bool *waits, bool *more, fold_job *job, const fold_batch *batch, pio_err *err)
{
	int64_t age_ns;
	*more = false;
	int rc = pio_fold_recent_age(waits, &age_ns, batch, err);
	if (rc || !*waits)
		return rc;
	bool has_time = pio_clock_thread_ns() - job->begin_ns < SETTLE_NS;
	if (job->may_wait && age_ns >= 0 && age_ns < (has_time ? WAIT_NS : WAIT_NS_MAX))
		return 0;
	*waits = false;
	return settle(more, job, batch->journal_id, batch->attempt, err);
}

/* ---- groups ------------------------------------------------------------------------------------ */

static int group_begin(fold_job *job, pio_err *err)
{
	if (job->in_group)
		return 0;
	int rc = pio_store_begin(job->store, err);
	if (rc)
		return rc;
	job->in_group = true;
	job->group_ns = pio_clock_mono_ns();
	job->committed = *job->result;
	int64_t newest = 0;
	rc = pio_sql_int(&newest, job->store, err, "SELECT max(number) FROM attempt WHERE run_id = ?1", "i",
	                 job->of.run_id);
	job->may_wait = !job->final && newest == job->of.number;
	return rc ? rc : settle_until(job, job->of.number - 1, err);
}

static int group_end(fold_job *job, int rc, pio_err *err)
{
	if (!job->in_group)
		return rc;
	job->in_group = false;
	if (rc) {
		pio_encoder_drop(job->encoder);
		pio_store_rollback(job->store);
	} else {
		rc = pio_store_commit(job->store, err);
	}
	if (rc) {
		*job->result = job->committed;
		pio_fold_names_forget(job->store);
	}
	return rc;
}

/* ---- the row ------------------------------------------------------------------------------------- */

/* As it is now: another process may have folded since. */
static int row_load(journal_row *journal, fold_batch *batch, uint32_t node, pio_err *err)
{
	int rc = pio_sql_exec(batch->store, err, "INSERT INTO journal (attempt_id, node, path, offset)"
	                      " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (attempt_id, node) DO NOTHING",
	                      "iiti", batch->attempt_id, (int64_t)node, batch->path,
	                      (int64_t)PIO_JOURNAL_HEADER_BYTES);
	if (rc)
		return rc;
	sqlite3_stmt *row = pio_sql_query(batch->store, err, "SELECT id, offset, segment, done FROM journal"
	                                  " WHERE attempt_id = ?1 AND node = ?2", "ii", batch->attempt_id,
	                                  (int64_t)node);
	rc = pio_sql_row(batch->store, row, err);
	if (rc < 0)
		return rc;
	batch->journal_id = sqlite3_column_int64(row, 0);
	journal->offset = sqlite3_column_int64(row, 1);
	journal->segment = (uint32_t)sqlite3_column_int64(row, 2);
	journal->done = sqlite3_column_int(row, 3) != 0;
	pio_sql_reset(row);
	return 0;
}

/* The agent knows when its attempt began; its supervisor hears of it later,
 * sometimes after the end. */
static int set_begin(const fold_job *job, pio_err *err)
{
	if (job->begun_ns <= 0)
		return 0;
	return pio_sql_exec(job->store, err, "UPDATE attempt SET started_ns = ?2 WHERE id = ?1 AND"
	                    " (started_ns IS NULL OR started_ns > ?2)", "ii", job->of.id,
	                    job->begun_ns);
}

/* ---- segments -------------------------------------------------------------------------------------- */

static void segment_close(fold_job *job)
{
	pio_journal_reader_close(job->reader);
	job->reader = NULL;
}

/* Open the segment of the row, at its offset. PIO_ECORRUPT: nothing in this
 * file can be used, for the reason in err. */
static int segment_open(fold_job *job, uint32_t node, const journal_row *row, pio_err *err)
{
	pio_journal_header header;
	int rc = 0;
	if (!job->reader || job->node != node || job->segment != row->segment) {
		segment_close(job);
		rc = pio_fold_segment_open(&job->reader, &header, job->store, &job->of, node, row->segment, err);
		if (rc == -PIO_EVERSION || rc == -PIO_ENOTFOUND)
			rc = -PIO_ECORRUPT;
		job->begun_ns = rc ? 0 : header.created_ns;
		job->node = node;
		job->segment = row->segment;
	}
	if (!rc)
		rc = pio_journal_seek(job->reader, row->offset, err);
	if (rc)
		segment_close(job);
	return rc;
}

/* ---- one batch ------------------------------------------------------------------------------------- */

/* Read records until the segment ends (*full false) or the batch is full. */
static int batch_read(fold_batch *batch, pio_journal_reader *reader, int64_t *offset, bool *full,
                      pio_err *err)
{
	int64_t begin = batch->result->records, begin_ns = pio_clock_mono_ns();
	bool slow = false;
	for (;;) {
		*full = batch->held_bytes >= PIO_FOLD_HELD_BYTES_MAX || batch->result->records - begin >= RECORDS_MAX ||
		        (slow && pio_clock_mono_ns() - begin_ns > GROUP_NS);
		if (*full)
			return 0;
		pio_record record;
		int rc = pio_journal_next(reader, &record, err);
		if (rc <= 0)
			return rc;
		rc = record.type == PIO_RECORD_POINTS ? pio_fold_points(batch, &record, err)
		                                      : pio_fold_record(batch, &record, err);
		*full = rc == 1;
		if (rc)
			return rc < 0 ? rc : 0;
		slow = record.type == PIO_RECORD_MEDIA || record.type == PIO_RECORD_CHECKPOINT;
		batch->result->records++;
		*offset = record.end_offset;
	}
}

/* What the segment holds from the row's offset on. *ended: up to its end, or
 * it is of no use. */
static int segment_fold(fold_job *job, fold_batch *batch, uint32_t node, journal_row *row,
                        bool successor, bool *ended, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	bool full = false;
	int rc = segment_open(job, node, row, &why);
	if (rc == -PIO_ECORRUPT) {
		*ended = true;
		/* While its writer may live it is looked at again. */
		return job->final || successor ? pio_fold_complain(batch, err, "%s", why.message) : 0;
	}
	if (rc) {
		if (err)
			*err = why;
		return rc;
	}
	rc = set_begin(job, err);
	if (!rc && !pio_fold_names_take(batch, row->segment, row->offset))
		rc = pio_fold_load_keys(batch, err);
	if (!rc)
		rc = batch_read(batch, job->reader, &row->offset, &full, err);
	*ended = !full;
	if (!rc && !full && (job->final || successor) && pio_journal_has_rest(job->reader))
		rc = pio_fold_complain(batch, err, "what stands behind byte %lld of segment %u is no whole record",
		                       (long long)row->offset, row->segment);
	return rc;
}

/* Everything up to the new offset, and the offset. */
static int batch_fold(fold_job *job, fold_batch *batch, uint32_t node, bool *more, pio_err *err)
{
	journal_row row;
	bool ended = false;
	*more = false;
	int rc = row_load(&row, batch, node, err);
	if (rc || row.done)
		return rc;
	rc = settle_due(&batch->waits, more, job, batch, err);
	if (rc || *more)
		return rc;
	batch->may_wait = job->may_wait;
	journal_row before = row;
	bool successor = row.segment < job->newest;
	rc = segment_fold(job, batch, node, &row, successor, &ended, err);
	if (!rc)
		rc = pio_fold_write(batch, err);
	if (!rc)
		rc = pio_fold_warn_of_keys(batch, err);
	if (rc)
		return rc;
	if (ended && successor) {
		row.segment++;
		row.offset = PIO_JOURNAL_HEADER_BYTES;
	}
	row.done = ended && !successor && job->final;
	*more = !ended || successor;
	if (row.offset != before.offset || row.segment != before.segment || row.done)
		rc = pio_sql_exec(batch->store, err, "UPDATE journal SET segment = ?2, offset = ?3, done = ?4"
		                  " WHERE id = ?1", "iiii", batch->journal_id, (int64_t)row.segment, row.offset,
		                  (int64_t)row.done);
	if (!rc && !job->final)
		pio_fold_names_keep(batch, row.segment, row.offset);
	return rc;
}

/* A large file takes longer to read than others should wait for a transaction. */
static int read_ahead(fold_job *job, pio_err *err)
{
	pio_media_record record = { job->of.run_id, job->of.id, job->of.dir, (uint8_t *)job->ahead.data,
	                            job->ahead.len };
	pio_media_ready_fini(&job->ready);
	int rc = pio_media_ready_init(&job->ready, job->store, &record, err);
	pio_str_clear(&job->ahead);
	return rc;
}

/* A group ends where a journal goes on in another batch, so that a long one is
 * folded in steps, and where it has taken long. */
static int journal_fold(fold_job *job, uint32_t node, uint32_t newest, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/journal.%u", job->of.dir, node);
	int rc = pio_str_check(&path, err);
	job->newest = newest;
	for (bool more = true; !rc && more;) {
		fold_batch batch = batch_of(job);
		batch.path = path.data;
		rc = job->ahead.len ? read_ahead(job, err) : 0;
		if (!rc)
			rc = group_begin(job, err);
		if (!rc)
			rc = batch_fold(job, &batch, node, &more, err);
		pio_fold_batch_fini(&batch);
		if (rc || more || pio_clock_mono_ns() - job->group_ns > GROUP_NS)
			rc = group_end(job, rc, err);
	}
	segment_close(job);
	pio_str_fini(&path);
	return rc;
}

/* ---- archives ---------------------------------------------------------------------------------------- */

/* Compress what is folded. That is for the disk's sake: where it fails, the
 * plain file stays and the next fold tries again. */
static void archive_folded(const fold_job *job, char **names, size_t count)
{
	pio_str path = PIO_STR_INIT;
	for (size_t i = 0; i < count; i++) {
		uint32_t node, segment;
		bool archived;
		int64_t folded = 0;
		if (!pio_journal_name_parse(&node, &segment, &archived, names[i]) || archived)
			continue;
		int rc = pio_sql_int(&folded, job->store, NULL, "SELECT segment > ?3 + 1 OR done FROM journal WHERE"
		                     " attempt_id = ?1 AND node = ?2", "iii", job->of.id, (int64_t)node,
		                     (int64_t)segment);
		if (rc || !folded || pio_fold_segment_path(&path, job->store, &job->of, node, segment, NULL) != 0)
			continue;
		(void)pio_archiver_put(pio_store_archiver_slot(job->store), path.data, NULL);
	}
	pio_str_fini(&path);
}

/* ---- an attempt ------------------------------------------------------------------------------------ */

/* Each journal of the directory. Sorted by name, its segments stand together,
 * and among them what a compression that was killed has left. */
static int fold_all(fold_job *job, char **names, size_t count, pio_err *err)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < count;) {
		uint32_t node, other, segment, newest = 0;
		bool archived;
		if (!pio_journal_name_parse(&node, &newest, &archived, names[i++]))
			continue;
		for (; i < count; i++) {
			if (!pio_journal_name_parse(&other, &segment, &archived, names[i]))
				continue;
			if (other != node)
				break;
			newest = segment > newest ? segment : newest;
		}
		rc = journal_fold(job, node, newest, err);
	}
	return group_end(job, rc, err);
}

/* What waits of a journal that is not there any more, too. */
static int settle_rest(fold_job *job, pio_err *err)
{
	int rc = group_begin(job, err);
	if (!rc)
		rc = settle_until(job, job->of.number, err);
	return group_end(job, rc, err);
}

/* PIOCHE_FOLD_DIRECT overrides it: a small run folds like a large one. */
static int64_t direct_series(void)
{
	const char *text = getenv("PIOCHE_FOLD_DIRECT");
	return text ? atoll(text) : DIRECT_SERIES;
}

int pio_store_fold_attempt(pio_fold_result *result, pio_store *store, int64_t attempt_id,
                           bool final, pio_err *err)
{
	fold_job job = { .store = store, .result = result, .final = final, .ahead = PIO_STR_INIT,
	                 .direct_max = direct_series() };
	pio_str path = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	*result = (pio_fold_result){ .last_step = INT64_MIN };
	job.begin_ns = pio_clock_thread_ns();
	int rc = pio_fold_attempt_load(&job.of, store, attempt_id, err);
	if (!rc)
		rc = pio_tail_encoder_new(&job.encoder, store, 0, err);
	if (!rc) {
		pio_str_printf(&path, "%s/%s", pio_store_path(store), job.of.dir);
		rc = pio_str_check(&path, err);
	}
	/* Before the agent has begun there is no directory, and nothing to fold. */
	if (!rc && pio_fs_type(path.data) == PIO_FS_DIR)
		rc = pio_fs_list(&names, &count, path.data, err);
	if (!rc)
		rc = fold_all(&job, names, count, err);
	if (!rc && final)
		rc = settle_rest(&job, err);
	if (!rc)
		archive_folded(&job, names, count);
	pio_encoder_free(job.encoder);
	pio_media_ready_fini(&job.ready);
	pio_str_fini(&job.ahead);
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	pio_free(job.of.dir);
	result->cpu_ns = pio_clock_thread_ns() - job.begin_ns;
	return rc;
}

int64_t pio_fold_due(int64_t begin_ns, const pio_fold_result *result)
{
	int64_t apart_ns = result->cpu_ns * PIO_FOLD_PART;
	apart_ns = apart_ns > PIO_FOLD_NS ? apart_ns : PIO_FOLD_NS;
	return begin_ns + (apart_ns < PIO_FOLD_NS_MAX ? apart_ns : PIO_FOLD_NS_MAX);
}
