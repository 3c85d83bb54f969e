/* encoded.h: a file of numbers, kept smaller: what differs from an anchor, byte by
 * byte of its elements together, compressed.
 *
 * Each MiB of the file is a zstd frame of its own, level 1, with zstd's checksum of
 * the content: any of them is read alone, and one that is damaged is told by its
 * place. Before it is compressed a MiB is XORed with that of the anchor, where there
 * is one (a file as long, saved by the same program earlier: most high bytes are
 * equal), and its bytes are shuffled, block by block: first all first bytes of the
 * elements, then all second ones.
 *
 *   head    128 bytes, a skippable frame (RFC 8878, 3.1.2), little-endian:
 *           u32 0x184d2a50 | u32 120 | "piochenc" | u32 version 1 | u32 frame bytes |
 *           u64 bytes of the file | u32 element bytes | u32 block bytes |
 *           32 bytes SHA-256 of the file | 32 bytes SHA-256 of the anchor |
 *           u32 1: there is an anchor | 12 bytes 0 | u32 CRC-32C of what is before
 *   frames  one behind the other
 *   table   the seek table of zstd's seekable format (contrib/seekable_format in its
 *           source), the head its first entry: sizes of the frames
 *
 * So `zstd -t` checks such a file. What it means is for stored.h to put together.
 * One thread a handle. */
#ifndef PIO_SYS_ENCODED_H
#define PIO_SYS_ENCODED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/hash.h"

#define PIO_ENCODED_FRAME_BYTES ((int64_t)1 << 20)
#define PIO_ENCODED_ELEMENT_BYTES_MAX 16

typedef struct pio_encoded_head {
	int64_t bytes;                   /* of the file as it was */
	int element_bytes;
	char sha256[PIO_SHA256_HEX + 1];
	char anchor[PIO_SHA256_HEX + 1]; /* "": there is none */
} pio_encoded_head;

typedef struct pio_encoded pio_encoded;

/* Of a file of so many bytes, and of its n-th one, from 0. */
int64_t pio_encoded_frames(int64_t bytes);
size_t pio_encoded_frame_bytes(int64_t bytes, int64_t n);

/* Open and check what tells where the frames are. PIO_ECORRUPT names what is wrong. */
int pio_encoded_open(pio_encoded **encoded, const char *path, pio_err *err);
const pio_encoded_head *pio_encoded_head_get(const pio_encoded *encoded);
/* The n-th MiB; `anchor` is that of the anchor where there is one. PIO_ECORRUPT: the
 * frame is damaged. */
int pio_encoded_read(pio_encoded *encoded, int64_t n, void *bytes, const void *anchor, pio_err *err);
/* Let go of what the kernel keeps of the file in memory. */
void pio_encoded_forget(pio_encoded *encoded);
void pio_encoded_close(pio_encoded **encoded);

/* Gives the n-th MiB of a file in `frame`, and of its anchor in `anchor`, which is NULL
 * where there is none. */
typedef int pio_encoded_source(void *context, void *frame, void *anchor, int64_t n, size_t size_bytes,
                               pio_err *err);

/* Write all of it to an empty file. */
int pio_encoded_write(int64_t *stored_bytes, int fd, const char *path, const pio_encoded_head *head,
                      pio_encoded_source *source, void *context, pio_err *err);
/* How many times smaller would it be? By 16 MiB of it, here and there, or a quarter. */
int pio_encoded_sample(double *ratio, const pio_encoded_head *head, pio_encoded_source *source,
                       void *context, pio_err *err);

#endif
