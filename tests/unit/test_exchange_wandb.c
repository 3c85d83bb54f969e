#include "exchange_fixture.h"

#include "base/histogram.h"

typedef struct rundir {
	fixture f;
	char *dir;
	pio_str file;
} rundir;

static rundir up(void)
{
	rundir r = { store_up(), scratch_new(), PIO_STR_INIT };
	put_head(&r.file);
	return r;
}

static taken take_bytes(rundir *r, size_t bytes)
{
	const char *path = path_in(r->dir, "run-abc.wandb");
	put_file(path, r->file.data, bytes);
	return import_ok(r->f.store, "wandb", path);
}

static taken take(rundir *r)
{
	return take_bytes(r, r->file.len);
}

static void down(rundir *r)
{
	pio_str_fini(&r->file);
	scratch_remove(r->dir);
	store_down(&r->f);
}

static void framing_is_theirs(void **unused)
{
	(void)unused;
	static const uint8_t chunk[] = { 0xbb, 0x09, 0x5d, 0x41, 2, 0, 1, 8, 1 };
	pio_str file = PIO_STR_INIT;
	put_chunk(&file, 1, "\x08\x01", 2);
	assert_int_equal(file.len, sizeof chunk);
	assert_memory_equal(file.data, chunk, sizeof chunk);
	assert_int_equal(pio_wandb_crc32(0, (const uint8_t *)"123456789", 9), 0xcbf43926u);
	pio_str_fini(&file);
}

static void another_head_is_refused(void **unused)
{
	(void)unused;
	rundir r = up();
	taken t;
	const char *path = path_in(r.dir, "run-abc.wandb");
	put_file(path, ":W&B", 4);
	check_fails(import_some(&t, r.f.store, "wandb", path, false, &err), PIO_ECORRUPT, "too short");
	put_file(path, "nothing of theirs", 17);
	check_fails(import_some(&t, r.f.store, "wandb", path, false, &err), PIO_ECORRUPT, "byte 0");
	put_file(path, ":W&B\xe1\xbe\1", 7);
	check_fails(import_some(&t, r.f.store, "wandb", path, false, &err), PIO_EVERSION, "version 1");
	check_fails(import_some(&t, r.f.store, "wandb", path_in(r.dir, "none"), false, &err),
	            PIO_ENOTFOUND, "none");
	check_fails(import_some(&t, r.f.store, "swanlab", path, false, &err), PIO_EINVAL, "SwanLab");
	down(&r);
}

static void a_growing_log_is_taken_exactly_once(void **unused)
{
	(void)unused;
	rundir r = up();
	size_t ends[60];
	put_run(&r.file, "proj");
	size_t named = r.file.len;
	for (int i = 0; i < 60; i++) {
		char text[2000];
		snprintf(text, sizeof text, "%d", i);
		put_history(&r.file, i, "val.acc", text);
		memset(text, ' ', sizeof text); /* so that records cross blocks */
		memcpy(text + sizeof text - 7, "\"pad\"", 6);
		put_history(&r.file, i, "pad", text);
		ends[i] = r.file.len;
	}
	int64_t points = 0, texts = 0;
	for (size_t n = 7; n <= r.file.len; n += 997) {
		taken t = take_bytes(&r, n);
		points += t.points;
		texts += t.texts;
		assert_int_equal(t.skips, n < named);
		size_t whole = 0;
		while (whole < 60 && ends[whole] <= n)
			whole++;
		assert_int_equal(texts, (int64_t)whole);
		assert_int_equal(t.runs, n >= named);
	}
	(void)take(&r);
	assert_int_equal(take(&r).points, 0);
	assert_int_equal(sql_int(r.f.store, "SELECT count(*) FROM point WHERE key = 'val/acc'"), 60);
	assert_int_equal(sql_int(r.f.store, "SELECT sum(value != step) FROM point"), 0);
	assert_int_equal(sql_int(r.f.store, "SELECT time_ns FROM point LIMIT 1"), 1700000000250000000);
	assert_string_equal(sql_text(r.f.store, "SELECT reason FROM run"),
	                    "its log has no exit record: it was killed, or goes on");
	put_exit(&r.file, 3);
	assert_string_equal(take(&r).status, "failed");
	assert_int_equal(sql_int(r.f.store, "SELECT exit_code FROM attempt"), 3);
	assert_string_equal(sql_text(r.f.store, "SELECT e.name || ' ' || t.value FROM run r JOIN experiment e"
	                             " ON e.id = r.experiment_id JOIN tag t ON t.run_id = r.id AND"
	                             " t.name = 'name'"), "proj display");
	down(&r);
}

