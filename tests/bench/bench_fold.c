/* bench_fold.c: how fast journals become chunks, how small, and in how much
 * memory.
 *
 * By default 50 series of one rank, interleaved as a training loop logs them;
 * values are noisy f32 losses, times those of steps of 10 ms with 0.1 ms of
 * jitter. The limit is what byte-shuffling the same columns (steps, times in
 * us, f32 values) and compressing them by zstd at level 1 takes in this
 * process, and nothing else. Both are told by seconds of processor time, for a
 * machine has other work too. Prints one JSON object a line.
 *
 *   bench_fold [POINTS [RANKS KEYS]]      PIOCHE_FOLD_THREADS is 1 unless set */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/clock.h"
#include "store/fold.h"
#include "store/run.h"
#include "sys/fs.h"
#include "sys/journal.h"

#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define CHUNK 4096
#define RECORD_POINTS 4096u

static uint64_t state = 88172645463325252u;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) * 0x1p-53;
}

/* Near enough to normal: twelve uniforms. */
static double normal(void)
{
	double sum = -6;
	for (int i = 0; i < 12; i++)
		sum += uniform();
	return sum;
}

static float loss_at(int64_t step)
{
	return (float)(2.5 + 3.0 / (1.0 + 0.001 * (double)step) + 0.05 * normal());
}

static void must(int rc, const pio_err *err)
{
	if (rc) {
		fprintf(stderr, "bench_fold: %s\n", err->message);
		exit(3);
	}
}

/* In no order of their names: a multiple of an odd number is another for each key. */
static void put_keys(pio_journal_writer *writer, uint32_t rank, uint32_t keys)
{
	pio_err err = PIO_ERR_INIT;
	for (uint32_t key = 1; key <= keys; key++) {
		pio_str payload = PIO_STR_INIT;
		char name[32];
		snprintf(name, sizeof name, "loss/%08x", key * 0x9e3779b1u);
		pio_record_put_u32(&payload, rank);
		pio_record_put_u32(&payload, key);
		pio_record_put_str(&payload, name, strlen(name));
		must(pio_journal_append(writer, PIO_RECORD_KEY, payload.data, payload.len, NULL, 0, &err), &err);
		pio_str_fini(&payload);
	}
}

/* Every rank logs each key once a step, until there are `points`. */
static int64_t write_journal(const char *dir, int64_t points, uint32_t ranks, uint32_t keys)
{
	pio_err err = PIO_ERR_INIT;
	char path[512];
	pio_journal_writer *writer;
	pio_journal_header header = { .attempt = 1, .created_ns = 1 };
	pio_ulid_parse(&header.run, ULID);
	snprintf(path, sizeof path, "%s/journal.0", dir);
	must(pio_fs_mkdirs(dir, 0777, &err), &err);
	must(pio_journal_open(&writer, path, &header, &err), &err);
	pio_journal_point *block = malloc(keys * sizeof *block);
	if (!block)
		exit(3);
	int64_t time_ns = 1790000000000000000, done = 0;
	for (int64_t step = 0; done < points; step++) {
		time_ns += (int64_t)(1e7 + 1e5 * normal());
		for (uint32_t rank = 0; rank < ranks; rank++) {
			if (step == 0)
				put_keys(writer, rank, keys);
			for (uint32_t key = 0; key < keys; key++) {
				double value = (double)loss_at(step);
				block[key] = (pio_journal_point){ .time_ns = time_ns + key * 30, .step = step,
				                                  .key = key + 1 };
				memcpy(&block[key].value_bits, &value, 8);
			}
			for (uint32_t at = 0; at < keys; at += RECORD_POINTS) {
				uint32_t n = keys - at < RECORD_POINTS ? keys - at : RECORD_POINTS;
				uint32_t head[2] = { rank, n };
				must(pio_journal_append(writer, PIO_RECORD_POINTS, head, sizeof head, block + at,
				                        n * sizeof *block, &err), &err);
			}
			done += keys;
		}
	}
	free(block);
	must(pio_journal_close(&writer, &err), &err);
	return done;
}

static void compress_planes(ZSTD_CCtx *context, const void *column, size_t width)
{
	static uint8_t planes[8 * CHUNK], packed[9 * CHUNK];
	const uint8_t *bytes = column;
	for (size_t p = 0; p < width; p++)
		for (size_t i = 0; i < CHUNK; i++)
			planes[p * CHUNK + i] = bytes[width * i + p];
	if (ZSTD_isError(ZSTD_compressCCtx(context, packed, sizeof packed, planes, width * CHUNK, 1)))
		exit(3);
}

