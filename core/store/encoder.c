/* Jobs lie in a ring. The caller fills the one at `tail` and inserts from
 * `head`; threads encode from `next`, each job by one thread:
 *
 *   head .. next   being encoded, or encoded
 *   next .. tail   waiting for a thread
 *
 * All indices only grow, and move under the mutex. */
#include "store/encoder.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define WORKERS_MAX 3
#define JOBS_MAX (2 * WORKERS_MAX)
#define EAGER 16          /* so many chunks are encoded here before threads are worth starting */

typedef struct job {
	pio_encoder_chunk chunk;
	pio_chunk_point *points;
	uint8_t *data;            /* encoded; NULL: it failed */
	size_t size_bytes;
	bool done;
	pio_err err;
} job;

struct pio_encoder {
	pio_store *store;
	pio_encoder_insert *insert;
	int wanted, workers;      /* threads besides the caller's */
	int64_t put;
	job jobs[JOBS_MAX];
	unsigned head, next, tail;
	pthread_mutex_t mutex;
	pthread_cond_t to_do, done;
	bool stop;
	pthread_t threads[WORKERS_MAX];
	pio_chunk_codec *codecs[WORKERS_MAX];
};

typedef struct worker {
	pio_encoder *encoder;
	pio_chunk_codec *codec;
} worker;

static unsigned jobs_count(const pio_encoder *encoder)
{
	return 2 * (unsigned)encoder->workers;
}

static job *job_at(pio_encoder *encoder, unsigned index)
{
	return &encoder->jobs[index % jobs_count(encoder)];
}

static void encode(job *j, pio_chunk_codec *codec)
{
	const uint8_t *data;
	j->data = NULL;
	if (pio_chunk_encode(&data, &j->size_bytes, codec, j->points, PIO_CHUNK_POINTS_MAX, &j->err) != 0)
		return;
	j->data = pio_alloc(j->size_bytes);
	if (j->data)
		memcpy(j->data, data, j->size_bytes);
	else
		pio_fail(&j->err, PIO_ENOMEM, "out of memory for a chunk of %zu bytes", j->size_bytes);
}

static void *work(void *argument)
{
	worker own = *(worker *)argument;
	pio_encoder *encoder = own.encoder;
	pio_free(argument);
	pthread_mutex_lock(&encoder->mutex);
	while (!encoder->stop) {
		if (encoder->next == encoder->tail) {
			pthread_cond_wait(&encoder->to_do, &encoder->mutex);
			continue;
		}
		job *j = job_at(encoder, encoder->next++);
		pthread_mutex_unlock(&encoder->mutex);
		encode(j, own.codec);
		pthread_mutex_lock(&encoder->mutex);
		j->done = true;
		pthread_cond_signal(&encoder->done);
	}
	pthread_mutex_unlock(&encoder->mutex);
	return NULL;
}

/* ---- threads ------------------------------------------------------------------------------ */

static int free_cores(void)
{
	double load = 0;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (getloadavg(&load, 1) != 1)
		return 0;
	return (int)((double)cores - load);
}

static int workers_wanted(int threads)
{
	const char *text = getenv("PIOCHE_FOLD_THREADS");
	if (!threads)
		threads = text && atoi(text) > 0 ? atoi(text) : free_cores();
	threads = threads > 1 ? threads - 1 : 0;
	return threads < WORKERS_MAX ? threads : WORKERS_MAX;
}

