#include "exchange_fixture.h"

#include "exchange/tfevent.h"

static void framing_is_theirs(void **unused)
{
	(void)unused;
	static const uint8_t version[] = {
		0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 0x0d,
		'b', 'r', 'a', 'i', 'n', '.', 'E', 'v', 'e', 'n', 't', ':', '2', 0xee, 0xdf, 0x28, 0xa3,
	};
	static const uint8_t loss[] = {
		0x1a, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x9b, 0xd8, 0x2d, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10,
		0x03, 0x2a, 0x0d, 0x0a, 0x0b, 0x0a, 0x04, 'l', 'o', 's', 's', 0x15, 0, 0, 0, 0x3f, 0x7f, 0xb8,
		0x43, 0x77,
	};
	pio_str file = PIO_STR_INIT, event = PIO_STR_INIT;
	pio_proto_put_double(&event, 1, 0);
	pio_proto_put_text(&event, 3, "brain.Event:2");
	pio_tfrecord_put(&file, event.data, event.len);
	assert_int_equal(file.len, sizeof version);
	assert_memory_equal(file.data, version, sizeof version);
	pio_str_clear(&file);
	put_scalar(&file, "loss", 1.0, 3, 0.5f);
	assert_int_equal(file.len, sizeof loss);
	assert_memory_equal(file.data, loss, sizeof loss);
	pio_str_fini(&file);
	pio_str_fini(&event);
}

/* A directory with one event file in it, to be written again and again. */
typedef struct logdir {
	fixture f;
	char *dir;
	pio_str file;
} logdir;

static logdir up(void)
{
	logdir l = { store_up(), scratch_new(), PIO_STR_INIT };
	return l;
}

static void write_bytes(const logdir *l, const char *name, size_t bytes)
{
	put_file(path_in(l->dir, name), l->file.data, bytes);
}

static taken take(logdir *l)
{
	return import_ok(l->f.store, "tensorboard", l->dir);
}

static void down(logdir *l)
{
	pio_str_fini(&l->file);
	scratch_remove(l->dir);
	store_down(&l->f);
}

static void a_growing_file_is_taken_exactly_once(void **unused)
{
	(void)unused;
	logdir l = up();
	size_t ends[41];
	for (int i = 0; i < 40; i++) {
		put_scalar(&l.file, i % 2 ? "a" : "b", 1700000000 + i, i, (float)i);
		ends[i] = l.file.len;
	}
	int64_t sum = 0;
	/* Every length there is, each torn somewhere else. */
	for (size_t n = 0; n <= l.file.len; n += 7) {
		write_bytes(&l, "x.tfevents.1", n);
		taken t = take(&l);
		sum += t.points;
		size_t whole = 0;
		while (whole < 40 && ends[whole] <= n)
			whole++;
		assert_int_equal(sum, (int64_t)whole);
		assert_int_equal(t.fresh, n == 0);
		assert_int_equal(t.skips, 0);
	}
	write_bytes(&l, "x.tfevents.1", l.file.len);
	(void)take(&l);
	assert_int_equal(take(&l).points, 0);
	assert_int_equal(sql_int(l.f.store, "SELECT count(*) FROM run"), 1);
	assert_int_equal(sql_int(l.f.store, "SELECT sum(count) FROM series"), 40);
	assert_int_equal(sql_int(l.f.store, "SELECT count(DISTINCT step) FROM point"), 40);
	assert_int_equal(sql_int(l.f.store, "SELECT sum(value != step) FROM point"), 0);
	assert_int_equal(sql_int(l.f.store, "SELECT ended_ns / 1000000000 FROM run"), 1700000039);
	assert_string_equal(sql_text(l.f.store, "SELECT value FROM tag WHERE name = 'name'"), "the name");
	down(&l);
}

