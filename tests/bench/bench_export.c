/* bench_export.c: how fast a bundle is made and verified.
 *
 * Two files of 256 MB. The limit is what any exporter that promises as much
 * must do with these bytes: hash them once, write them, sync them, one after
 * the other in one thread; of verifying: read and hash them once. The peer is
 * GNU tar of the same files, and then one hash of the tar. First in memory,
 * then under $TMPDIR, where the disk decides. Prints one JSON object a line. `bench_export [MEGABYTES]` */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "pack/bundle.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define FILES 2
#define BLOCK_BYTES (1 << 20)
#define HINT_BYTES (16 << 20)

extern char **environ;

static char dir[300], source_a[320], source_b[320], limit_path[320], peer_path[320],
	bundle_path[320];

static void must(int rc, const pio_err *err)
{
	if (!rc)
		return;
	fprintf(stderr, "bench_export: %s\n", err->message);
	pio_fs_remove_tree(dir, NULL);
	exit(3);
}

static const char *source(int file)
{
	return file ? source_b : source_a;
}

static void make_sources(int64_t size_bytes)
{
	static uint64_t block[BLOCK_BYTES / 8];
	uint64_t state = 88172645463325252u;
	pio_err err = PIO_ERR_INIT;
	for (int file = 0; file < FILES; file++) {
		int fd;
		must(pio_fs_open(&fd, source(file), O_WRONLY | O_CREAT | O_EXCL, 0644, &err), &err);
		for (int64_t done = 0; done < size_bytes / FILES; done += BLOCK_BYTES) {
			for (size_t i = 0; i < BLOCK_BYTES / 8; i++) {
				state ^= state << 13;
				state ^= state >> 7;
				state ^= state << 17;
				block[i] = state;
			}
			must(pio_fs_write_all(fd, block, BLOCK_BYTES, source(file), &err), &err);
		}
		must(pio_fs_datasync(fd, source(file), &err), &err);
		must(pio_fs_close(&fd, source(file), &err), &err);
	}
}

/* Seconds to hash the sources once, and with `out` to write and sync them too. */
static double once(const char *out)
{
	static char block[BLOCK_BYTES];
	char hex[PIO_SHA256_HEX + 1];
	pio_err err = PIO_ERR_INIT;
	pio_sha256 *hash;
	int in, to = -1;
	int64_t begin = pio_clock_mono_ns(), done = 0;
	must(pio_sha256_new(&hash, &err), &err);
	if (out)
		must(pio_fs_open(&to, out, O_WRONLY | O_CREAT | O_TRUNC, 0644, &err), &err);
	for (int file = 0; file < FILES; file++) {
		ssize_t n = 1;
		must(pio_fs_open(&in, source(file), O_RDONLY, 0, &err), &err);
		while (n > 0) {
			must(pio_fs_read_some(&n, in, block, sizeof block, source(file), &err), &err);
			must(pio_sha256_update(hash, block, (size_t)n, &err), &err);
			if (out)
				must(pio_fs_write_all(to, block, (size_t)n, out, &err), &err);
			done += n;
			if (out && n && done % HINT_BYTES == 0) /* the disk begins early, as in an export */
				sync_file_range(to, done - HINT_BYTES, HINT_BYTES, SYNC_FILE_RANGE_WRITE);
		}
		must(pio_fs_close(&in, source(file), &err), &err);
	}
	must(pio_sha256_finish(hash, hex, &err), &err);
	if (out) {
		must(pio_fs_datasync(to, out, &err), &err);
		must(pio_fs_close(&to, out, &err), &err);
	}
	double seconds = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	pio_sha256_free(hash);
	if (out)
		must(pio_fs_unlink(out, &err), &err);
	return seconds;
}

/* Seconds of tar, sync and one hash; 0 where there is no tar. */
static double tar(void)
{
	const char *out = peer_path;
	char *argv[] = { "tar", "-cf", peer_path, "-C", dir, "a", "b", NULL }, hex[PIO_SHA256_HEX + 1];
	pio_err err = PIO_ERR_INIT;
	int64_t size_bytes, begin = pio_clock_mono_ns();
	pid_t pid;
	int status, fd;
	if (posix_spawnp(&pid, "tar", NULL, NULL, argv, environ) || waitpid(pid, &status, 0) != pid ||
	    status)
		return 0;
	must(pio_fs_open(&fd, out, O_RDONLY, 0, &err), &err);
	must(pio_fs_datasync(fd, out, &err), &err);
	must(pio_fs_close(&fd, out, &err), &err);
	must(pio_sha256_file(out, hex, &size_bytes, &err), &err);
	double seconds = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	must(pio_fs_unlink(out, &err), &err);
	return seconds;
}

