/* bench_chart.c: buckets of one long series, as charts ask for them, and the mean
 * of many ranks.
 *
 * 10,000,000 noisy f32 losses of one series, a step each; and 1,016 ranks of a
 * thousandth of that. The limit of a count of buckets is reading the aggregates
 * of every chunk and decoding nothing; that of ranks their points one rank after
 * another. Prints one JSON object a line. `bench_chart [POINTS]` */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/fold.h"
#include "store/reduce.h"
#include "store/run.h"
#include "store/series.h"
#include "sys/fs.h"
#include "sys/journal.h"

#define BLOCK 1000
#define RANKS 1016
#define ROUNDS 5

static void must(int rc, const pio_err *err)
{
	if (rc) {
		fprintf(stderr, "bench_chart: %s\n", err->message);
		exit(3);
	}
}

static void put_rank(pio_journal_writer *writer, uint32_t rank, uint32_t number, const char *key,
                     int64_t points)
{
	static pio_journal_point block[BLOCK];
	static uint64_t state = 88172645463325252u;
	pio_err err = PIO_ERR_INIT;
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, rank);
	pio_record_put_u32(&payload, number);
	pio_record_put_str(&payload, key, strlen(key));
	must(pio_journal_append(writer, PIO_RECORD_KEY, payload.data, payload.len, NULL, 0, &err), &err);
	pio_str_fini(&payload);
	for (int64_t step = 0; step < points;) {
		uint32_t count = 0;
		for (; count < BLOCK && step < points; count++, step++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			double value = (double)(float)(2 + 1e4 / (1e4 + (double)step) + (double)(state >> 40) * 1e-8);
			block[count] = (pio_journal_point){ .time_ns = 1790000000000000000 + step * 10000000 +
			                                    (int64_t)(state >> 44), .step = step, .key = number };
			memcpy(&block[count].value_bits, &value, 8);
		}
		uint32_t head[2] = { rank, count };
		must(pio_journal_append(writer, PIO_RECORD_POINTS, head, sizeof head, block, count * sizeof *block,
		                        &err), &err);
	}
}

static void write_journal(const char *dir, const char *ulid, int64_t points)
{
	pio_err err = PIO_ERR_INIT;
	char path[512];
	pio_journal_writer *writer;
	pio_journal_header header = { .attempt = 1, .created_ns = 1 };
	pio_ulid_parse(&header.run, ulid);
	snprintf(path, sizeof path, "%s/journal.0", dir);
	must(pio_fs_mkdirs(dir, 0777, &err), &err);
	must(pio_journal_open(&writer, path, &header, &err), &err);
	put_rank(writer, 0, 1, "loss", points);
	for (uint32_t rank = 0; rank < RANKS; rank++)
		put_rank(writer, rank, 2, "ranks/loss", points / 1000);
	must(pio_journal_close(&writer, &err), &err);
}

/* The best of a few rounds, as an interactive person has it the second time. */
static double buckets_ms(pio_store *store, size_t buckets_max)
{
	double best = 1e9;
	pio_err err = PIO_ERR_INIT;
	for (int r = 0; r < ROUNDS; r++) {
		pio_bucket *buckets;
		size_t count;
		int64_t begin = pio_clock_mono_ns();
		must(pio_store_series_buckets(&buckets, &count, store, 1, INT64_MIN, INT64_MAX, buckets_max, &err),
		     &err);
		double ms = (double)(pio_clock_mono_ns() - begin) * 1e-6;
		best = ms < best ? ms : best;
		pio_free(buckets);
	}
	return best;
}

static double mean_ms(pio_store *store, size_t buckets_max)
{
	double best = 1e9;
	pio_err err = PIO_ERR_INIT;
	for (int r = 0; r < ROUNDS; r++) {
		pio_bucket *buckets;
		size_t count;
		int64_t begin = pio_clock_mono_ns();
		must(pio_reduce_buckets(&buckets, &count, pio_store_reader(store), 1, "ranks/loss", PIO_REDUCE_MEAN,
		                        INT64_MIN, INT64_MAX, buckets_max, &err), &err);
		double ms = (double)(pio_clock_mono_ns() - begin) * 1e-6;
		best = ms < best ? ms : best;
		pio_free(buckets);
	}
	return best;
}

/* Every point of every rank, and nothing done with it. */
static double ranks_ms(pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	int64_t begin = pio_clock_mono_ns();
	for (int64_t series = 2; series < 2 + RANKS; series++) {
		pio_point *points;
		size_t count;
		must(pio_store_series_read(&points, &count, store, series, INT64_MIN, INT64_MAX, 0, &err), &err);
		pio_free(points);
	}
	return (double)(pio_clock_mono_ns() - begin) * 1e-6;
}

int main(int argc, char **argv)
{
	int64_t points = argc > 1 ? atoll(argv[1]) : 10000000;
	static const size_t widths[] = { 200, 1000, 10000 };
	const char *tmp = getenv("TMPDIR");
	char dir[256], attempt_dir[400];
	pio_err err = PIO_ERR_INIT;
	pio_store *store;
	int64_t experiment, run, attempt;
	int number;
	pio_fold_result result;
	snprintf(dir, sizeof dir, "%s/pioche-bench-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return 3;
	must(pio_store_open(&store, dir, PIO_STORE_CREATE, &err), &err);
	must(pio_store_experiment(&experiment, store, "bench", NULL, NULL, &err), &err);
	const char *ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
	pio_store_run_spec spec = { .experiment_id = experiment, .ulid = ulid };
	must(pio_store_run_create(&run, store, &spec, &err), &err);
	must(pio_store_attempt_create(&attempt, &number, store, run, "local", 1, NULL, &err), &err);
	snprintf(attempt_dir, sizeof attempt_dir, "%s/runs/%s/1", dir, ulid);
	write_journal(attempt_dir, ulid, points);
	must(pio_store_fold_attempt(&result, store, attempt, true, &err), &err);
	double limit = buckets_ms(store, 1);
	for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
		printf("{\"name\":\"chart, %zu buckets of %lldM points\",\"value\":%.2f,\"unit\":\"ms\","
		       "\"goal\":50,\"limit\":%.2f,\"peer\":null}\n", widths[i], (long long)points / 1000000,
		       buckets_ms(store, widths[i]), limit);
	printf("{\"name\":\"chart, mean of %d ranks, %lldM points\",\"value\":%.1f,\"unit\":\"ms\","
	       "\"goal\":null,\"limit\":%.1f,\"peer\":null}\n", RANKS, (long long)(points / 1000 * RANKS) / 1000000,
	       mean_ms(store, 200), ranks_ms(store));
	pio_store_close(&store);
	pio_fs_remove_tree(dir, NULL);
	return 0;
}
