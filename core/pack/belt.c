#include "pack/belt.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

#define BLOCKS 4

struct pio_belt {
	pio_belt_work *work;
	void *context;
	unsigned char *blocks;
	size_t sizes[BLOCKS];
	pthread_t thread;
	bool started;
	pthread_mutex_t mutex;       /* of all below */
	pthread_cond_t filled, freed;
	uint64_t head, tail;         /* blocks put, blocks done; they count up for ever */
	bool ending;
	int rc;
	pio_err err;
};

static void *run(void *argument)
{
	pio_belt *belt = argument;
	pio_err err = PIO_ERR_INIT;
	int rc = 0;
	pthread_mutex_lock(&belt->mutex);
	for (;;) {
		while (belt->head == belt->tail && !belt->ending)
			pthread_cond_wait(&belt->filled, &belt->mutex);
		if (belt->ending)
			break;
		size_t slot = belt->tail % BLOCKS;
		pthread_mutex_unlock(&belt->mutex);
		if (!rc)
			rc = belt->work(belt->context, belt->blocks + slot * PIO_BELT_BLOCK_BYTES,
			                belt->sizes[slot], &err);
		pthread_mutex_lock(&belt->mutex);
		if (rc && !belt->rc) {
			belt->rc = rc;
			belt->err = err;
		}
		belt->tail++;
		pthread_cond_signal(&belt->freed);
	}
	pthread_mutex_unlock(&belt->mutex);
	return NULL;
}

int pio_belt_new(pio_belt **out, pio_belt_work *work, void *context, pio_err *err)
{
	sigset_t all, before;
	pio_belt *belt = *out = pio_calloc(1, sizeof *belt);
	if (!belt)
		return pio_fail(err, PIO_ENOMEM, "out of memory for blocks of a bundle");
	belt->work = work;
	belt->context = context;
	pthread_mutex_init(&belt->mutex, NULL);
	pthread_cond_init(&belt->filled, NULL);
	pthread_cond_init(&belt->freed, NULL);
	belt->blocks = pio_alloc((size_t)BLOCKS * PIO_BELT_BLOCK_BYTES);
	int rc = belt->blocks ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for blocks of a bundle");
	if (!rc) {
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &before);
		int failed = pthread_create(&belt->thread, NULL, run, belt);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		belt->started = !failed;
		if (failed)
			rc = pio_fail_errno(err, failed, "cannot start the thread that hashes a bundle");
	}
	if (rc) {
		pio_belt_free(belt);
		*out = NULL;
	}
	return rc;
}

void *pio_belt_block(pio_belt *belt)
{
	pthread_mutex_lock(&belt->mutex);
	while (belt->head - belt->tail == BLOCKS)
		pthread_cond_wait(&belt->freed, &belt->mutex);
	size_t slot = belt->head % BLOCKS;
	pthread_mutex_unlock(&belt->mutex);
	return belt->blocks + slot * PIO_BELT_BLOCK_BYTES;
}

void pio_belt_put(pio_belt *belt, size_t size_bytes)
{
	pthread_mutex_lock(&belt->mutex);
	belt->sizes[belt->head % BLOCKS] = size_bytes;
	belt->head++;
	pthread_cond_signal(&belt->filled);
	pthread_mutex_unlock(&belt->mutex);
}

static int kept(const pio_belt *belt, pio_err *err)
{
	if (belt->rc && err)
		*err = belt->err;
	return belt->rc;
}

int pio_belt_check(pio_belt *belt, pio_err *err)
{
	pthread_mutex_lock(&belt->mutex);
	int rc = kept(belt, err);
	pthread_mutex_unlock(&belt->mutex);
	return rc;
}

int pio_belt_wait(pio_belt *belt, pio_err *err)
{
	pthread_mutex_lock(&belt->mutex);
	while (belt->head != belt->tail)
		pthread_cond_wait(&belt->freed, &belt->mutex);
	int rc = kept(belt, err);
	pthread_mutex_unlock(&belt->mutex);
	return rc;
}

void pio_belt_free(pio_belt *belt)
{
	if (!belt)
		return;
	if (belt->started) {
		pthread_mutex_lock(&belt->mutex);
		belt->ending = true;
		pthread_cond_signal(&belt->filled);
		pthread_mutex_unlock(&belt->mutex);
		pthread_join(belt->thread, NULL);
	}
	pthread_cond_destroy(&belt->freed);
	pthread_cond_destroy(&belt->filled);
	pthread_mutex_destroy(&belt->mutex);
	pio_free(belt->blocks);
	pio_free(belt);
}
