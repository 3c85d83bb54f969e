/* frame.h: what the ranks, agents and the head of an attempt say to each other.
 *
 * A frame is u32 length | u8 type | payload, little-endian, length counts type
 * and payload, at most 1 MiB (str: u32 length and bytes):
 *
 * Between a rank and its agent, over a unix socket of their machine:
 *
 *   HELLO   rank -> agent  str token, u32 rank, u32 world, str host, u32 port
 *                          (where the rank accepts its ring neighbour), u32
 *                          patience in ms (may be absent). Also the first
 *                          frame from a rank to its neighbour.
 *   NEXT    agent -> rank  str host, u32 port of its ring neighbour: all are here
 *   WAITING agent -> rank  str text: who is missing; sent when the deadline of
 *                          HELLO passes
 *   MEET    both ways      a rank has come to a barrier; all have
 *   SHARE   both ways      str bytes of one rank, passed on to all, that one too
 *   ABORT   both ways      str reason, passed on to all
 *   BYE     rank -> agent  leaving in good order
 *
 * Between an agent and the head, one TCP connection a node:
 *
 *   JOIN    agent -> head  str token, u32 place among the agents that were
 *                          started, str host, u32 1 if it is a keeper that
 *                          speaks for its dead agent, str its address and u32
 *                          a port there, which are its node's for rank 0
 *   REFUSED head -> agent  str text: why, where it is useless to try again
 *   ORDERS  head -> agent  str JSON (launch/agent_spec.h), once all have joined
 *   EVENT   agent -> head  str JSON (launch/agent.h)
 *   ORDER   head -> agent  str word (launch/agent.h)
 *   PING    agent -> head  i64 the agent's monotonic clock
 *   PONG    head -> agent  i64 the same, i64 the head's monotonic clock
 *   HERE    agent -> head  u32 rank that waits for its neighbours, str host, u32
 *                          port where it accepts them
 *   LEFT    agent -> head  u32 rank that is gone, u32 1 if without a BYE
 *   ASK     agent -> head  who is missing? WAITING is the answer
 *   NEXT    head -> agent  str host, u32 port of the first rank of the next node
 *   MEET, SHARE, ABORT     once for all ranks of the node
 *
 * A wrong token, an oversized frame or a second HELLO of a rank that is
 * connected closes the connection, and changes nothing else. */
#ifndef PIO_CLIENT_FRAME_H
#define PIO_CLIENT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_FRAME_BYTES_MAX (1u << 20)
#define PIO_FRAME_HEADER_BYTES 5

enum pio_frame_type {
	PIO_FRAME_HELLO = 1, PIO_FRAME_NEXT, PIO_FRAME_WAITING, PIO_FRAME_ABORT, PIO_FRAME_BYE,
	PIO_FRAME_MEET, PIO_FRAME_SHARE,
	PIO_FRAME_JOIN = 32, PIO_FRAME_REFUSED, PIO_FRAME_ORDERS, PIO_FRAME_EVENT, PIO_FRAME_ORDER,
	PIO_FRAME_PING, PIO_FRAME_PONG, PIO_FRAME_HERE, PIO_FRAME_LEFT, PIO_FRAME_ASK,
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

typedef struct pio_frame_here {
	uint32_t rank;
	pio_frame_address address;
} pio_frame_here;

typedef struct pio_frame_join {
	char token[PIO_FRAME_TOKEN_BYTES];
	char host[PIO_FRAME_HOST_BYTES];
	uint32_t place;
	uint32_t is_keeper;            /* 0 or 1 */
	char address[PIO_FRAME_HOST_BYTES];
	uint32_t port;                 /* a keeper's: 0 */
} pio_frame_join;

/* "HOST:PORT"; `what` names it in the message. */
int pio_frame_address_parse(pio_frame_address *address, const char *text, const char *what, pio_err *err);

/* ---- writing: append a whole frame; check the string at the end --------------- */
void pio_frame_put_hello(pio_str *out, const pio_frame_hello *hello);
void pio_frame_put_next(pio_str *out, const pio_frame_address *address);
/* WAITING, ABORT, REFUSED or ORDER; text beyond 4096 bytes is cut. */
void pio_frame_put_text(pio_str *out, enum pio_frame_type type, const char *text);
/* BYE, MEET or ASK. */
void pio_frame_put_plain(pio_str *out, enum pio_frame_type type);
void pio_frame_put_here(pio_str *out, const pio_frame_here *here);
void pio_frame_put_left(pio_str *out, uint32_t rank, bool without_bye);
void pio_frame_put_join(pio_str *out, const pio_frame_join *join);
/* ORDERS, EVENT or SHARE. Whole or not at all: too long for a frame counts as failed. */
void pio_frame_put_bytes(pio_str *out, enum pio_frame_type type, const void *bytes, size_t size_bytes);
void pio_frame_put_ping(pio_str *out, int64_t agent_ns);
void pio_frame_put_pong(pio_str *out, int64_t agent_ns, int64_t head_ns);

/* ---- reading: every bound is checked -------------------------------------------- */
/* The first frame of a buffer: 1 and *used bytes of it, 0 if it is not whole
 * yet, -PIO_ECORRUPT for a length that no frame has. */
int pio_frame_next(pio_frame *frame, size_t *used, const void *bytes, size_t size_bytes,
                   pio_err *err);
/* -PIO_ECORRUPT unless the payload is exactly what its type says. */
int pio_frame_get_hello(pio_frame_hello *hello, const pio_frame *frame, pio_err *err);
int pio_frame_get_next(pio_frame_address *address, const pio_frame *frame, pio_err *err);
/* At most text_bytes - 1 bytes and a NUL. */
int pio_frame_get_text(char *text, size_t text_bytes, const pio_frame *frame, pio_err *err);
int pio_frame_get_here(pio_frame_here *here, const pio_frame *frame, pio_err *err);
int pio_frame_get_left(uint32_t *rank, bool *without_bye, const pio_frame *frame, pio_err *err);
int pio_frame_get_join(pio_frame_join *join, const pio_frame *frame, pio_err *err);
/* Borrowed from the frame, no NUL behind it. */
int pio_frame_get_bytes(const char **bytes, size_t *size_bytes, const pio_frame *frame, pio_err *err);
int pio_frame_get_ping(int64_t *agent_ns, const pio_frame *frame, pio_err *err);
int pio_frame_get_pong(int64_t *agent_ns, int64_t *head_ns, const pio_frame *frame, pio_err *err);

#endif
