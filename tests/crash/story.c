#include "story.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ulid.h"
#include "client/drain.h"
#include "disk.h"
#include "exchange/exchange.h"
#include "exchange/tfwriter.h"
#include "store/checkpoint.h"
#include "store/fold.h"
#include "store/lease.h"
#include "store/mend.h"
#include "store/run.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/journal.h"

#define EVERY 64      /* points to a text */
#define PARAMS 10

static const float tensor[32] = { 1, 2, 3 };

/* ---- a run of its own ---------------------------------------------------------------- */

bool story_open(scene *s, pio_run **run)
{
	if (pio_open(run, "crash") != 0)
		return found(s, "pio_open: %s", pio_error());
	atomic_store(&s->page->opened, 1);
	return true;
}

void story_say(scene *s, pio_run *run, int64_t from, int64_t to)
{
	page *told = s->page;
	pio_key loss = pio_key_get(run, "loss");
	for (int64_t step = from; step < to; step++) {
		atomic_store(&told->sent, step + 1);
		pio_log(run, loss, step, value_of(step));
		bool kept = !disk_was_trapped();
		if (kept)
			atomic_store(&told->acked, step + 1);
		if (step % EVERY == EVERY - 1 &&
		    pio_log_media(run, PIO_TEXT, "said", step, NULL, "a line", 6) == 0 &&
		    pio_fact(run, 'p', "last", "1.5") == 0 && kept)
			atomic_fetch_add(&told->texts, 1);
		if (step % 512 == 300) /* let it be drained */
			usleep((useconds_t)random_below(&s->random, 5000));
	}
}

/* Each second one in the background: acknowledged by a close that is in good order. */
void story_save(scene *s, pio_run *run, int64_t step)
{
	pio_checkpoint *checkpoint;
	const int64_t shape[] = { 32 };
	bool behind = atomic_fetch_add(&s->page->saves, 1) % 2;
	int rc = pio_checkpoint_begin(&checkpoint, run, step, 1);
	if (!rc)
		rc = pio_checkpoint_add(checkpoint, "model", "w", PIO_F32, 1, shape, NULL, tensor);
	int committed = pio_checkpoint_commit(&checkpoint, behind ? PIO_ASYNC : 0);
	if (!rc && !committed && !disk_was_trapped())
		atomic_fetch_add(behind ? &s->page->behind : &s->page->checkpoints, 1);
	if (pio_log_media(run, PIO_FILE, "kept", step, "some.bin", tensor, sizeof tensor) == 0 &&
	    !disk_was_trapped())
		atomic_fetch_add(&s->page->files, 1);
}

void story_close(scene *s, pio_run **run)
{
	if (pio_close(run, 0) == 0) {
		atomic_store(&s->page->closed, 1);
		if (!disk_was_trapped())
			atomic_fetch_add(&s->page->checkpoints, atomic_exchange(&s->page->behind, 0));
	} else
		found(s, "pio_close: %s", pio_error());
}

bool story_log(scene *s, int64_t points, bool closes)
{
	pio_run *run;
	if (!story_open(s, &run))
		return false;
	scene_mark(s);
	story_say(s, run, 0, points / 2);
	story_save(s, run, points / 2);
	story_say(s, run, points / 2, points);
	story_save(s, run, points);
	if (closes)
		story_close(s, &run);
	return true;
}

bool story_adopt(scene *s, pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	return pio_store_adopt(store, pio_ring_recover, &err) == 0 ||
	       found(s, "adopting failed: %s", err.message);
}

bool is_empty(scene *s, const char *path, const char *what)
{
	char **names;
	size_t count;
	if (pio_fs_list(&names, &count, path, NULL) != 0)
		return true;
	if (count)
		found(s, "%s left behind: %s", what, names[0]);
	pio_fs_list_free(names, count);
	return count == 0;
}