/* Points a second. */
static double limit_speed(void)
{
	enum { ROUNDS = 200 };
	static int64_t steps[CHUNK], times[CHUNK];
	static float values[CHUNK];
	double time_us = 1.79e15;
	for (int64_t i = 0; i < CHUNK; i++) {
		time_us += 1e4 + 1e2 * normal();
		steps[i] = i;
		times[i] = (int64_t)time_us;
		values[i] = loss_at(i);
	}
	ZSTD_CCtx *context = ZSTD_createCCtx();
	int64_t begin = pio_clock_thread_ns();
	for (int r = 0; r < ROUNDS; r++) {
		compress_planes(context, steps, 8);
		compress_planes(context, times, 8);
		compress_planes(context, values, 4);
	}
	double seconds = (double)(pio_clock_thread_ns() - begin) * 1e-9;
	ZSTD_freeCCtx(context);
	return (double)CHUNK * ROUNDS / seconds;
}

/* Memory of its own that the process holds, in bytes; pages of the database
 * that it has mapped are the kernel's. */
static int64_t held_bytes(void)
{
	pio_str text = PIO_STR_INIT;
	const char *at = NULL;
	if (pio_fs_read(&text, "/proc/self/status", NULL) == 0)
		at = strstr(text.data, "RssAnon:");
	int64_t bytes = at ? atoll(at + 8) * 1024 : 0;
	pio_str_fini(&text);
	return bytes;
}

typedef struct watch {
	pthread_t thread;
	atomic_bool stop;
	int64_t before, peak;
} watch;

static void *watch_memory(void *argument)
{
	watch *w = argument;
	while (!atomic_load(&w->stop)) {
		int64_t now = held_bytes();
		w->peak = now > w->peak ? now : w->peak;
		pio_clock_sleep_ms(5);
	}
	return NULL;
}

static void report(const char *dir, double seconds, int64_t points, int64_t held, double limit)
{
	struct stat st;
	char path[512];
	snprintf(path, sizeof path, "%s/pioche.db", dir);
	if (stat(path, &st) != 0)
		exit(3);
	printf("{\"name\":\"fold, journal to SQLite, points/s\",\"value\":%.0f,\"unit\":\"points/s\","
	       "\"goal\":10000000,\"limit\":%.0f,\"peer\":null}\n", (double)points / seconds, limit);
	printf("{\"name\":\"store, noisy f32 losses, bytes/point\",\"value\":%.3f,\"unit\":\"bytes\","
	       "\"goal\":4,\"limit\":null,\"peer\":null}\n", (double)st.st_size / (double)points);
	printf("{\"name\":\"fold, memory beyond what the process had\",\"value\":%.1f,\"unit\":\"MiB\","
	       "\"goal\":64,\"limit\":null,\"peer\":null}\n", (double)held / (1 << 20));
}

int main(int argc, char **argv)
{
	int64_t points = argc > 1 ? atoll(argv[1]) : 5000000;
	uint32_t ranks = argc > 3 ? (uint32_t)atoi(argv[2]) : 1, keys = argc > 3 ? (uint32_t)atoi(argv[3]) : 50;
	const char *tmp = getenv("TMPDIR");
	char dir[256], attempt_dir[400];
	pio_err err = PIO_ERR_INIT;
	pio_store *store;
	int64_t experiment, run, attempt;
	int number;
	pio_fold_result result;
	setenv("PIOCHE_FOLD_THREADS", "1", 0);
	snprintf(dir, sizeof dir, "%s/pioche-bench-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return 3;
	must(pio_store_open(&store, dir, PIO_STORE_CREATE, &err), &err);
	must(pio_store_experiment(&experiment, store, "bench", NULL, NULL, &err), &err);
	pio_store_run_spec spec = { .experiment_id = experiment, .ulid = ULID };
	must(pio_store_run_create(&run, store, &spec, &err), &err);
	must(pio_store_attempt_create(&attempt, &number, store, run, "local", 1, NULL, &err), &err);
	snprintf(attempt_dir, sizeof attempt_dir, "%s/runs/" ULID "/1", dir);
	int64_t written = write_journal(attempt_dir, points, ranks, keys);
	double limit = limit_speed();
	watch memory = { .before = held_bytes() };
	if (pthread_create(&memory.thread, NULL, watch_memory, &memory) != 0)
		return 3;
	must(pio_store_fold_attempt(&result, store, attempt, false, &err), &err);
	double seconds = (double)result.cpu_ns * 1e-9;
	atomic_store(&memory.stop, true);
	pthread_join(memory.thread, NULL);
	pio_store_close(&store);
	report(dir, seconds, result.points, memory.peak - memory.before, limit);
	pio_fs_remove_tree(dir, NULL);
	if (result.points != written)
		fprintf(stderr, "bench_fold: %lld points of %lld\n", (long long)result.points, (long long)written);
	return result.points == written ? 0 : 1;
}
