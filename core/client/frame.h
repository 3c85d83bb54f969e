/* frame.h: what ranks and the head agent say to each other.
 *
 * A frame is u32 length | u8 type | payload, little-endian, length counts type
 * and payload, at most 1 MiB (str: u32 length and bytes):
 *
 *   HELLO   rank -> head   str token, u32 rank, u32 world, str host, u32 port
 *                          (where the rank accepts its ring neighbour)
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

#define PIO_FRAME_BYTES_MAX (1u << 20)
#define PIO_FRAME_HEADER_BYTES 5

enum pio_frame_type {
	PIO_FRAME_HELLO = 1, PIO_FRAME_TABLE, PIO_FRAME_WAITING, PIO_FRAME_ABORT, PIO_FRAME_BYE,
};

#endif
