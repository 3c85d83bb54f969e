/* Any bytes as the points of a bundle: refused with a message, or blocks that are in
 * order, full but for the last of a series, and of which no point is made up: they are
 * the same when they are read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/points_file.h"
#include "sys/fs.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

typedef struct seen {
	uint64_t hash;
	int64_t blocks, points;
	int rc;
} seen;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void mix(seen *s, const void *bytes, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes; i++)
		s->hash = (s->hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
}

static void check_block(const pio_points_block *block, const char *before, int32_t rank, int32_t attempt,
                        size_t count)
{
	CHECK(block->count >= 1 && block->count <= PIO_CHUNK_POINTS_MAX);
	CHECK(strlen(block->key) <= PIO_POINTS_FILE_KEY_BYTES_MAX && block->rank >= 0);
	int order = strcmp(before, block->key);
	CHECK(order <= 0);
	if (order == 0 && rank == block->rank && attempt == block->attempt)
		CHECK(count == PIO_CHUNK_POINTS_MAX);
	else if (order == 0)
		CHECK(rank < block->rank || (rank == block->rank && attempt < block->attempt));
	for (size_t i = 1; i < block->count; i++)
		CHECK(block->points[i - 1].step <= block->points[i].step);
}

static seen read_all(const char *path)
{
	pio_err err = PIO_ERR_INIT;
	pio_points_file *file;
	pio_points_block block;
	char before[PIO_POINTS_FILE_KEY_BYTES_MAX + 1] = "";
	int32_t rank = -1, attempt = -1;
	size_t count = 0;
	seen s = { .rc = pio_points_file_open(&file, path, &err) };
	while (!s.rc && (s.rc = pio_points_file_next(&block, file, &err)) == 1) {
		check_block(&block, before, rank, attempt, count);
		snprintf(before, sizeof before, "%s", block.key);
		rank = block.rank;
		attempt = block.attempt;
		count = block.count;
		s.blocks++;
		s.points += (int64_t)count;
		mix(&s, block.key, strlen(block.key));
		mix(&s, block.points, count * sizeof *block.points);
		s.rc = 0;
	}
	CHECK(s.rc == 0 || ((s.rc == -PIO_ECORRUPT || s.rc == -PIO_EVERSION) && err.message[0]));
	pio_points_file_close(file);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	char path[64];
	int64_t live = pio_mem_live();
	int fd = memfd_create("points", MFD_CLOEXEC);
	CHECK(fd >= 0 && pio_fs_write_all(fd, data, size_bytes, "memfd", NULL) == 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	seen first = read_all(path), second = read_all(path);
	CHECK(memcmp(&first.hash, &second.hash, sizeof first.hash) == 0 && first.blocks == second.blocks &&
	      first.points == second.points && first.rc == second.rc);
	close(fd);
	CHECK(pio_mem_live() == live);
	return 0;
}
