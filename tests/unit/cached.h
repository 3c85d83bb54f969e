/* cached.h: what the kernel keeps of a file in memory. */
#ifndef PIO_TEST_CACHED_H
#define PIO_TEST_CACHED_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "test.h"

/* Pages of the file that are in memory. */
static inline int64_t pages_kept(const char *path, size_t size_bytes)
{
	int fd = -1;
	size_t pages = (size_bytes + 4095) / 4096;
	int64_t kept = 0;
	unsigned char *there = malloc(pages);
	check_ok(pio_fs_open(&fd, path, O_RDONLY, 0, &err));
	void *bytes = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(there && bytes != MAP_FAILED);
	assert_int_equal(mincore(bytes, size_bytes, there), 0);
	for (size_t i = 0; i < pages; i++)
		kept += there[i] & 1;
	munmap(bytes, size_bytes);
	free(there);
	check_ok(pio_fs_close(&fd, path, &err));
	return kept;
}

#endif
