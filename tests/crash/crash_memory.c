/* Memory runs out. In each operation of store, sys and client the n-th allocation
 * fails, n = 1, 2, ... until none does: of the core's counted allocator, of SQLite's
 * and of jansson's. The operation succeeds or says "out of memory"; nothing leaks;
 * the store is as it was, and the same operation then succeeds.
 *
 * In `make test` n goes up by random steps; ALL=1: each n. SEED=n repeats. */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "client/drain.h"
#include "store/checkpoint.h"
#include "store/fold.h"
#include "store/mend.h"
#include "store/retain.h"
#include "store/series.h"
#include "store/series_now.h"
#include "store/verify.h"
#include "story.h"
#include "sys/fs.h"

#define STEPS 60           /* trials of one operation and allocator in `make test`, about */
#define LIMIT_S 280

/* ---- allocators ------------------------------------------------------------------------ */

static uint64_t left_sqlite, left_json;
static sqlite3_mem_methods sqlite_memory;

static bool runs_out(uint64_t *left)
{
	return *left && --*left == 0;
}

static void *sqlite_alloc(int n)
{
	return runs_out(&left_sqlite) ? NULL : sqlite_memory.xMalloc(n);
}

static void *sqlite_realloc(void *block, int n)
{
	return runs_out(&left_sqlite) ? NULL : sqlite_memory.xRealloc(block, n);
}

static void *json_alloc(size_t n)
{
	return runs_out(&left_json) ? NULL : malloc(n);
}

static void take_allocators(void)
{
	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_memory);
	sqlite3_mem_methods own = sqlite_memory;
	own.xMalloc = sqlite_alloc;
	own.xRealloc = sqlite_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &own);
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
	json_set_alloc_funcs(json_alloc, free);
}

/* Of a build with SAN=address: non-zero and a report when something leaked. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

enum allocator { CORE, SQLITE, JANSSON, ALLOCATORS };
static const char *const allocator_names[ALLOCATORS] = { "the core's", "SQLite's", "jansson's" };

static void fail_at(enum allocator which, uint64_t n)
{
	pio_mem_fail_at(which == CORE ? n : 0);
	left_sqlite = which == SQLITE ? n : 0;
	left_json = which == JANSSON ? n : 0;
}

/* True if an n-th allocation was asked for. */
static bool was_felt(enum allocator which)
{
	uint64_t left = pio_mem_fail_at(0);
	left = which == CORE ? left : which == SQLITE ? left_sqlite : left_json;
	fail_at(which, 0);
	return left == 0;
}

/* ---- operations -------------------------------------------------------------------------- */

#define POINTS 700
#define WAITED 40

typedef struct operation {
	const char *name;
	bool (*prepare)(scene *s);
	int (*run)(scene *s, pio_err *err);
	bool once;                 /* it changes the store: to be prepared again when it succeeded */
	int64_t points;            /* "loss" has them afterwards */
} operation;

static const operation *current;

static int on_store(scene *s, pio_err *err, int (*act)(scene *s, pio_store *store, pio_err *err))
{
	pio_store *store = NULL;
	int rc = pio_store_open(&store, s->store, PIO_STORE_CREATE, err);
	if (!rc && act)
		rc = act(s, store, err);
	pio_store_close(&store);
	return rc;
}

static bool prepare_nothing(scene *s)
{
	(void)s;
	return true;
}

static int make_store(scene *s, pio_err *err)
{
	int rc = pio_fs_remove_tree(s->store, err);
	return rc ? rc : on_store(s, err, NULL);
}

static int open_store(scene *s, pio_err *err)
{
	return on_store(s, err, NULL);
}

static bool prepare_fold(scene *s)
{
	return story_begin(s) && story_journal(s, 0, POINTS, true);
}

static bool prepare_folded(scene *s)
{
	pio_store *store = prepare_fold(s) ? store_open(s) : NULL;
	bool ok = store && story_fold(s, store, true, POINTS);
	pio_store_close(&store);
	return ok && story_archived(s);
}

