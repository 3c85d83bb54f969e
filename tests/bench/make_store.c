/* make_store.c: a big store by the way that real ones come about: runs and
 * parameters through the store's own functions, points written to journals as
 * agents write them, journals folded.
 *
 *   make_store STORE runs NAME RUNS PARAMS METRICS POINTS
 *     an experiment whose goal is to minimize val/loss. Parameters: lr, width,
 *     optimizer, seed and `group.N`, of which every third is text; metrics:
 *     train/loss, val/loss and `metric/N`, POINTS each. One run in 50 failed.
 *   make_store STORE series NAME POINTS
 *     an experiment of one run with one long noisy series, train/loss.
 *
 * The same arguments make the same facts and points, but not the same ULIDs
 * and times. Journals are removed when they are folded. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/archiver.h"
#include "store/fold.h"
#include "store/run.h"
#include "sys/fs.h"
#include "sys/journal.h"

#define RUNS_OF_COMMIT 200
#define BLOCK_POINTS 10000

static pio_store *store;
static uint64_t random_state = 88172645463325252u;

static void must(int rc, const pio_err *err)
{
	if (!rc)
		return;
	fprintf(stderr, "make_store: %s\n", err->message);
	exit(3);
}

static double uniform(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (double)(random_state >> 11) * 0x1p-53;
}

static double noise(void)
{
	return uniform() + uniform() + uniform() - 1.5;
}

/* ---- one run --------------------------------------------------------------------- */

typedef struct making {
	int64_t run_id, attempt_id;
	pio_journal_writer *writer;
	char dir[512];
} making;

static void begin(making *m, int64_t experiment_id, int64_t seed)
{
	pio_err err = PIO_ERR_INIT;
	pio_ulid ulid;
	char text[PIO_ULID_CHARS + 1], path[600];
	int number;
	pio_ulid_new(&ulid);
	pio_ulid_format(&ulid, text);
	pio_store_run_spec spec = { .experiment_id = experiment_id, .ulid = text, .seed = seed,
	                            .has_seed = true, .program = "{\"command\":[\"train\"]}" };
	must(pio_store_run_create(&m->run_id, store, &spec, &err), &err);
	must(pio_store_attempt_create(&m->attempt_id, &number, store, m->run_id, "local", 1, NULL, &err),
	     &err);
	must(pio_store_attempt_started(store, m->attempt_id, 1, &err), &err);
	snprintf(m->dir, sizeof m->dir, "%s/runs/%s", pio_store_path(store), text);
	snprintf(path, sizeof path, "%s/%d", m->dir, number);
	must(pio_fs_mkdirs(path, 0777, &err), &err);
	snprintf(path, sizeof path, "%s/%d/journal.0", m->dir, number);
	pio_journal_header header = { .run = ulid, .attempt = (uint32_t)number,
	                              .created_ns = pio_clock_wall_ns() };
	must(pio_journal_open(&m->writer, path, &header, &err), &err);
}

static void end(making *m, const char *result, const char *status)
{
	pio_err err = PIO_ERR_INIT;
	pio_fold_result folded;
	must(pio_journal_close(&m->writer, &err), &err);
	must(pio_store_fold_attempt(&folded, store, m->attempt_id, true, &err), &err);
	pio_store_attempt_end last = { .result = result, .rank = -1, .exit_code = -1, .signal = -1,
	                               .step = folded.last_step, .ended_ns = pio_clock_wall_ns() };
	must(pio_store_attempt_finish(store, m->attempt_id, &last, &err), &err);
	must(pio_store_run_set_status(store, m->run_id, status, NULL, &err), &err);
	/* A long journal is still being compressed, into a file of that folder. */
	pio_archiver_free(*pio_store_archiver_slot(store));
	*pio_store_archiver_slot(store) = NULL;
	must(pio_fs_remove_tree(m->dir, &err), &err);
}

static void put_key(making *m, uint32_t key, const char *name)
{
	pio_err err = PIO_ERR_INIT;
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, 0);
	pio_record_put_u32(&payload, key);
	pio_record_put_str(&payload, name, strlen(name));
	must(pio_str_check(&payload, &err), &err);
	must(pio_journal_append(m->writer, PIO_RECORD_KEY, payload.data, payload.len, NULL, 0, &err), &err);
	pio_str_fini(&payload);
}

static void put_points(making *m, const pio_journal_point *points, uint32_t count)
{
	pio_err err = PIO_ERR_INIT;
	uint32_t head[2] = { 0, count };
	must(pio_journal_append(m->writer, PIO_RECORD_POINTS, head, sizeof head, points,
	                        count * sizeof *points, &err), &err);
}

static void set_param(const making *m, const char *name, const char *json)
{
	pio_err err = PIO_ERR_INIT;
	must(pio_store_param_set(store, m->run_id, name, strlen(name), json, strlen(json), &err), &err);
}

/* ---- many runs ----------------------------------------------------------------------- */