static void a_broken_block_costs_itself_alone(void **unused)
{
	(void)unused;
	rundir r = up();
	put_run(&r.file, "proj");
	for (int i = 0; i < 3000; i++)
		put_history(&r.file, i, "a", "1.5");
	r.file.data[33000] ^= 1;
	taken t = take(&r);
	assert_int_equal(t.skips, 1);
	assert_non_null(strstr(t.reasons, "broken blocks"));
	int64_t steps = sql_int(r.f.store, "SELECT count(*) FROM point");
	assert_true(steps > 1900 && steps < 3000);
	assert_int_equal(sql_int(r.f.store, "SELECT max(step) FROM point"), 2999);
	assert_int_equal(take(&r).skips, 0);
	/* At the end it may still be written: that is no damage. */
	put_history(&r.file, 3000, "a", "1.5");
	r.file.data[r.file.len - 3] ^= 1;
	t = take(&r);
	assert_int_equal(t.skips + t.points, 0);
	r.file.data[r.file.len - 3] ^= 1;
	assert_int_equal(take(&r).points, 1);
	down(&r);
}

static void values_of_every_kind(void **unused)
{
	(void)unused;
	rundir r = up();
	pio_str body = PIO_STR_INIT;
	put_run(&r.file, "proj");
	put_item(&body, 1, "lr", "1e-3");
	put_item(&body, 1, "net", "{\"depth\": 3, \"empty\": {}, \"list\": [1, NaN]}");
	put_item(&body, 1, "_wandb", "{\"x\": 1}");
	put_item(&body, 1, "bad", "{");
	put_wandb(&r.file, 5, &body);
	pio_str_clear(&body);
	put_item(&body, 1, "best", "0.25");
	put_item(&body, 1, "a", "-Infinity");
	put_item(&body, 1, "_runtime", "5");
	put_wandb(&r.file, 3, &body);
	put_history(&r.file, 1, "a", "-Infinity");
	put_history(&r.file, 1, "b", "NaN");
	put_history(&r.file, 1, "c", "true");
	put_history(&r.file, 1, "d", "{\"x\": {\"y\": 2}}");
	put_history(&r.file, 1, "e", "[1]");
	put_history(&r.file, 1, "f", "null");
	put_history(&r.file, 1, "g", "{\"_type\": \"histogram\", \"values\": [1, 2], \"bins\": [0, 1, 3]}");
	put_history(&r.file, 1, "h", "{\"_type\": \"image-file\", \"path\": \"../../../etc/passwd\"}");
	put_history(&r.file, 1, "i", "{\"_type\": \"strange\"}");
	put_history(&r.file, 1, "j", "{\"_type\": \"histogram\", \"values\": [1, 2], \"bins\": [0]}");
	put_exit(&r.file, 0);
	taken t = take(&r);
	assert_int_equal(t.points, 4);
	assert_int_equal(t.media, 1);
	assert_int_equal(t.skips, 6);
	assert_string_equal(t.status, "finished");
	assert_non_null(strstr(t.reasons, "media whose file is not below files/"));
	assert_string_equal(sql_text(r.f.store, "SELECT group_concat(name || '=' || value) FROM (SELECT * FROM"
	                             " param ORDER BY name)"),
	                    "lr=0.001,net/depth=3,net/empty={},net/list=[1,\"NaN\"],summary/best=0.25");
	assert_string_equal(sql_text(r.f.store, "SELECT group_concat(key) FROM (SELECT key FROM series"
	                             " ORDER BY key)"), "a,b,c,d/x/y");
	pio_histogram histogram;
	sqlite3_stmt *row = NULL;
	sqlite3_prepare_v2(pio_store_db(r.f.store), "SELECT data FROM media", -1, &row, NULL);
	assert_int_equal(sqlite3_step(row), SQLITE_ROW);
	check_ok(pio_histogram_decode(&histogram, sqlite3_column_blob(row, 0),
	                              (size_t)sqlite3_column_bytes(row, 0), &err));
	assert_int_equal(histogram.finite, 3);
	pio_histogram_fini(&histogram);
	sqlite3_finalize(row);
	pio_str_fini(&body);
	down(&r);
}

/* Stats{2 timestamp, 3 item}: a sample of the machine. */
static void put_stats(pio_str *file, uint64_t seconds, const char *key, const char *value)
{
	pio_str body = PIO_STR_INIT, time = PIO_STR_INIT;
	pio_proto_put_varint(&time, 1, seconds);
	pio_proto_put_varint(&time, 2, 250000000);
	pio_proto_put_bytes(&body, 2, time.data, time.len);
	put_item(&body, 3, key, value);
	put_item(&body, 3, "gpu.0.name", "\"H200\"");
	put_wandb(file, 7, &body);
	pio_str_fini(&time);
	pio_str_fini(&body);
}

