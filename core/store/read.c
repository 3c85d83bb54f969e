#include "store/read.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/cursor.h"
#include "store/store.h"

#define BUSY_MS 10000
#define THREADS_MAX 4
#define HUGE_PAGE (2u << 20)
#define QUEUE 16              /* chunks read and not yet decoded */

/* A chunk of its own, to be decoded into a place that is known beforehand. */
typedef struct job {
	int64_t chunk_id;
	size_t place, count;
	size_t size_bytes, capacity;
	uint8_t *data;
} job;

typedef struct work {
	pio_points *points;
	const char *path;         /* of the database */
	pthread_mutex_t lock;
	pthread_cond_t filled, emptied;
	job jobs[QUEUE];          /* a ring */
	unsigned head, tail;      /* put, taken */
	bool closed;
	pthread_t threads[THREADS_MAX];
	int threads_count;
	pio_err err;              /* the first failure of a thread */
} work;

/* ---- into columns ---------------------------------------------------------------------------- */

static void place(pio_points *to, size_t at, const pio_point *points, size_t count)
{
	int64_t *value = to->value;
	for (size_t i = 0; i < count; i++) {
		to->step[at + i] = points[i].step;
		to->time_ns[at + i] = points[i].time_ns;
		value[at + i] = points[i].whole; /* the eight bytes, whatever they are */
		if (to->integer[at + i] != points[i].integer) /* untouched where all are reals */
			to->integer[at + i] = points[i].integer;
	}
}

static bool is_sorted(const int64_t *step, size_t count)
{
	bool sorted = true;
	for (size_t i = 1; i < count; i++)
		sorted &= step[i - 1] <= step[i];
	return sorted;
}

/* Put points that have been decoded into their place in the order of steps. */
static int sort_place(pio_points *to, size_t at, size_t count, pio_err *err)
{
	pio_point *points = pio_alloc(count * sizeof *points);
	if (!points)
		return pio_fail(err, PIO_ENOMEM, "no memory for %zu points", count);
	const int64_t *value = to->value;
	for (size_t i = 0; i < count; i++)
		points[i] = (pio_point){ .step = to->step[at + i], .time_ns = to->time_ns[at + i],
		                         .whole = value[at + i], .integer = to->integer[at + i] };
	int rc = pio_points_sort(points, count, err);
	if (!rc)
		place(to, at, points, count);
	pio_free(points);
	return rc;
}

static int decode_job(const work *w, const job *j, pio_chunk_decoder *decoder, pio_err *err)
{
	pio_points *to = w->points;
	size_t count, at = j->place;
	const pio_chunk_columns columns = { to->step + at, to->time_ns + at, (uint64_t *)to->value + at,
	                                    to->integer + at };
	int rc = pio_chunk_decode_columns(&columns, &count, decoder, j->data, j->size_bytes, j->count, err);
	if (!rc && count != j->count)
		rc = pio_fail(err, PIO_ECORRUPT, "%zu points, its row says %zu", count, j->count);
	if (rc) {
		pio_err_context(err, "%s, chunk %lld", w->path, (long long)j->chunk_id);
		return rc;
	}
	if (pio_chunk_kind(j->data) == PIO_CHUNK_I64)
		memset(to->integer + at, 1, count);
	return is_sorted(columns.step, count) ? 0 : sort_place(to, at, count, err);
}

/* ---- threads ------------------------------------------------------------------------------------ */

static void *decode_loop(void *argument)
{
	work *w = argument;
	pio_chunk_decoder *decoder;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_chunk_decoder_new(&decoder, &err);
	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (w->head == w->tail && !w->closed)
			pthread_cond_wait(&w->filled, &w->lock);
		if (w->head == w->tail)
			break;
		/* The slot is given back at once, its buffer is taken along. */
		job j = w->jobs[w->tail % QUEUE];
		w->jobs[w->tail++ % QUEUE] = (job){ 0 };
		pthread_cond_signal(&w->emptied);
		pthread_mutex_unlock(&w->lock);
		rc = rc ? rc : decode_job(w, &j, decoder, &err);
		pio_free(j.data);
		pthread_mutex_lock(&w->lock);
		if (rc && !w->err.code)
			w->err = err;
	}
	pthread_mutex_unlock(&w->lock);
	pio_chunk_decoder_free(decoder);
	return NULL;
}