static int fold_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	pio_fold_result result;
	return pio_store_fold_attempt(&result, store, 1, true, err);
}

static int fold_store(scene *s, pio_err *err)
{
	return on_store(s, err, fold_act);
}

/* The first half of the points waits, the others are in the journal. */
static bool prepare_waiting(scene *s)
{
	setenv("PIOCHE_FOLD_DIRECT", "0", 1);
	pio_store *store = story_begin(s) && story_journal(s, 0, WAITED / 2, false) ? store_open(s) : NULL;
	bool ok = store && story_fold(s, store, false, WAITED / 2) &&
	          story_journal(s, WAITED / 2, WAITED, false);
	pio_store_close(&store);
	return ok;
}

static bool prepare_waited(scene *s)
{
	pio_store *store = prepare_waiting(s) ? store_open(s) : NULL;
	bool ok = store && story_fold(s, store, false, WAITED);
	if (ok && int_of(store, "SELECT count(*) FROM recent") != 2)
		ok = found(s, "points do not wait");
	pio_store_close(&store);
	return ok;
}

static bool prepare_aged(scene *s)
{
	pio_store *store = prepare_waited(s) ? store_open(s) : NULL;
	bool ok = store && story_age(s, store);
	pio_store_close(&store);
	return ok;
}

static int fold_some_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	pio_fold_result result;
	return pio_store_fold_attempt(&result, store, 1, false, err);
}

static int fold_some(scene *s, pio_err *err)
{
	return on_store(s, err, fold_some_act);
}

static int mend_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	int64_t points;
	return pio_mend_points(&points, store, 1, 0, err);
}

static int mend_store(scene *s, pio_err *err)
{
	return on_store(s, err, mend_act);
}

static int read_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	pio_point *points = NULL;
	pio_bucket *buckets = NULL;
	size_t count = 0;
	int rc = pio_store_series_read(&points, &count, store, 1, INT64_MIN, INT64_MAX, 0, err);
	if (!rc && (int64_t)count != current->points)
		rc = pio_fail(err, PIO_ECORRUPT, "%zu points were read", count);
	if (!rc)
		rc = pio_store_series_buckets(&buckets, &count, store, 1, INT64_MIN, INT64_MAX, 20, err);
	pio_free(points);
	pio_free(buckets);
	return rc;
}

static int read_store(scene *s, pio_err *err)
{
	return on_store(s, err, read_act);
}

/* By SQL: the table of points, and its functions. */
static int query_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	sqlite3_stmt *row = NULL;
	int64_t count = 0;
	int rc = sqlite3_prepare_v2(pio_store_db(store), "SELECT step, value FROM point WHERE run = 'crash-1'"
	                            " AND key IN ('loss', 'other') AND step >= 0 ORDER BY step", -1, &row, NULL);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(row);
		count += rc == SQLITE_ROW;
	}
	int result = rc != SQLITE_DONE ? pio_store_fail(store, err, "reading points")
	             : count == current->points ? 0 : pio_fail(err, PIO_ECORRUPT, "%d rows", (int)count);
	sqlite3_finalize(row);
	return result;
}

static int query_store(scene *s, pio_err *err)
{
	return on_store(s, err, query_act);
}

/* What is known of each series, as it is with the points that wait. */
static int series_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	sqlite3_stmt *row = NULL;
	int rc = pio_store_series_now_show(store, err);
	if (rc)
		return rc;
	rc = sqlite3_prepare_v2(pio_store_db(store), "SELECT count FROM series WHERE key = 'loss'", -1, &row, NULL);
	int64_t count = rc == SQLITE_OK && sqlite3_step(row) == SQLITE_ROW ? sqlite3_column_int64(row, 0) : -1;
	int result = count < 0 ? pio_store_fail(store, err, "reading series")
	             : count == current->points ? 0 : pio_fail(err, PIO_ECORRUPT, "%d points", (int)count);
	sqlite3_finalize(row);
	return result;
}

static int know_series(scene *s, pio_err *err)
{
	return on_store(s, err, series_act);
}

