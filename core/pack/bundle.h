/* bundle.h: an archive that needs no pioche to be opened or verified.
 *
 * A plain tar (pax where a header must, ustar where it can) of one directory
 * NAME/ in BagIt 1.0 layout (RFC 8493): bagit.txt, bag-info.txt,
 * manifest-sha256.txt, tagmanifest-sha256.txt and VERIFY.txt first, then
 * data/ sorted by bytes. The same files, name and time give the same bytes:
 * owner 0 without names, modes 0444 and 0755, whole seconds, no extended
 * attributes, fixed block size. A stranger verifies it with
 *   tar xf NAME.tar && cd NAME && sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt
 *
 * Which files go in is the caller's policy. Paths inside are ASCII without
 * control characters, '%' and '\': what every tool prints and parses alike. */
#ifndef PIO_PACK_BUNDLE_H
#define PIO_PACK_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_BUNDLE_HEX 64
#define PIO_BUNDLE_NAME_BYTES_MAX 100

typedef struct pio_bundle pio_bundle;

/* Begin; nothing is written yet. `name` is the directory inside: letters,
 * digits and "._+=@-", not starting with '.' or '-'. `mtime_s` (>= 0) is the
 * time of every entry. The caller frees *bundle with pio_bundle_free. */
int pio_bundle_new(pio_bundle **bundle, const char *out_path, const char *name, int64_t mtime_s,
                   pio_err *err);
/* The tar will be one zstd stream, which is the same on every machine, too. It has no
 * checksum of its own: keep the digest beside it. */
void pio_bundle_set_zstd(pio_bundle *bundle);
/* A line "Label: value" of bag-info.txt beside those that pioche writes. */
int pio_bundle_add_info(pio_bundle *bundle, const char *label, const char *value, pio_err *err);
/* data/PATH from memory (copied). PIO_EEXIST if the path was added before,
 * PIO_EINVAL if it is no relative path of plain names. */
int pio_bundle_add_bytes(pio_bundle *bundle, const char *path, const void *bytes,
                         size_t size_bytes, pio_err *err);
/* data/PATH from a file. With a known `sha256` the file is read once, while it
 * is copied; NULL: it is read here, too, and what is appended to it afterwards is
 * not in the bundle. size_bytes -1: as it is now. */
int pio_bundle_add_file(pio_bundle *bundle, const char *path, const char *source_path,
                        const char *sha256, int64_t size_bytes, pio_err *err);

/* What is made for the bundle alone goes through its spool, a file without a name in
 * `dir` that ends with the process: append to *fd, which is borrowed, then say which
 * bytes of it are data/PATH; size_bytes -1: from `at` to its end, given by
 * pio_bundle_spool as *at. The same bytes may be several files. */
int pio_bundle_spool(int *fd, int64_t *at, pio_bundle *bundle, const char *dir, pio_err *err);
int pio_bundle_add_spooled(pio_bundle *bundle, const char *path, int64_t at, int64_t size_bytes,
                           pio_err *err);

/* Digest and size of what the newest of the calls above added, of which there is
 * one. Borrowed until the next one. */
const char *pio_bundle_newest(const pio_bundle *bundle, int64_t *size_bytes);

typedef struct pio_bundle_result {
	char name[PIO_BUNDLE_NAME_BYTES_MAX + 1]; /* the directory inside */
	char sha256[PIO_BUNDLE_HEX + 1];          /* of the whole tar */
	int64_t size_bytes;                       /* of the whole tar */
	int64_t files, payload_bytes;             /* in data/ */
	int64_t bad;                              /* findings; only of verify */
	int64_t left_bytes;                       /* of OUT.part as it was found; only of write, */
	int64_t resumed_bytes;                    /* which began with so many of those wanted */
} pio_bundle_result;

/* Called now and then while bytes pass; `finding` is NULL then, and in verify
 * a message for each thing that is wrong. bytes_total is 0 when unknown. */
typedef void pio_bundle_report(void *context, const char *finding, int64_t bytes_done,
                               int64_t bytes_total);

/* Write OUT.part, sync it, rename it to OUT (replacing what is there), sync the
 * directory. Killed, it leaves OUT.part, of which the next one keeps what it would
 * write itself, byte by byte; failed, it leaves nothing of its own. PIO_ECORRUPT
 * names a file whose bytes or size are not those that were announced; PIO_EBUSY:
 * another process writes the same bundle. Once per bundle. */
int pio_bundle_write(pio_bundle_result *result, pio_bundle *bundle, pio_bundle_report *report,
                     void *context, pio_err *err);
/* The same to an open file, pipe or socket, from where it stands; nothing is synced. */
int pio_bundle_stream(pio_bundle_result *result, pio_bundle *bundle, int fd, pio_bundle_report *report,
                      void *context, pio_err *err);
void pio_bundle_free(pio_bundle *bundle);

/* Read a bundle once, from its first byte to its last, with distrust: what the
 * tar is made of (tar_gate.h), layout, every digest, Payload-Oxum, the headers of
 * safetensors files, no absolute paths, "..", links, devices, duplicates, names
 * that clash, unlisted or missing files. PIO_ECORRUPT with the first finding if
 * there is any; the others went to `report` (which may be NULL). `path` "-" is the
 * standard input; the tar may be one zstd stream. */
int pio_bundle_verify(pio_bundle_result *result, const char *path, pio_bundle_report *report,
                      void *context, pio_err *err);

/* Who wants the payload while it is read. 0 or -PIO_E..., which ends the reading. */
typedef struct pio_bundle_visit {
	void *context;
	/* What describes it is read and good; so much will come at most. Once. */
	int (*begin)(void *context, int64_t payload_bytes, int64_t files, pio_err *err);
	/* A file begins, `path` being below data/: it has this size, and has to have
	 * this digest. Its bytes come, and then its end, where it had. */
	int (*file)(void *context, const char *path, int64_t size_bytes, const char *sha256, pio_err *err);
	int (*bytes)(void *context, const void *bytes, size_t size_bytes, pio_err *err);
	int (*end)(void *context, pio_err *err);
} pio_bundle_visit;

/* The same, visited. The first finding ends it, and what describes the payload
 * has to come before it. Nothing that was visited counts before this returns 0. */
int pio_bundle_read(pio_bundle_result *result, const char *path, const pio_bundle_visit *visit,
                    pio_bundle_report *report, void *context, pio_err *err);

#endif
