#include "client/saver.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/checkpoint.h"
#include "client/fetch.h"

#define ALIGN_BYTES 64u            /* of a tensor in the buffer */
#define HUGE_BYTES (2u << 20)

/* ---- at exit ------------------------------------------------------------------ */

static pio_saver *listed;
static pthread_mutex_t listed_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

/* By who holds the mutex. */
static void join(pio_saver *saver)
{
	if (!saver->running)
		return;
	pthread_join(saver->thread, NULL);
	saver->running = false;
	if (saver->failed.code)
		saver->untold = saver->failed;
	saver->failed = (pio_err)PIO_ERR_INIT;
}

static void wait_for_thread(pio_saver *saver)
{
	pthread_mutex_lock(&saver->mutex);
	join(saver);
	pthread_mutex_unlock(&saver->mutex);
}

static void at_exit(void)
{
	pthread_mutex_lock(&listed_mutex);
	for (pio_saver *saver = listed; saver; saver = saver->next) {
		if (saver->pid != getpid())
			continue;
		wait_for_thread(saver);
		if (saver->untold.code)
			fprintf(stderr, "pioche: %s\n", saver->untold.message);
	}
	pthread_mutex_unlock(&listed_mutex);
}

/* What another thread held at the fork is held by nobody now. */
static void after_fork_child(void)
{
	pthread_mutex_init(&listed_mutex, NULL);
	listed = NULL;
}

/* What is installed last is called first: before libcrypto ends, with which a thread may
 * be hashing. It installs its own handler when it is used for the first time. */
static void install_hooks(void)
{
	char unused[PIO_SHA256_HEX + 1];
	(void)pio_sha256_bytes("", 0, unused, NULL);
	pthread_atfork(NULL, NULL, after_fork_child);
	atexit(at_exit);
}

/* Not by who holds the saver's mutex: at exit that is taken behind this one. */
static void list_add(pio_saver *saver)
{
	pthread_once(&hooks_once, install_hooks);
	pthread_mutex_lock(&listed_mutex);
	if (!saver->is_listed) {
		saver->next = listed;
		listed = saver;
		saver->is_listed = true;
	}
	pthread_mutex_unlock(&listed_mutex);
}

static void list_remove(pio_saver *saver)
{
	pthread_mutex_lock(&listed_mutex);
	for (pio_saver **at = &listed; *at; at = &(*at)->next) {
		if (*at == saver) {
			*at = saver->next;
			break;
		}
	}
	pthread_mutex_unlock(&listed_mutex);
}

/* ---- the copy -------------------------------------------------------------------- */