static int verify_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	pio_verify_result result;
	int rc = pio_store_verify(&result, store, NULL, NULL, NULL, err);
	return rc || result.bad + result.missing == 0 ? rc : pio_fail(err, PIO_ECORRUPT, "an object is bad");
}

static int verify_store(scene *s, pio_err *err)
{
	return on_store(s, err, verify_act);
}

static int retain_act(scene *s, pio_store *store, pio_err *err)
{
	char path[400];
	int64_t id = 0, unread;
	static const pio_keep keep = { .last = 1, .best = 1, .goal_key = "loss", .goal = "minimize" };
	snprintf(path, sizeof path, "%s/index", s->root);
	int rc = pio_store_checkpoint_newest(&id, store, 1, err);
	if (!rc)
		rc = pio_store_checkpoint_index(store, id, path, err);
	if (!rc)
		rc = pio_store_checkpoint_best(&id, store, 1, "loss", "minimize", err);
	if (!rc)
		rc = pio_store_checkpoint_retain(&unread, store, 1, &keep, err);
	return rc ? rc : pio_store_checkpoint_recover(store, err);
}

static int retain_store(scene *s, pio_err *err)
{
	return on_store(s, err, retain_act);
}

static int export_act(scene *s, pio_store *store, pio_err *err)
{
	char path[400];
	int fd = -1;
	snprintf(path, sizeof path, "%s/csv", s->root);
	int rc = pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, err);
	if (!rc)
		rc = pio_store_export_csv(store, 1, fd, path, err);
	(void)pio_fs_close(&fd, path, NULL);
	return rc;
}

static int export_store(scene *s, pio_err *err)
{
	return on_store(s, err, export_act);
}

/* Of a story the finding is the error, and its code is known from the text. */
static int result_of(scene *s, bool ok, pio_err *err)
{
	if (ok)
		return 0;
	int rc = pio_fail(err, strstr(s->page->message, "memory") ? PIO_ENOMEM : PIO_EIO, "%s",
	                  s->page->message);
	s->page->message[0] = 0;
	return rc;
}

static int write_store(scene *s, pio_err *err)
{
	return result_of(s, story_write(s, 2), err);
}

static int journal(scene *s, pio_err *err)
{
	return result_of(s, story_journal(s, 0, 100, false), err);
}

static bool prepare_import(scene *s)
{
	return story_source(s, POINTS);
}

static int import_act(scene *s, pio_store *store, pio_err *err)
{
	return result_of(s, story_import(s, store, 1, 1), err);
}

static int import_store(scene *s, pio_err *err)
{
	return on_store(s, err, import_act);
}

static bool prepare_dead(scene *s)
{
	pid_t pid = fork();
	if (pid == 0) {
		story_log(s, POINTS, false);
		kill(getpid(), SIGKILL);
	}
	child_wait(pid);
	return s->page->opened || found(s, "the rank could not log");
}

static int adopt_act(scene *s, pio_store *store, pio_err *err)
{
	(void)s;
	return pio_store_adopt(store, pio_ring_recover, err);
}

static int adopt(scene *s, pio_err *err)
{
	return on_store(s, err, adopt_act);
}

static int log_alone(scene *s, pio_err *err)
{
	pio_run *run;
	s->page->message[0] = 0;
	if (pio_open(&run, "crash") != 0)
		return pio_fail(err, strstr(pio_error(), "memory") ? PIO_ENOMEM : PIO_EIO, "%s", pio_error());
	story_say(s, run, 0, 130);
	story_save(s, run, 130);
	pio_close(&run, 0);
	return 0;
}

