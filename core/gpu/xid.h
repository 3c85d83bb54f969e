/* xid.h: what NVIDIA's driver reports of GPUs that err (an "Xid"), as it happens.
 *
 * NVML tells it to whoever waits there, which may be for ever; so a process of its
 * own waits (pio_proc_apart_begin), and here is read what it has heard, without
 * waiting. What happened before that listens is not told. All GPUs that NVML sees,
 * whoever computes on them. One thread. */
#ifndef PIO_GPU_XID_H
#define PIO_GPU_XID_H

#include <sys/types.h>

#include "base/err.h"

typedef struct pio_xid {
	int gpu;                /* NVML's index; -1: of a GPU that it does not name */
	unsigned code;
} pio_xid;

/* Whom a code speaks against, as a rule; NVIDIA's catalog ("Analyzing Xid Errors")
 * has the exceptions. Sequels say that what failed before was cleaned up. */
typedef enum pio_xid_kind { PIO_XID_MACHINE, PIO_XID_PROGRAM, PIO_XID_SEQUEL } pio_xid_kind;

typedef struct pio_xid_watch pio_xid_watch;

/* Returns before anything is listened to. Without NVML nothing will come. */
int pio_xid_watch_open(pio_xid_watch **watch, pio_err *err);
/* Readable when there is something to take, or nobody listens any more. */
int pio_xid_watch_fd(const pio_xid_watch *watch);
/* 1: *xid is the next one; 0: there is none now; -1: nor will there be. */
int pio_xid_watch_take(pio_xid_watch *watch, pio_xid *xid);
/* The caller has reaped a child; another's changes nothing. */
void pio_xid_watch_reaped(pio_xid_watch *watch, pid_t pid);
/* Sets *watch to NULL. */
void pio_xid_watch_close(pio_xid_watch **watch);

/* "the GPU has fallen off the bus"; NULL for what is not known here. */
const char *pio_xid_words(unsigned code, pio_xid_kind *kind);

#endif
