#include "store_fixture.h"

#include <grp.h>
#include <sys/stat.h>

#include "store/lease.h"

static void a_new_store_is_whole(void **unused)
{
	(void)unused;
	fixture f = store_up();
	assert_int_equal(sql_int(f.store, "PRAGMA user_version"), PIO_STORE_VERSION);
	assert_int_equal(sql_int(f.store, "PRAGMA application_id"), PIO_STORE_APPLICATION_ID);
	assert_int_equal(sql_int(f.store, "PRAGMA foreign_keys"), 1);
	assert_int_equal(sql_int(f.store, "PRAGMA synchronous"), 2);
	assert_string_equal(sql_text(f.store, "PRAGMA journal_mode"), "wal");
	assert_string_equal(pio_store_path(f.store), f.dir);
	static const char *const names[] = { "objects", "runs", "staging", "cache" };
	for (int i = 0; i < 4; i++)
		assert_int_equal(pio_fs_type(path_in(f.dir, names[i])), PIO_FS_DIR);
	pio_str ignore = PIO_STR_INIT;
	check_ok(pio_fs_read(&ignore, path_in(f.dir, ".gitignore"), &err));
	assert_string_equal(ignore.data, "*\n");
	pio_str_fini(&ignore);
	pio_store *again;
	check_ok(pio_store_open(&again, f.dir, PIO_STORE_CREATE, &err));
	pio_store_close(&again);
	store_down(&f);
}

static void a_network_disk_gets_no_wal(void **unused)
{
	(void)unused;
	setenv("PIOCHE_FS", "network", 1);
	fixture f = store_up();
	assert_string_equal(sql_text(f.store, "PRAGMA journal_mode"), "truncate");
	unsetenv("PIOCHE_FS");
	store_reopen(&f);
	assert_string_equal(sql_text(f.store, "PRAGMA journal_mode"), "wal");
	store_down(&f);
}

static void create_at_once(void *go)
{
	pio_store *store;
	char byte;
	const char **words = go;
	if (read(atoi(words[1]), &byte, 1) != 0)
		_exit(2);
	_exit(pio_store_open(&store, words[0], PIO_STORE_CREATE, NULL) != 0);
}

/* And who opens it meanwhile never finds one without tables. */
static void many_that_make_it_at_once_make_one(void **unused)
{
	(void)unused;
	enum { COUNT = 8 };
	char *dir = scratch_new(), number[16];
	int go[2];
	pid_t children[COUNT];
	pio_store *store;
	assert_int_equal(pipe(go), 0);
	snprintf(number, sizeof number, "%d", go[0]);
	const char *words[] = { dir, number };
	fflush(NULL);
	for (int i = 0; i < COUNT; i++)
		if ((children[i] = fork()) == 0) {
			close(go[1]);
			create_at_once(words);
		}
	close(go[0]);
	close(go[1]);
	while (access(path_in(dir, "pioche.db"), F_OK) != 0)
		usleep(100);
	check_ok(pio_store_open(&store, dir, PIO_STORE_READ, &err));
	pio_store_close(&store);
	for (int i = 0; i < COUNT; i++) {
		int status = 0;
		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
	char **names;
	size_t count;
	check_ok(pio_fs_list(&names, &count, dir, &err));
	for (size_t i = 0; i < count; i++)
		assert_null(strstr(names[i], ".part"));
	pio_fs_list_free(names, count);
	scratch_remove(dir);
}

static void an_absent_store_is_named(void **unused)
{
	(void)unused;
	pio_store *store;
	char *dir = scratch_new();
	check_fails(pio_store_open(&store, dir, PIO_STORE_READ, &err), PIO_ENOTFOUND, dir);
	check_fails(pio_store_open(&store, dir, PIO_STORE_WRITE, &err), PIO_ENOTFOUND, dir);
	assert_null(store);
	scratch_remove(dir);
}

static void run_sql(pio_store *store, const char *sql)
{
	assert_int_equal(sqlite3_exec(pio_store_db(store), sql, NULL, NULL, NULL), SQLITE_OK);
}

static void a_newer_store_is_refused_untouched(void **unused)
{
	(void)unused;
	fixture f = store_up();
	pio_str before = PIO_STR_INIT, after = PIO_STR_INIT;
	pio_store *store;
	run_sql(f.store, "PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)");
	pio_store_close(&f.store);
	check_ok(pio_fs_read(&before, path_in(f.dir, "pioche.db"), &err));
	for (int mode = PIO_STORE_READ; mode <= PIO_STORE_CREATE; mode++)
		check_fails(pio_store_open(&store, f.dir, (enum pio_store_mode)mode, &err), PIO_EVERSION,
		            "was written by a newer pioche (schema 99, this one knows ");
	check_ok(pio_fs_read(&after, path_in(f.dir, "pioche.db"), &err));
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	pio_str_fini(&before);
	pio_str_fini(&after);
	scratch_remove(f.dir);
}

/* Every table's columns, keys and indices, and every index's columns. */
static const char shape_sql[] =
	"SELECT group_concat(line, char(10)) FROM (SELECT m.name || '.' || c.name || ' ' || c.type || ' ' ||"
	" c.\"notnull\" || ' ' || ifnull(c.dflt_value, '-') || ' ' || c.pk AS line FROM sqlite_schema m,"
	" pragma_table_xinfo(m.name) c WHERE m.type = 'table' UNION ALL SELECT m.name || ': ' || i.name ||"
	" ' ' || i.\"unique\" || ' ' || i.partial || ' ' || (SELECT group_concat(ifnull(x.name, '?')) FROM"
	" pragma_index_info(i.name) x) FROM sqlite_schema m, pragma_index_list(m.name) i WHERE"
	" m.type = 'table' UNION ALL SELECT m.name || ' -> ' || f.\"table\" || '.' || ifnull(f.\"to\", '') ||"
	" ' ' || f.\"from\" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
	" ORDER BY 1)";

static char *shape_of(pio_store *store)
{
	sqlite3_stmt *row = NULL;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(store), shape_sql, -1, &row, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(row), SQLITE_ROW);
	char *shape = strdup((const char *)sqlite3_column_text(row, 0));
	sqlite3_finalize(row);
	return shape;
}

