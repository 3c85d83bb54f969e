/* bundle_parts.h: what the two files of the bundle share; not for other rooms.
 *
 * bundle.c gathers the payload in memory, bundle_write.c makes the tar of it. */
#ifndef PIO_PACK_BUNDLE_PARTS_H
#define PIO_PACK_BUNDLE_PARTS_H

#include <stdbool.h>

#include "base/str.h"
#include "pack/bundle.h"
#include "sys/hash.h"

typedef struct pio_bundle_item {
	char *path;             /* "data/..." */
	char *source;           /* the file to read; NULL: `bytes`, or the spool */
	char *bytes;
	int64_t spool_at;       /* where it begins in the spool; -1: it is not there */
	bool may_grow;          /* `source` may be longer by now: its first bytes count */
	int64_t size_bytes;
	char sha256[PIO_SHA256_HEX + 1];
} pio_bundle_item;

struct pio_bundle {
	char *out_path, *part_path, *name;
	int64_t mtime_s;
	bool zstd;
	pio_bundle_item *items;
	size_t count, capacity;
	pio_str info;           /* the caller's lines of bag-info.txt */
	int spool;              /* -1: none so far */
	char *spool_path;       /* for messages */
};

/* Sort by path, and refuse what cannot be in one directory tree: a path twice,
 * or a file that is also a directory. */
int pio_bundle_sort(pio_bundle *bundle, pio_err *err);

#endif
