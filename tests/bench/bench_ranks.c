/* bench_ranks.c: a whole cluster's metrics on one machine: 1,016 ranks on 127
 * nodes log 50 metrics once a second each, 51,000 points/s, for a minute.
 *
 * One thread is the ranks. One thread is the 127 agents: it drains each node's
 * rings every 50 ms, 10 ms after a drain that found something, and syncs its
 * journal once a second. One is the supervisor: it folds every 2 s, as
 * supervise_tend.c does. What is told is the share of one core that agents and
 * supervisor take together. At the end the journals are folded for good, and
 * every point is read back and compared. Prints one JSON object a line.
 *
 *   bench_ranks [SECONDS]      60, with SHORT=1 it is 10 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/drain.h"
#include "store/fold.h"
#include "store/run.h"
#include "store/series.h"
#include "sys/fs.h"

#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"

enum { NODES = 127, RANKS_OF_NODE = 8, RANKS = NODES * RANKS_OF_NODE, METRICS = 50,
       IDLE_NS = 50000000, BUSY_NS = 10000000, SECOND_NS = 1000000000,
       /* ranks log one after the other, spread over each second */
       GAP_NS = SECOND_NS / RANKS };

typedef struct rank {
	pio_ring *writer, *reader;
	uint32_t keys[METRICS];
} rank;

static struct bench {
	char dir[256], attempt_dir[400];
	int64_t seconds, run, attempt;
	pio_store *store;
	rank ranks[RANKS];
	pio_journal_writer *journals[NODES];
	atomic_bool ranks_done, agents_done;
	double agents_s, supervisor_s;   /* processor time */
	int64_t late_ns;                 /* the ranks' clock, at worst */
	int folds;
} bench;

static void must(int rc, const pio_err *err)
{
	if (rc) {
		fprintf(stderr, "bench_ranks: %s\n", err->message);
		exit(3);
	}
}

/* What rank `r` logs as metric `m` at a step: no two alike, f32 as losses are. */
static double value_at(uint64_t r, uint64_t m, uint64_t step)
{
	uint64_t x = (r * METRICS + m) * 1000003 + step;
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
	return (double)(float)(2.5 + (double)(x >> 40) * 0x1p-24);
}

static void sleep_until(int64_t mono_ns)
{
	int64_t left = mono_ns - pio_clock_mono_ns();
	if (left > 0)
		nanosleep(&(struct timespec){ left / SECOND_NS, left % SECOND_NS }, NULL);
}

/* ---- the three --------------------------------------------------------------------- */

static void *be_the_ranks(void *unused)
{
	(void)unused;
	int64_t begin = pio_clock_mono_ns();
	for (int64_t step = 0; step < bench.seconds; step++) {
		for (int r = 0; r < RANKS; r++) {
			int64_t due = begin + step * SECOND_NS + r * (int64_t)GAP_NS;
			sleep_until(due);
			int64_t late = pio_clock_mono_ns() - due;
			bench.late_ns = late > bench.late_ns ? late : bench.late_ns;
			for (uint32_t m = 0; m < METRICS; m++)
				pio_ring_log(bench.ranks[r].writer, bench.ranks[r].keys[m], step,
				             value_at((uint64_t)r, m, (uint64_t)step));
		}
	}
	atomic_store(&bench.ranks_done, true);
	return NULL;
}

static uint64_t drain_node(int node, bool dead)
{
	pio_err err = PIO_ERR_INIT;
	uint64_t all = 0;
	for (int i = 0; i < RANKS_OF_NODE; i++) {
		uint64_t moved;
		must(pio_ring_drain(bench.ranks[node * RANKS_OF_NODE + i].reader, bench.journals[node], dead,
		                    &moved, &err), &err);
		all += moved;
	}
	return all;
}

