#include "store/archiver.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "store/archive.h"

typedef struct task {
	struct task *next;
	char path[];
} task;

struct pio_archiver {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	task *first;               /* being done; the others wait, in the order put */
	bool stop;                 /* when nothing waits */
};

static void *work(void *argument)
{
	pio_archiver *archiver = argument;
	pthread_mutex_lock(&archiver->mutex);
	while (archiver->first || !archiver->stop) {
		task *now = archiver->first;
		if (!now) {
			pthread_cond_wait(&archiver->wake, &archiver->mutex);
			continue;
		}
		pthread_mutex_unlock(&archiver->mutex);
		(void)pio_archive_make(now->path, NULL);
		pthread_mutex_lock(&archiver->mutex);
		archiver->first = now->next;
		pio_free(now);
	}
	pthread_mutex_unlock(&archiver->mutex);
	return NULL;
}

static int start(pio_archiver **out, pio_err *err)
{
	sigset_t all, before;
	pio_archiver *archiver = pio_calloc(1, sizeof *archiver);
	if (!archiver)
		return pio_fail(err, PIO_ENOMEM, "out of memory to compress journals");
	pthread_mutex_init(&archiver->mutex, NULL);
	pthread_cond_init(&archiver->wake, NULL);
	sigfillset(&all); /* signals are the main thread's */
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int failed = pthread_create(&archiver->thread, NULL, work, archiver);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!failed) {
		*out = archiver;
		return 0;
	}
	pthread_cond_destroy(&archiver->wake);
	pthread_mutex_destroy(&archiver->mutex);
	pio_free(archiver);
	return pio_fail_errno(err, failed, "cannot start the thread that compresses journals");
}

static int put(pio_archiver *archiver, const char *path, pio_err *err)
{
	size_t bytes = strlen(path) + 1;
	pthread_mutex_lock(&archiver->mutex);
	task **end = &archiver->first;
	while (*end && strcmp((*end)->path, path) != 0)
		end = &(*end)->next;
	bool waits = *end;
	if (!waits && (*end = pio_calloc(1, sizeof **end + bytes)))
		memcpy((*end)->path, path, bytes);
	bool done = *end;
	pthread_cond_signal(&archiver->wake);
	pthread_mutex_unlock(&archiver->mutex);
	return done ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory to compress %s", path);
}

int pio_archiver_put(pio_archiver **archiver, const char *path, pio_err *err)
{
	struct stat st;
	if (stat(path, &st) != 0 || st.st_size < PIO_ARCHIVER_BYTES_MIN)
		return pio_archive_make(path, err);
	int rc = *archiver ? 0 : start(archiver, err);
	return rc ? rc : put(*archiver, path, err);
}

void pio_archiver_free(pio_archiver *archiver)
{
	if (!archiver)
		return;
	pthread_mutex_lock(&archiver->mutex);
	archiver->stop = true;
	pthread_cond_signal(&archiver->wake);
	pthread_mutex_unlock(&archiver->mutex);
	pthread_join(archiver->thread, NULL);
	pthread_cond_destroy(&archiver->wake);
	pthread_mutex_destroy(&archiver->mutex);
	pio_free(archiver);
}
