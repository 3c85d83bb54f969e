/* What was logged comes back bit for bit, by every way out of the store: SQL,
 * the loadable extension, reads of a series, bulk reads, CSV. */
#include "store_fixture.h"

#include <fcntl.h>

#include "store/read.h"

typedef struct logged {
	int key, rank, place;      /* place: the order logged */
	int64_t step, time_ns;
	uint64_t bits;
	bool integer;
} logged;

typedef struct record {
	logged *all;
	int count, keys, ranks;
	const char *name;          /* format of a key's name; they sort as their numbers do */
} record;

static uint64_t random_state = 88172645463325252u;

static uint64_t draw(void)
{
	return next_random(&random_state);
}

static uint64_t random_bits(void)
{
	static const uint64_t hard[] = {
		0x7ff8000000000000, 0xfff8000000000001, 0x7ff0000000000001, 0x7ff7ffffffffffff,
		0x7ff0000000000000, 0xfff0000000000000, 0x8000000000000000, 0, 1,
		0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff,
		0x3fb999999999999a, 0x36a0000000000000, 0x380fffffc0000000, 0x47efffffe0000000,
	};
	switch (draw() % 8) {
	case 0: return hard[draw() % 16];
	case 1: return draw();
	case 2: return 0x7ff0000000000000 | draw() % 4096;        /* NaNs */
	case 3: return draw() >> (12 + draw() % 40);              /* denormals */
	case 4: return bits_of((double)(float)((double)(draw() % 1000000) * 1e-3));
	case 5: return bits_of((double)(draw() % 1000));
	default: return bits_of((double)draw() * 0x1p-40);
	}
}

static int64_t random_step(int i)
{
	static const int64_t hard[] = { INT64_MIN, INT64_MIN + 1, -1, 0, INT64_MAX - 1, INT64_MAX };
	switch (draw() % 16) {
	case 0: return hard[draw() % 6];
	case 1: return (int64_t)draw();
	case 2: return (int64_t)(draw() % 100);                   /* often again */
	default: return i / 32 + (int64_t)(draw() % 3);           /* about in order */
	}
}

static int compare_logged(const void *a, const void *b)
{
	const logged *x = a, *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	if (x->step != y->step)
		return x->step < y->step ? -1 : 1;
	return x->place < y->place ? -1 : x->place > y->place;
}

/* Through a journal, as agents write it, in folds of all sizes. */
static void log_all(const fixture *f, record *r)
{
	char name[32];
	pio_journal_writer *w = journal_up(f, 1);
	for (int rank = 0; rank < r->ranks; rank++) {
		for (int key = 0; key < r->keys; key++) {
			snprintf(name, sizeof name, r->name, key);
			put_key(w, (uint32_t)rank, (uint32_t)key + 1, name);
		}
	}
	r->all = pio_alloc((size_t)r->count * sizeof *r->all);
	assert_non_null(r->all);
	int next_fold = 1000;
	for (int i = 0; i < r->count; i++) {
		logged *l = &r->all[i];
		*l = (logged){ .key = (int)(draw() % (uint64_t)r->keys), .rank = (int)(draw() % (uint64_t)r->ranks),
		               .place = i, .step = random_step(i), .time_ns = (int64_t)(draw() % 2000000) * 1000000,
		               .bits = random_bits(), .integer = draw() % 16 == 0 };
		/* One key is of integers alone. */
		l->integer |= l->key == 3;
		put_bits(w, (uint32_t)l->rank, ((uint32_t)l->key + 1) | (l->integer ? PIO_POINT_INTEGER : 0), l->step,
		         l->time_ns, l->bits);
		if (i == next_fold) {
			check_ok(pio_journal_flush(w, 0, &err));
			fold(f, false);
			next_fold += 1 + (int)(draw() % 400000);
		}
	}
	journal_down(w);
	fold(f, true);
	qsort(r->all, (size_t)r->count, sizeof *r->all, compare_logged);
}

/* ---- SQL --------------------------------------------------------------------------------- */

