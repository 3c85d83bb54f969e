/* bag.h: the text files of a BagIt bag, and which names may be in one.
 *
 * Writer and verifier share this, so that they agree. Manifests are strict:
 * lower-case digits, two spaces, one path a line, which `sha256sum -c` and
 * `shasum -c` both read; what BagIt would allow beyond it is refused. */
#ifndef PIO_PACK_BAG_H
#define PIO_PACK_BAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_BAG_DECLARATION "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
#define PIO_BAG_PATH_BYTES_MAX 1000

typedef struct pio_bag_line {
	char *path;          /* relative to the bag */
	char sha256[65];
} pio_bag_line;

typedef struct pio_bag_manifest {
	pio_bag_line *lines; /* sorted by path */
	size_t count;
} pio_bag_manifest;

bool pio_bag_name_valid(const char *name);
/* NULL if the path may be in a bag, else what is wrong with it. Static storage. */
const char *pio_bag_path_problem(const char *path);

void pio_bag_put_line(pio_str *manifest, const char *sha256, const char *path);
/* PIO_ECORRUPT names `what` and the line. *manifest needs pio_bag_manifest_fini
 * also on failure. */
int pio_bag_manifest_parse(pio_bag_manifest *manifest, const char *text, size_t size_bytes,
                           const char *what, pio_err *err);
const pio_bag_line *pio_bag_manifest_find(const pio_bag_manifest *manifest, const char *path);
void pio_bag_manifest_fini(pio_bag_manifest *manifest);

/* The value of "Payload-Oxum: BYTES.FILES" in bag-info.txt. */
bool pio_bag_oxum(const char *bag_info, int64_t *payload_bytes, int64_t *files);

#endif
