/* assembly.h: all ranks of an attempt, as their agents tell of them.
 *
 * Where the head is, or on one machine in the agent: the same code. It knows
 * every rank; once all wait for their neighbours each node is told where the
 * first rank of the next one listens, which with what it knows of its own is
 * all its ranks need. A node gets a few bytes, whatever the world's size. Who is
 * missing is named on request; barriers, small blobs and aborts are passed on,
 * one frame a node. A rank that is gone without a BYE aborts the others, unless
 * somebody names a better reason within half a second.
 *
 * No I/O, no loop: frames come by pio_assembly_hear and go by `send`. */
#ifndef PIO_LAUNCH_ASSEMBLY_H
#define PIO_LAUNCH_ASSEMBLY_H

#include "base/err.h"
#include "base/str.h"
#include "client/frame.h"

typedef struct pio_assembly pio_assembly;

typedef struct pio_assembly_owner {
	void *context;
	/* To one node; takes the frames. May call pio_assembly_hear again. */
	void (*send)(void *context, int node, pio_str *frames);
	/* Append the node's name; NULL: nodes are not named, there is one. */
	void (*put_host)(void *context, int node, pio_str *text);
	/* Something worth a line in the run's history. */
	void (*tell)(void *context, const char *kind, const char *message);
} pio_assembly_owner;

int pio_assembly_new(pio_assembly **assembly, int nodes, int ranks_per_node,
                     const pio_assembly_owner *owner, pio_err *err);
/* HERE, LEFT, ASK, MEET, SHARE or ABORT of a node; false: none of them. */
bool pio_assembly_hear(pio_assembly *assembly, int node, const pio_frame *frame);
/* Tell all ranks to give up. The first reason stays. */
void pio_assembly_abort(pio_assembly *assembly, const char *reason);
/* Time has passed; often enough is twenty times a second. */
void pio_assembly_tick(pio_assembly *assembly);
void pio_assembly_free(pio_assembly *assembly);

#endif
