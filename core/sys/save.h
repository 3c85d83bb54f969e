/* save.h: what one writer says of its part of a checkpoint, the CHECKPOINT record
 * of a journal (journal.h).
 *
 * Writers of one checkpoint say the same step, the same number of writers and the
 * same round: the how many-th time it is that they save this step with so many
 * writers. So a step that is saved again is never made of parts of both. */
#ifndef PIO_SYS_SAVE_H
#define PIO_SYS_SAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_SAVE_FILES_MAX 10000
#define PIO_SAVE_ROLE_BYTES_MAX 64

/* How files were made durable. */
#define PIO_SAVE_FSYNC 'f'         /* each by an fsync of its own */
#define PIO_SAVE_SYNCFS 's'        /* all by one syncfs of their file system */

typedef struct pio_save_file {
	const char *role, *path, *sha256;   /* borrowed; read ones have no NUL behind */
	size_t role_bytes, path_bytes, sha256_bytes;
	uint32_t part;                      /* of those of its role: 0, 1, ... */
	uint64_t size_bytes;
} pio_save_file;

typedef struct pio_save {
	uint32_t rank, writers, round;
	int64_t time_ns, step;
	int64_t stall_ns;                   /* for which the program waited */
	int64_t total_ns, hash_ns;          /* until it was reported; processor time of SHA-256. -1: a
	                                     * writer of before said nothing of them, nor of the next two */
	bool asynchronous;
	char sync;                          /* 0: not known */
	uint32_t fsyncs, count;
	pio_save_file *files;               /* none: it failed, and `failure` says why */
	const char *failure;
	size_t failure_bytes;
} pio_save;

/* 1 to 64 letters, digits, '.', '_' or '-', of which no '.' is the first: a role is part
 * of the names of files. */
bool pio_save_role_valid(const char *role, size_t role_bytes);

void pio_save_put(pio_str *payload, const pio_save *save);
/* Strings are borrowed from the payload, save->files is the caller's to pio_free
 * (NULL on failure). PIO_EINVAL: it makes no sense. */
int pio_save_get(pio_save *save, const void *payload, size_t size_bytes, pio_err *err);

#endif