/* Numbered as they come, also over several imports; what is no number is none of theirs. */
static void samples_of_the_machine(void **unused)
{
	(void)unused;
	rundir r = up();
	put_run(&r.file, "proj");
	put_stats(&r.file, 1700000000, "gpu.0.temp", "41.5");
	put_stats(&r.file, 1700000015, "cpu", "\"NaN\"");
	assert_int_equal(take(&r).points, 2);
	put_stats(&r.file, 1700000030, "gpu.0.temp", "43");
	put_history(&r.file, 5, "loss", "1");
	assert_int_equal(take(&r).points, 2);
	assert_string_equal(sql_text(r.f.store, "SELECT group_concat(key || ' ' || step || ' ' || ifnull(value, 'NaN')"
	                             " || ' ' || time_ns) FROM (SELECT * FROM point WHERE key LIKE 'system/%' ORDER BY"
	                             " step)"),
	                    "system/gpu/0/temp 0 41.5 1700000000250000000,system/cpu 1 NaN 1700000015250000000,"
	                    "system/gpu/0/temp 2 43.0 1700000030250000000");
	assert_int_equal(sql_int(r.f.store, "SELECT max(step) FROM point WHERE key = 'loss'"), 5);
	down(&r);
}

static void put_output(pio_str *file, int is_stdout, const char *text)
{
	pio_str body = PIO_STR_INIT;
	if (is_stdout)
		pio_proto_put_varint(&body, 1, 1);
	pio_proto_put_text(&body, 3, text);
	put_wandb(file, 13, &body);
	pio_str_fini(&body);
}

static void the_console_is_appended_exactly_once(void **unused)
{
	(void)unused;
	rundir r = up();
	pio_str out = PIO_STR_INIT, path = PIO_STR_INIT;
	put_run(&r.file, "proj");
	put_output(&r.file, 1, "one\n");
	put_output(&r.file, 0, "oh no\n");
	assert_int_equal(take(&r).lines, 2);
	pio_str_printf(&path, "%s/%s/rank-0.out", r.f.dir, sql_text(r.f.store, "SELECT dir FROM attempt"));
	/* What a death before the commit would have left behind. */
	FILE *file = fopen(path.data, "ab");
	assert_non_null(file);
	fputs("of nobody\n", file);
	fclose(file);
	put_output(&r.file, 1, "two\n");
	assert_int_equal(take(&r).lines, 1);
	check_ok(pio_fs_read(&out, path.data, &err));
	assert_string_equal(out.data, "one\ntwo\n");
	pio_str_fini(&out);
	pio_str_fini(&path);
	down(&r);
}

/* Any operation on files may fail: an error, and the next import has it all. */
static void a_disk_may_fail_anywhere(void **unused)
{
	(void)unused;
	rundir r = up();
	put_run(&r.file, "proj");
	put_output(&r.file, 1, "one\n");
	put_history(&r.file, 1, "a", "1");
	char *large = malloc(100001);
	memset(large, 'x', 100000);
	check_ok(pio_fs_mkdirs(path_in(r.dir, "files"), 0777, &err));
	put_file(path_in(r.dir, "files/large"), large, 100000);
	free(large);
	put_history(&r.file, 1, "m", "{\"_type\": \"image-file\", \"path\": \"large\"}");
	const char *log = path_in(r.dir, "run-abc.wandb");
	put_file(log, r.file.data, r.file.len);
	taken t;
	int64_t failures = 0;
	for (uint64_t n = 1;; n++) {
		pio_err why = PIO_ERR_INIT;
		pio_fs_fault_at("wsru", n, EIO);
		int rc = import_some(&t, r.f.store, "wandb", log, false, &why);
		pio_fs_fault_at("wsru", 0, 0);
		if (!rc)
			break;
		failures++;
		assert_int_equal(sql_int(r.f.store, "SELECT count(*) FROM run"), 0);
		assert_true(n < 100);
	}
	assert_true(failures >= 5);
	assert_int_equal(t.points + t.media + t.lines, 3);
	assert_int_equal(sql_int(r.f.store, "SELECT count(*) FROM media JOIN object USING (sha256)"), 1);
	down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(framing_is_theirs),
		cmocka_unit_test(another_head_is_refused),
		cmocka_unit_test(a_growing_log_is_taken_exactly_once),
		cmocka_unit_test(a_broken_block_costs_itself_alone),
		cmocka_unit_test(values_of_every_kind),
		cmocka_unit_test(samples_of_the_machine),
		cmocka_unit_test(the_console_is_appended_exactly_once),
		cmocka_unit_test(a_disk_may_fail_anywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
