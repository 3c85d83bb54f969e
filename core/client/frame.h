/* frame.h: what ranks and the head agent say to each other.
 *
 * A frame is u32 length | u8 type | payload, little-endian, length counts type
 * and payload, at most 1 MiB (str: u32 length and bytes):
 *
 *   HELLO   rank -> head   str token, u32 rank, u32 world, str host, u32 port
 *                          (where the rank accepts its ring neighbour), u32
 *                          patience in ms (may be absent). Also the first
 *                          frame from a rank to its neighbour.
 *   TABLE   head -> rank   u32 world, world * { str host, u32 port }
 *   WAITING head -> rank   str text: who is missing; sent when the deadline of
 *                          HELLO passes
 *   ABORT   both ways      str reason; the head passes it on to all others
 *   BYE     rank -> head   leaving in good order
 *
 * A wrong token, an oversized frame or a second HELLO of a rank that is
 * connected closes the connection, and changes nothing else. */
#ifndef PIO_CLIENT_FRAME_H
#define PIO_CLIENT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_FRAME_BYTES_MAX (1u << 20)
#define PIO_FRAME_HEADER_BYTES 5

enum pio_frame_type {
	PIO_FRAME_HELLO = 1, PIO_FRAME_TABLE, PIO_FRAME_WAITING, PIO_FRAME_ABORT, PIO_FRAME_BYE,
};

#define PIO_FRAME_HOST_BYTES 256   /* a DNS name and its NUL */
#define PIO_FRAME_TOKEN_BYTES 65

typedef struct pio_frame {
	enum pio_frame_type type;      /* as received: may be none of the enum */
	const uint8_t *payload;        /* borrowed from the buffer it was read from */
	size_t size_bytes;
} pio_frame;

typedef struct pio_frame_address {
	char host[PIO_FRAME_HOST_BYTES];
	uint16_t port;
} pio_frame_address;

typedef struct pio_frame_hello {
	char token[PIO_FRAME_TOKEN_BYTES];
	uint32_t rank, world;
	pio_frame_address address;
	uint32_t patience_ms;          /* 0: not told */
} pio_frame_hello;

/* ---- writing: append a whole frame; check the string at the end --------------- */
void pio_frame_put_hello(pio_str *out, const pio_frame_hello *hello);
void pio_frame_put_table(pio_str *out, const pio_frame_address *table, uint32_t world);
/* WAITING or ABORT; text beyond 4096 bytes is cut. */
void pio_frame_put_text(pio_str *out, enum pio_frame_type type, const char *text);
void pio_frame_put_bye(pio_str *out);

/* ---- reading: every bound is checked -------------------------------------------- */
/* The first frame of a buffer: 1 and *used bytes of it, 0 if it is not whole
 * yet, -PIO_ECORRUPT for a length that no frame has. */
int pio_frame_next(pio_frame *frame, size_t *used, const void *bytes, size_t size_bytes,
                   pio_err *err);
/* -PIO_ECORRUPT unless the payload is exactly what its type says. */
int pio_frame_get_hello(pio_frame_hello *hello, const pio_frame *frame, pio_err *err);
/* `world` entries; the table of another world is an error. */
int pio_frame_get_table(pio_frame_address *table, uint32_t world, const pio_frame *frame,
                        pio_err *err);
/* At most text_bytes - 1 bytes and a NUL. */
int pio_frame_get_text(char *text, size_t text_bytes, const pio_frame *frame, pio_err *err);

#endif