static void start(work *w, pio_points *points, const char *path, int threads)
{
	*w = (work){ .points = points, .path = path, .err = PIO_ERR_INIT };
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->filled, NULL);
	pthread_cond_init(&w->emptied, NULL);
	while (w->threads_count < threads &&
	       pthread_create(&w->threads[w->threads_count], NULL, decode_loop, w) == 0)
		w->threads_count++;
}

static int finish(work *w, int rc, pio_err *err)
{
	pthread_mutex_lock(&w->lock);
	w->closed = true;
	pthread_cond_broadcast(&w->filled);
	pthread_mutex_unlock(&w->lock);
	for (int i = 0; i < w->threads_count; i++)
		pthread_join(w->threads[i], NULL);
	pthread_cond_destroy(&w->emptied);
	pthread_cond_destroy(&w->filled);
	pthread_mutex_destroy(&w->lock);
	if (rc || !w->err.code)
		return rc;
	*err = w->err;
	return -err->code;
}

/* Hand a chunk to the threads; here and now when there are none. */
static int give(work *w, pio_reader *reader, const pio_cursor_chunk *chunk, size_t at, pio_err *err)
{
	const uint8_t *data;
	sqlite3_stmt *row;
	job j = { .chunk_id = chunk->id, .place = at, .count = (size_t)chunk->count };
	int rc = pio_reader_data(&data, &j.size_bytes, &row, reader, chunk->id, err);
	if (rc)
		return rc;
	if (!w->threads_count) {
		j.data = (uint8_t *)(uintptr_t)data;
		rc = decode_job(w, &j, reader->decoder, err);
	} else if (!(j.data = pio_alloc(j.size_bytes))) {
		rc = pio_fail(err, PIO_ENOMEM, "no memory for a chunk of %zu bytes", j.size_bytes);
	} else {
		memcpy(j.data, data, j.size_bytes);
		pthread_mutex_lock(&w->lock);
		while (w->head - w->tail == QUEUE)
			pthread_cond_wait(&w->emptied, &w->lock);
		w->jobs[w->head++ % QUEUE] = j;
		pthread_cond_signal(&w->filled);
		pthread_mutex_unlock(&w->lock);
	}
	sqlite3_reset(row);
	return rc;
}

/* ---- all chunks ------------------------------------------------------------------------------------ */

/* One block for all columns: in huge pages, where it has any, a fault of the
 * first touch does for 512 small ones, which would take longer than decoding.
 * What pio_free needs stands before the first column. */
static int make_room(pio_points *points, size_t *room_out, const pio_series_cursor *cursor, pio_err *err)
{
	size_t room = 0;
	*room_out = 0;
	for (size_t i = cursor->chunks_begin; i < cursor->chunks_end; i++) {
		const pio_cursor_chunk *chunk = &cursor->chunks[i];
		if (chunk->count < 1 || chunk->count > PIO_CHUNK_POINTS_MAX)
			return pio_fail(err, PIO_ECORRUPT, "chunk %lld has %lld points, expected 1 to %d",
			                (long long)chunk->id, (long long)chunk->count, PIO_CHUNK_POINTS_MAX);
		room += (size_t)chunk->count;
	}
	if (!room)
		return 0;
	size_t bytes = room * (3 * 8 + 1), align = bytes >= HUGE_PAGE ? HUGE_PAGE : 8;
	size_t whole = (bytes + align - 1) / align * align;
	char *block = pio_alloc(sizeof(void *) + align + whole);
	if (!block)
		return pio_fail(err, PIO_ENOMEM, "no memory for %zu points", room);
	char *columns = block + sizeof(void *);
	columns += (align - (uintptr_t)columns % align) % align;
	if (align == HUGE_PAGE)
		madvise(columns, whole, MADV_HUGEPAGE); /* a wish */
	memcpy(columns - sizeof(void *), &block, sizeof(void *));
	points->step = (int64_t *)(void *)columns;
	points->time_ns = points->step + room;
	points->value = points->time_ns + room;
	points->integer = memset(points->time_ns + 2 * room, 0, room);
	*room_out = room;
	return 0;
}