static const operation operations[] = {
	{ "making a store", prepare_nothing, make_store, false, 0 },
	{ "opening a store", story_begin, open_store, false, 0 },
	{ "folding and publishing", prepare_fold, fold_store, true, POINTS },
	{ "folding points that are to wait", prepare_waiting, fold_some, true, WAITED },
	{ "making chunks of points that waited", prepare_aged, fold_some, true, WAITED },
	{ "mending from an archive", prepare_folded, mend_store, false, POINTS },
	{ "reading a series", prepare_folded, read_store, false, POINTS },
	{ "reading points that wait", prepare_waited, read_store, false, WAITED },
	{ "asking for points that wait", prepare_waited, query_store, false, WAITED },
	{ "knowing a series whose points wait", prepare_waited, know_series, false, WAITED },
	{ "asking for points", prepare_folded, query_store, false, POINTS },
	{ "verifying", prepare_folded, verify_store, false, POINTS },
	{ "choosing and keeping checkpoints", prepare_folded, retain_store, false, POINTS },
	{ "writing metrics.csv", prepare_folded, export_store, false, POINTS },
	{ "writing runs", prepare_nothing, write_store, false, 0 },
	{ "a journal", story_begin, journal, false, 0 },
	{ "adopting", prepare_dead, adopt, true, POINTS },
	{ "importing", prepare_import, import_store, true, POINTS },
	{ "a rank alone", prepare_nothing, log_alone, false, -1 },
};

/* ---- trials ---------------------------------------------------------------------------------- */

static enum allocator current_allocator;

static bool one_trial(scene *s, uint64_t n, bool *felt)
{
	pio_err err = PIO_ERR_INIT;
	int64_t live = pio_mem_live(), sqlite = sqlite3_memory_used();
	s->page->early_operations = (int64_t)n;
	fail_at(current_allocator, n);
	int rc = current->run(s, &err);
	*felt = was_felt(current_allocator);
	if (rc && rc != -PIO_ENOMEM)
		return found(s, "allocation %" PRIu64 ": code %d, not out of memory: %s", n, rc, err.message);
	if (rc && !*felt)
		return found(s, "undisturbed: %s", err.message);
	if (pio_mem_live() != live || sqlite3_memory_used() != sqlite)
		return found(s, "allocation %" PRIu64 ": %" PRId64 " blocks, of SQLite %" PRId64 " bytes leak", n,
		             pio_mem_live() - live, (int64_t)sqlite3_memory_used() - sqlite);
	if (rc == 0 && *felt && current->once) {
		scene_clear(s, s->random);
		return current->prepare(s);
	}
	return true;
}

static bool is_sound(scene *s)
{
	pio_store *store = store_open(s);
	bool ok = store && store_is_sound(s, store) &&
	          (current->points < 0 || points_are_whole(s, store, "loss", current->points, current->points));
	pio_store_close(&store);
	return ok;
}

static void trials(scene *s)
{
	bool felt = true, all = getenv("ALL") != NULL;
	uint64_t step = 1, random = s->random;
	pio_err err = PIO_ERR_INIT;
	alarm(LIMIT_S);
	take_allocators();
	if (!current->prepare(s))
		return;
	/* What is made once a process is made now. */
	if (current->run(s, &err) != 0) {
		found(s, "undisturbed: %s", err.message);
		return;
	}
	if (current->once) {
		scene_clear(s, random);
		if (!current->prepare(s))
			return;
	}
	for (uint64_t n = 1, done = 0; felt; n += step) {
		if (!one_trial(s, n, &felt))
			return;
		s->page->operations = (int64_t)++done;
		/* Early ones one by one, then in growing steps: long operations repeat themselves. */
		step = all || n < STEPS / 2 ? 1 : 1 + random_below(&random, n / (STEPS / 4));
	}
	if (is_sound(s) && __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
		found(s, "something leaks");
}

int main(void)
{
	uint64_t seed = seed_of_test();
	for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
		for (int a = 0; a < ALLOCATORS; a++) {
			scene s = { .page = NULL };
			scene_up(&s, seed);
			current = &operations[i];
			current_allocator = (enum allocator)a;
			int status = child_wait(child_start(trials, &s));
			if (status)
				found(&s, "allocation %" PRId64 ": the process ended with %d",
				      s.page->early_operations, status);
			tell(!s.page->message[0], "%s, %s memory: %" PRId64 " trials%s%s", current->name,
			     allocator_names[a], s.page->operations, s.page->message[0] ? ": " : "", s.page->message);
			scene_down(&s);
		}
	return tell_end();
}