bool story_logged(scene *s, pio_store *store, bool alone)
{
	char path[400];
	const page *told = s->page;
	int64_t runs = int_of(store, "SELECT count(*) FROM run");
	if (runs > 1 || (runs == 0 && told->opened))
		return found(s, "there are %" PRId64 " runs", runs);
	if (!points_are_whole(s, store, "loss", told->acked, told->sent))
		return false;
	int64_t texts = int_of(store, "SELECT count(*) FROM event WHERE kind = 'text'");
	if (texts < told->texts || texts > told->sent / EVERY)
		return found(s, "%" PRId64 " texts, %" PRIdFAST64 " were acknowledged", texts, told->texts);
	int64_t checkpoints = int_of(store, "SELECT count(*) FROM checkpoint WHERE state = 'sealed'");
	if (checkpoints < told->checkpoints || checkpoints > told->saves)
		return found(s, "%" PRId64 " checkpoints, %" PRIdFAST64 " were acknowledged", checkpoints,
		             told->checkpoints);
	int64_t files = int_of(store, "SELECT count(*) FROM media");
	if (files < told->files || files > told->saves)
		return found(s, "%" PRId64 " files, %" PRIdFAST64 " were acknowledged", files, told->files);
	if (int_of(store, "SELECT count(*) FROM attempt WHERE state != 'ended'"))
		return found(s, "an attempt of a dead process is open");
	if (alone && told->closed && !int_of(store, "SELECT count(*) FROM run WHERE status = 'finished'"))
		return found(s, "a run that was closed is not finished");
	snprintf(path, sizeof path, "%s/staging", s->store);
	if (!is_empty(s, path, "staging"))
		return false;
	snprintf(path, sizeof path, "%s/shm", s->root);
	return !told->opened || is_empty(s, path, "shared memory");
}

/* ---- a run of a supervisor --------------------------------------------------------------- */

bool story_begin(scene *s)
{
	pio_err err = PIO_ERR_INIT;
	int64_t experiment, run, attempt;
	int number;
	pio_store *store = store_open(s);
	if (!store)
		return false;
	int rc = pio_store_experiment(&experiment, store, "crash", NULL, NULL, &err);
	pio_store_run_spec spec = { .experiment_id = experiment, .ulid = STORY_ULID };
	if (!rc)
		rc = pio_store_run_create(&run, store, &spec, &err);
	if (!rc)
		rc = pio_store_attempt_create(&attempt, &number, store, run, "local", 1, NULL, &err);
	if (!rc)
		s->page->runs = 1;
	pio_store_close(&store);
	return !rc || found(s, "no run can be made: %s", err.message);
}

static int put_key(pio_journal_writer *journal, pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, 0);
	pio_record_put_u32(&payload, 1);
	pio_record_put_str(&payload, "loss", 4);
	int rc = pio_journal_append(journal, PIO_RECORD_KEY, payload.data, payload.len, NULL, 0, err);
	pio_str_fini(&payload);
	return rc;
}

static int put_text(pio_journal_writer *journal, int64_t step, pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, 0);
	pio_record_put_i64(&payload, step);
	pio_record_put_i64(&payload, step);
	pio_record_put_str(&payload, "said", 4);
	pio_record_put_str(&payload, "a line", 6);
	int rc = pio_journal_append(journal, PIO_RECORD_TEXT, payload.data, payload.len, NULL, 0, err);
	pio_str_clear(&payload);
	pio_record_put_u32(&payload, 0);
	pio_record_put_i64(&payload, step);
	pio_str_putc(&payload, 'p');
	pio_record_put_str(&payload, "last", 4);
	pio_record_put_str(&payload, "1.5", 3);
	if (!rc)
		rc = pio_journal_append(journal, PIO_RECORD_FACT, payload.data, payload.len, NULL, 0, err);
	pio_str_fini(&payload);
	return rc;
}

