/* Runs of another store: every point bit for bit, and where memory runs out nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store_fixture.h"
#include "store/intake.h"
#include "store/points_file.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define RECORDS "{\"format\":\"pioche/run/1\",\"schema\":4,\"experiment\":{\"name\":\"gpt\"},\"run\":{\"ulid\":\"" \
	ULID_1 "\",\"number\":7,\"status\":\"finished\",\"created_ns\":5},\"params\":[{\"name\":\"lr\",\"kind\":" \
	"\"real\",\"value\":0.1}],\"attempts\":[{\"number\":1,\"state\":\"ended\",\"result\":\"failed\"," \
	"\"launcher\":\"local\",\"dir\":\"/etc\",\"world_size\":1,\"created_ns\":5},{\"number\":2,\"state\":" \
	"\"ended\",\"result\":\"ok\",\"launcher\":\"local\",\"world_size\":1,\"created_ns\":6}]}"

static int nothing_more(void *context, const pio_intake_bag *bag, pio_err *e)
{
	(void)context, (void)bag, (void)e;
	return 0;
}

/* A store with a run of two attempts whose points are in one file: NaN with a payload,
 * infinities, -0.0, whole numbers beyond 2^53, and steps at both ends. */
static void write_points(const char *path)
{
	fixture f = store_up_run();
	int second, fd;
	int64_t attempt;
	static const double odd[] = { 0.1, -0.0, INFINITY, -INFINITY, 1e-310 };
	pio_journal_writer *writer = journal_up(&f, 1);
	put_key(writer, 0, 1, "loss");
	for (int i = 0; i < 9000; i++)
		put_point(writer, 0, 1, i, i < 5 ? odd[i] : 1.0 / i);
	journal_down(writer);
	fold(&f, true);
	check_ok(pio_store_attempt_create(&attempt, &second, f.store, f.run, "local", 1, NULL,
	                                  &err));
	writer = journal_up(&f, 2);
	put_key(writer, 0, 1, "loss");
	for (int i = 4000; i < 4010; i++)
		put_point(writer, 0, 1, i, -i);
	journal_down(writer);
	f.attempt = attempt;
	fold(&f, true);
	check_ok(pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err));
	check_ok(pio_points_file_write(f.store, f.run, fd, path, &err));
	check_ok(pio_fs_close(&fd, path, &err));
	store_down(&f);
}

enum { EVENTS, POINTS, RECORDS_FILE, FILES };

typedef struct bag {
	pio_intake_file files[FILES];
	pio_intake_bag bag;
} bag;

static void stage(bag *b, int which, const char *path, const char *staged)
{
	pio_intake_file *file = &b->files[which];
	*file = (pio_intake_file){ .path = pio_strdup(path), .staged = pio_strdup(staged) };
	check_ok(pio_sha256_file(staged, file->sha256, &file->bytes, &err));
}

static void bag_up(bag *b, const char *dir)
{
	*b = (bag){ .bag = { .bundle = "x.tar", .sha256 = "0", .staging = dir, .files = b->files, .count = FILES,
		.before_commit = nothing_more } };
	check_ok(pio_fs_write(path_in(dir, "records"), RECORDS, strlen(RECORDS), 0600, &err));
	check_ok(pio_fs_write(path_in(dir, "events"), "", 0, 0600, &err));
	write_points(path_in(dir, "p"));
	stage(b, RECORDS_FILE, "run/records.json", path_in(dir, "records"));
	stage(b, EVENTS, "run/events.jsonl", path_in(dir, "events"));
	stage(b, POINTS, "run/points.bin", path_in(dir, "p"));
}

static void bag_down(bag *b)
{
	for (int i = 0; i < FILES; i++) {
		pio_free(b->files[i].path);
		pio_free(b->files[i].staged);
	}
}

static void test_points_come_bit_for_bit(void **state)
{
	(void)state;
	fixture f = store_up();
	char *dir = scratch_new(), sha256[PIO_SHA256_HEX + 1];
	int64_t bytes;
	int fd;
	bag b;
	pio_intake_run *runs;
	size_t count;
	bag_up(&b, dir);
	check_ok(pio_store_intake(&runs, &count, f.store, &b.bag, &err));
	assert_int_equal(count, 1);
	assert_true(runs[0].is_new);
	assert_int_equal(runs[0].points, 9010);
	assert_string_equal(runs[0].name, "gpt-7");
	check_ok(pio_fs_open(&fd, path_in(dir, "again"), O_WRONLY | O_CREAT, 0600, &err));
	check_ok(pio_points_file_write(f.store, runs[0].run_id, fd, "again", &err));
	check_ok(pio_fs_close(&fd, "again", &err));
	check_ok(pio_sha256_file(path_in(dir, "again"), sha256, &bytes, &err));
	assert_string_equal(sha256, b.files[POINTS].sha256);
	/* What reads show is told by the chunks: the second attempt hides the first's end. */
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 4010);
	assert_int_equal(sql_int(f.store, "SELECT last FROM series"), -4009);
	assert_string_equal(sql_text(f.store, "SELECT group_concat(dir, ' ') FROM attempt"),
	                    "runs/" ULID_1 "/1 runs/" ULID_1 "/2");
	assert_int_equal(sql_int(f.store, "SELECT next_number FROM experiment"), 8);
	pio_intake_free(runs, count);
	bag_down(&b);
	scratch_remove(dir);
	store_down(&f);
}

static void test_out_of_memory_takes_nothing(void **state)
{
	(void)state;
	fixture f = store_up();
	char *dir = scratch_new();
	bag b;
	pio_intake_run *runs = NULL;
	size_t count = 0;
	bag_up(&b, dir);
	/* What the store makes once and keeps, a first intake has made. */
	check_ok(pio_store_begin(f.store, &err));
	check_ok(pio_store_intake(&runs, &count, f.store, &b.bag, &err));
	pio_store_rollback(f.store);
	pio_intake_free(runs, count);
	int rc = -1;
	unsigned faults = 0;
	for (uint64_t n = 1; rc; n++, faults++) {
		int64_t live = pio_mem_live();
		pio_err why = PIO_ERR_INIT;
		pio_mem_fail_at(n);
		rc = pio_store_intake(&runs, &count, f.store, &b.bag, &why);
		pio_mem_fail_at(0);
		if (!rc)
			break;
		if (rc != -PIO_ENOMEM)
			fail_msg("allocation %u: %s", (unsigned)n, why.message);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM run"), 0);
		assert_int_equal(pio_mem_live(), live);
	}
	assert_true(faults > 20);
	pio_intake_free(runs, count);
	bag_down(&b);
	scratch_remove(dir);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_points_come_bit_for_bit),
		cmocka_unit_test(test_out_of_memory_takes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