static void bad_data_is_skipped_and_a_bad_length_stops(void **unused)
{
	(void)unused;
	logdir l = up();
	size_t ends[5];
	for (int i = 0; i < 5; i++) {
		put_scalar(&l.file, "a", 1700000000 + i, i, 1);
		ends[i] = l.file.len;
	}
	l.file.data[ends[1] + 15] ^= 1;        /* data of the third */
	l.file.data[ends[3] + 9] ^= 1;         /* checksum of the fifth's length */
	write_bytes(&l, "x.tfevents.1", l.file.len);
	taken t = take(&l);
	assert_int_equal(t.points, 3);
	assert_int_equal(t.skips, 2);
	assert_non_null(strstr(t.reasons, "wrong checksum, the last before byte"));
	char where[32];
	snprintf(where, sizeof where, "from byte %zu on", ends[3]);
	assert_non_null(strstr(t.reasons, where));
	assert_int_equal(sql_int(l.f.store, "SELECT count(*) FROM event WHERE kind = 'import'"), 2);
	/* Told once, and looked at again. */
	assert_int_equal(take(&l).skips, 0);
	l.file.data[ends[3] + 9] ^= 1;
	write_bytes(&l, "x.tfevents.1", l.file.len);
	assert_int_equal(take(&l).points, 1);
	/* A header of zeros is not there yet. */
	pio_str_append(&l.file, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	write_bytes(&l, "x.tfevents.1", l.file.len);
	t = take(&l);
	assert_int_equal(t.points + t.skips, 0);
	down(&l);
}

static void a_restart_hides_what_it_repeats(void **unused)
{
	(void)unused;
	logdir l = up();
	put_start(&l.file, 1700000000, 0); /* before anything: not a restart */
	for (int i = 0; i < 10; i++)
		put_scalar(&l.file, "a", 1700000000 + i, i, 1);
	write_bytes(&l, "x.tfevents.1", l.file.len);
	(void)take(&l);
	assert_int_equal(sql_int(l.f.store, "SELECT count(*) FROM attempt"), 1);
	pio_str_clear(&l.file);
	put_start(&l.file, 1700000100, 6);
	for (int i = 6; i < 9; i++)
		put_scalar(&l.file, "a", 1700000100 + i, i, 2);
	write_bytes(&l, "x.tfevents.2", l.file.len);
	(void)take(&l);
	assert_string_equal(sql_text(l.f.store, "SELECT group_concat(result) FROM attempt ORDER BY number"),
	                    "lost,ok");
	assert_int_equal(sql_int(l.f.store, "SELECT count FROM series"), 9);
	assert_int_equal(sql_int(l.f.store, "SELECT sum(value) FROM point"), 6 + 3 * 2);
	assert_int_equal(sql_int(l.f.store, "SELECT sum(count) FROM chunk"), 13); /* nothing is deleted */
	down(&l);
}

static void put_tensor_value(pio_str *file, const char *tag, const char *plugin, uint32_t dtype,
                             int64_t dim, uint32_t field, const void *bytes, size_t size_bytes)
{
	pio_str value = PIO_STR_INIT, tensor = PIO_STR_INIT, shape = PIO_STR_INIT, size = PIO_STR_INIT,
	        data = PIO_STR_INIT, metadata = PIO_STR_INIT;
	pio_proto_put_varint(&tensor, 1, dtype);
	if (dim >= 0) {
		pio_proto_put_varint(&size, 1, (uint64_t)dim);
		pio_proto_put_bytes(&shape, 2, size.data, size.len);
	}
	pio_proto_put_bytes(&tensor, 2, shape.data, shape.len);
	pio_proto_put_bytes(&tensor, field, bytes, size_bytes);
	pio_proto_put_text(&data, 1, plugin);
	pio_proto_put_bytes(&metadata, 1, data.data, data.len);
	pio_proto_put_text(&value, 1, tag);
	if (*plugin)
		pio_proto_put_bytes(&value, 9, metadata.data, metadata.len);
	pio_proto_put_bytes(&value, 8, tensor.data, tensor.len);
	put_event(file, 1700000000, 5, &value);
	pio_str *const all[] = { &value, &tensor, &shape, &size, &data, &metadata };
	for (size_t i = 0; i < 6; i++)
		pio_str_fini(all[i]);
}

static void tensors_are_read_by_type(void **unused)
{
	(void)unused;
	logdir l = up();
	double real = 0.1;
	int64_t whole = INT64_MAX;
	float single = -0.0f;
	uint16_t half = 0x3c01, bfloat = 0x4049;
	put_tensor_value(&l.file, "f64", "scalars", PIO_TF_DOUBLE, -1, 6, &real, 8);
	put_tensor_value(&l.file, "content", "scalars", PIO_TF_DOUBLE, -1, 4, &real, 8);
	put_tensor_value(&l.file, "f32", "scalars", PIO_TF_FLOAT, -1, 4, &single, 4);
	put_tensor_value(&l.file, "i64", "scalars", PIO_TF_INT64, -1, 4, &whole, 8);
	put_tensor_value(&l.file, "half", "", PIO_TF_HALF, -1, 4, &half, 2);
	put_tensor_value(&l.file, "bfloat", "", PIO_TF_BFLOAT16, -1, 4, &bfloat, 2);
	put_tensor_value(&l.file, "rank 1", "scalars", PIO_TF_DOUBLE, 1, 6, &real, 8);
	put_tensor_value(&l.file, "curve", "pr_curves", PIO_TF_DOUBLE, 1, 6, &real, 8);
	put_tensor_value(&l.file, "words", "text", PIO_TF_STRING, 1, 8, "a\0\xff", 3);
	write_bytes(&l, "x.tfevents.1", l.file.len);
	taken t = take(&l);
	assert_int_equal(t.points, 6);
	assert_int_equal(t.texts, 1);
	assert_int_equal(t.skips, 2);
	assert_non_null(strstr(t.reasons, "plugin 'pr_curves'"));
	assert_int_equal(sql_int(l.f.store, "SELECT count(*) FROM point WHERE value = 0.1"), 2);
	assert_int_equal(sql_int(l.f.store, "SELECT last_int FROM series WHERE key = 'i64'"), INT64_MAX);
	assert_int_equal(sql_int(l.f.store, "SELECT last_bits FROM series WHERE key = 'f32'"), INT64_MIN);
	assert_string_equal(sql_text(l.f.store, "SELECT last FROM series WHERE key = 'half'"), "1.0009765625");
	assert_string_equal(sql_text(l.f.store, "SELECT last FROM series WHERE key = 'bfloat'"), "3.140625");
	assert_string_equal(sql_text(l.f.store, "SELECT message FROM event WHERE kind = 'text'"),
	                    "a\xef\xbf\xbd\xef\xbf\xbd");
	down(&l);
}

static void hard_tags_are_counted_not_stored(void **unused)
{
	(void)unused;
	logdir l = up();
	char *giant = malloc(5001);
	memset(giant, 'x', 5000);
	giant[5000] = 0;
	put_scalar(&l.file, "", 1, 1, 1);
	put_scalar(&l.file, "\xff", 1, 1, 1);
	put_scalar(&l.file, giant, 1, 1, 1);
	put_scalar(&l.file, "good", -1, INT64_MIN, 1);
	free(giant);
	write_bytes(&l, "x.tfevents.1", l.file.len);
	taken t = take(&l);
	assert_int_equal(t.points, 1);
	assert_int_equal(t.skips, 3);
	assert_int_equal(sql_int(l.f.store, "SELECT first_step FROM series"), INT64_MIN);
	down(&l);
}

static void many_points_come_in_several_transactions(void **unused)
{
	(void)unused;
	logdir l = up();
	for (int i = 0; i < 600000; i++)
		put_scalar(&l.file, i % 3 ? "a" : "b", 1700000000 + i, i, (float)i);
	write_bytes(&l, "x.tfevents.1", l.file.len);
	assert_int_equal(take(&l).points, 600000);
	assert_int_equal(sql_int(l.f.store, "SELECT sum(count) FROM series"), 600000);
	assert_int_equal(sql_int(l.f.store, "SELECT max(count) FROM chunk"), 4096);
	assert_int_equal(sql_int(l.f.store, "SELECT last FROM series WHERE key = 'b'"), 599997);
	down(&l);
}

/* At any failing allocation: an error, no leak, and either nothing or whole
 * batches; the next import has it all. */
static void memory_may_run_out_anywhere(void **unused)
{
	(void)unused;
	logdir l = up();
	for (int i = 0; i < 50; i++)
		put_scalar(&l.file, "a", 1700000000 + i, i, 1);
	write_bytes(&l, "x.tfevents.1", l.file.len);
	taken t;
	check_ok(import_some(&t, l.f.store, "tensorboard", l.dir, true, &err)); /* dry: nothing is kept */
	assert_int_equal(t.points, 50);
	assert_int_equal(sql_int(l.f.store, "SELECT count(*) FROM run"), 0);
	pio_err why;
	int64_t live = pio_mem_live();
	for (uint64_t n = 1, done = 0; !done; n++) {
		pio_mem_fail_at(n);
		int rc = import_some(&t, l.f.store, "tensorboard", l.dir, false, &why);
		pio_mem_fail_at(0);
		done = rc == 0;
		if (!done) {
			assert_int_equal(rc, -PIO_ENOMEM);
			assert_true(pio_mem_live() <= live + 4); /* the codec stays with the store */
			check_sound(l.f.store);
		}
		assert_true(n < 2000);
	}
	(void)take(&l);
	assert_int_equal(sql_int(l.f.store, "SELECT sum(count) FROM series"), 50);
	down(&l);
}

static void export_and_import_again_are_the_same(void **unused)
{
	(void)unused;
	logdir l = up();
	double real = 0.1;
	put_scalar(&l.file, "f32", 1700000000.123456, -5, 0.25f);
	put_tensor_value(&l.file, "f64", "scalars", PIO_TF_DOUBLE, -1, 6, &real, 8);
	put_tensor_value(&l.file, "words", "text", PIO_TF_STRING, 1, 8, "hello", 5);
	write_bytes(&l, "x.tfevents.1", l.file.len);
	(void)take(&l);
	pio_tensorboard_counts counts;
	char *out = scratch_new();
	check_ok(pio_export_tensorboard(&counts, l.f.store, 1, out, &err));
	assert_int_equal(counts.points, 2);
	assert_int_equal(counts.texts, 1);
	check_fails(pio_export_tensorboard(&counts, l.f.store, 1, out, &err), PIO_EEXIST, "imported-1");
	check_fails(pio_export_tensorboard(&counts, l.f.store, 9, out, &err), PIO_ENOTFOUND, "9");
	assert_int_equal(import_ok(l.f.store, "tensorboard", path_in(out, "imported-1")).points, 2);
	assert_int_equal(sql_int(l.f.store, "SELECT count(*) FROM (SELECT key, step, time_ns, value FROM"
	                         " point WHERE run = 'imported-1' INTERSECT SELECT key, step, time_ns,"
	                         " value FROM point WHERE run = 'imported-2')"), 2);
	scratch_remove(out);
	down(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(framing_is_theirs),
		cmocka_unit_test(a_growing_file_is_taken_exactly_once),
		cmocka_unit_test(bad_data_is_skipped_and_a_bad_length_stops),
		cmocka_unit_test(a_restart_hides_what_it_repeats),
		cmocka_unit_test(tensors_are_read_by_type),
		cmocka_unit_test(hard_tags_are_counted_not_stored),
		cmocka_unit_test(many_points_come_in_several_transactions),
		cmocka_unit_test(memory_may_run_out_anywhere),
		cmocka_unit_test(export_and_import_again_are_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