static void *be_the_agents(void *unused)
{
	(void)unused;
	static int64_t due[NODES], sync_due[NODES];
	pio_err err = PIO_ERR_INIT;
	int64_t now = pio_clock_mono_ns();
	for (int node = 0; node < NODES; node++)
		sync_due[node] = now + SECOND_NS * (int64_t)node / NODES;
	while (!atomic_load(&bench.ranks_done)) {
		int64_t next = INT64_MAX;
		for (int node = 0; node < NODES; node++) {
			now = pio_clock_mono_ns();
			if (now >= due[node])
				due[node] = now + (drain_node(node, false) ? BUSY_NS : IDLE_NS);
			if (now >= sync_due[node]) {
				must(pio_journal_flush(bench.journals[node], 1, &err), &err);
				sync_due[node] += SECOND_NS;
			}
			next = due[node] < next ? due[node] : next;
		}
		sleep_until(next);
	}
	for (int node = 0; node < NODES; node++) {
		while (drain_node(node, true))
			continue;
		must(pio_journal_close(&bench.journals[node], &err), &err);
	}
	bench.agents_s = (double)pio_clock_thread_ns() * 1e-9;
	atomic_store(&bench.agents_done, true);
	return NULL;
}

static void *be_the_supervisor(void *unused)
{
	(void)unused;
	pio_err err = PIO_ERR_INIT;
	pio_fold_result result;
	while (!atomic_load(&bench.agents_done)) {
		int64_t begin = pio_clock_mono_ns();
		must(pio_store_fold_attempt(&result, bench.store, bench.attempt, false, &err), &err);
		bench.folds++;
		if (getenv("VERBOSE"))
			fprintf(stderr, "fold %d: %lld points, %.0f ms\n", bench.folds, (long long)result.points,
			        (double)result.cpu_ns * 1e-6);
		int64_t next = pio_fold_due(begin, &result);
		while (!atomic_load(&bench.agents_done) && pio_clock_mono_ns() < next)
			pio_clock_sleep_ms(20);
	}
	bench.supervisor_s = (double)pio_clock_thread_ns() * 1e-9;
	return NULL;
}

/* ---- before and after -------------------------------------------------------------- */