static int start_worker(pio_encoder *encoder, pio_err *err)
{
	int n = encoder->workers;
	worker *own = pio_alloc(sizeof *own);
	int rc = own ? pio_chunk_codec_new(&encoder->codecs[n], err)
	             : pio_fail(err, PIO_ENOMEM, "out of memory for a thread");
	for (int i = 2 * n; !rc && i < 2 * n + 2; i++) {
		encoder->jobs[i].points = pio_alloc(PIO_CHUNK_POINTS_MAX * sizeof(pio_chunk_point));
		if (!encoder->jobs[i].points)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for a chunk");
	}
	if (!rc) {
		sigset_t all, before;
		*own = (worker){ encoder, encoder->codecs[n] };
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are the caller's business */
		rc = pthread_create(&encoder->threads[n], NULL, work, own) == 0
			? 0 : pio_fail(err, PIO_ENOMEM, "cannot start a thread");
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	if (rc)
		pio_free(own);
	else
		encoder->workers++;
	return rc;
}

/* The ring's size goes with the number of threads, so all start while it is
 * empty. Fewer, or none, do as well. */
static void start_workers(pio_encoder *encoder)
{
	int wanted = encoder->wanted;
	encoder->wanted = 0;
	pthread_mutex_lock(&encoder->mutex);
	while (encoder->workers < wanted && start_worker(encoder, NULL) == 0)
		continue;
	pthread_mutex_unlock(&encoder->mutex);
}

int pio_encoder_new(pio_encoder **out, pio_store *store, int threads, pio_encoder_insert *insert,
                    pio_err *err)
{
	pio_encoder *encoder = *out = pio_calloc(1, sizeof *encoder);
	if (!encoder)
		return pio_fail(err, PIO_ENOMEM, "out of memory to encode chunks");
	encoder->store = store;
	encoder->insert = insert;
	encoder->wanted = workers_wanted(threads);
	pthread_mutex_init(&encoder->mutex, NULL);
	pthread_cond_init(&encoder->to_do, NULL);
	pthread_cond_init(&encoder->done, NULL);
	return 0;
}

void pio_encoder_free(pio_encoder *encoder)
{
	if (!encoder)
		return;
	pio_encoder_drop(encoder);
	pthread_mutex_lock(&encoder->mutex);
	encoder->stop = true;
	pthread_cond_broadcast(&encoder->to_do);
	pthread_mutex_unlock(&encoder->mutex);
	for (int i = 0; i < encoder->workers; i++)
		pthread_join(encoder->threads[i], NULL);
	for (int i = 0; i < WORKERS_MAX; i++)
		pio_chunk_codec_free(encoder->codecs[i]);
	for (int i = 0; i < JOBS_MAX; i++)
		pio_free(encoder->jobs[i].points);
	pthread_mutex_destroy(&encoder->mutex);
	pthread_cond_destroy(&encoder->to_do);
	pthread_cond_destroy(&encoder->done);
	pio_free(encoder);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

/* The oldest job, when it is encoded; its data is the caller's. */
static job *take_oldest(pio_encoder *encoder)
{
	job *j = job_at(encoder, encoder->head);
	pthread_mutex_lock(&encoder->mutex);
	while (!j->done)
		pthread_cond_wait(&encoder->done, &encoder->mutex);
	encoder->head++;
	pthread_mutex_unlock(&encoder->mutex);
	return j;
}

static int insert_oldest(pio_encoder *encoder, pio_err *err)
{
	job *j = take_oldest(encoder);
	int rc = 0;
	if (j->data)
		rc = encoder->insert(encoder->store, &j->chunk, j->data, j->size_bytes, err);
	else if (err)
		*err = j->err;
	rc = j->data ? rc : -j->err.code;
	pio_free(j->data);
	j->data = NULL;
	return rc;
}

static int encode_here(pio_encoder *encoder, const pio_encoder_chunk *chunk,
                       const pio_chunk_point *points, pio_err *err)
{
	const uint8_t *data;
	size_t size_bytes;
	pio_chunk_codec *codec = pio_store_codec(encoder->store, err);
	int rc = codec ? pio_chunk_encode(&data, &size_bytes, codec, points, PIO_CHUNK_POINTS_MAX, err)
	               : -PIO_ENOMEM;
	return rc ? rc : encoder->insert(encoder->store, chunk, data, size_bytes, err);
}

int pio_encoder_put(pio_encoder *encoder, const pio_encoder_chunk *chunk, const pio_chunk_point *points,
                    pio_err *err)
{
	if (encoder->put++ >= EAGER && encoder->wanted)
		start_workers(encoder);
	if (!encoder->workers)
		return encode_here(encoder, chunk, points, err);
	if (encoder->tail - encoder->head == jobs_count(encoder)) {
		int rc = insert_oldest(encoder, err);
		if (rc)
			return rc;
	}
	job *j = job_at(encoder, encoder->tail);
	j->chunk = *chunk;
	j->done = false;
	memcpy(j->points, points, PIO_CHUNK_POINTS_MAX * sizeof *points);
	pthread_mutex_lock(&encoder->mutex);
	encoder->tail++;
	pthread_cond_signal(&encoder->to_do);
	pthread_mutex_unlock(&encoder->mutex);
	return 0;
}

int pio_encoder_flush(pio_encoder *encoder, pio_err *err)
{
	int rc = 0;
	while (!rc && encoder->head != encoder->tail)
		rc = insert_oldest(encoder, err);
	return rc;
}

void pio_encoder_drop(pio_encoder *encoder)
{
	while (encoder->head != encoder->tail) {
		job *j = take_oldest(encoder);
		pio_free(j->data);
		j->data = NULL;
	}
}