/* schema_<v>.sql is what version v made. */
static void migrate_from(int version, const char *expected)
{
	char *dir = scratch_new(), path[64], stamp[128];
	snprintf(path, sizeof path, "tests/unit/schema_%d.sql", version);
	snprintf(stamp, sizeof stamp, "PRAGMA user_version = %d; PRAGMA application_id = 0x50494f43;"
	         "INSERT INTO experiment (name, created_ns) VALUES ('old', 5)", version);
	pio_str old = PIO_STR_INIT;
	pio_store *store;
	sqlite3 *db;
	check_ok(pio_fs_read(&old, path, &err));
	assert_int_equal(sqlite3_open(path_in(dir, "pioche.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, old.data, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, stamp, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	check_fails(pio_store_open(&store, dir, PIO_STORE_READ, &err), PIO_EVERSION, "runs `pioche ls` once");
	check_ok(pio_store_open(&store, dir, PIO_STORE_WRITE, &err));
	char *shape = shape_of(store);
	assert_string_equal(shape, expected);
	assert_int_equal(sql_int(store, "SELECT created_ns FROM experiment WHERE name = 'old'"), 5);
	assert_int_equal(sql_int(store, "PRAGMA user_version"), PIO_STORE_VERSION);
	check_sound(store);
	pio_store_close(&store);
	pio_str_fini(&old);
	free(shape);
	scratch_remove(dir);
}

static void an_older_store_becomes_what_a_new_one_is(void **unused)
{
	(void)unused;
	fixture f = store_up();
	char *expected = shape_of(f.store);
	for (int version = 1; version < PIO_STORE_VERSION; version++)
		migrate_from(version, expected);
	free(expected);
	store_down(&f);
}

typedef struct hearing {
	int64_t calls, last, total;
	bool is_wrong;
} hearing;

static void hear(void *context, const char *finding, int64_t done, int64_t total)
{
	hearing *h = context;
	h->is_wrong = h->is_wrong || finding || done < h->last || done > total || (h->calls && total != h->total);
	h->calls++;
	h->last = done;
	h->total = total;
}

/* 400 runs of 150 parameters and 50 metrics: all three get an index, and runs two. */
static void who_waits_for_an_old_store_hears_how_long(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	pio_str old = PIO_STR_INIT;
	pio_store *store;
	sqlite3 *db;
	hearing heard = { 0 };
	check_ok(pio_fs_read(&old, "tests/unit/schema_1.sql", &err));
	assert_int_equal(sqlite3_open(path_in(dir, "pioche.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, old.data, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 1; PRAGMA application_id = 0x50494f43;"
		"INSERT INTO experiment (id, name, created_ns) VALUES (1, 'old', 5);"
		"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO run (id, ulid,"
		" experiment_id, number, status, created_ns) SELECT i, 'ulid' || i, 1, i, 'finished', i FROM n;"
		"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150) INSERT INTO param (run_id, name,"
		" value, kind) SELECT run.id, 'p' || i, i, 'int' FROM run, n;"
		"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO series (run_id, key,"
		" rank) SELECT run.id, 'm' || i, 0 FROM run, n", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	check_ok(pio_store_open_heard(&store, dir, PIO_STORE_WRITE, hear, &heard, &err));
	assert_false(heard.is_wrong);
	assert_int_equal(heard.total, 400 * (2 + 150 + 50));
	/* Some two million operations: each hundredth part of them is heard of. */
	assert_true(heard.calls >= 40);
	assert_true(heard.last > heard.total / 2);
	int64_t calls = heard.calls;
	check_sound(store); /* long, too, but nothing that anybody asked to hear of */
	pio_store_close(&store);
	check_ok(pio_store_open_heard(&store, dir, PIO_STORE_WRITE, hear, &heard, &err));
	assert_int_equal(heard.calls, calls);
	pio_store_close(&store);
	pio_str_fini(&old);
	scratch_remove(dir);
}

static void what_is_no_store_is_refused(void **unused)
{
	(void)unused;
	pio_store *store;
	sqlite3 *db;
	char *dir = scratch_new();
	check_ok(pio_fs_write(path_in(dir, "pioche.db"), "", 0, 0666, &err));
	check_fails(pio_store_open(&store, dir, PIO_STORE_READ, &err), PIO_ECORRUPT, "empty");
	check_fails(pio_store_open(&store, dir, PIO_STORE_WRITE, &err), PIO_ECORRUPT, "empty");
	check_ok(pio_fs_write(path_in(dir, "pioche.db"), "this is not SQLite at all, is it?", 33, 0666, &err));
	check_fails(pio_store_open(&store, dir, PIO_STORE_WRITE, &err), PIO_ECORRUPT, "pioche.db");
	check_ok(pio_fs_unlink(path_in(dir, "pioche.db"), &err));
	assert_int_equal(sqlite3_open(path_in(dir, "pioche.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (a)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	check_fails(pio_store_open(&store, dir, PIO_STORE_CREATE, &err), PIO_EINVAL, "not a store of pioche");
	scratch_remove(dir);
}

static void transactions_nest(void **unused)
{
	(void)unused;
	int64_t id;
	fixture f = store_up();
	check_ok(pio_store_begin(f.store, &err));
	check_ok(pio_store_experiment(&id, f.store, "a", NULL, NULL, &err));
	check_ok(pio_store_begin(f.store, &err));
	check_ok(pio_store_experiment(&id, f.store, "b", NULL, NULL, &err));
	pio_store_rollback(f.store);
	check_ok(pio_store_commit(f.store, &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(name) FROM experiment"), "a");
	check_ok(pio_store_begin(f.store, &err));
	check_ok(pio_store_experiment(&id, f.store, "c", NULL, NULL, &err));
	pio_store_rollback(f.store);
	assert_string_equal(sql_text(f.store, "SELECT group_concat(name) FROM experiment"), "a");
	store_down(&f);
}

static void the_lease_has_one_holder_who_is_named(void **unused)
{
	(void)unused;
	pio_store *other;
	char pid[32];
	fixture f = store_up();
	snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
	check_ok(pio_store_open(&other, f.dir, PIO_STORE_WRITE, &err));
	check_ok(pio_store_lease_take(f.store, &err));
	check_ok(pio_store_lease_take(f.store, &err));
	check_fails(pio_store_lease_take(other, &err), PIO_EBUSY, pid);
	pio_store_lease_drop(f.store);
	check_ok(pio_store_lease_take(other, &err));
	pio_store_close(&other);
	check_ok(pio_store_lease_take(f.store, &err));
	store_down(&f);
}

static void reading_writes_nothing(void **unused)
{
	(void)unused;
	int64_t id;
	fixture f = store_up_run();
	pio_store_close(&f.store);
	check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_READ, &err));
	assert_false(pio_store_is_writable(f.store));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM run"), 1);
	check_fails(pio_store_begin(f.store, &err), PIO_EINVAL, "reading only");
	check_fails(pio_store_experiment(&id, f.store, "x", NULL, NULL, &err), PIO_EINVAL, "reading only");
	store_down(&f);
}

static void become_nobody(void)
{
	if (getuid() == 0 && (setgroups(0, NULL) || setgid(65534) || setuid(65534)))
		_exit(99);
}

static void read_as_nobody(void *argument)
{
	pio_err err = PIO_ERR_INIT;
	pio_store *store;
	become_nobody();
	if (pio_store_open(&store, argument, PIO_STORE_WRITE, &err) != -PIO_EINVAL ||
	    !strstr(err.message, "cannot be written: Permission denied"))
		_exit(1);
	if (pio_store_open(&store, argument, PIO_STORE_READ, &err) != 0)
		_exit(2);
	sqlite3_stmt *row;
	if (sqlite3_prepare_v2(pio_store_db(store), "SELECT count(*) FROM run", -1, &row, NULL) ||
	    sqlite3_step(row) != SQLITE_ROW || sqlite3_column_int(row, 0) != 1)
		_exit(3);
	sqlite3_finalize(row);
	pio_store_close(&store);
}

static void a_store_one_cannot_write_can_be_read(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_store_close(&f.store);
	assert_int_equal(chmod(f.dir, 0555), 0);
	assert_int_equal(chmod(path_in(f.dir, "pioche.db"), 0444), 0);
	assert_int_equal(in_child(read_as_nobody, f.dir), 0);
	assert_int_equal(chmod(f.dir, 0755), 0);
	assert_int_equal(chmod(path_in(f.dir, "pioche.db"), 0644), 0);
	store_reopen(&f);
	store_down(&f);
}

static void opening_survives_lack_of_memory(void **unused)
{
	(void)unused;
	char *dir = scratch_new();
	int rc = -1;
	for (uint64_t n = 1; rc != 0 && n < 1000; n++) {
		pio_store *store;
		int64_t live = pio_mem_live();
		pio_mem_fail_at(n);
		rc = pio_store_open(&store, dir, PIO_STORE_CREATE, NULL);
		pio_mem_fail_at(0);
		pio_store_close(&store);
		assert_int_equal(pio_mem_live(), live);
	}
	assert_int_equal(rc, 0);
	scratch_remove(dir);
}

static void a_full_disk_is_told(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_str big = PIO_STR_INIT;
	for (int i = 0; i < 100000; i++)
		pio_str_puts(&big, "0123456789");
	run_sql(f.store, "PRAGMA max_page_count = 100");
	check_fails(pio_store_tag_set(f.store, f.run, "t", 1, big.data, big.len, &err), PIO_ENOSPC, "no space");
	run_sql(f.store, "PRAGMA max_page_count = 1000000");
	check_ok(pio_store_tag_set(f.store, f.run, "t", 1, big.data, big.len, &err));
	pio_str_fini(&big);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_store_is_whole),
		cmocka_unit_test(a_network_disk_gets_no_wal),
		cmocka_unit_test(many_that_make_it_at_once_make_one),
		cmocka_unit_test(an_absent_store_is_named),
		cmocka_unit_test(a_newer_store_is_refused_untouched),
		cmocka_unit_test(an_older_store_becomes_what_a_new_one_is),
		cmocka_unit_test(who_waits_for_an_old_store_hears_how_long),
		cmocka_unit_test(what_is_no_store_is_refused),
		cmocka_unit_test(transactions_nest),
		cmocka_unit_test(the_lease_has_one_holder_who_is_named),
		cmocka_unit_test(reading_writes_nothing),
		cmocka_unit_test(a_store_one_cannot_write_can_be_read),
		cmocka_unit_test(opening_survives_lack_of_memory),
		cmocka_unit_test(a_full_disk_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
