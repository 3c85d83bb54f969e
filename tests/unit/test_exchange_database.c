/* Databases of trackio and MLflow that were made by hand, with hostile rows. */
#include "exchange_fixture.h"

static sqlite3 *make(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	char *message = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s", message);
	return db;
}

#define MLFLOW \
	"CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT);" \
	"CREATE TABLE runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id);" \
	"CREATE TABLE metrics (key, value, timestamp, run_uuid, step, is_nan);" \
	"CREATE INDEX by_run ON metrics (run_uuid);" \
	"CREATE TABLE params (key, value, run_uuid); CREATE TABLE tags (key, value, run_uuid);"

static void mlflow_runs_and_what_they_say(void **unused)
{
	(void)unused;
	fixture f = store_up();
	char *dir = scratch_new();
	const char *path = path_in(dir, "any name.sqlite");
	sqlite3 *db = make(path, MLFLOW
		"INSERT INTO experiments VALUES (1, 'Le test!');"
		"INSERT INTO runs VALUES ('u1', 'first', 'FINISHED', 1700000000000, 1700000009000, 'active', 1),"
		" ('u2', NULL, 'RUNNING', NULL, NULL, 'active', 1), ('u3', 'gone', 'FAILED', 1, 2, 'deleted', 1),"
		" ('u4', 'killed', 'KILLED', -5, 9e99, NULL, 77);"
		"INSERT INTO params VALUES ('lr', '1e-3', 'u1'), ('flag', 'True', 'u1'), ('n', '-7', 'u1'),"
		" ('word', '1e', 'u1'), ('', 'x', 'u1'), (NULL, 'y', 'u1'), ('blob', x'00ff', 'u1');"
		"INSERT INTO tags VALUES ('a', 'b', 'u1'), ('none', NULL, 'u1');"
		"INSERT INTO metrics VALUES ('loss', 0.5, 1700000001000, 'u1', 0, 0),"
		" ('loss', 0, 1700000002000, 'u1', 1, 1),"
		" ('loss', 'text', 1, 'u1', 2, 0), ('loss', 1, 9223372036854775807, 'u1', 3, 0),"
		" ('loss', 1, 1, 'u1', 'step', 0), (NULL, 1, 1, 'u1', 1, 0), (x'ff', 1, 1, 'u1', 1, 0);");
	assert_string_equal(pio_exchange_format(path), "mlflow");
	taken t = import_ok(f.store, "mlflow", path);
	assert_int_equal(t.fresh, 3);
	assert_int_equal(t.points, 3);
	assert_int_equal(t.skips, 6);
	assert_string_equal(sql_text(f.store, "SELECT group_concat(name || number || status) FROM (SELECT"
	                             " e.name, r.number, r.status FROM run r JOIN experiment e ON"
	                             " e.id = r.experiment_id ORDER BY r.id)"),
	                    "Le-test1failed,imported1cancelled,Le-test2finished");
	assert_string_equal(sql_text(f.store, "SELECT group_concat(name || ':' || kind) FROM (SELECT * FROM param"
	                             " ORDER BY name)"), "blob:text,flag:bool,lr:real,n:int,word:text");
	assert_int_equal(sql_int(f.store, "SELECT nans FROM series WHERE key = 'loss'"), 1);
	assert_int_equal(sql_int(f.store, "SELECT started_ns FROM run JOIN tag ON tag.run_id = run.id WHERE"
	                         " tag.value = 'first'"), 1700000000000000000);
	/* New rows, and new rowids of the old ones. */
	assert_int_equal(sqlite3_exec(db, "DELETE FROM runs WHERE run_uuid = 'u3'; VACUUM;"
	                              "INSERT INTO metrics VALUES ('loss', 9, 1700000003000, 'u1', 9, 0);"
	                              "UPDATE runs SET status = 'FAILED' WHERE run_uuid = 'u2'", NULL, NULL,
	                              NULL), SQLITE_OK);
	t = import_ok(f.store, "mlflow", path);
	assert_int_equal(t.points, 1);
	assert_int_equal(t.fresh, 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM run WHERE reason = 'its program failed'"), 1);
	t = import_ok(f.store, "mlflow", path);
	assert_int_equal(t.points + t.skips, 0);
	sqlite3_close(db);
	scratch_remove(dir);
	store_down(&f);
}

static void write_meanwhile(void *path, const char *finding, int64_t done, int64_t total)
{
	(void)finding;
	(void)total;
	char sql[200];
	sqlite3 *db = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	snprintf(sql, sizeof sql, "INSERT INTO metrics VALUES ('meanwhile', %" PRId64 ", 5, 'u2', %" PRId64
	         ", 0)", done, done);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK); /* it does not wait */
	sqlite3_close(db);
}