static void check_row(const record *r, int at, sqlite3_stmt *row)
{
	const logged *l = &r->all[at];
	char name[32];
	snprintf(name, sizeof name, r->name, l->key);
	int type = sqlite3_column_type(row, 4);
	uint64_t bits = (uint64_t)sqlite3_column_int64(row, type == SQLITE_INTEGER ? 4 : 5);
	double value = sqlite3_column_double(row, 4);
	bool same = strcmp((const char *)sqlite3_column_text(row, 0), name) == 0 &&
	            sqlite3_column_int(row, 1) == l->rank && sqlite3_column_int64(row, 2) == l->step &&
	            sqlite3_column_int64(row, 3) == l->time_ns && bits == l->bits &&
	            (type == SQLITE_INTEGER) == l->integer;
	double logged_value;
	memcpy(&logged_value, &l->bits, 8);
	same = same && (type != SQLITE_FLOAT || bits_of(value) == l->bits) &&
	       (type != SQLITE_NULL || isnan(logged_value));
	if (!same)
		fail_msg("row %d differs: key %s step %lld bits %llx", at, sqlite3_column_text(row, 0),
		         (long long)sqlite3_column_int64(row, 2), (unsigned long long)bits);
}

static void check_sql(const record *r, sqlite3 *db)
{
	sqlite3_stmt *row;
	if (sqlite3_prepare_v2(db, "SELECT key, rank, step, time_ns, value, bits FROM point WHERE run = 'gpt-1'"
	                       " ORDER BY key, rank, step", -1, &row, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	int at = 0;
	for (; sqlite3_step(row) == SQLITE_ROW; at++) {
		assert_true(at < r->count);
		check_row(r, at, row);
	}
	assert_int_equal(sqlite3_finalize(row), SQLITE_OK);
	assert_int_equal(at, r->count);
}

static void check_extension(const record *r, const fixture *f)
{
	char self[3000] = "", file[4096], *message = NULL;
	assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
	*strrchr(self, '/') = 0;
	snprintf(file, sizeof file, "%s/../lib/pioche/pioche_sqlite", self);
	sqlite3 *db;
	assert_int_equal(sqlite3_open_v2(path_in(f->dir, "pioche.db"), &db, SQLITE_OPEN_READONLY, NULL),
	                 SQLITE_OK);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
	if (sqlite3_load_extension(db, file, NULL, &message) != SQLITE_OK)
		fail_msg("%s", message);
	check_sql(r, db);
	assert_int_equal(sqlite3_close(db), SQLITE_OK); /* not the lenient one: nothing is left open */
}

/* ---- whole series -------------------------------------------------------------------------- */

/* The end of the series that begins at `at`. */
static int end_of(const record *r, int at)
{
	int end = at;
	while (end < r->count && r->all[end].key == r->all[at].key && r->all[end].rank == r->all[at].rank)
		end++;
	return end;
}

static void check_read(const record *r, const fixture *f, int at, int end)
{
	char sql[128], name[32];
	pio_point *points;
	size_t count;
	snprintf(name, sizeof name, r->name, r->all[at].key);
	snprintf(sql, sizeof sql, "SELECT id FROM series WHERE run_id = 1 AND key = '%s' AND rank = %d", name,
	         r->all[at].rank);
	check_ok(pio_store_series_read(&points, &count, f->store, sql_int(f->store, sql), INT64_MIN, INT64_MAX, 0,
	                               &err));
	assert_int_equal(count, end - at);
	for (size_t i = 0; i < count; i++) {
		const logged *l = &r->all[at + (int)i];
		assert_true(points[i].step == l->step && points[i].time_ns == l->time_ns &&
		            (uint64_t)points[i].whole == l->bits && points[i].integer == l->integer);
	}
	pio_free(points);
}

static void check_bulk(const record *r, const fixture *f, int at, int end, int threads)
{
	char name[32], message[256];
	pio_points points;
	snprintf(name, sizeof name, r->name, r->all[at].key);
	if (pio_points_read(&points, f->dir, at % 2 ? "gpt-1" : ULID_1, name, r->all[at].rank, threads, message,
	                    sizeof message) != 0)
		fail_msg("%s", message);
	assert_int_equal(points.count, end - at);
	const uint64_t *value = points.value;
	int64_t integers = 0;
	for (int64_t i = 0; i < points.count; i++) {
		const logged *l = &r->all[at + i];
		assert_true(points.step[i] == l->step && points.time_ns[i] == l->time_ns && value[i] == l->bits);
		integers += l->integer;
		if (points.kind == PIO_POINTS_MIXED)
			assert_int_equal(points.integer[i], l->integer);
	}
	assert_int_equal(points.kind, !integers ? PIO_POINTS_REAL : integers == points.count ? PIO_POINTS_INTEGER
	                                                                                    : PIO_POINTS_MIXED);
	pio_points_free(&points);
	assert_null(points.step);
}

/* ---- CSV ------------------------------------------------------------------------------------- */

static uint64_t bits_of_text(const char *text)
{
	uint64_t sign = text[0] == '-' ? 1ull << 63 : 0;
	const char *digits = text + (text[0] == '-');
	if (strncmp(digits, "nan", 3) == 0)
		return sign | 0x7ffull << 52 | (digits[3] == '(' ? strtoull(digits + 4, NULL, 16) : 1ull << 51);
	return bits_of(strtod(text, NULL));
}

static void check_csv(const record *r, const fixture *f)
{
	const char *path = path_in(f->dir, "metrics.csv");
	int fd = -1, at = 0;
	check_ok(pio_fs_open(&fd, path, O_WRONLY | O_CREAT, 0666, &err));
	check_ok(pio_store_export_csv(f->store, 1, fd, path, &err));
	check_ok(pio_fs_close(&fd, path, &err));
	FILE *file = fopen(path, "r");
	char line[256], key[32], want[32], value[64];
	assert_non_null(fgets(line, sizeof line, file));
	assert_string_equal(line, "key,rank,step,time_ns,value\n");
	for (; fgets(line, sizeof line, file); at++) {
		long long step, time_ns;
		int rank;
		assert_true(at < r->count);
		const logged *l = &r->all[at];
		assert_int_equal(sscanf(line, "%31[^,],%d,%lld,%lld,%63[^\n]", key, &rank, &step, &time_ns, value), 5);
		snprintf(want, sizeof want, r->name, l->key);
		uint64_t bits = l->integer ? (uint64_t)strtoll(value, NULL, 10) : bits_of_text(value);
		if (strcmp(key, want) != 0 || rank != l->rank || step != l->step || time_ns != l->time_ns ||
		    bits != l->bits)
			fail_msg("line %d differs: %s", at + 2, line);
	}
	fclose(file);
	assert_int_equal(at, r->count);
}

static void a_million_points(void **unused)
{
	(void)unused;
	record r = { .count = 1000000, .keys = 8, .ranks = 4, .name = "key/%d" };
	fixture f = store_up_run();
	log_all(&f, &r);
	check_sql(&r, pio_store_db(f.store));
	check_extension(&r, &f);
	check_csv(&r, &f);
	for (int at = 0, end; at < r.count; at = end) {
		end = end_of(&r, at);
		check_read(&r, &f, at, end);
		check_bulk(&r, &f, at, end, at % 4);
	}
	pio_free(r.all);
	store_down(&f);
}

static void a_hundred_thousand_keys(void **unused)
{
	(void)unused;
	record r = { .count = 110000, .keys = 100000, .ranks = 1, .name = "key/%06d" };
	fixture f = store_up_run();
	log_all(&f, &r);
	check_extension(&r, &f);
	check_csv(&r, &f);
	for (int at = 0, end, n = 0; at < r.count; at = end, n++) {
		end = end_of(&r, at);
		if (n % 500 == 0) {
			check_read(&r, &f, at, end);
			check_bulk(&r, &f, at, end, 1);
		}
	}
	pio_free(r.all);
	store_down(&f);
}

static void bulk_reads_name_what_is_wrong(void **unused)
{
	(void)unused;
	record r = { .count = 20000, .keys = 1, .ranks = 1, .name = "key/%d" };
	fixture f = store_up_run();
	log_all(&f, &r);
	pio_points points;
	char message[256];
	static const struct { const char *run, *key; int64_t rank; int threads, code; const char *text; } cases[] = {
		{ "gpt-2", "key/0", 0, 0, PIO_ENOTFOUND, "has no run 'gpt-2'" },
		{ "", "key/0", 0, 0, PIO_ENOTFOUND, "has no run ''" },
		{ "gpt-1", "key/1", 0, 0, PIO_ENOTFOUND, "run gpt-1 has no metric 'key/1' of rank 0" },
		{ "gpt-1", "key/0", 7, 0, PIO_ENOTFOUND, "of rank 7" },
		{ "gpt-1", NULL, 0, 0, PIO_EINVAL, "key is NULL" },
		{ "gpt-1", "key/0", 0, -1, PIO_EINVAL, "threads is -1" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(pio_points_read(&points, f.dir, cases[i].run, cases[i].key, cases[i].rank,
		                                 cases[i].threads, message, sizeof message), -cases[i].code);
		assert_non_null(strstr(message, cases[i].text));
		assert_true(!points.count && !points.step && !points.value);
	}
	assert_int_equal(pio_points_read(&points, path_in(f.dir, "none"), "gpt-1", "key/0", 0, 0, message, 10),
	                 -PIO_ENOTFOUND);
	assert_string_equal(message, "there is ");
	assert_int_equal(pio_points_read(NULL, f.dir, "gpt-1", "key/0", 0, 0, NULL, 0), -PIO_EINVAL);
	check_bulk(&r, &f, 0, r.count, 3);
	int64_t live = pio_mem_live();
	for (int threads = 1; threads <= 3; threads += 2) {
		int rc = -1;
		for (uint64_t n = 1; rc; n++) { /* memory is out at the nth allocation */
			pio_mem_fail_at(n);
			rc = pio_points_read(&points, f.dir, "gpt-1", "key/0", 0, threads, message, sizeof message);
			pio_mem_fail_at(0);
			assert_true(rc == 0 || rc == -PIO_ENOMEM);
			pio_points_free(&points);
			assert_int_equal(pio_mem_live(), live);
		}
	}
	/* Rows that do not tell the truth about their chunks. */
	static const char *const lies[] = { "count - 100", "count + 100", "0", "-7", "1 << 61" };
	sqlite3 *db = pio_store_db(f.store);
	assert_int_equal(sqlite3_exec(db, "CREATE TEMP TABLE truth AS SELECT id, count FROM chunk", NULL, NULL, NULL),
	                 SQLITE_OK);
	for (size_t i = 0; i < 5; i++) {
		char sql[128];
		snprintf(sql, sizeof sql, "UPDATE chunk SET count = %s", lies[i]);
		assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
		for (int threads = 1; threads <= 3; threads += 2) {
			int rc = pio_points_read(&points, f.dir, "gpt-1", "key/0", 0, threads, message, sizeof message);
			/* Chunks that overlap are counted when they are read, and 100 too many do no harm. */
			assert_true(rc == -PIO_ECORRUPT || (rc == 0 && i == 1 && points.count == r.count));
			pio_points_free(&points);
		}
		assert_int_equal(sqlite3_exec(db, "UPDATE chunk SET count = (SELECT t.count FROM truth t WHERE"
		                              " t.id = chunk.id)", NULL, NULL, NULL), SQLITE_OK);
	}
	assert_int_equal(sqlite3_exec(db, "UPDATE chunk SET data = zeroblob(60) WHERE id ="
	                              " (SELECT max(id) FROM chunk)", NULL, NULL, NULL), SQLITE_OK);
	for (int threads = 1; threads <= 3; threads += 2) {
		assert_int_equal(pio_points_read(&points, f.dir, "gpt-1", "key/0", 0, threads, message, sizeof message),
		                 -PIO_EVERSION);
		assert_non_null(strstr(message, "pioche.db, chunk "));
	}
	pio_free(r.all);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_million_points),
		cmocka_unit_test(a_hundred_thousand_keys),
		cmocka_unit_test(bulk_reads_name_what_is_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