static void set_params(const making *m, int64_t seed, int params)
{
	static const char *optimizers[] = { "\"adamw\"", "\"sgd\"", "\"lion\"" };
	char name[32], json[64];
	snprintf(json, sizeof json, "%.17g", pow(10, -4 + 3 * uniform()));
	set_param(m, "lr", json);
	snprintf(json, sizeof json, "%d", 64 << (int)(uniform() * 5));
	set_param(m, "width", json);
	set_param(m, "optimizer", optimizers[(int)(uniform() * 3)]);
	snprintf(json, sizeof json, "%" PRId64, seed);
	set_param(m, "seed", json);
	for (int i = 4; i < params; i++) {
		snprintf(name, sizeof name, "group%d.param%d", i % 7, i);
		if (i % 3 == 0)
			snprintf(json, sizeof json, "\"text %d\"", i);
		else
			snprintf(json, sizeof json, "%g", i < 10 ? uniform() : i * 0.5);
		set_param(m, name, json);
	}
}

static void log_metrics(making *m, int metrics, int points)
{
	pio_journal_point block[256];
	uint32_t count = 0;
	double reached = 1 + uniform();
	int64_t time_ns = pio_clock_wall_ns();
	for (int key = 1; key <= metrics; key++) {
		char name[32];
		snprintf(name, sizeof name, "metric/%d", key);
		put_key(m, (uint32_t)key, key == 1 ? "train/loss" : key == 2 ? "val/loss" : name);
	}
	for (int i = 0; i < points * metrics; i++) {
		int step = i / metrics + 1;
		double value = (double)(float)(reached + 2.0 / step + 0.05 * noise());
		block[count] = (pio_journal_point){ .time_ns = time_ns + (int64_t)step * 10000000, .step = step,
		                                    .key = (uint32_t)(i % metrics) + 1 };
		memcpy(&block[count].value_bits, &value, sizeof value);
		if (++count == sizeof block / sizeof *block || i == points * metrics - 1) {
			put_points(m, block, count);
			count = 0;
		}
	}
}

static void make_runs(int64_t experiment_id, int runs, int params, int metrics, int points)
{
	pio_err err = PIO_ERR_INIT;
	for (int i = 0; i < runs; i++) {
		making m;
		if (i % RUNS_OF_COMMIT == 0)
			must(pio_store_begin(store, &err), &err);
		begin(&m, experiment_id, i % 3 + 1);
		set_params(&m, i % 3 + 1, params);
		log_metrics(&m, metrics, points);
		bool failed = i % 50 == 7;
		end(&m, failed ? "failed" : "ok", failed ? "failed" : "finished");
		if (i % RUNS_OF_COMMIT == RUNS_OF_COMMIT - 1 || i == runs - 1)
			must(pio_store_commit(store, &err), &err);
	}
}

/* ---- one long series ------------------------------------------------------------------- */

static void make_series(int64_t experiment_id, int64_t points)
{
	static pio_journal_point block[BLOCK_POINTS];
	making m;
	int64_t time_ns = pio_clock_wall_ns();
	begin(&m, experiment_id, 1);
	put_key(&m, 1, "train/loss");
	for (int64_t step = 1, count = 0; step <= points; step++) {
		double value = (double)(float)(2 + 1e4 / (1e4 + (double)step) + 0.1 * noise());
		time_ns += 10000000 + (int64_t)(100000 * noise());
		block[count] = (pio_journal_point){ .time_ns = time_ns, .step = step, .key = 1 };
		memcpy(&block[count].value_bits, &value, sizeof value);
		if (++count == BLOCK_POINTS || step == points) {
			put_points(&m, block, (uint32_t)count);
			count = 0;
		}
	}
	end(&m, "ok", "finished");
}

int main(int argc, char **argv)
{
	bool runs = argc == 8 && strcmp(argv[2], "runs") == 0;
	bool series = argc == 5 && strcmp(argv[2], "series") == 0;
	pio_err err = PIO_ERR_INIT;
	int64_t experiment_id;
	if (!runs && !series) {
		fprintf(stderr, "make_store STORE runs NAME RUNS PARAMS METRICS POINTS\n"
		        "make_store STORE series NAME POINTS\n");
		return 2;
	}
	must(pio_store_open(&store, argv[1], PIO_STORE_CREATE, &err), &err);
	/* Indexes are filled in no order: with the default 2 MB each insert would read the disk. */
	sqlite3_exec(pio_store_db(store), "PRAGMA cache_size = -400000", NULL, NULL, NULL);
	must(pio_store_experiment(&experiment_id, store, argv[3], "val/loss", "minimize", &err), &err);
	if (runs)
		make_runs(experiment_id, atoi(argv[4]), atoi(argv[5]), atoi(argv[6]), atoi(argv[7]));
	else
		make_series(experiment_id, atoll(argv[4]));
	pio_store_close(&store);
	return 0;
}
