/* tar_gate.h: which tars of bundles libarchive gets to see.
 *
 * libarchive reads whatever anybody called a tar, and says nothing of what it
 * passed over: volume labels, global headers, NULs in names, two headers for one
 * entry, bytes in the padding. Tools differ in what they make of these. The gate
 * follows the blocks of 512 bytes beside it, and lets through only what all of them
 * read alike: files and directories in ustar headers, with names and sizes beyond
 * those in pax headers or as GNU tar has them; and at the end nothing but zeros.
 *
 * No I/O, and no memory but for a header beyond ustar's. */
#ifndef PIO_PACK_TAR_GATE_H
#define PIO_PACK_TAR_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_TAR_BLOCK_BYTES 512

enum pio_tar_state { PIO_TAR_HEADER, PIO_TAR_BODY, PIO_TAR_PADDING, PIO_TAR_EXTENDED, PIO_TAR_END };

typedef struct pio_tar_gate {
	const char *name;               /* of the archive, for messages; borrowed */
	enum pio_tar_state state;
	uint8_t header[PIO_TAR_BLOCK_BYTES];
	size_t have;                    /* bytes of the header */
	int64_t offset;                 /* bytes seen */
	int64_t left;                   /* of the body, and then of its padding */
	int64_t padding;
	int64_t size_bytes;             /* of the next entry, by a pax header; -1: none */
	int64_t zeros;                  /* bytes of the end */
	char extended;                  /* type of the header beyond ustar that is being read, or 0 */
	bool has_pax, has_long_name;    /* before the next entry */
	pio_str text;                   /* of that header */
} pio_tar_gate;

void pio_tar_gate_init(pio_tar_gate *gate, const char *name);
/* The next bytes of the archive. PIO_ECORRUPT says what is wrong and where. */
int pio_tar_gate_pass(pio_tar_gate *gate, const void *bytes, size_t size_bytes, pio_err *err);
/* There are no more. */
int pio_tar_gate_end(const pio_tar_gate *gate, pio_err *err);
void pio_tar_gate_fini(pio_tar_gate *gate);

#endif