/* More than a batch a run, other runs' rows between, and a writer between runs. */
static void large_runs_come_in_batches_and_hold_no_writer_up(void **unused)
{
	(void)unused;
	fixture f = store_up();
	char *dir = scratch_new(), *path = strdup(path_in(dir, "mlflow.db"));
	pio_import_report report = PIO_IMPORT_REPORT_INIT;
	pio_import_options options = { .otherwise = "imported", .progress = write_meanwhile,
	                               .context = path };
	sqlite3 *db = make(path, MLFLOW
		"INSERT INTO runs VALUES ('u1', 'a', 'FINISHED', 1, 2, 'active', 1),"
		" ('u2', 'b', 'FINISHED', 3, 4, 'active', 1);"
		"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1199999)"
		" INSERT INTO metrics SELECT 'loss', i, 5, CASE i % 2 WHEN 0 THEN 'u1' ELSE 'u2' END, i, 0 FROM n");
	sqlite3_close(db);
	check_ok(pio_import(&report, f.store, "mlflow", path, &options, &err));
	pio_import_report_fini(&report);
	for (int rank = 0; rank < 2; rank++) {
		char sql[200];
		snprintf(sql, sizeof sql, "SELECT count = 600000 AND sum = 359999%s AND first_step = %d FROM series"
		         " WHERE key = 'loss' ORDER BY run_id LIMIT 1 OFFSET %d", rank ? "400000.0 + 600000"
		         : "400000.0", rank, rank);
		assert_int_equal(sql_int(f.store, sql), 1);
	}
	assert_int_equal(sql_int(f.store, "SELECT count FROM series WHERE key = 'meanwhile'"), 1);
	taken t = import_ok(f.store, "mlflow", path);
	assert_int_equal(t.points, 1); /* what was written after the second run */
	free(path);
	scratch_remove(dir);
	store_down(&f);
}

#define TRACKIO \
	"CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, timestamp TEXT," \
	" run_name TEXT, step INTEGER, metrics TEXT);" \
	"CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, run_name TEXT," \
	" config TEXT, created_at TEXT);" \
	"CREATE TABLE system_metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, timestamp TEXT," \
	" run_name TEXT, metrics TEXT);" \
	"CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, timestamp TEXT," \
	" run_name TEXT, title TEXT, text TEXT, level TEXT, step INTEGER);"

static void trackio_runs_and_what_they_say(void **unused)
{
	(void)unused;
	fixture f = store_up();
	char *dir = scratch_new();
	const char *path = path_in(dir, "my project.db");
	sqlite3 *db = make(path, TRACKIO
		"INSERT INTO configs (run_id, run_name, config, created_at) VALUES"
		" ('a', 'one', '{\"lr\": 0.5, \"n\": {\"x\": 1}, \"_Group\": \"g\"}', '2026-11-23T06:48:13+00:00'),"
		" ('b', 'two', 'no json', '');"
		"INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES"
		" ('a', '2026-11-23T08:48:13.101286+02:00', 'one', 0,"
		" '{\"loss\": 1, \"v\": {\"a\": 2.5}, \"s\": \"t\"}'),"
		" ('a', 'never', 'one', 1, '{\"loss\": \"NaN\", \"l\": [1], \"t\": {\"_type\": \"trackio.table\"}}'),"
		" ('b', NULL, 'two', 2, '[1, 2]'), ('b', NULL, 'two', 2, '{'),"
		" ('c', NULL, 'three', 'x', '{\"k\": 1}');"
		"INSERT INTO system_metrics (run_id, timestamp, run_name, metrics) VALUES"
		" ('a', '2026-11-23T06:48:14', 'one', '{\"gpu\": 5}');"
		"INSERT INTO alerts (run_id, timestamp, run_name, title, text, step) VALUES"
		" ('a', '2026-11-23T06:48:14', 'one', 'Loss', 'it rose', 3);");
	assert_string_equal(pio_exchange_format(path), "trackio");
	taken t = import_ok(f.store, "trackio", path);
	assert_int_equal(t.fresh, 3);
	assert_int_equal(t.points, 5);
	assert_int_equal(t.texts, 2);
	assert_int_equal(t.skips, 5);
	assert_string_equal(sql_text(f.store, "SELECT name FROM experiment"), "my-project");
	assert_int_equal(sql_int(f.store, "SELECT time_ns FROM point WHERE key = 'v/a'"), 1795416493101286000);
	assert_int_equal(sql_int(f.store, "SELECT last FROM series WHERE key = 'system/gpu'"), 5);
	assert_string_equal(sql_text(f.store, "SELECT message FROM event WHERE kind = 'alert'"),
	                    "Loss: it rose");
	t = import_ok(f.store, "trackio", path);
	assert_int_equal(t.points + t.texts + t.skips, 0);
	assert_int_equal(sqlite3_exec(db, "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics)"
	                              " VALUES ('c', '', 'three', 7, '{\"k\": 2}')", NULL, NULL, NULL),
	                 SQLITE_OK);
	assert_int_equal(import_ok(f.store, "trackio", path).points, 1);
	sqlite3_close(db);
	scratch_remove(dir);
	store_down(&f);
}