static double export_once(const char *out, char sha256[FILES][PIO_SHA256_HEX + 1])
{
	pio_err err = PIO_ERR_INIT;
	pio_bundle *bundle;
	pio_bundle_result result;
	int64_t begin = pio_clock_mono_ns();
	must(pio_bundle_new(&bundle, out, "bench", 0, &err), &err);
	for (int file = 0; file < FILES; file++)
		must(pio_bundle_add_file(bundle, file ? "b" : "a", source(file), sha256[file], -1, &err), &err);
	must(pio_bundle_write(&result, bundle, NULL, NULL, &err), &err);
	double seconds = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	pio_bundle_free(bundle);
	return seconds;
}

static void print(const char *name, double megabytes, double seconds, double limit, double peer)
{
	printf("{\"name\":\"%s, MB/s\",\"value\":%.1f,\"unit\":\"MB/s\",\"goal\":%.1f,\"limit\":%.1f,"
	       "\"peer\":", name, megabytes / seconds, 0.9 * megabytes / limit, megabytes / limit);
	if (peer > 0)
		printf("%.1f}\n", megabytes / peer);
	else
		printf("null}\n");
}

/* Of the peer's time; less is better. */
static void print_ratio(const char *where, double seconds, double peer)
{
	if (peer > 0)
		printf("{\"name\":\"export to %s, of tar and one hash\",\"value\":%.3f,\"unit\":\"x\",\"goal\":1.10,"
		       "\"limit\":1,\"peer\":null}\n", where, seconds / peer);
}

/* All of it in a new directory under `base`; `where` is how the rows say it. */
static int measure(const char *base, const char *where, int64_t size_bytes)
{
	double megabytes = (double)size_bytes / 1e6;
	char sha256[FILES][PIO_SHA256_HEX + 1], name[80];
	pio_err err = PIO_ERR_INIT;
	pio_bundle_result result;
	int64_t size;
	snprintf(dir, sizeof dir, "%s/pioche-bench-XXXXXX", base);
	if (!mkdtemp(dir))
		return 3;
	snprintf(source_a, sizeof source_a, "%s/a", dir);
	snprintf(source_b, sizeof source_b, "%s/b", dir);
	snprintf(limit_path, sizeof limit_path, "%s/limit", dir);
	snprintf(peer_path, sizeof peer_path, "%s/peer.tar", dir);
	snprintf(bundle_path, sizeof bundle_path, "%s/bundle.tar", dir);
	make_sources(size_bytes);
	for (int file = 0; file < FILES; file++)
		must(pio_sha256_file(source(file), sha256[file], &size, &err), &err);
	once(limit_path); /* a virtual disk is slow where nothing was ever written */
	double limit = once(limit_path), exported = export_once(bundle_path, sha256), peer = tar();
	snprintf(name, sizeof name, "export to %s", where);
	print(name, megabytes, exported, limit, peer);
	print_ratio(where, exported, peer);
	int64_t begin = pio_clock_mono_ns();
	must(pio_bundle_verify(&result, bundle_path, NULL, NULL, &err), &err);
	double verified = (double)(pio_clock_mono_ns() - begin) * 1e-9;
	snprintf(name, sizeof name, "verify from %s", where);
	print(name, megabytes, verified, once(NULL), 0);
	must(pio_fs_remove_tree(dir, &err), &err);
	return 0;
}

int main(int argc, char **argv)
{
	int64_t megabytes = argc > 1 ? atoll(argv[1]) : getenv("SHORT") ? 64 : 512;
	int64_t size_bytes = megabytes * 1000000 / BLOCK_BYTES * BLOCK_BYTES;
	const char *tmp = getenv("TMPDIR");
	/* In memory, where no disk hides what the processor does. */
	int rc = pio_fs_free_bytes("/dev/shm") > 4 * size_bytes
	         ? measure("/dev/shm", "memory", size_bytes) : 0;
	return rc ? rc : measure(tmp && *tmp ? tmp : "/tmp", "disk", size_bytes);
}
