#include "store/lease_beat.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/fs.h"

struct pio_lease_beat {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	bool stop;
	int fd, every_ms;
};

/* A beat that fails is no reason to end: the next may succeed, and if none does
 * somebody takes over, which the next transaction of the holder tells. */
static void beat_once(const pio_lease_beat *beat, long long count)
{
	char text[32];
	int n = snprintf(text, sizeof text, "%20lld", count);
	if (pwrite(beat->fd, text, (size_t)n, sizeof PIO_LEASE_BEATS_PREFIX - 1) == n)
		(void)pio_fs_datasync(beat->fd, "lease", NULL);
}

static void *beat_loop(void *argument)
{
	pio_lease_beat *beat = argument;
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&beat->mutex);
	for (long long count = 1; !beat->stop; count++) {
		pthread_mutex_unlock(&beat->mutex);
		beat_once(beat, count);
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_nsec += (long)(beat->every_ms % 1000) * 1000000;
		next.tv_sec += beat->every_ms / 1000 + next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		pthread_mutex_lock(&beat->mutex);
		while (!beat->stop && pthread_cond_timedwait(&beat->wake, &beat->mutex, &next) == 0)
			continue;
	}
	pthread_mutex_unlock(&beat->mutex);
	return NULL;
}

int pio_lease_beat_start(pio_lease_beat **out, const char *path, int every_ms, pio_err *err)
{
	sigset_t all, before;
	pthread_condattr_t attributes;
	pio_lease_beat *beat = pio_calloc(1, sizeof *beat);
	*out = NULL;
	if (!beat)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the lease");
	beat->every_ms = every_ms;
	int rc = pio_fs_open(&beat->fd, path, O_WRONLY, 0, err);
	if (rc) {
		pio_free(beat);
		return rc;
	}
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&beat->mutex, NULL);
	pthread_cond_init(&beat->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	sigfillset(&all); /* signals are the main thread's */
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int failed = pthread_create(&beat->thread, NULL, beat_loop, beat);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!failed) {
		*out = beat;
		return 0;
	}
	close(beat->fd);
	pthread_cond_destroy(&beat->wake);
	pthread_mutex_destroy(&beat->mutex);
	pio_free(beat);
	return pio_fail_errno(err, failed, "cannot start the thread that keeps the lease");
}

void pio_lease_beat_stop(pio_lease_beat *beat)
{
	if (!beat)
		return;
	pthread_mutex_lock(&beat->mutex);
	beat->stop = true;
	pthread_cond_signal(&beat->wake);
	pthread_mutex_unlock(&beat->mutex);
	pthread_join(beat->thread, NULL);
	close(beat->fd);
	pthread_cond_destroy(&beat->wake);
	pthread_mutex_destroy(&beat->mutex);
	pio_free(beat);
}