/* Chunks that overlap no other go to the threads; the rest, usually where
 * attempts meet, is sorted out here, so that each chunk's place is known. */
static int read_chunks(work *w, size_t *count, size_t room, pio_series_cursor *cursor, pio_err *err)
{
	int rc = 0;
	*count = 0;
	while (!rc && cursor->chunks_begin < cursor->chunks_end) {
		const pio_cursor_chunk chunk = cursor->chunks[cursor->chunks_begin];
		bool plain = pio_series_cursor_is_plain(cursor);
		const pio_point *points;
		size_t n = plain ? (size_t)chunk.count : 0;
		if (!plain && (rc = pio_series_cursor_group(&points, &n, cursor, err)) <= 0)
			continue;
		if (n > room - *count)
			return pio_fail(err, PIO_ECORRUPT, "%s, chunk %lld: more points than its row says", w->path,
			                (long long)chunk.id);
		rc = 0;
		if (plain) {
			rc = give(w, cursor->reader, &chunk, *count, err);
			cursor->chunks_begin++;
		} else {
			place(w->points, *count, points, n);
		}
		*count += n;
	}
	return rc;
}

/* Integers alone, reals alone, or both? */
static void name_kind(pio_points *points)
{
	int64_t integers = 0;
	for (int64_t i = 0; i < points->count; i++)
		integers += points->integer[i];
	points->kind = !integers ? PIO_POINTS_REAL : integers == points->count ? PIO_POINTS_INTEGER
	                                                                        : PIO_POINTS_MIXED;
	if (points->kind != PIO_POINTS_MIXED)
		points->integer = NULL;
}

static int read_series(pio_points *points, pio_reader *reader, int64_t series_id, int threads,
                       pio_err *err)
{
	pio_series_cursor cursor;
	work w;
	size_t count = 0, room;
	int rc = pio_series_cursor_open(&cursor, reader, series_id, INT64_MIN, INT64_MAX, 0, err);
	if (rc)
		return rc;
	rc = make_room(points, &room, &cursor, err);
	if (!rc && !reader->decoder)
		rc = pio_chunk_decoder_new(&reader->decoder, err);
	if (!rc) {
		start(&w, points, sqlite3_db_filename(reader->db, "main"),
		      threads > 1 && cursor.chunks_end > 4 ? threads : 0);
		rc = read_chunks(&w, &count, room, &cursor, err);
		rc = finish(&w, rc, err);
	}
	if (!rc) {
		points->count = (int64_t)count;
		name_kind(points);
	}
	pio_series_cursor_close(&cursor);
	return rc;
}

/* ---- which series --------------------------------------------------------------------------------- */

/* *id of the first row, 0 when there is none; resets the statement. */
static int take_id(int64_t *id, pio_reader *reader, sqlite3_stmt *row, pio_err *err)
{
	int step = sqlite3_step(row), rc = 0;
	*id = step == SQLITE_ROW ? sqlite3_column_int64(row, 0) : 0;
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		rc = pio_reader_fail(reader, err, "finding a series");
	sqlite3_reset(row);
	sqlite3_clear_bindings(row);
	return rc;
}

static int find_series(int64_t *id, pio_reader *reader, const char *store, const char *run,
                       const char *key, int64_t rank, pio_err *err)
{
	int64_t run_id;
	int rc = pio_reader_run(&run_id, reader, run, err);
	sqlite3_stmt *row = rc ? NULL : pio_reader_statement(reader, PIO_READER_ULID, err);
	if (!rc && !row)
		return -err->code;
	if (!rc && !run_id) {
		sqlite3_bind_text(row, 1, run, -1, SQLITE_STATIC);
		rc = take_id(&run_id, reader, row, err);
	}
	if (!rc && !run_id)
		rc = pio_fail(err, PIO_ENOTFOUND, "store %s has no run '%s'", store, run);
	if (rc || !(row = pio_reader_statement(reader, PIO_READER_SERIES, err)))
		return rc ? rc : -err->code;
	sqlite3_bind_int64(row, 1, run_id);
	sqlite3_bind_text(row, 2, key, -1, SQLITE_STATIC);
	sqlite3_bind_int64(row, 3, rank);
	rc = take_id(id, reader, row, err);
	if (!rc && !*id)
		rc = pio_fail(err, PIO_ENOTFOUND, "run %s has no metric '%s' of rank %lld", run, key,
		              (long long)rank);
	return rc;
}