static void set_up(void)
{
	pio_err err = PIO_ERR_INIT;
	int64_t experiment;
	int number;
	const char *tmp = getenv("TMPDIR");
	snprintf(bench.dir, sizeof bench.dir, "%s/pioche-bench-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(bench.dir))
		exit(3);
	must(pio_store_open(&bench.store, bench.dir, PIO_STORE_CREATE, &err), &err);
	must(pio_store_experiment(&experiment, bench.store, "bench", NULL, NULL, &err), &err);
	pio_store_run_spec spec = { .experiment_id = experiment, .ulid = ULID };
	must(pio_store_run_create(&bench.run, bench.store, &spec, &err), &err);
	must(pio_store_attempt_create(&bench.attempt, &number, bench.store, bench.run, "local", RANKS, NULL,
	                              &err), &err);
	snprintf(bench.attempt_dir, sizeof bench.attempt_dir, "%s/runs/" ULID "/1", bench.dir);
	must(pio_fs_mkdirs(bench.attempt_dir, 0777, &err), &err);
	for (int node = 0; node < NODES; node++) {
		char path[512];
		pio_journal_header header = { .attempt = 1, .node = (uint32_t)node,
		                              .created_ns = pio_clock_wall_ns() };
		pio_ulid_parse(&header.run, ULID);
		snprintf(path, sizeof path, "%s/journal.%d", bench.attempt_dir, node);
		must(pio_journal_open(&bench.journals[node], path, &header, &err), &err);
	}
	for (int r = 0; r < RANKS; r++) {
		char path[512], name[32];
		snprintf(path, sizeof path, "%s/%d.ring", bench.dir, r);
		must(pio_ring_create(&bench.ranks[r].writer, path, (uint32_t)r, 1024, 16384, &err), &err);
		must(pio_ring_attach(&bench.ranks[r].reader, path, &err), &err);
		for (int m = 0; m < METRICS; m++) {
			int n = snprintf(name, sizeof name, "metric/%d", m);
			bench.ranks[r].keys[m] = pio_ring_key(bench.ranks[r].writer, name, (size_t)n, &err);
		}
	}
}

/* Every point of every series; how many are not as they were logged. */
static int64_t check_values(void)
{
	pio_err err = PIO_ERR_INIT;
	int64_t wrong = 0, found = 0;
	sqlite3_stmt *row;
	if (sqlite3_prepare_v2(pio_store_db(bench.store), "SELECT id, rank, CAST(substr(key, 8) AS INTEGER),"
	                       " count FROM series", -1, &row, NULL) != SQLITE_OK)
		exit(3);
	while (sqlite3_step(row) == SQLITE_ROW) {
		pio_point *points;
		size_t count;
		must(pio_store_series_read(&points, &count, bench.store, sqlite3_column_int64(row, 0), INT64_MIN,
		                           INT64_MAX, 0, &err), &err);
		wrong += count != (size_t)bench.seconds || sqlite3_column_int64(row, 3) != bench.seconds;
		for (size_t i = 0; i < count; i++) {
			double value = value_at((uint64_t)sqlite3_column_int64(row, 1),
			                        (uint64_t)sqlite3_column_int64(row, 2), i);
			wrong += points[i].step != (int64_t)i || memcmp(&points[i].value, &value, 8) != 0;
		}
		found += (int64_t)count;
		pio_free(points);
	}
	sqlite3_finalize(row);
	return wrong + (found != bench.seconds * RANKS * METRICS);
}

int main(int argc, char **argv)
{
	pio_err err = PIO_ERR_INIT;
	pthread_t ranks, agents, supervisor;
	pio_fold_result result;
	bench.seconds = argc > 1 ? atoll(argv[1]) : getenv("SHORT") ? 10 : 60;
	set_up();
	int64_t begin = pio_clock_mono_ns();
	if (pthread_create(&agents, NULL, be_the_agents, NULL) ||
	    pthread_create(&supervisor, NULL, be_the_supervisor, NULL) ||
	    pthread_create(&ranks, NULL, be_the_ranks, NULL))
		return 3;
	pthread_join(ranks, NULL);
	pthread_join(agents, NULL);
	pthread_join(supervisor, NULL);
	double wall_s = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	must(pio_store_fold_attempt(&result, bench.store, bench.attempt, true, &err), &err);
	int64_t wrong = check_values();
	printf("{\"name\":\"1,016 ranks, 51,000 points/s: core share of agents and folds\",\"value\":%.2f,"
	       "\"unit\":\"%%\",\"goal\":10,\"limit\":null,\"peer\":null}\n",
	       100 * (bench.agents_s + bench.supervisor_s) / wall_s);
	printf("{\"name\":\"1,016 ranks: of it the folds\",\"value\":%.2f,\"unit\":\"%%\",\"goal\":null,"
	       "\"limit\":null,\"peer\":null}\n", 100 * bench.supervisor_s / wall_s);
	printf("{\"name\":\"1,016 ranks: seconds from fold to fold\",\"value\":%.2f,\"unit\":\"s\","
	       "\"goal\":null,\"limit\":2,\"peer\":null}\n", wall_s / bench.folds);
	printf("{\"name\":\"1,016 ranks: points lost or changed\",\"value\":%lld,\"unit\":\"points\","
	       "\"goal\":0,\"limit\":null,\"peer\":null}\n", (long long)wrong);
	for (int r = 0; r < RANKS; r++) {
		pio_ring_close(&bench.ranks[r].writer);
		pio_ring_close(&bench.ranks[r].reader);
	}
	pio_store_close(&bench.store);
	pio_fs_remove_tree(bench.dir, NULL);
	fprintf(stderr, "bench_ranks: the ranks were at most %.0f ms late\n", (double)bench.late_ns * 1e-6);
	return wrong != 0;
}
