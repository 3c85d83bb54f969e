/* run.h: a run as the files of this room see it; private to core/client.
 *
 * Under an agent the ring is the agent's and everything else is borrowed from
 * the environment. Standalone, the process owns a ring, a journal and a thread
 * that drains the one into the other (standalone.h). */
#ifndef PIO_CLIENT_RUN_H
#define PIO_CLIENT_RUN_H

#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "base/ulid.h"
#include "client/pioche.h"
#include "client/resume.h"
#include "client/ring.h"
#include "client/rounds.h"
#include "client/saver.h"

struct pio_standalone;

struct pio_run {
	pio_info info;
	pio_ring *ring;
	char id[PIO_ULID_CHARS + 1];
	char *ring_path;
	char *dir;                      /* of the attempt */
	char *staging;                  /* for checkpoint shards */
	pio_resume *resume;             /* NULL: start afresh */
	pio_rounds rounds;              /* of saves */
	pio_saver saver;
	struct pio_standalone *alone;   /* NULL under an agent */
	pid_t pid;                      /* who opened it; a forked child only logs */
};

/* The calling thread's message, what pio_error() shows. */
pio_err *pio_last_err(void);

/* A key's or fact's name: given, and as pio_name_check wants it. */
int pio_run_check_key(const char *what, const char *key, pio_err *err);
/* Begin a payload: the run's rank and the wall time. */
void pio_run_payload(pio_str *payload, const pio_run *run);
/* Send it through the side ring and free it. */
int pio_run_send(pio_run *run, enum pio_record_type type, pio_str *payload, pio_err *err);

#endif
