/* door.h: a listening socket in a loop, and the connections that came in by it.
 *
 * What is said is client/frame.h. Whoever comes is a stranger until its first
 * frame convinces the owner of the door (pio_guest_admit). A stranger that says
 * something else, speaks another language, sends more than a first frame needs,
 * or says nothing for ten seconds is refused: closed and counted, and the first
 * refusal of all is told. Nor do strangers take a place that others need: where
 * they are too many, the oldest goes. At a unix socket processes of other users
 * are refused whatever they say.
 *
 * All calls from the thread of the loop. */
#ifndef PIO_LAUNCH_DOOR_H
#define PIO_LAUNCH_DOOR_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "base/str.h"
#include "client/frame.h"

typedef struct pio_door pio_door;
typedef struct pio_guest pio_guest;   /* one connection */

typedef struct pio_door_owner {
	void *context;
	/* One whole frame; of a stranger: admit or refuse it. */
	void (*hear)(void *context, pio_guest *guest, const pio_frame *frame);
	/* The connection of an admitted guest broke, or it sent what is no frame;
	 * it is closed on return. */
	void (*lost)(void *context, pio_guest *guest);
	/* Twenty times a second. */
	void (*tick)(void *context);
	/* Something worth a line in the run's history. */
	void (*tell)(void *context, const char *kind, const char *message);
} pio_door_owner;

/* Takes the listening socket, TCP or unix, and sets *listen_fd to -1; `what`
 * names the place in messages and outlives the door; `expected` guests may come
 * all at once. */
int pio_door_open(pio_door **door, uv_loop_t *loop, int *listen_fd, const char *what, int expected,
                  const pio_door_owner *owner, pio_err *err);
/* Connections that were refused. */
uint64_t pio_door_refused(const pio_door *door);
/* Close all connections; the owner hears nothing more. The memory goes when the
 * loop has run once more. Sets *door to NULL. */
void pio_door_close(pio_door **door);

/* It is no stranger any more; `index` is the owner's, at least 0. */
void pio_guest_admit(pio_guest *guest, int index);
/* -1: a stranger. */
int pio_guest_index(const pio_guest *guest);
/* Close and count. */
void pio_guest_refuse(pio_guest *guest, const char *why);
/* Send one or more whole frames; takes the string. Running out of memory
 * counts as a broken connection, which is heard of later. */
void pio_guest_send(pio_guest *guest, pio_str *frames);
/* Close; what the kernel has taken of what was sent still goes out. */
void pio_guest_close(pio_guest *guest);
/* Compare in a time that tells nothing about where the first difference is. */
bool pio_token_matches(const char *expected, const char *got);

#endif
