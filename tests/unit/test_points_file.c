/* All points of a run as one file: every attempt, bit for bit, the same bytes
 * however the store holds them; what cannot have been written is refused. */
#include "store_fixture.h"

#include <fcntl.h>

#include "store/points_file.h"

enum { STEPS = 9000, AGAIN = 5000, RANKS = 2 };

/* Values that only bits tell apart, an integer among them. */
static uint64_t bits_at(int attempt, int rank, int64_t step, bool *integer)
{
	*integer = step % 13 == 3;
	if (*integer)
		return (uint64_t)(INT64_MIN + step);
	switch (step % 7) {
	case 1: return 0x7ff8000000000000u | (uint64_t)step;
	case 2: return 0x8000000000000000u;
	case 3: return 0xfff0000000000000u;
	default: return bits_of(1.0 / (double)(step + attempt + 3 * rank + 1));
	}
}

/* Whole microseconds, as a fold keeps them. */
static int64_t time_at(int attempt, int64_t step)
{
	return step * 1000000 + 1000 * (attempt * 7 + step % 3);
}

/* Attempt 2 starts again at step AGAIN; folded after every `batch` steps. */
static void log_attempt(fixture *f, int attempt, int64_t from, int64_t batch)
{
	pio_journal_writer *w = journal_up(f, attempt);
	for (uint32_t rank = 0; rank < RANKS; rank++) {
		put_key(w, rank, 1, "train/loss");
		put_key(w, rank, 2, "\303\251nergie");
	}
	for (int64_t step = from; step < STEPS; step++) {
		for (uint32_t rank = 0; rank < RANKS; rank++) {
			uint32_t head[2] = { rank, 1 };
			bool integer;
			pio_journal_point point = { .time_ns = time_at(attempt, step), .step = step,
				.value_bits = bits_at(attempt, (int)rank, step, &integer),
				.key = 1 + (uint32_t)(step % 2) };
			point.key |= integer ? PIO_POINT_INTEGER : 0;
			check_ok(pio_journal_append(w, PIO_RECORD_POINTS, head, sizeof head, &point, sizeof point,
			                            &err));
		}
		if ((step - from) % batch == batch - 1) {
			check_ok(pio_journal_flush(w, 0, &err));
			fold(f, false);
		}
	}
	journal_down(w);
}

static fixture logged(int64_t batch)
{
	fixture f = store_up_run();
	log_attempt(&f, 1, 0, batch);
	fold(&f, true);
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	log_attempt(&f, 2, AGAIN, batch);
	return f;
}

static void write_to(const fixture *f, const char *path)
{
	int fd = -1;
	check_ok(pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644, &err));
	check_ok(pio_points_file_write(f->store, f->run, fd, path, &err));
	check_ok(pio_fs_close(&fd, path, &err));
}


/* Keys are sorted by bytes: odd steps are of the second one. */
static void every_point_comes_back(void **unused)
{
	(void)unused;
	fixture f = logged(1000);
	const char *path = path_in(f.dir, "points");
	pio_points_file *file;
	pio_points_block block;
	int64_t seen[2][RANKS][3] = { 0 };
	int rc;
	write_to(&f, path);
	check_ok(pio_points_file_open(&file, path, &err));
	while ((rc = pio_points_file_next(&block, file, NULL)) == 1) {
		int odd = !strcmp(block.key, "train/loss") ? 0 : 1;
		int64_t *n = &seen[odd][block.rank][block.attempt];
		for (size_t i = 0; i < block.count; i++, ++*n) {
			bool integer;
			int64_t step = (block.attempt == 2 ? AGAIN : 0) + 2 * *n + odd;
			assert_int_equal(block.points[i].step, step);
			assert_int_equal(block.points[i].time_ns, time_at(block.attempt, step));
			assert_true(block.points[i].bits == bits_at(block.attempt, block.rank, step, &integer));
			assert_int_equal(block.points[i].integer, integer);
		}
	}
	assert_int_equal(rc, 0);
	pio_points_file_close(file);
	for (int odd = 0; odd < 2; odd++) {
		for (int rank = 0; rank < RANKS; rank++) {
			assert_int_equal(seen[odd][rank][1], STEPS / 2);
			assert_int_equal(seen[odd][rank][2], (STEPS - AGAIN) / 2);
		}
	}
	store_down(&f);
}

static void the_same_points_are_the_same_bytes(void **unused)
{
	(void)unused;
	pio_str first = PIO_STR_INIT, second = PIO_STR_INIT;
	fixture f = logged(100), g = logged(STEPS);
	write_to(&f, path_in(f.dir, "points"));
	fold(&g, true);
	write_to(&g, path_in(g.dir, "points"));
	assert_int_not_equal(sql_int(f.store, "SELECT count(*) FROM chunk"),
	                     sql_int(g.store, "SELECT count(*) FROM chunk"));
	check_ok(pio_fs_read(&first, path_in(f.dir, "points"), &err));
	check_ok(pio_fs_read(&second, path_in(g.dir, "points"), &err));
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);
	pio_str_fini(&first);
	pio_str_fini(&second);
	store_down(&f);
	store_down(&g);
}

/* What reading these bytes to their end gives: 0 or the error. */
static int read_through(const char *dir, const char *bytes, size_t size_bytes)
{
	const char *path = path_in(dir, "read");
	pio_points_file *file;
	pio_points_block block;
	check_ok(pio_fs_write(path, bytes, size_bytes, 0644, &err));
	int rc = pio_points_file_open(&file, path, NULL);
	if (rc)
		return rc;
	while ((rc = pio_points_file_next(&block, file, NULL)) == 1)
		;
	pio_points_file_close(file);
	return rc;
}

static void damage_is_refused(void **unused)
{
	(void)unused;
	fixture f = logged(1000);
	pio_str whole = PIO_STR_INIT, mixed = PIO_STR_INIT;
	write_to(&f, path_in(f.dir, "points"));
	check_ok(pio_fs_read(&whole, path_in(f.dir, "points"), &err));
	assert_int_equal(read_through(f.dir, whole.data, whole.len), 0);
	assert_int_equal(read_through(f.dir, whole.data, 8), 0);   /* a run that logged nothing */
	for (size_t cut = 0; cut < whole.len; cut += cut < 40 ? 1 : 977)
		if (cut != 8)
			assert_int_equal(read_through(f.dir, whole.data, cut), -PIO_ECORRUPT);
	/* The sizes in the first head, and bytes of its chunk. */
	for (size_t at = 8; at < 4096; at += at < 60 ? 1 : 199) {
		if (at >= 12 && at < 20)
			at = 20;     /* another rank or attempt is as good */
		if (at >= 28 && at < 28 + strlen("train/loss"))
			at = 28 + strlen("train/loss"); /* and so is another key */
		whole.data[at] ^= 0x40;
		assert_true(pio_chunk_is_damaged(read_through(f.dir, whole.data, whole.len)));
		whole.data[at] ^= 0x40;
	}
	/* A series that comes twice. */
	pio_str_append(&mixed, whole.data, whole.len);
	pio_str_append(&mixed, whole.data + 8, whole.len - 8);
	check_ok(pio_str_check(&mixed, &err));
	assert_int_equal(read_through(f.dir, mixed.data, mixed.len), -PIO_ECORRUPT);
	assert_int_equal(pio_points_file_open(&(pio_points_file *){ NULL }, path_in(f.dir, "none"), NULL),
	                 -PIO_ENOTFOUND);
	pio_str_fini(&whole);
	pio_str_fini(&mixed);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_point_comes_back),
		cmocka_unit_test(the_same_points_are_the_same_bytes),
		cmocka_unit_test(damage_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
