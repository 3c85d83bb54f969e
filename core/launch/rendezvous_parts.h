/* rendezvous_parts.h: what the files of the rendezvous share: rendezvous.c
 * (connections and the loop) and rendezvous_talk.c (what is said). For them
 * alone.
 *
 * A peer is a stranger until its HELLO is accepted; then it stands in by_rank
 * and waits; when all wait, all get the table. A closing peer is in no list and
 * is freed by its handle's close callback. */
#ifndef PIO_LAUNCH_RENDEZVOUS_PARTS_H
#define PIO_LAUNCH_RENDEZVOUS_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "client/frame.h"
#include "launch/rendezvous.h"

typedef struct pio_peer {
	uv_tcp_t tcp;                /* first: the handle is the peer */
	pio_rendezvous *rendezvous;
	struct pio_peer *next;
	uint8_t *in;                 /* bytes of frames that are not whole yet */
	size_t in_bytes, in_capacity;
	int rank;                    /* -1: a stranger */
	pio_frame_address address;   /* where its ring neighbour connects */
	bool has_table, is_closing;
	int64_t since_ns;            /* connected, or joined; monotonic */
	int64_t patience_ns;         /* when it is told who is missing; 0: it was */
} pio_peer;

struct pio_rendezvous {
	uv_tcp_t listener;
	uv_timer_t tick;
	uv_loop_t *loop;
	pio_peer *peers;
	pio_peer **by_rank;          /* world entries; NULL: not here */
	char *token, *abort_reason;
	int world, connected, strangers;
	uint16_t port;
	uint64_t refused;
	int lost_rank;               /* the first that left without BYE; -1: none */
	int64_t lost_ns;
	bool is_closing, has_told_refusal;
	int handles;                 /* of libuv that are not closed yet */
	pio_rendezvous_event *event;
	void *context;
};

/* ---- rendezvous.c ---- */
void pio_rendezvous_tell(pio_rendezvous *rendezvous, const char *kind, const char *message);
void pio_peer_close(pio_peer *peer);
/* Close and count; the first refusal of all is told. */
void pio_peer_refuse(pio_peer *peer, const char *why);
/* The connection of a rank broke without BYE. */
void pio_peer_lose(pio_peer *peer);
/* Send one or more whole frames; takes the string. Running out of memory
 * counts as a broken connection. */
void pio_peer_send(pio_peer *peer, pio_str *frames);

/* ---- rendezvous_talk.c ---- */
/* Act on the whole frames of the buffer and take them out of it. */
void pio_peer_hear(pio_peer *peer);
void pio_peer_tell_missing(pio_peer *peer);
void pio_rendezvous_abort_but(pio_rendezvous *rendezvous, const char *reason, const pio_peer *except);

#endif
