/* store_fixture.h: a store in a scratch directory, and journals for it. Every
 * test ends with store_down, which checks that the database is sound. */
#ifndef PIO_TEST_STORE_FIXTURE_H
#define PIO_TEST_STORE_FIXTURE_H

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/fold.h"
#include "store/run.h"
#include "store/series.h"
#include "store/store.h"
#include "sys/journal.h"
#include "test.h"

#define ULID_1 "01ARZ3NDEKTSV4RRFFQ69G5FAV"

typedef struct fixture {
	char *dir;
	pio_store *store;
	int64_t run, attempt;
	int number;
} fixture;

static inline int64_t sql_int(pio_store *store, const char *sql)
{
	sqlite3_stmt *row = NULL;
	if (sqlite3_prepare_v2(pio_store_db(store), sql, -1, &row, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(pio_store_db(store)));
	if (sqlite3_step(row) != SQLITE_ROW)
		fail_msg("%s: no row: %s", sql, sqlite3_errmsg(pio_store_db(store)));
	int64_t value = sqlite3_column_int64(row, 0);
	sqlite3_finalize(row);
	return value;
}

/* Borrowed until the next call. */
static inline const char *sql_text(pio_store *store, const char *sql)
{
	static char text[8192];
	sqlite3_stmt *row = NULL;
	if (sqlite3_prepare_v2(pio_store_db(store), sql, -1, &row, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(pio_store_db(store)));
	if (sqlite3_step(row) != SQLITE_ROW)
		fail_msg("%s: no row: %s", sql, sqlite3_errmsg(pio_store_db(store)));
	const char *found = (const char *)sqlite3_column_text(row, 0);
	snprintf(text, sizeof text, "%s", found ? found : "(null)");
	sqlite3_finalize(row);
	return text;
}

static inline void check_sound(pio_store *store)
{
	assert_string_equal(sql_text(store, "PRAGMA integrity_check"), "ok");
	assert_int_equal(sql_int(store, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

static inline fixture store_up(void)
{
	fixture f = { .dir = scratch_new() };
	check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_CREATE, &err));
	return f;
}

/* With a run gpt-1 and its first attempt. */
static inline fixture store_up_run(void)
{
	fixture f = store_up();
	int64_t experiment;
	check_ok(pio_store_experiment(&experiment, f.store, "gpt", NULL, NULL, &err));
	pio_store_run_spec spec = { .experiment_id = experiment, .ulid = ULID_1 };
	check_ok(pio_store_run_create(&f.run, f.store, &spec, &err));
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	return f;
}

static inline void store_down(fixture *f)
{
	check_sound(f->store);
	pio_store_close(&f->store);
	scratch_remove(f->dir);
}

static inline void store_reopen(fixture *f)
{
	pio_store_close(&f->store);
	check_ok(pio_store_open(&f->store, f->dir, PIO_STORE_WRITE, &err));
}

/* ---- journals ----------------------------------------------------------------------- */

static inline const char *journal_path(const fixture *f, int attempt, int node)
{
	char name[128];
	snprintf(name, sizeof name, "runs/" ULID_1 "/%d", attempt);
	check_ok(pio_fs_mkdirs(path_in(f->dir, name), 0777, &err));
	snprintf(name, sizeof name, "runs/" ULID_1 "/%d/journal.%d", attempt, node);
	return path_in(f->dir, name);
}

static inline pio_journal_writer *journal_up(const fixture *f, int attempt)
{
	pio_journal_writer *writer = NULL;
	pio_journal_header header = { .attempt = (uint32_t)attempt, .created_ns = 1 };
	assert_true(pio_ulid_parse(&header.run, ULID_1));
	check_ok(pio_journal_open(&writer, journal_path(f, attempt, 0), &header, &err));
	return writer;
}

static inline void journal_down(pio_journal_writer *writer)
{
	check_ok(pio_journal_close(&writer, &err));
}

static inline void put_record(pio_journal_writer *writer, enum pio_record_type type, pio_str *payload)
{
	check_ok(pio_str_check(payload, &err));
	check_ok(pio_journal_append(writer, type, payload->data, payload->len, NULL, 0, &err));
	pio_str_fini(payload);
}

static inline void put_key_bytes(pio_journal_writer *writer, uint32_t rank, uint32_t key,
                                 const char *name, size_t name_bytes)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, rank);
	pio_record_put_u32(&payload, key);
	pio_record_put_str(&payload, name, name_bytes);
	put_record(writer, PIO_RECORD_KEY, &payload);
}

static inline void put_key(pio_journal_writer *writer, uint32_t rank, uint32_t key, const char *name)
{
	put_key_bytes(writer, rank, key, name, strlen(name));
}

static inline uint64_t bits_of(double value)
{
	uint64_t bits;
	memcpy(&bits, &value, 8);
	return bits;
}

static inline void put_bits(pio_journal_writer *writer, uint32_t rank, uint32_t key, int64_t step,
                            int64_t time_ns, uint64_t bits)
{
	uint32_t head[2] = { rank, 1 };
	pio_journal_point point = { time_ns, step, bits, key, 0 };
	check_ok(pio_journal_append(writer, PIO_RECORD_POINTS, head, sizeof head, &point, sizeof point,
	                            &err));
}

static inline void put_point(pio_journal_writer *writer, uint32_t rank, uint32_t key, int64_t step,
                             double value)
{
	put_bits(writer, rank, key, step, 1000000 * (step % 1000000), bits_of(value));
}

static inline void put_fact(pio_journal_writer *writer, char kind, const char *name, const char *json)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, 0);
	pio_record_put_i64(&payload, 5);
	pio_str_putc(&payload, kind);
	pio_record_put_str(&payload, name, strlen(name));
	pio_record_put_str(&payload, json, strlen(json));
	put_record(writer, PIO_RECORD_FACT, &payload);
}

static inline void put_time_json(pio_journal_writer *writer, enum pio_record_type type,
                                 int64_t time_ns, const char *json)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_i64(&payload, time_ns);
	pio_record_put_str(&payload, json, strlen(json));
	put_record(writer, type, &payload);
}

static inline pio_fold_result fold(const fixture *f, bool final)
{
	pio_fold_result result;
	check_ok(pio_store_fold_attempt(&result, f->store, f->attempt, final, &err));
	return result;
}

static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Run `work` in a child; its exit status, or 128 + signal. */
static inline int in_child(void (*work)(void *), void *argument)
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		work(argument);
		_exit(0);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
