/* bench_publish.c: what it costs to make a checkpoint of what many writers
 * reported, from 8 to 1,016 of them.
 *
 * Each writer staged one small file and its report lies in the journal; measured
 * is the fold that publishes, in a new store, where the directories of objects
 * are made as well. A writer should cost no more when there are more of them: the
 * goal of the larger ones is twice what one of 64 costs, and syncs are those of
 * directories, of which there are 256. Prints one JSON object a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "store/fold.h"
#include "store/run.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/journal.h"

#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define ROUNDS 3

static char dir[300];

static void must(int rc, const pio_err *err)
{
	if (!rc)
		return;
	fprintf(stderr, "bench_publish: %s\n", err->message);
	pio_fs_remove_tree(dir, NULL);
	exit(3);
}

/* One tensor of two integers that no other writer has. */
static void stage(pio_str *path, pio_str *bytes, const char *store, uint32_t rank)
{
	static const char header[] = "{\"w\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}      ";
	const uint64_t n = sizeof header - 1;
	const uint32_t data[2] = { rank, 1 };
	pio_err err = PIO_ERR_INIT;
	pio_str_printf(path, "%s/staging/" ULID "/rank-%u.model.safetensors", store, rank);
	pio_str_append(bytes, &n, sizeof n);
	pio_str_append(bytes, header, n);
	pio_str_append(bytes, data, sizeof data);
	must(pio_str_check(bytes, &err), &err);
	must(pio_fs_write(path->data, bytes->data, bytes->len, 0666, &err), &err);
}

static void put_report(pio_journal_writer *journal, const char *store, uint32_t rank, uint32_t writers)
{
	char sha256[PIO_SHA256_HEX + 1];
	pio_str path = PIO_STR_INIT, bytes = PIO_STR_INIT, payload = PIO_STR_INIT;
	pio_err err = PIO_ERR_INIT;
	stage(&path, &bytes, store, rank);
	must(pio_sha256_bytes(bytes.data, bytes.len, sha256, &err), &err);
	pio_record_put_u32(&payload, rank);
	pio_record_put_i64(&payload, 1);         /* when */
	pio_record_put_i64(&payload, 10);        /* step */
	pio_record_put_u32(&payload, writers);
	pio_record_put_i64(&payload, 1000);      /* stalled */
	pio_record_put_u32(&payload, 3);         /* syncs */
	pio_record_put_u32(&payload, 1);         /* files */
	pio_record_put_str(&payload, "model", strlen("model"));
	pio_record_put_str(&payload, path.data, path.len);
	pio_record_put_i64(&payload, (int64_t)bytes.len);
	pio_record_put_str(&payload, sha256, PIO_SHA256_HEX);
	must(pio_str_check(&payload, &err), &err);
	must(pio_journal_append(journal, PIO_RECORD_CHECKPOINT, payload.data, payload.len, NULL, 0, &err), &err);
	pio_str_fini(&payload);
	pio_str_fini(&bytes);
	pio_str_fini(&path);
}

static void write_journal(const char *store, int number, uint32_t writers)
{
	char path[600];
	pio_err err = PIO_ERR_INIT;
	pio_journal_writer *journal;
	pio_journal_header header = { .attempt = (uint32_t)number, .created_ns = 1 };
	pio_ulid_parse(&header.run, ULID);
	snprintf(path, sizeof path, "%s/staging/" ULID, store);
	must(pio_fs_mkdirs(path, 0777, &err), &err);
	snprintf(path, sizeof path, "%s/runs/" ULID "/%d", store, number);
	must(pio_fs_mkdirs(path, 0777, &err), &err);
	strcat(path, "/journal.0");
	must(pio_journal_open(&journal, path, &header, &err), &err);
	for (uint32_t rank = writers; rank-- > 0;) /* the reverse of the order in which they are kept */
		put_report(journal, store, rank, writers);
	must(pio_journal_close(&journal, &err), &err);
}

typedef struct cost {
	double us;                     /* for each writer */
	double syncs;
} cost;

static cost publish(uint32_t writers)
{
	char path[320];
	int64_t experiment, run, attempt;
	int number;
	pio_err err = PIO_ERR_INIT;
	pio_store *store;
	pio_fold_result folded;
	snprintf(dir, sizeof dir, "%s/pioche-bench-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(dir))
		exit(3);
	snprintf(path, sizeof path, "%s/.pioche", dir);
	must(pio_store_open(&store, path, PIO_STORE_CREATE, &err), &err);
	must(pio_store_experiment(&experiment, store, "bench", NULL, NULL, &err), &err);
	pio_store_run_spec spec = { .experiment_id = experiment, .ulid = ULID };
	must(pio_store_run_create(&run, store, &spec, &err), &err);
	must(pio_store_attempt_create(&attempt, &number, store, run, "local", 1, NULL, &err), &err);
	write_journal(path, number, writers);
	pio_fs_counts before = pio_fs_counts_get();
	int64_t begin = pio_clock_mono_ns();
	must(pio_store_fold_attempt(&folded, store, attempt, true, &err), &err);
	double ns = (double)(pio_clock_mono_ns() - begin);
	pio_fs_counts after = pio_fs_counts_get();
	if (folded.checkpoints != 1)
		must(pio_fail(&err, PIO_ECORRUPT, "%u writers made no checkpoint", writers), &err);
	pio_store_close(&store);
	pio_fs_remove_tree(dir, NULL);
	return (cost){ ns / 1e3 / writers, (double)(after.syncs + after.dir_syncs - before.syncs -
	                                            before.dir_syncs) };
}

int main(void)
{
	static const uint32_t sizes[] = { 8, 64, 256, 1016 };
	double of_64 = 0;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		cost best = publish(sizes[i]);
		for (int round = 1; round < ROUNDS; round++) {
			cost next = publish(sizes[i]);
			best = next.us < best.us ? next : best;
		}
		printf("{\"name\":\"publish, %u writers, us for each\",\"value\":%.1f,\"unit\":\"us\",\"goal\":",
		       sizes[i], best.us);
		if (of_64 > 0)
			printf("%.1f,\"limit\":null,\"peer\":null}\n", 2 * of_64);
		else
			printf("null,\"limit\":null,\"peer\":null}\n");
		of_64 = sizes[i] == 64 ? best.us : of_64;
		printf("{\"name\":\"publish, %u writers, syncs\",\"value\":%.0f,\"unit\":\"syncs\",\"goal\":null,"
		       "\"limit\":null,\"peer\":null}\n", sizes[i], best.syncs);
	}
	return 0;
}
