/* bench_seal.c: what a rank's part of a checkpoint costs, in bytes' own terms.
 *
 * A save writes, hashes and syncs two files of half the megabytes each; the limit is to do
 * that with the same bytes and nothing else, one after the other in one thread. What an
 * asynchronous save keeps the program waiting for is compared with memcpy of the bytes to
 * memory that was used before. Values are ratios, of the best of each, taken in turns; first
 * in memory, then under $TMPDIR. And what remains until it can be resumed from, once it is
 * reported. Prints one JSON object a line. `bench_seal [MEGABYTES]` */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/env.h"
#include "client/pioche.h"
#include "store/fold.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define FILES 2
#define BLOCK_BYTES (1 << 20)
#define HINT_BYTES (16 << 20)
#define ROUNDS 8

static char dir[300];
static char *data, *copy;
static int64_t size_bytes;

static void must(int rc, const char *why)
{
	if (!rc)
		return;
	fprintf(stderr, "bench_seal: %s\n", why);
	pio_fs_remove_tree(dir, NULL);
	exit(3);
}

static double since(int64_t begin_ns)
{
	return (double)(pio_clock_mono_ns() - begin_ns) * 1e-9;
}

static void fill(void)
{
	uint64_t state = 88172645463325252u;
	for (int64_t i = 0; i < size_bytes; i += 8) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(data + i, &state, sizeof state);
	}
	memset(copy, 1, (size_t)size_bytes);
}

/* Write, hash and sync half of the bytes. */
static void limit_file(int file)
{
	char path[340], hex[PIO_SHA256_HEX + 1];
	const char *at = data + file * (size_bytes / FILES);
	pio_err err = PIO_ERR_INIT;
	pio_sha256 *hash;
	int fd;
	snprintf(path, sizeof path, "%s/limit-%d", dir, file);
	must(pio_sha256_new(&hash, &err), err.message);
	must(pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644, &err), err.message);
	for (int64_t done = 0; done < size_bytes / FILES;) {
		must(pio_fs_write_all(fd, at + done, BLOCK_BYTES, path, &err), err.message);
		must(pio_sha256_update(hash, at + done, BLOCK_BYTES, &err), err.message);
		done += BLOCK_BYTES;
		if (done % HINT_BYTES == 0)
			sync_file_range(fd, done - HINT_BYTES, HINT_BYTES, SYNC_FILE_RANGE_WRITE);
	}
	must(pio_sha256_finish(hash, hex, &err), err.message);
	must(pio_fs_datasync(fd, path, &err), err.message);
	must(pio_fs_close(&fd, path, &err), err.message);
	pio_sha256_free(hash);
}

static double limit(void)
{
	char path[340];
	int64_t begin = pio_clock_mono_ns();
	for (int file = 0; file < FILES; file++)
		limit_file(file);
	double seconds = since(begin);
	for (int file = 0; file < FILES; file++) {
		snprintf(path, sizeof path, "%s/limit-%d", dir, file);
		pio_fs_unlink(path, NULL);
	}
	return seconds;
}

/* Seconds inside the commit. */
static double save(pio_run *run, int64_t step, int64_t bytes, int flags)
{
	static const char *const roles[FILES] = { "model", "optim" };
	pio_checkpoint *c;
	int64_t half = bytes / FILES;
	must(pio_checkpoint_begin(&c, run, step, 1), pio_error());
	for (int i = 0; i < FILES; i++)
		must(pio_checkpoint_add(c, roles[i], "w", PIO_U8, 1, &half, NULL, data + i * half), pio_error());
	int64_t begin = pio_clock_mono_ns();
	must(pio_checkpoint_commit(&c, flags), pio_error());
	return since(begin);
}

/* What was saved makes room for the next. */
static void remove_step(pio_run *run, int64_t step)
{
	char path[700];
	snprintf(path, sizeof path, "%s/step-%lld", pio_info_get(run)->staging, (long long)step);
	pio_fs_remove_tree(path, NULL);
}

static double least(double a, double b)
{
	return a > 0 && a < b ? a : b;
}

static void print(const char *what, const char *where, double value, const char *unit, double goal)
{
	printf("{\"name\":\"%s %s\",\"value\":%.3f,\"unit\":\"%s\",\"goal\":", what, where, value, unit);
	if (goal > 0)
		printf("%.2f,\"limit\":1,\"peer\":null}\n", goal);
	else
		printf("null,\"limit\":null,\"peer\":null}\n");
}

static double publish(const char *store_path)
{
	pio_store *store;
	pio_err err = PIO_ERR_INIT;
	must(pio_store_open(&store, store_path, PIO_STORE_CREATE, &err), err.message);
	int64_t begin = pio_clock_mono_ns();
	must(pio_store_adopt(store, NULL, &err), err.message);
	double seconds = since(begin);
	pio_store_close(&store);
	return seconds;
}

static int measure(const char *base, const char *where)
{
	char path[340];
	pio_run *run;
	double bare = 0, sealed = 0, copied = 0, stalled = 0;
	snprintf(dir, sizeof dir, "%s/pioche-bench-XXXXXX", base);
	if (!mkdtemp(dir))
		return 3;
	snprintf(path, sizeof path, "%s/.pioche", dir);
	must(setenv(PIO_ENV_STORE, path, 1), "setenv");
	must(pio_open(&run, "bench"), pio_error());
	limit(); /* a virtual disk is slow where nothing was ever written */
	for (int64_t step = 0; step < ROUNDS; step++) {
		bare = least(bare, limit());
		sealed = least(sealed, save(run, 2 * step, size_bytes, 0));
		int64_t begin = pio_clock_mono_ns();
		memcpy(copy, data, (size_t)size_bytes);
		copied = least(copied, since(begin));
		double stall = save(run, 2 * step + 1, size_bytes, PIO_ASYNC);
		stalled = step ? least(stalled, stall) : 0; /* the first one makes the buffer */
		save(run, 1000 + step, FILES * 8, 0);       /* waits for the thread */
		if (step + 1 < ROUNDS)
			remove_step(run, 2 * step);
		remove_step(run, 2 * step + 1);
		remove_step(run, 1000 + step);
	}
	must(pio_close(&run, 0), pio_error());
	print("a save, of writing, hashing and syncing its bytes,", where, sealed / bare, "x", 1.1);
	print("stall of an asynchronous save, of memcpy of its bytes,", where, stalled / copied, "x", 1.1);
	print("publishing what was saved,", where, publish(path) * 1e3, "ms", 0);
	must(pio_fs_remove_tree(dir, NULL), "cannot remove what was measured");
	return 0;
}

int main(int argc, char **argv)
{
	int64_t megabytes = argc > 1 ? atoll(argv[1]) : getenv("SHORT") ? 64 : 256;
	const char *tmp = getenv("TMPDIR");
	size_bytes = megabytes * 1000000 / (FILES * BLOCK_BYTES) * (FILES * BLOCK_BYTES);
	data = malloc((size_t)size_bytes);
	copy = malloc((size_t)size_bytes);
	if (size_bytes <= 0 || !data || !copy)
		return 3;
	fill();
	int rc = pio_fs_free_bytes("/dev/shm") > 4 * size_bytes ? measure("/dev/shm", "memory") : 0;
	rc = rc ? rc : measure(tmp && *tmp ? tmp : "/tmp", "disk");
	free(copy);
	free(data);
	return rc;
}
