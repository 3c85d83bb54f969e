/* disk_record.h: what disk.c tells the record; for the two of them. Each call
 * is made with the disk's mutex held, after the system call succeeded, and does
 * nothing for files outside the recorded directory. */
#ifndef PIO_CRASH_DISK_RECORD_H
#define PIO_CRASH_DISK_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

void record_begin(const char *root);
void record_end(void);
size_t record_length(void);

void record_create(int dir, const char *path, bool is_dir);
void record_write(const struct stat *file, off_t at, const void *bytes, size_t n);
void record_truncate(int fd, off_t size);
void record_sync(const struct stat *node, bool all);
/* Who `from` is, asked before it is renamed. */
size_t record_rename_begin(const char *from);
void record_rename_end(size_t moved, const char *from, const char *to);
void record_link(const char *from, const char *to);
void record_remove(int dir, const char *path);

#endif
