/* xid.h: what NVIDIA's driver reports of GPUs that err (an "Xid"), as it happens.
 *
 * NVML tells it to whoever waits there, which may be for ever; so a process of its
 * own waits (sys/proc.h). What happened before that listens is not told. All GPUs
 * that NVML sees, whoever computes on them. */
#ifndef PIO_GPU_XID_H
#define PIO_GPU_XID_H

#include "base/err.h"
#include "sys/proc.h"

typedef struct pio_xid {
	int gpu;                /* NVML's index; -1: of a GPU that it does not name */
	unsigned code;
} pio_xid;

/* Whom a code speaks against, as a rule; NVIDIA's catalog ("Analyzing Xid Errors")
 * has the exceptions. Sequels say that what failed before was cleaned up. */
typedef enum pio_xid_kind { PIO_XID_MACHINE, PIO_XID_PROGRAM, PIO_XID_SEQUEL } pio_xid_kind;

/* A pio_xid of each can be taken of the feed. Returns before anything is listened to;
 * without NVML nothing will come. */
int pio_xid_feed_open(pio_proc_feed *feed, pio_err *err);

/* "the GPU has fallen off the bus"; NULL for what is not known here. */
const char *pio_xid_words(unsigned code, pio_xid_kind *kind);

#endif