static int put_points(pio_journal_writer *journal, int64_t from, int64_t to, pio_err *err)
{
	pio_journal_point points[EVERY];
	int rc = 0;
	for (int64_t step = from; !rc && step < to;) {
		uint32_t head[2] = { 0, 0 };
		bool text = false;
		for (; step < to && !text; step++) {
			double value = value_of(step);
			pio_journal_point *point = &points[head[1]++];
			*point = (pio_journal_point){ .time_ns = 1000000 * step, .step = step, .key = 1 };
			memcpy(&point->value_bits, &value, sizeof value);
			text = step % EVERY == EVERY - 1;
		}
		rc = pio_journal_append(journal, PIO_RECORD_POINTS, head, sizeof head, points,
		                        head[1] * sizeof points[0], err);
		if (!rc && text)
			rc = put_text(journal, step - 1, err);
	}
	return rc;
}

/* As the client stages one (client/checkpoint.c). */
static int put_shard(scene *s, pio_journal_writer *journal, int64_t step, pio_err *err)
{
	static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]}}     ";
	char path[500], sha256[PIO_SHA256_HEX + 1];
	uint64_t n = sizeof header - 1;
	pio_str bytes = PIO_STR_INIT, report = PIO_STR_INIT;
	pio_str_append(&bytes, &n, 8);
	pio_str_append(&bytes, header, n);
	pio_str_append(&bytes, tensor, sizeof tensor);
	snprintf(path, sizeof path, "%s/staging/" STORY_ULID "/1", s->store);
	int rc = pio_fs_mkdirs_durable(path, 0777, err);
	snprintf(path, sizeof path, "%s/staging/" STORY_ULID "/1/model", s->store);
	if (!rc)
		rc = pio_fs_write(path, bytes.data, bytes.len, 0666, err);
	if (!rc)
		rc = pio_sha256_bytes(bytes.data, bytes.len, sha256, err);
	pio_record_put_u32(&report, 0);
	pio_record_put_i64(&report, 1);
	pio_record_put_i64(&report, step);
	pio_record_put_u32(&report, 1);
	pio_record_put_i64(&report, 1);
	pio_record_put_u32(&report, 1);
	pio_record_put_u32(&report, 1);
	pio_record_put_str(&report, "model", 5);
	pio_record_put_str(&report, path, strlen(path));
	pio_record_put_i64(&report, (int64_t)bytes.len);
	pio_record_put_str(&report, sha256, PIO_SHA256_HEX);
	if (!rc)
		rc = pio_journal_append(journal, PIO_RECORD_CHECKPOINT, report.data, report.len, NULL, 0, err);
	pio_str_fini(&bytes);
	pio_str_fini(&report);
	return rc;
}

bool story_journal(scene *s, int64_t from, int64_t to, bool shard)
{
	char path[500];
	pio_err err = PIO_ERR_INIT;
	pio_journal_writer *journal = NULL;
	pio_journal_header header = { .attempt = 1, .created_ns = 1 };
	pio_ulid_parse(&header.run, STORY_ULID);
	snprintf(path, sizeof path, "%s/runs/" STORY_ULID "/1", s->store);
	int rc = pio_fs_mkdirs_durable(path, 0777, &err);
	snprintf(path, sizeof path, "%s/runs/" STORY_ULID "/1/journal.0", s->store);
	if (!rc)
		rc = pio_journal_open(&journal, path, &header, &err);
	if (!rc && from == 0)
		rc = put_key(journal, &err);
	if (!rc)
		rc = put_points(journal, from, to, &err);
	if (!rc && shard)
		rc = put_shard(s, journal, to, &err);
	int closed = pio_journal_close(&journal, rc ? NULL : &err);
	snprintf(path, sizeof path, "%s/runs/" STORY_ULID "/1", s->store);
	rc = rc ? rc : closed ? closed : pio_fs_sync_dir(path, &err);
	if (!rc)
		atomic_store(&s->page->synced, to);
	return !rc || found(s, "journal: %s", err.message);
}

static int64_t attempt_of(pio_store *store)
{
	return int_of(store, "SELECT a.id FROM attempt a JOIN run r ON r.id = a.run_id WHERE r.ulid = '"
	              STORY_ULID "'");
}