static size_t aligned(uint64_t size_bytes)
{
	return ((size_t)size_bytes + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
}

static void drop_buffer(pio_saver *saver)
{
	if (saver->pinned)
		pio_fetch_unpin(saver->pinned, saver->buffer);
	if (saver->buffer)
		munmap(saver->buffer, saver->buffer_bytes);
	saver->buffer = saver->pinned = NULL;
	saver->buffer_bytes = 0;
}

/* Not part of a child, where each page of it would be copied once more. */
static int make_room(pio_saver *saver, size_t size_bytes, pio_err *err)
{
	if (size_bytes <= saver->buffer_bytes)
		return 0;
	drop_buffer(saver);
	saver->buffer_bytes = (size_bytes + HUGE_BYTES - 1) & ~(size_t)(HUGE_BYTES - 1);
	saver->buffer = mmap(NULL, saver->buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (saver->buffer == MAP_FAILED) {
		saver->buffer = NULL;
		saver->buffer_bytes = 0;
		return pio_fail(err, PIO_ENOMEM, "out of memory for the copy of %zu bytes that an asynchronous save"
		                " writes", size_bytes);
	}
	(void)madvise(saver->buffer, saver->buffer_bytes, MADV_HUGEPAGE);
	(void)madvise(saver->buffer, saver->buffer_bytes, MADV_DONTFORK);
	(void)madvise(saver->buffer, saver->buffer_bytes, MADV_DONTDUMP);
	return 0;
}

/* Where a GPU is to copy to it. */
static void pin(pio_saver *saver, const pio_checkpoint *checkpoint)
{
	void *context = NULL;
	for (size_t i = 0; i < checkpoint->count && !context; i++)
		context = checkpoint->tensors[i].context;
	if (context && !saver->pinned && pio_fetch_pin(context, saver->buffer, saver->buffer_bytes))
		saver->pinned = context;
}

static int append(void *at, const void *bytes, uint64_t size_bytes, pio_err *err)
{
	char **to = at;
	(void)err;
	memcpy(*to, bytes, size_bytes);
	*to += size_bytes;
	return 0;
}

static int copy_tensor(pio_saver *saver, char *to, const pio_own_tensor *t, pio_fetch *fetch, pio_err *err)
{
	if (!t->context)
		return append(&to, t->data, t->size_bytes, err);
	return saver->pinned ? pio_fetch_copy(fetch, t->context, to, t->data, t->size_bytes, err)
	                     : pio_fetch_pieces(fetch, t->context, t->data, t->size_bytes, append, &to, err);
}

/* After it all tensors are of the host's memory. */
static int copy(pio_saver *saver, pio_checkpoint *checkpoint, pio_err *err)
{
	size_t size_bytes = 0;
	pio_fetch fetch = PIO_FETCH_INIT;
	for (size_t i = 0; i < checkpoint->count; i++)
		size_bytes += aligned(checkpoint->tensors[i].size_bytes);
	int rc = make_room(saver, size_bytes, err);
	char *to = saver->buffer;
	if (!rc)
		pin(saver, checkpoint);
	for (size_t i = 0; !rc && i < checkpoint->count; i++) {
		pio_own_tensor *t = &checkpoint->tensors[i];
		if (!t->size_bytes)
			continue;
		rc = copy_tensor(saver, to, t, &fetch, err);
		t->data = to;
		t->context = NULL;
		to += aligned(t->size_bytes);
	}
	if (!rc)
		rc = pio_fetch_wait(&fetch, err);
	pio_fetch_close(&fetch);
	return rc;
}

/* ---- the thread ------------------------------------------------------------------- */

static void *write_out(void *argument)
{
	pio_saver *saver = argument;
	pio_err err = PIO_ERR_INIT;
	if (pio_checkpoint_finish(saver->checkpoint, &err) != 0) {
		saver->failed = err;
		snprintf(saver->failed.message, sizeof saver->failed.message, "the asynchronous save of step %" PRId64
		         " failed: %.900s", saver->step, err.message);
	}
	atomic_store(&saver->done, true);
	return NULL;
}

/* Signals are the program's business. */
static int start_thread(pio_saver *saver, pio_err *err)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int e = pthread_create(&saver->thread, NULL, write_out, saver);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e ? pio_fail_errno(err, e, "cannot start the thread that writes a checkpoint") : 0;
}

void pio_saver_init(pio_saver *saver)
{
	*saver = (pio_saver){ .pid = getpid() };
	pthread_mutex_init(&saver->mutex, NULL);
}

int pio_saver_enter(pio_saver *saver, int64_t step, int flags, pio_err *err)
{
	if (flags & PIO_ASYNC)
		list_add(saver);
	pthread_mutex_lock(&saver->mutex);
	if (saver->running && flags & PIO_NOWAIT && !atomic_load(&saver->done)) {
		int64_t busy = saver->step;
		pthread_mutex_unlock(&saver->mutex);
		return pio_fail(err, PIO_EBUSY, "no save of step %" PRId64 ": that of step %" PRId64 " is still being"
		                " written", step, busy);
	}
	join(saver);
	return 0;
}

int pio_saver_start(pio_saver *saver, pio_checkpoint *checkpoint, pio_err *err)
{
	int rc = copy(saver, checkpoint, err);
	if (!rc) {
		checkpoint->stall_ns = pio_clock_mono_ns() - checkpoint->commit_ns;
		saver->checkpoint = checkpoint;
		saver->step = checkpoint->step;
		atomic_store(&saver->done, false);
		rc = start_thread(saver, err);
	}
	if (rc)
		pio_checkpoint_fail(checkpoint, err);
	else
		saver->running = true;
	return rc;
}

void pio_saver_leave(pio_saver *saver)
{
	pthread_mutex_unlock(&saver->mutex);
}

int pio_saver_result(pio_saver *saver, pio_err *err)
{
	int rc = 0;
	pthread_mutex_lock(&saver->mutex);
	if (saver->running && atomic_load(&saver->done))
		join(saver);
	if (saver->untold.code) {
		*err = saver->untold;
		saver->untold = (pio_err)PIO_ERR_INIT;
		rc = -err->code;
	}
	pthread_mutex_unlock(&saver->mutex);
	return rc;
}

int pio_saver_fini(pio_saver *saver, pio_err *err)
{
	wait_for_thread(saver);
	int rc = pio_saver_result(saver, err);
	list_remove(saver);
	drop_buffer(saver);
	pthread_mutex_destroy(&saver->mutex);
	return rc;
}
