/* room.h: the system's own statvfs, but for the room that a test wants. */
#ifndef PIO_TEST_ROOM_H
#define PIO_TEST_ROOM_H

#include <sys/statvfs.h>
#include <sys/vfs.h>

/* So many blocks of so many bytes are free; 0 bytes: what is true. */
static unsigned long long free_blocks;
static unsigned long block_bytes;

int statvfs(const char *path, struct statvfs *st)
{
	struct statfs fs;
	if (statfs(path, &fs) != 0)
		return -1;
	*st = (struct statvfs){ .f_bsize = (unsigned long)fs.f_bsize,
		                .f_frsize = block_bytes ? block_bytes : (unsigned long)fs.f_frsize,
		                .f_bavail = block_bytes ? free_blocks : fs.f_bavail };
	return 0;
}

#endif