/* Read whole; the caller frees. */
static pio_str bytes_of(const char *path)
{
	pio_str bytes = PIO_STR_INIT;
	check_ok(pio_fs_read(&bytes, path, &err));
	return bytes;
}

static void a_source_in_wal_mode_stays_as_it_is(void **unused)
{
	(void)unused;
	fixture f = store_up();
	char *dir = scratch_new();
	char **names = NULL;
	size_t count = 0;
	const char *path = path_in(dir, "p.db"), *wal = path_in(dir, "p.db-wal");
	sqlite3 *db = make(path, "PRAGMA journal_mode = WAL; " TRACKIO
		"INSERT INTO metrics (run_id, run_name, step, metrics) VALUES ('a', 'one', 0, '{\"k\": 1}');");
	/* In use: its newest rows are in the log. */
	assert_int_equal(pio_fs_type(wal), PIO_FS_FILE);
	pio_str before = bytes_of(path), log_before = bytes_of(wal);
	assert_int_equal(import_ok(f.store, "trackio", path).points, 1);
	pio_str after = bytes_of(path), log_after = bytes_of(wal);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, after.len);
	assert_int_equal(log_before.len, log_after.len);
	assert_memory_equal(log_before.data, log_after.data, log_after.len);
	assert_int_equal(sqlite3_exec(db, "INSERT INTO metrics (run_id, run_name, step, metrics) VALUES"
	                              " ('a', 'one', 1, '{\"k\": 2}')", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	/* At rest: no file appears beside it, even where none could. */
	assert_int_equal(import_ok(f.store, "trackio", path).points, 1);
	check_ok(pio_fs_list(&names, &count, dir, &err));
	assert_int_equal(count, 1);
	pio_fs_list_free(names, count);
	pio_str *const all[] = { &before, &after, &log_before, &log_after };
	for (size_t i = 0; i < 4; i++)
		pio_str_fini(all[i]);
	scratch_remove(dir);
	store_down(&f);
}

static void other_files_are_named(void **unused)
{
	(void)unused;
	fixture f = store_up();
	char *dir = scratch_new();
	taken t;
	const char *path = path_in(dir, "x.db");
	put_file(path, "SQLite format 3\0 and then nothing", 33);
	assert_null(pio_exchange_format(path));
	check_fails(import_some(&t, f.store, "mlflow", path, false, &err), PIO_ECORRUPT, "x.db");
	sqlite3_close(make(path_in(dir, "other.db"), "CREATE TABLE runs (id); CREATE TABLE metrics (a)"));
	assert_null(pio_exchange_format(path_in(dir, "other.db")));
	check_fails(import_some(&t, f.store, "trackio", path_in(dir, "other.db"), false, &err),
	            PIO_ECORRUPT, "no such");
	assert_null(pio_exchange_format(path_in(dir, "none")));
	assert_null(pio_exchange_format(dir));
	put_file(path_in(dir, "b"), ":SWL\xd6\xe1\2 ", 8);
	assert_string_equal(pio_exchange_format(path_in(dir, "b")), "swanlab");
	check_fails(import_some(&t, f.store, "else", path, false, &err), PIO_EINVAL, "\"else\"");
	scratch_remove(dir);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mlflow_runs_and_what_they_say),
		cmocka_unit_test(large_runs_come_in_batches_and_hold_no_writer_up),
		cmocka_unit_test(trackio_runs_and_what_they_say),
		cmocka_unit_test(a_source_in_wal_mode_stays_as_it_is),
		cmocka_unit_test(other_files_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
