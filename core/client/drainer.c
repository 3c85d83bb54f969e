#include "client/drainer.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/drain.h"
#include "sys/fs.h"

#define DRAIN_MS 10
#define BEAT_NS 1000000000LL
#define ROOM_BYTES (1 << 20)   /* free again: enough to go on with */

/* ---- the journal ----------------------------------------------------------------- */

int pio_drainer_open(pio_drainer *d, pio_ring *ring, const char *dir, const char *ulid, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	d->ring = ring;
	d->dir = dir;
	d->header = (pio_journal_header){ .attempt = 1, .created_ns = pio_clock_wall_ns() };
	if (!pio_ulid_parse(&d->header.run, ulid))
		return pio_fail(err, PIO_EINVAL, "\"%s\" is no ULID: 26 characters expected", ulid);
	pio_str_printf(&path, "%s/journal.0", dir);
	int rc = pio_str_check(&path, err);
	d->path = pio_str_take(&path);
	return rc ? rc : pio_journal_open(&d->journal, d->path, &d->header, err);
}

int pio_drainer_json(pio_drainer *d, enum pio_record_type type, const char *json, size_t len,
                     pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_i64(&payload, pio_clock_wall_ns());
	pio_record_put_str(&payload, json, len);
	int rc = pio_str_check(&payload, err);
	if (!rc)
		rc = pio_journal_append(d->journal, type, payload.data, payload.len, NULL, 0, err);
	pio_str_fini(&payload);
	return rc;
}

/* A file that was deleted takes every byte and keeps none. The lock stands for
 * the directory: nobody makes or moves it while a run is going. */
static int check_there(const pio_drainer *d, pio_err *err)
{
	pio_str lock = PIO_STR_INIT;
	pio_str_printf(&lock, "%s/agent.lock", d->dir);
	int rc = pio_str_check(&lock, err);
	if (!rc && pio_fs_type(lock.data) != PIO_FS_FILE)
		rc = pio_fail(err, PIO_EIO, "%s was deleted while its run was going", d->dir);
	pio_str_fini(&lock);
	return rc;
}

/* Alive and durable. */
static int beat(pio_drainer *d, pio_err *err)
{
	int64_t now_ns = pio_clock_wall_ns();
	int rc = check_there(d, err);
	if (!rc)
		rc = pio_journal_append(d->journal, PIO_RECORD_HEARTBEAT, &now_ns, sizeof now_ns, NULL, 0, err);
	return rc ? rc : pio_journal_flush(d->journal, 1, err);
}

static int drain_once(pio_drainer *d, pio_err *err)
{
	uint64_t moved;
	int rc = pio_ring_drain(d->ring, d->journal, false, &moved, err);
	if (rc || pio_clock_mono_ns() - d->beat_ns < BEAT_NS)
		return rc;
	d->beat_ns = pio_clock_mono_ns();
	return beat(d, err);
}

/* ---- a full disk ------------------------------------------------------------------ */

/* The failed drain may have written a part of what it took. */
static int enter_outage(pio_drainer *d, const pio_err *why, pio_err *err)
{
	int64_t now_ns = pio_clock_mono_ns();
	if (!d->outage.code)
		d->outage_since_ns = now_ns;
	d->outage = *why;
	d->retry_ns = now_ns + BEAT_NS;
	(void)pio_journal_close(&d->journal, NULL);
	return pio_ring_skip_journaled(d->ring, d->path, err);
}

static int begin_outage(pio_drainer *d, const pio_err *why, pio_err *err)
{
	if (!d->told)
		fprintf(stderr, "pioche: %s; training goes on, logging goes on when there is room\n", why->message);
	d->told = true;
	return enter_outage(d, why, err);
}

/* In the run's history, in the journal or with what is left beside the ring. */
static int tell_outage(pio_drainer *d, pio_journal_writer *journal, const char *until, pio_err *err)
{
	char message[256];
	const char *cause = d->outage.sys_errno ? strerror(d->outage.sys_errno) : "no room";
	int64_t took_ns = pio_clock_mono_ns() - d->outage_since_ns;
	snprintf(message, sizeof message, "%s: for %.1f s the log waited in memory, %s", cause, (double)took_ns / 1e9,
	         until);
	int rc = pio_ring_tell(d->ring, journal, &d->backlog, "log.waited", message, err);
	if (!rc && journal) /* where it does not come to the disk the outage goes on */
		rc = pio_journal_flush(journal, 0, err);
	d->outages_ns += rc ? 0 : took_ns;
	return rc;
}

static int end_outage(pio_drainer *d, pio_err *err)
{
	int rc = pio_fs_check_room(d->dir, ROOM_BYTES + 2 * (int64_t)d->backlog.len, err);
	if (rc == -PIO_ENOSPC)
		*err = d->outage;
	if (!rc)
		rc = pio_journal_open(&d->journal, d->path, &d->header, err);
	if (!rc)
		rc = pio_ring_unspill(d->ring, &d->backlog, d->journal, err);
	if (!rc)
		rc = tell_outage(d, d->journal, "until there was room", err);
	if (!rc)
		d->outage = (pio_err)PIO_ERR_INIT;
	return rc;
}

static int wait_out(pio_drainer *d, pio_err *err)
{
	if (pio_clock_mono_ns() < d->retry_ns)
		return pio_ring_spill(d->ring, &d->backlog, false, err);
	d->retry_ns = pio_clock_mono_ns() + BEAT_NS;
	int rc = check_there(d, err);
	if (!rc)
		rc = end_outage(d, err);
	if (rc == -PIO_ENOSPC) {
		(void)pio_journal_close(&d->journal, NULL);
		return pio_ring_spill(d->ring, &d->backlog, false, err);
	}
	return rc;
}

