/* drainer.h: the thread that moves a ring into its journal in the process that
 * logs: every 10 ms, durable each second.
 *
 *   writing --the disk is full--> outage --there is room--> writing
 *      |                            |
 *      +---- any other failure -----+--> broken: the ring is shut, nothing waits
 *
 * In an outage training goes on. The ring keeps what it can hold, the rest
 * waits in memory, and what that cannot hold is given up and counted; once
 * there is room the journal gets it all, with events that say how long that
 * took and what is missing; at the end stderr says it, too. A journal whose
 * directory is gone is broken.
 *
 * One thread at a time calls these functions. */
#ifndef PIO_CLIENT_DRAINER_H
#define PIO_CLIENT_DRAINER_H

#include <pthread.h>
#include <stdatomic.h>

#include "client/ring.h"
#include "sys/journal.h"

typedef struct pio_drainer {
	pio_ring *ring;                /* borrowed, as dir */
	const char *dir;
	char *path;                    /* of the journal */
	pio_journal_header header;
	pio_journal_writer *journal;   /* NULL in an outage */
	pthread_t thread;
	bool running;
	atomic_bool stop;
	pio_err broken, outage;        /* code 0: neither */
	bool told;                     /* of an outage, once */
	int64_t outage_since_ns;       /* monotonic */
	int64_t outages_ns;            /* all that are over, together */
	pio_str backlog;
	int64_t beat_ns, retry_ns;
} pio_drainer;

#define PIO_DRAINER_INIT { .backlog = PIO_STR_INIT }

/* Open DIR/journal.0. */
int pio_drainer_open(pio_drainer *drainer, pio_ring *ring, const char *dir, const char *ulid,
                     pio_err *err);
/* Append a RUN or EXIT record. */
int pio_drainer_json(pio_drainer *drainer, enum pio_record_type type, const char *json, size_t len,
                     pio_err *err);
int pio_drainer_start(pio_drainer *drainer, pio_err *err);
/* End the thread; idempotent. */
void pio_drainer_stop(pio_drainer *drainer);
/* With the thread stopped: drain the rest, append the EXIT record `json`, make
 * it durable and shut the ring. The failure of an earlier drain counts. With a
 * disk that is still full the rest stays beside the ring, at `ring_path`. */
int pio_drainer_finish(pio_drainer *drainer, const char *json, const char *ring_path, pio_err *err);
/* In a forked child: the thread and the file are the parent's, let go of them. */
void pio_drainer_forget(pio_drainer *drainer);
/* Go on where a dead process stopped: its journal, its ring. */
int pio_drainer_resume(pio_drainer *drainer, pio_err *err);
/* Frees what it holds; the journal is closed without a last word. */
void pio_drainer_fini(pio_drainer *drainer);

#endif