static int check_version(sqlite3 *db, const char *path, pio_err *err)
{
	sqlite3_stmt *row = NULL;
	int rc = sqlite3_prepare_v2(db, "SELECT application_id, user_version FROM pragma_application_id,"
	                            " pragma_user_version", -1, &row, NULL) == SQLITE_OK &&
	         sqlite3_step(row) == SQLITE_ROW ? 0 : pio_sqlite_fail(db, path, err, "opening");
	if (!rc && sqlite3_column_int64(row, 0) != PIO_STORE_APPLICATION_ID)
		rc = pio_fail(err, PIO_EINVAL, "%s is an SQLite file, but not a store of pioche", path);
	else if (!rc && sqlite3_column_int64(row, 1) != PIO_STORE_VERSION)
		rc = pio_fail(err, PIO_EVERSION, "%s is of schema %lld, this pioche reads %d", path,
		              (long long)sqlite3_column_int64(row, 1), PIO_STORE_VERSION);
	sqlite3_finalize(row);
	return rc;
}

static int open_database(sqlite3 **db, const char *path, pio_err *err)
{
	int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX;
	if (access(path, F_OK) != 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no store: no file %s", path);
	int rc = sqlite3_open_v2(path, db, flags, NULL);
	if (!*db)
		return pio_fail(err, PIO_ENOMEM, "store %s: out of memory", path);
	sqlite3_busy_timeout(*db, BUSY_MS);
	rc = rc == SQLITE_OK ? check_version(*db, path, err) : pio_sqlite_fail(*db, path, err, "opening");
	int primary = sqlite3_errcode(*db) & 0xff;
	if (rc && (primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY)) {
		rc = pio_sqlite_open_immutable(db, path, err);
		rc = rc ? rc : check_version(*db, path, err);
	}
	return rc;
}

static int read_from(pio_points *points, const char *store, const char *run, const char *key,
                     int64_t rank, int threads, pio_err *err)
{
	sqlite3 *db = NULL;
	pio_reader reader;
	int64_t series_id;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/pioche.db", store);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = open_database(&db, path.data, err);
	pio_reader_init(&reader, db);
	bool held = !rc && (rc = pio_reader_hold(&reader, err)) == 0;
	if (!rc)
		rc = find_series(&series_id, &reader, store, run, key, rank, err);
	if (!rc)
		rc = read_series(points, &reader, series_id, threads, err);
	if (held)
		pio_reader_release(&reader);
	pio_reader_fini(&reader);
	sqlite3_close_v2(db);
	pio_str_fini(&path);
	return rc;
}

int pio_points_read(pio_points *points, const char *store, const char *run, const char *key,
                    int64_t rank, int threads, char *message, size_t message_bytes)
{
	pio_err err = PIO_ERR_INIT;
	int rc = 0;
	if (points)
		*points = (pio_points){ 0 };
	if (!points || !store || !run || !key)
		rc = pio_fail(&err, PIO_EINVAL, "%s is NULL", !points ? "points" : !store ? "store" : !run ? "run"
		                                                                                 : "key");
	else if (!*store)
		rc = pio_fail(&err, PIO_EINVAL, "store is empty, expected a directory");
	else if (threads < 0)
		rc = pio_fail(&err, PIO_EINVAL, "threads is %d, expected 0 or more", threads);
	if (!rc) {
		long cores = threads ? threads : sysconf(_SC_NPROCESSORS_ONLN);
		threads = cores < 1 ? 1 : cores < THREADS_MAX ? (int)cores : THREADS_MAX;
		rc = read_from(points, store, run, key, rank, threads, &err);
		if (rc)
			pio_points_free(points);
	}
	if (message && message_bytes)
		snprintf(message, message_bytes, "%s", rc ? err.message : "");
	return rc;
}

void pio_points_free(pio_points *points)
{
	void *block;
	if (!points)
		return;
	if (points->step) {
		memcpy(&block, (char *)points->step - sizeof block, sizeof block);
		pio_free(block);
	}
	*points = (pio_points){ 0 };
}
