/* bench_fold.c: how fast journals become chunks, and how small.
 *
 * 50 series of one rank, interleaved as a training loop logs them; values are
 * noisy f32 losses, times those of steps of 10 ms with 0.1 ms of jitter. The
 * limit is what byte-shuffling and compressing the values alone reaches here.
 * Prints one JSON object a line. `bench_fold [POINTS]` */
#include <math.h>
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

#define SERIES 50

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

static void must(int rc, const pio_err *err)
{
	if (rc) {
		fprintf(stderr, "bench_fold: %s\n", err->message);
		exit(3);
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
	for (uint32_t key = 1; key <= SERIES; key++) {
		pio_str payload = PIO_STR_INIT;
		char name[32];
		snprintf(name, sizeof name, "loss/%u", key);
		pio_record_put_u32(&payload, 0);
		pio_record_put_u32(&payload, key);
		pio_record_put_str(&payload, name, strlen(name));
		must(pio_journal_append(writer, PIO_RECORD_KEY, payload.data, payload.len, NULL, 0, &err), &err);
		pio_str_fini(&payload);
	}
	static pio_journal_point block[SERIES * 20];
	int64_t time_ns = 1790000000000000000;
	for (int64_t done = 0, step = 0; done < points;) {
		for (int s = 0; s < 20; s++, step++) {
			time_ns += (int64_t)(1e7 + 1e5 * normal());
			for (uint32_t key = 0; key < SERIES; key++) {
				double trend = 2.5 + 3.0 / (1.0 + 0.001 * (double)step);
				double value = (double)(float)(trend + 0.05 * normal());
				pio_journal_point *p = &block[s * SERIES + (int)key];
				*p = (pio_journal_point){ .time_ns = time_ns + key * 30, .step = step, .key = key + 1 };
				memcpy(&p->value_bits, &value, 8);
			}
		}
		uint32_t head[2] = { 0, SERIES * 20 };
		must(pio_journal_append(writer, PIO_RECORD_POINTS, head, sizeof head, block, sizeof block, &err),
		     &err);
		done += SERIES * 20;
	}
	must(pio_journal_close(&writer, &err), &err);
}

/* Points a second of byte-shuffling and compressing f32 alone, in memory. */
static double limit_speed(void)
{
	enum { N = 4096, ROUNDS = 400 };
	static float values[N];
	static uint8_t planes[4 * N], packed[8 * N];
	for (int i = 0; i < N; i++)
		values[i] = (float)(2.5 + 0.05 * normal());
	ZSTD_CCtx *context = ZSTD_createCCtx();
	int64_t begin = pio_clock_mono_ns();
	for (int r = 0; r < ROUNDS; r++) {
		const uint8_t *bytes = (const uint8_t *)values;
		for (int p = 0; p < 4; p++)
			for (int i = 0; i < N; i++)
				planes[p * N + i] = bytes[4 * i + p];
		if (ZSTD_isError(ZSTD_compressCCtx(context, packed, sizeof packed, planes, sizeof planes, 1)))
			exit(3);
	}
	double seconds = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	ZSTD_freeCCtx(context);
	return (double)N * ROUNDS / seconds;
}

int main(int argc, char **argv)
{
	int64_t points = argc > 1 ? atoll(argv[1]) : 5000000;
	const char *tmp = getenv("TMPDIR");
	char dir[256], path[512], attempt_dir[400];
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
	double limit = limit_speed();
	int64_t begin = pio_clock_mono_ns();
	must(pio_store_fold_attempt(&result, store, attempt, true, &err), &err);
	double seconds = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	pio_store_close(&store);
	struct stat st;
	snprintf(path, sizeof path, "%s/pioche.db", dir);
	if (stat(path, &st) != 0)
		return 3;
	printf("{\"name\":\"fold, journal to SQLite, points/s\",\"value\":%.0f,\"unit\":\"points/s\","
	       "\"goal\":10000000,\"limit\":%.0f,\"peer\":null}\n", (double)result.points / seconds, limit);
	printf("{\"name\":\"store, noisy f32 losses, bytes/point\",\"value\":%.3f,\"unit\":\"bytes\","
	       "\"goal\":4,\"limit\":null,\"peer\":null}\n", (double)st.st_size / (double)result.points);
	if (!getenv("KEEP")) pio_fs_remove_tree(dir, NULL);
	return 0;
}
