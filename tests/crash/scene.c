#include "scene.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/chunk.h"
#include "store/series.h"
#include "store/series_now.h"
#include "store/verify.h"
#include "sys/fs.h"
#include "sys/shm.h"

/* ---- chance ---------------------------------------------------------------------- */

uint64_t random_next(uint64_t *state) /* splitmix64: any state is a good one */
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
	return n ? random_next(state) % n : 0;
}

uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);
	unsigned long long n = text ? strtoull(text, NULL, 10) : 0;
	return n ? n : otherwise;
}

uint64_t seed_of_test(void)
{
	uint64_t seed = number_from("SEED", (uint64_t)pio_clock_wall_ns() / 1000 % 1000000000);
	printf("# SEED=%" PRIu64 "\n", seed);
	return seed;
}

/* ---- a place ------------------------------------------------------------------------ */

static void must(int rc, const pio_err *err)
{
	if (!rc)
		return;
	fprintf(stderr, "crash test: %s\n", err->message);
	abort();
}

static void make_places(scene *s)
{
	char path[400];
	pio_err err = PIO_ERR_INIT;
	snprintf(path, sizeof path, "%s/shm", s->root);
	must(pio_fs_mkdirs(path, 0777, &err), &err);
	setenv("PIOCHE_SHM", path, 1);
	snprintf(path, sizeof path, "%s/place", s->root);
	must(pio_fs_mkdirs(path, 0777, &err), &err);
	snprintf(s->store, sizeof s->store, "%s/.pioche", path);
	setenv("PIOCHE_STORE", s->store, 1);
	if (chdir(path) != 0)
		abort();
}

void scene_up(scene *s, uint64_t seed)
{
	unsetenv("PIOCHE_SHM");
	/* In memory: a disk that others use would make each case wait for it. */
	snprintf(s->root, sizeof s->root, "%s/pioche-crash-XXXXXX", pio_shm_dir());
	if (!mkdtemp(s->root))
		abort();
	s->page_fd = memfd_create("page", MFD_CLOEXEC);
	if (s->page_fd < 0 || ftruncate(s->page_fd, sizeof *s->page) != 0)
		abort();
	s->page = mmap(NULL, sizeof *s->page, PROT_READ | PROT_WRITE, MAP_SHARED, s->page_fd, 0);
	if (s->page == MAP_FAILED)
		abort();
	s->random = seed;
	unsetenv("PIOCHE_RING");
	make_places(s);
}

static void remove_places(const scene *s)
{
	pio_err err = PIO_ERR_INIT;
	if (chdir("/") != 0)
		abort();
	must(pio_fs_remove_tree(s->root, &err), &err);
}

void scene_clear(scene *s, uint64_t seed)
{
	remove_places(s);
	make_places(s);
	memset(s->page, 0, sizeof *s->page);
	s->random = seed;
}

void scene_down(scene *s)
{
	remove_places(s);
	munmap(s->page, sizeof *s->page);
	close(s->page_fd);
}

void scene_mark(scene *s)
{
	if (s->at_mark)
		s->at_mark(s);
	s->at_mark = NULL;
}

bool found(scene *s, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (!s->page->message[0])
		vsnprintf(s->page->message, sizeof s->page->message, format, args);
	va_end(args);
	return false;
}

/* ---- what must hold ---------------------------------------------------------------------- */

pio_store *store_open(scene *s)
{
	pio_store *store = NULL;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_open(&store, s->store, PIO_STORE_CREATE, &err) != 0)
		found(s, "the store cannot be opened: %s", err.message);
	return store;
}

static sqlite3_stmt *rows_of(pio_store *store, const char *sql)
{
	sqlite3_stmt *rows = NULL;
	if (sqlite3_prepare_v2(pio_store_db(store), sql, -1, &rows, NULL) != SQLITE_OK) {
		fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(pio_store_db(store)));
		abort();
	}
	return rows;
}

