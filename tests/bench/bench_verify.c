/* bench_verify.c: how fast `pioche verify` reads a store.
 *
 * Two objects of 256 MB. The peer is `openssl dgst -sha256` of the same files, the
 * fastest that a stranger has; both read what the kernel was told to forget, in
 * turns, and the fastest of three counts. In memory (where memory is the disk)
 * the processor decides, under $TMPDIR the disk. A first reading also makes the
 * digests of blocks. Prints one JSON object a line. `bench_verify [MEGABYTES]` */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/object.h"
#include "store/verify.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define OBJECTS 2
#define ROUNDS 3
#define BLOCK_BYTES (1 << 20)

extern char **environ;

static char dir[300];

static void must(int rc, const pio_err *err)
{
	if (!rc)
		return;
	fprintf(stderr, "bench_verify: %s\n", err->message);
	pio_fs_remove_tree(dir, NULL);
	exit(3);
}

static void stage(const char *path, uint64_t seed, int64_t size_bytes)
{
	static uint64_t block[BLOCK_BYTES / 8];
	uint64_t state = seed;
	pio_err err = PIO_ERR_INIT;
	int fd;
	must(pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_EXCL, 0644, &err), &err);
	for (int64_t done = 0; done < size_bytes; done += BLOCK_BYTES) {
		for (size_t i = 0; i < BLOCK_BYTES / 8; i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			block[i] = state;
		}
		must(pio_fs_write_all(fd, block, BLOCK_BYTES, path, &err), &err);
	}
	must(pio_fs_datasync(fd, path, &err), &err);
	must(pio_fs_close(&fd, path, &err), &err);
}

static void fill(pio_store *store, char sha256[OBJECTS][PIO_SHA256_HEX + 1], int64_t size_bytes)
{
	char path[320];
	int64_t found;
	pio_err err = PIO_ERR_INIT;
	snprintf(path, sizeof path, "%s/staged", dir);
	must(pio_store_begin(store, &err), &err);
	for (int i = 0; i < OBJECTS; i++) {
		stage(path, 88172645463325252u + (uint64_t)i, size_bytes / OBJECTS);
		must(pio_sha256_file(path, sha256[i], &found, &err), &err);
		must(pio_store_object_put(store, path, sha256[i], found, &err), &err);
	}
	must(pio_store_commit(store, &err), &err);
}

static void forget(const char *path)
{
	pio_err err = PIO_ERR_INIT;
	int fd;
	must(pio_fs_open(&fd, path, O_RDONLY, 0, &err), &err);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	must(pio_fs_close(&fd, path, &err), &err);
}

/* Seconds; 0 where there is no openssl. */
static double openssl(pio_store *store, char sha256[OBJECTS][PIO_SHA256_HEX + 1])
{
	pio_str paths[OBJECTS];
	char *argv[OBJECTS + 4] = { "openssl", "dgst", "-sha256" };
	pio_err err = PIO_ERR_INIT;
	pid_t pid;
	int status;
	posix_spawn_file_actions_t quiet;
	for (int i = 0; i < OBJECTS; i++) {
		paths[i] = (pio_str)PIO_STR_INIT;
		must(pio_store_object_path(&paths[i], store, sha256[i], &err), &err);
		argv[3 + i] = paths[i].data;
		forget(paths[i].data);
	}
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	int64_t begin = pio_clock_mono_ns();
	bool ran = posix_spawnp(&pid, "openssl", &quiet, NULL, argv, environ) == 0 &&
	           waitpid(pid, &status, 0) == pid && status == 0;
	double seconds = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	posix_spawn_file_actions_destroy(&quiet);
	for (int i = 0; i < OBJECTS; i++)
		pio_str_fini(&paths[i]);
	return ran ? seconds : 0;
}

static double verify(pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	pio_verify_result result;
	int64_t begin = pio_clock_mono_ns();
	must(pio_store_verify(&result, store, NULL, NULL, NULL, &err), &err);
	if (result.bad || result.missing || result.objects != OBJECTS)
		must(pio_fail(&err, PIO_ECORRUPT, "verify says that objects are bad"), &err);
	return (double)(pio_clock_mono_ns() - begin) * 1e-9;
}

static void print(const char *what, const char *where, double megabytes, double seconds, double peer)
{
	printf("{\"name\":\"%s, %s, MB/s\",\"value\":%.1f,\"unit\":\"MB/s\",\"goal\":", what, where,
	       megabytes / seconds);
	if (peer > 0)
		printf("%.1f,\"limit\":null,\"peer\":%.1f}\n", megabytes / peer / 1.1, megabytes / peer);
	else
		printf("null,\"limit\":null,\"peer\":null}\n");
}

static int measure(const char *base, const char *where, int64_t size_bytes)
{
	char sha256[OBJECTS][PIO_SHA256_HEX + 1], path[320];
	pio_err err = PIO_ERR_INIT;
	pio_store *store;
	double first = 0, again = 0, peer = 0, megabytes = (double)size_bytes / 1e6;
	snprintf(dir, sizeof dir, "%s/pioche-bench-XXXXXX", base);
	if (!mkdtemp(dir))
		return 3;
	snprintf(path, sizeof path, "%s/.pioche", dir);
	must(pio_store_open(&store, path, PIO_STORE_CREATE, &err), &err);
	fill(store, sha256, size_bytes);
	for (int round = 0; round < ROUNDS; round++) {
		double with_blocks, seconds, theirs = openssl(store, sha256);
		sqlite3_exec(pio_store_db(store), "DELETE FROM object_block", NULL, NULL, NULL);
		with_blocks = verify(store);
		seconds = verify(store);
		first = round && first < with_blocks ? first : with_blocks;
		again = round && again < seconds ? again : seconds;
		peer = round && peer < theirs ? peer : theirs;
	}
	print("verify a store for the first time", where, megabytes, first, peer);
	print("verify a store again", where, megabytes, again, peer);
	pio_store_close(&store);
	must(pio_fs_remove_tree(dir, &err), &err);
	return 0;
}

int main(int argc, char **argv)
{
	int64_t megabytes = argc > 1 ? atoll(argv[1]) : getenv("SHORT") ? 64 : 512;
	int64_t size_bytes = megabytes * 1000000 / BLOCK_BYTES * BLOCK_BYTES;
	const char *tmp = getenv("TMPDIR");
	int rc = pio_fs_free_bytes("/dev/shm") > 4 * size_bytes
	         ? measure("/dev/shm", "memory", size_bytes) : 0;
	return rc ? rc : measure(tmp && *tmp ? tmp : "/tmp", "disk", size_bytes);
}
