/* reader_parts.h: what the two files that read bundles share; not for other rooms.
 *
 * bundle_read.c takes the tar apart, verify.c judges what is in it. */
#ifndef PIO_PACK_READER_PARTS_H
#define PIO_PACK_READER_PARTS_H

#include <stdbool.h>

#include <archive.h>

#include "base/str.h"
#include "pack/bag.h"
#include "pack/bundle.h"
#include "pack/source.h"
#include "pack/tar_gate.h"
#include "pack/weights.h"
#include "sys/hash.h"

enum pio_bag_tag { PIO_BAG_DECLARED, PIO_BAG_INFO, PIO_BAG_MANIFEST, PIO_BAG_TAGMANIFEST, PIO_BAG_TAGS };
extern const char *const pio_bag_tag_names[PIO_BAG_TAGS];

typedef struct pio_bag_seen {
	char *path;             /* relative to the bag */
	char sha256[PIO_SHA256_HEX + 1];
	bool is_dir, judged;
} pio_bag_seen;

typedef struct pio_bag_reader {
	const char *path;           /* as messages say it */
	pio_source *source;
	pio_tar_gate gate;
	struct archive *archive;
	pio_sha256 *inner;
	pio_err *err;               /* where the read callback reports */
	int read_rc;
	pio_bag_seen *seen;
	size_t count, capacity;
	int64_t paths_bytes, tag_bytes;
	bool in_payload;            /* the first file of it has come */
	int64_t announced_bytes, announced_files;   /* by bag-info.txt; -1: not known */
	pio_str tags[PIO_BAG_TAGS];
	bool have[PIO_BAG_TAGS];
	pio_bag_manifest manifests[PIO_BAG_TAGS];   /* of PIO_BAG_MANIFEST and _TAGMANIFEST */
	pio_weights weights;        /* of the file that passes, where it is one */
	bool is_weights;
	pio_bundle_result *result;
	const pio_bundle_visit *visit;      /* NULL: nobody */
	pio_bundle_report *report;
	void *context;
	pio_err first;              /* the first finding */
} pio_bag_reader;

static inline bool pio_bag_is_payload(const char *path)
{
	return path[0] == 'd' && path[1] == 'a' && path[2] == 't' && path[3] == 'a' && path[4] == '/';
}

/* Something is wrong; whether it ends the reading, pio_bag_stop says. */
void pio_bag_finding(pio_bag_reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* PIO_ECORRUPT with the first finding where somebody visits and there is one. */
int pio_bag_stop(const pio_bag_reader *reader, pio_err *err);
/* Is the file what this manifest says? */
void pio_bag_judge(pio_bag_reader *reader, pio_bag_seen *seen, enum pio_bag_tag which);
/* Before the first byte of the payload: what is announced; with a visit all that
 * describes it has to be there, and good. */
int pio_bag_judge_tags(pio_bag_reader *reader, pio_err *err);
/* What only the end can tell. */
int pio_bag_judge_whole(pio_bag_reader *reader, pio_err *err);

#endif