static int work(pio_drainer *d, pio_err *err)
{
	if (!d->journal)
		return wait_out(d, err);
	int rc = drain_once(d, err);
	if (rc == -PIO_ENOSPC) {
		pio_err why = *err;
		rc = begin_outage(d, &why, err);
	}
	return rc;
}

/* ---- the thread -------------------------------------------------------------------- */

static void *drain_loop(void *argument)
{
	pio_drainer *d = argument;
	pio_err err = PIO_ERR_INIT;
	int rc = 0;
	while (!rc && !atomic_load(&d->stop)) {
		pio_ring_wait(d->ring, DRAIN_MS);
		rc = work(d, &err);
	}
	/* Training goes on without its log rather than not at all, but not silently. */
	if (rc) {
		fprintf(stderr, "pioche: logging has stopped, what is logged from now on is lost: %s\n",
		        err.message);
		d->broken = err;
		pio_ring_shut(d->ring);
	}
	return NULL;
}

int pio_drainer_start(pio_drainer *d, pio_err *err)
{
	sigset_t all, before;
	d->beat_ns = pio_clock_mono_ns();
	atomic_store(&d->stop, false);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are the program's business */
	int e = pthread_create(&d->thread, NULL, drain_loop, d);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (e)
		return pio_fail_errno(err, e, "cannot start the thread that drains the log");
	d->running = true;
	return 0;
}

void pio_drainer_stop(pio_drainer *d)
{
	if (!d->running)
		return;
	atomic_store(&d->stop, true);
	pio_ring_kick(d->ring);
	pthread_join(d->thread, NULL);
	d->running = false;
}

/* ---- the end ------------------------------------------------------------------------- */

/* What is left goes beside the ring, the EXIT record behind it. */
static int leave(pio_drainer *d, const char *json, const char *ring_path, pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_i64(&payload, pio_clock_wall_ns());
	pio_record_put_str(&payload, json, strlen(json));
	int rc = pio_str_check(&payload, err);
	if (!rc)
		rc = pio_ring_spill(d->ring, &d->backlog, true, err);
	if (!rc)
		rc = tell_outage(d, NULL, "and still did when the program ended", err);
	if (!rc)
		rc = pio_ring_backlog_put(&d->backlog, PIO_RECORD_EXIT, &payload, err);
	if (!rc)
		rc = pio_ring_leave_backlog(ring_path, &d->backlog, err);
	if (rc)
		(void)pio_ring_unspill(d->ring, &d->backlog, NULL, NULL);
	pio_str_fini(&payload);
	return rc;
}

static int drain_rest(pio_drainer *d, pio_err *err)
{
	uint64_t moved = 1;
	if (d->broken.code) {
		*err = d->broken;
		return -err->code;
	}
	int rc = check_there(d, err);
	if (!rc && !d->journal)
		rc = end_outage(d, err);
	while (!rc && moved)
		rc = pio_ring_drain(d->ring, d->journal, true, &moved, err);
	return rc;
}

/* What the outages came to, where they are over. */
static void tell_outages(const pio_drainer *d)
{
	uint64_t lost = pio_ring_lost(d->ring);
	if (lost)
		fprintf(stderr, "pioche: the disk was full for %.1f s: %llu points of the log are missing\n",
		        (double)d->outages_ns / 1e9, (unsigned long long)lost);
	else if (d->outages_ns)
		fprintf(stderr, "pioche: the disk was full for %.1f s; nothing of the log is lost\n",
		        (double)d->outages_ns / 1e9);
}

int pio_drainer_finish(pio_drainer *d, const char *json, const char *ring_path, pio_err *err)
{
	int rc = drain_rest(d, err);
	if (!rc)
		rc = pio_drainer_json(d, PIO_RECORD_EXIT, json, strlen(json), err);
	if (!rc)
		rc = pio_journal_flush(d->journal, 1, err);
	if (rc == -PIO_ENOSPC) {
		pio_err why = *err;
		bool left = (!d->journal || enter_outage(d, &why, NULL) == 0) && leave(d, json, ring_path, NULL) == 0;
		pio_err_context(err, left ? "what is not written yet waits in memory for the next command of pioche"
		                          : "a part of the log is lost");
	} else if (!rc) {
		tell_outages(d);
	}
	pio_ring_shut(d->ring);
	int closed = pio_journal_close(&d->journal, rc ? NULL : err);
	return rc ? rc : closed;
}

void pio_drainer_forget(pio_drainer *d)
{
	d->running = false;
	d->journal = NULL; /* not closed: its buffer and file are the parent's */
	pio_str_clear(&d->backlog);
}

int pio_drainer_resume(pio_drainer *d, pio_err *err)
{
	pio_ring_adopt_tails(d->ring);
	d->outage = d->broken = (pio_err)PIO_ERR_INIT;
	/* Opened first: it cuts the torn tail. */
	int rc = pio_journal_open(&d->journal, d->path, &d->header, err);
	if (!rc)
		rc = pio_ring_skip_journaled(d->ring, d->path, err);
	if (!rc)
		rc = pio_drainer_start(d, err);
	if (rc)
		(void)pio_journal_close(&d->journal, NULL);
	return rc;
}

void pio_drainer_fini(pio_drainer *d)
{
	pio_drainer_stop(d);
	(void)pio_journal_close(&d->journal, NULL);
	pio_str_fini(&d->backlog);
	pio_free(d->path);
	*d = (pio_drainer)PIO_DRAINER_INIT;
}