bool story_fold(scene *s, pio_store *store, bool final, int64_t points)
{
	pio_err err = PIO_ERR_INIT;
	pio_fold_result result;
	if (pio_store_fold_attempt(&result, store, attempt_of(store), final, &err) != 0)
		return found(s, "folding failed: %s", err.message);
	atomic_store(&s->page->acked, points);
	return true;
}

bool story_age(scene *s, pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	if (sqlite3_exec(pio_store_db(store), "UPDATE recent SET folded_ns = 0", NULL, NULL, NULL) == SQLITE_OK)
		return true;
	pio_store_fail(store, &err, "aging recent points");
	return found(s, "aging failed: %s", err.message);
}

bool story_archived(scene *s)
{
	char path[500];
	snprintf(path, sizeof path, "%s/runs/" STORY_ULID "/1/journal.0" PIO_JOURNAL_ARCHIVED, s->store);
	return pio_fs_type(path) == PIO_FS_FILE || found(s, "there is no %s", path);
}

bool story_mend(scene *s, pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	int64_t folded = int_of(store, "SELECT count(*) FROM point"), mended = 0;
	if (folded && pio_mend_points(&mended, store, attempt_of(store), 0, &err) != 0)
		return found(s, "mending failed: %s", err.message);
	if (mended != folded)
		return found(s, "the journal has %" PRId64 " points, %" PRId64 " were folded", mended, folded);
	return points_are_whole(s, store, "loss", folded, folded);
}

bool story_folded(scene *s, pio_store *store, int64_t sent, bool has_checkpoint)
{
	bool final = int_of(store, "SELECT count(*) FROM journal WHERE done = 1") == 1;
	int64_t points = int_of(store, "SELECT count(*) FROM point");
	int64_t texts = int_of(store, "SELECT count(*) FROM event WHERE kind = 'text'");
	int64_t checkpoints = int_of(store, "SELECT count(*) FROM checkpoint WHERE state = 'sealed'");
	if (!points_are_whole(s, store, "loss", final ? sent : s->page->acked, sent))
		return false;
	if (texts != points / EVERY)
		return found(s, "%" PRId64 " texts beside %" PRId64 " points", texts, points);
	if (int_of(store, "SELECT count(*) FROM event WHERE kind = 'journal'"))
		return found(s, "a part of the journal made no sense");
	if (final && checkpoints != has_checkpoint)
		return found(s, "%" PRId64 " checkpoints", checkpoints);
	return true;
}

/* ---- an importer ---------------------------------------------------------------------------- */

bool story_source(scene *s, int64_t points)
{
	char path[400];
	pio_err err = PIO_ERR_INIT;
	pio_tfwriter writer;
	snprintf(path, sizeof path, "%s/place/growing", s->root);
	int rc = pio_fs_mkdirs(path, 0777, &err);
	snprintf(path, sizeof path, "%s/place/source", s->root);
	if (!rc)
		rc = pio_tfwriter_open(&writer, path, 1000000000, &err);
	for (int64_t step = 0; !rc && step < points; step++) {
		pio_tfwriter_f64(&writer, "loss", step, 1000000000 * (step + 1), value_of(step));
		if (step % EVERY == EVERY - 1)
			pio_tfwriter_text(&writer, "said", step, 1000000000 * (step + 1), "a line", 6);
	}
	if (!rc)
		rc = pio_tfwriter_close(&writer, &err);
	return !rc || found(s, "event file: %s", err.message);
}