int64_t int_of(pio_store *store, const char *sql)
{
	sqlite3_stmt *row = rows_of(store, sql);
	int64_t value = sqlite3_step(row) == SQLITE_ROW ? sqlite3_column_int64(row, 0) : INT64_MIN;
	sqlite3_finalize(row);
	return value;
}

static bool is_same(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

/* Column of a number that is NULL where it is NaN. */
static double real_of(sqlite3_stmt *row, int column)
{
	return sqlite3_column_type(row, column) == SQLITE_NULL ? (double)NAN
	                                                        : sqlite3_column_double(row, column);
}

static bool chunk_is_sound(scene *s, pio_chunk_codec *codec, sqlite3_stmt *row)
{
	static pio_chunk_point points[PIO_CHUNK_POINTS_MAX];
	size_t count = 0;
	pio_err err = PIO_ERR_INIT;
	pio_chunk_stats stats;
	int64_t id = sqlite3_column_int64(row, 0);
	if (pio_chunk_decode(points, &count, codec, sqlite3_column_blob(row, 11),
	                     (size_t)sqlite3_column_bytes(row, 11), &err) != 0)
		return found(s, "chunk %" PRId64 " cannot be decoded: %s", id, err.message);
	pio_chunk_stats_init(&stats);
	pio_chunk_stats_add(&stats, points, count);
	const int64_t told[] = { stats.count, stats.first_step, stats.last_step, stats.first_ns,
	                         stats.last_ns, stats.finite, stats.nans };
	for (int i = 0; i < 7; i++)
		if (sqlite3_column_int64(row, 1 + i) != told[i])
			return found(s, "chunk %" PRId64 ": %s is %s, its points say %" PRId64, id,
			             sqlite3_column_name(row, 1 + i), sqlite3_column_text(row, 1 + i), told[i]);
	if (!is_same(real_of(row, 8), stats.min) || !is_same(real_of(row, 9), stats.max) ||
	    !is_same(real_of(row, 10), stats.sum))
		return found(s, "chunk %" PRId64 ": its min, max or sum is not its points'", id);
	return true;
}

static bool chunks_are_sound(scene *s, pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	pio_chunk_codec *codec;
	bool ok = true;
	must(pio_chunk_codec_new(&codec, &err), &err);
	sqlite3_stmt *row = rows_of(store, "SELECT id, count, first_step, last_step, first_ns, last_ns,"
	                            " finite, nans, min, max, sum, data FROM chunk");
	while (ok && sqlite3_step(row) == SQLITE_ROW)
		ok = chunk_is_sound(s, codec, row);
	sqlite3_finalize(row);
	pio_chunk_codec_free(codec);
	return ok;
}

static bool one_series_is_sound(scene *s, pio_store *store, sqlite3_stmt *row)
{
	pio_point *points = NULL;
	size_t count = 0;
	pio_err err = PIO_ERR_INIT;
	int64_t id = sqlite3_column_int64(row, 0), finite = 0;
	double min = (double)NAN, max = (double)NAN, sum = 0;
	if (pio_store_series_read(&points, &count, store, id, INT64_MIN, INT64_MAX, 0, &err) != 0)
		return found(s, "series %" PRId64 " cannot be read: %s", id, err.message);
	for (size_t i = 0; i < count; i++) {
		double value = points[i].value;
		min = isnan(min) || value < min ? value : min;
		max = isnan(max) || value > max ? value : max;
		finite += isfinite(value);
		sum += isfinite(value) ? value : 0;
	}
	int64_t first = count ? points[0].step : 0, last = count ? points[count - 1].step : 0;
	bool ok = sqlite3_column_int64(row, 1) == (int64_t)count && sqlite3_column_int64(row, 2) == first &&
	          sqlite3_column_int64(row, 3) == last && is_same(real_of(row, 4), min) &&
	          is_same(real_of(row, 5), max) && sqlite3_column_int64(row, 6) == finite &&
	          fabs(sqlite3_column_double(row, 7) - sum) <= 1e-9 * (fabs(sum) + 1);
	pio_free(points);
	return ok || found(s, "series %" PRId64 ": its row does not tell what its %zu points say", id, count);
}

static bool series_are_sound(scene *s, pio_store *store)
{
	sqlite3_stmt *row = rows_of(store, "SELECT id, count, first_step, last_step, min, max, finite, sum"
	                            " FROM series");
	bool ok = true;
	while (ok && sqlite3_step(row) == SQLITE_ROW)
		ok = one_series_is_sound(s, store, row);
	sqlite3_finalize(row);
	return ok;
}

static void keep_finding(void *context, const pio_verify_finding *finding, int64_t done, int64_t total)
{
	(void)done;
	(void)total;
	if (finding && !finding->orphan)
		found(context, "verify: object %s %s", finding->object, finding->what);
}

bool store_is_sound(scene *s, pio_store *store)
{
	pio_verify_result result;
	pio_err err = PIO_ERR_INIT;
	sqlite3_stmt *row = rows_of(store, "PRAGMA integrity_check");
	bool ok = sqlite3_step(row) == SQLITE_ROW &&
	          strcmp((const char *)sqlite3_column_text(row, 0), "ok") == 0;
	if (!ok)
		found(s, "integrity_check: %s", sqlite3_column_text(row, 0));
	sqlite3_finalize(row);
	if (ok && int_of(store, "SELECT count(*) FROM pragma_foreign_key_check") != 0)
		ok = found(s, "foreign_key_check has findings");
	if (ok && pio_store_series_now_show(store, &err) != 0)
		ok = found(s, "recent points: %s", err.message);
	ok = ok && chunks_are_sound(s, store) && series_are_sound(s, store);
	if (ok && pio_store_verify(&result, store, NULL, keep_finding, s, &err) != 0)
		ok = found(s, "verify: %s", err.message);
	return ok && !s->page->message[0];
}

double value_of(int64_t step)
{
	uint64_t state = (uint64_t)step;
	return (double)(float)((double)(random_next(&state) >> 40) * 0x1p-20);
}

bool points_are_whole(scene *s, pio_store *store, const char *key, int64_t acked, int64_t sent)
{
	sqlite3_stmt *row = rows_of(store, "SELECT step, value FROM point WHERE key = ?1 ORDER BY step");
	int64_t step = 0;
	bool ok = true;
	int rc;
	sqlite3_bind_text(row, 1, key, -1, SQLITE_STATIC);
	while (ok && (rc = sqlite3_step(row)) == SQLITE_ROW) {
		int64_t there = sqlite3_column_int64(row, 0);
		if (there != step)
			ok = found(s, "%s: step %" PRId64 " %s", key, there < step ? there : step,
			           there < step ? "is there twice" : "is missing");
		else if (sqlite3_column_double(row, 1) != value_of(step))
			ok = found(s, "%s: the value of step %" PRId64 " is another", key, step);
		step++;
	}
	if (ok && rc != SQLITE_DONE)
		ok = found(s, "%s cannot be read: %s", key, sqlite3_errmsg(pio_store_db(store)));
	sqlite3_finalize(row);
	if (ok && (step < acked || step > sent))
		ok = found(s, "%s has %" PRId64 " points; %" PRId64 " were acknowledged, %" PRId64 " sent", key,
		           step, acked, sent);
	return ok;
}

/* ---- processes ------------------------------------------------------------------------------- */

pid_t child_start(void (*work)(scene *), scene *s)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0)
		abort();
	if (pid == 0) {
		work(s);
		_exit(0);
	}
	return pid;
}

int child_wait(pid_t pid)
{
	int status = 0;
	if (waitpid(pid, &status, 0) != pid)
		abort();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- telling ------------------------------------------------------------------------------------ */

static int told, failed;

void tell(bool ok, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	printf("%sok %d - ", ok ? "" : "not ", ++told);
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
	failed += !ok;
}

int tell_end(void)
{
	printf("1..%d\n", told);
	return failed ? 1 : 0;
}