/* As its program writes it: appended, cut anywhere. */
static int grow(scene *s, int part, int parts, pio_err *err)
{
	char path[400], to[420];
	int fd = -1;
	struct stat st;
	pio_str bytes = PIO_STR_INIT;
	snprintf(path, sizeof path, "%s/place/source", s->root);
	snprintf(to, sizeof to, "%s/place/growing/events.out.tfevents.1.host", s->root);
	int rc = pio_fs_read(&bytes, path, err);
	if (!rc)
		rc = pio_fs_open(&fd, to, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	size_t end = bytes.len * (size_t)part / (size_t)parts;
	if (!rc && fstat(fd, &st) == 0 && (size_t)st.st_size < end)
		rc = pio_fs_write_all(fd, bytes.data + st.st_size, end - (size_t)st.st_size, to, err);
	(void)pio_fs_close(&fd, to, NULL);
	pio_str_fini(&bytes);
	return rc;
}

bool story_import(scene *s, pio_store *store, int part, int parts)
{
	char path[400];
	pio_err err = PIO_ERR_INIT;
	pio_import_report report = PIO_IMPORT_REPORT_INIT;
	pio_import_options options = { .otherwise = "crash" };
	int rc = grow(s, part, parts, &err);
	snprintf(path, sizeof path, "%s/place/growing", s->root);
	if (!rc)
		rc = pio_import(&report, store, "tensorboard", path, &options, &err);
	for (size_t i = 0; i < report.runs_count; i++)
		atomic_fetch_add(&s->page->acked, report.runs[i].counts.points);
	pio_import_report_fini(&report);
	return !rc || found(s, "importing failed: %s", err.message);
}

bool story_imported(scene *s, pio_store *store, int64_t points)
{
	if (!points_are_whole(s, store, "loss", s->page->acked, points))
		return false;
	for (int again = 0; again < 2; again++) {
		if (!story_import(s, store, 1, 1) || !points_are_whole(s, store, "loss", points, points))
			return false;
		int64_t texts = int_of(store, "SELECT count(*) FROM event WHERE kind = 'text'");
		int64_t runs = int_of(store, "SELECT count(*) FROM run");
		if (texts != points / EVERY || runs != 1)
			return found(s, "%" PRId64 " texts in %" PRId64 " runs", texts, runs);
	}
	return true;
}

/* ---- a writer with the lease ----------------------------------------------------------------- */

static int write_run(scene *s, pio_store *store, int64_t experiment, pio_err *err)
{
	int64_t run;
	pio_store_run_spec spec = { .experiment_id = experiment };
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_store_run_create(&run, store, &spec, err);
	for (int i = 0; !rc && i < PARAMS; i++) {
		char name[16];
		int n = snprintf(name, sizeof name, "p%d", i);
		rc = pio_store_param_set(store, run, name, (size_t)n, "1.5", 3, err);
	}
	if (!rc)
		rc = pio_store_commit(store, err);
	else
		pio_store_rollback(store);
	if (!rc)
		atomic_fetch_add(&s->page->runs, 1);
	return rc;
}

bool story_write(scene *s, int runs)
{
	pio_err err = PIO_ERR_INIT;
	int64_t experiment;
	pio_store *store = store_open(s);
	if (!store)
		return false;
	scene_mark(s);
	int rc = pio_store_lease_take(store, &err);
	if (!rc)
		rc = pio_store_experiment(&experiment, store, "crash", NULL, NULL, &err);
	for (int i = 0; !rc && i < runs; i++)
		rc = write_run(s, store, experiment, &err);
	pio_store_lease_drop(store);
	pio_store_close(&store);
	return !rc || found(s, "writing failed: %s", err.message);
}

bool story_written(scene *s, pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	int64_t runs = int_of(store, "SELECT count(*) FROM run"), acked = s->page->runs;
	if (runs < acked || runs > acked + 1)
		return found(s, "%" PRId64 " runs, %" PRId64 " were acknowledged", runs, acked);
	if (int_of(store, "SELECT count(*) FROM run r WHERE (SELECT count(*) FROM param p WHERE"
	           " p.run_id = r.id) != 10"))
		return found(s, "a run is there without its parameters");
	if (pio_store_lease_take(store, &err) != 0)
		return found(s, "the lease of a dead process cannot be taken: %s", err.message);
	pio_store_lease_drop(store);
	return true;
}
