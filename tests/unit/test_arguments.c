/* Every public call with every wrong argument: an error code and a message that
 * names the thing, never a crash, and the run is as good as before. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "client_fixture.h"

static char *home;
static pio_run *run;

static int set_up(void **state)
{
	(void)state;
	home = home_new();
	return pio_open(&run, "arguments");
}

static int tear_down(void **state)
{
	(void)state;
	char *dir = strdup(pio_info_get(run)->dir);
	pio_key key = pio_key_get(run, "after");
	ok(pio_log(run, key, 1, 1));
	ok(pio_close(&run, 0));
	heard *h = hear_of(dir); /* what was refused is not there, what was right is */
	assert_true(h->count >= 1 && h->points[h->count - 1].key == key);
	heard_free(h);
	free(dir);
	home_remove(home);
	return 0;
}

static void names_of_every_kind(void **state)
{
	(void)state;
	static char long_name[4098];
	memset(long_name, 'n', sizeof long_name - 1);
	static const struct { const char *name, *why; } bad[] = {
		{ NULL, "NULL" }, { "", "empty" }, { "a\xff", "UTF-8" }, { "\xc0\x80", "UTF-8" },
		{ "\xed\xa0\x80", "UTF-8" }, { long_name, "at most 4096" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		const char *name = bad[i].name, *why = bad[i].why;
		assert_int_equal(pio_key_get(run, name), 0);
		assert_non_null(strstr(pio_error(), why));
		refused(pio_fact(run, 'p', name, "1"), PIO_EINVAL, why);
		refused(pio_fact(run, 't', name, "1"), PIO_EINVAL, why);
		refused(pio_fact(run, 's', name, "1"), PIO_EINVAL, why);
		refused(pio_fact(run, 'e', name, "1"), PIO_EINVAL, why);
		refused(pio_log_histogram(run, name, 0, PIO_F32, NULL, 0), PIO_EINVAL, why);
		for (int kind = PIO_TEXT; kind <= PIO_FILE; kind++)
			refused(pio_log_media(run, (pio_media)kind, name, 0, "f", "x", 1), PIO_EINVAL, why);
	}
	long_name[4096] = 0; /* the longest that may be */
	assert_true(pio_key_get(run, long_name) > 0);
	ok(pio_log_media(run, PIO_TEXT, long_name, 0, NULL, "", 0));
}

static void points(void **state)
{
	(void)state;
	pio_key key = pio_key_get(run, "k");
	static const pio_key bad[] = { 0, 1000, UINT32_MAX, 0x80000000u, 0x80000001u };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		refused(pio_log(run, bad[i], 0, 1), PIO_EINVAL, "pio_key_get expected");
		refused(pio_log_int(run, bad[i], 0, 1), PIO_EINVAL, "pio_key_get expected");
	}
	ok(pio_log(run, key, INT64_MIN, (double)NAN));
	ok(pio_log(run, key, INT64_MAX, -INFINITY));
	ok(pio_log_int(run, key, 0, INT64_MIN));
}

static void facts(void **state)
{
	(void)state;
	static const int kinds[] = { 0, 'x', 'P', -1, 255 };
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		refused(pio_fact(run, (char)kinds[i], "a", "1"), PIO_EINVAL, "'p', 't', 's', 'e' or 'v' expected");
	refused(pio_fact(run, 'p', "a", NULL), PIO_EINVAL, "parameter \"a\": its value is NULL");
	refused(pio_fact(run, 'e', "a", NULL), PIO_EINVAL, "event \"a\": its value is NULL");
	refused(pio_fact(run, 'e', "a", "b\xff"), PIO_EINVAL, "event \"a\" is not UTF-8");
	refused(pio_fact(run, 't', "a", "adamw"), PIO_EINVAL, "one JSON scalar expected");
	refused(pio_fact(run, 's', "a", "\"\xff\""), PIO_EINVAL, "not UTF-8");
	ok(pio_fact(run, 'e', "a", "{not json}"));
}

static void histograms(void **state)
{
	(void)state;
	static const float value[1] = { 1 };
	refused(pio_log_histogram(run, "h", 0, PIO_F32, NULL, 1), PIO_EINVAL, "its 1 values are NULL");
	refused(pio_log_histogram(run, "h", 0, (pio_dtype)16, value, 1), PIO_EINVAL, "dtype 16");
	refused(pio_log_histogram(run, "h", 0, (pio_dtype)-1, value, 1), PIO_EINVAL, "dtype");
	refused(pio_log_histogram(run, "h", 0, PIO_F32, value, SIZE_MAX), PIO_EINVAL, "cannot be");
	ok(pio_log_histogram(run, "h", PIO_NO_STEP, PIO_F32, value, 1));
	ok(pio_log_histogram(run, "h", 1, PIO_F32, NULL, 0));
}

static void media(void **state)
{
	(void)state;
	static const char png[] = "\x89PNG\r\n\x1a\n";
	refused(pio_log_media(run, (pio_media)4, "m", 0, NULL, "x", 1), PIO_EINVAL, "kind of media is 4");
	refused(pio_log_media(run, (pio_media)-1, "m", 0, NULL, "x", 1), PIO_EINVAL, "kind of media");
	for (int kind = PIO_TEXT; kind < PIO_FILE; kind++)
		refused(pio_log_media(run, (pio_media)kind, "m", 0, NULL, NULL, 1), PIO_EINVAL, "its data is NULL");
	for (int kind = PIO_TEXT; kind <= PIO_FILE; kind++)
		refused(pio_log_media(run, (pio_media)kind, "m", 0, "f", "x", SIZE_MAX), PIO_EINVAL, "cannot be");
	refused(pio_log_media(run, PIO_TEXT, "m", 0, NULL, "a\xff", 2), PIO_EINVAL, "not UTF-8");
	refused(pio_log_media(run, PIO_TEXT, "m", 0, NULL, "a\0b", 3), PIO_EINVAL, "has a NUL");
	refused(pio_log_media(run, PIO_IMAGE, "m", 0, NULL, "GIF89a", 6), PIO_EINVAL, "no PNG and no JPEG");
	refused(pio_log_media(run, PIO_IMAGE, "m", 0, NULL, "", 0), PIO_EINVAL, "no PNG and no JPEG");
	refused(pio_log_media(run, PIO_IMAGE, "m", 0, "\xff", png, 8), PIO_EINVAL, "not UTF-8");
	refused(pio_log_media(run, PIO_FILE, "m", 0, NULL, "x", 1), PIO_EINVAL, "file name is empty");
	refused(pio_log_media(run, PIO_FILE, "m", 0, NULL, NULL, 0), PIO_EINVAL, "file name is empty");
	refused(pio_log_media(run, PIO_FILE, "m", 0, "absent", NULL, 0), PIO_ENOTFOUND, "absent is no file");
	refused(pio_log_media(run, PIO_FILE, "m", 0, ".", NULL, 0), PIO_ENOTFOUND, ". is no file");
	ok(pio_log_media(run, PIO_IMAGE, "m", 0, NULL, png, 8));
	ok(pio_log_media(run, PIO_FILE, "m", PIO_NO_STEP, "f", "", 0));
}

static void tables(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", "[]", "{}", "{\"columns\":[\"a\"]}", "{\"columns\":[1],\"data\":[[1]]}",
		"{\"columns\":[\"a\"],\"data\":[1]}", "{\"columns\":[\"a\"],\"data\":[[[1]]]}",
		"{\"columns\":[\"a\"],\"data\":[[1,]]}", "{\"columns\":[\"a\"],\"data\":[[1]]} x",
		"{\"columns\":[\"a\"],\"data\":[[nan]]}", "{\"columns\":[\"a\"],\"data\":[[\"b]]}",
	};
	static const char *const uneven[] = {
		"{\"columns\":[\"a\"],\"data\":[]}", "{\"columns\":[],\"data\":[[]]}",
		"{\"columns\":[\"a\",\"b\"],\"data\":[[1],[1,2]]}",
	};
	static const char *const good[] = {
		"{\"columns\":[],\"data\":[]}", " { \"columns\" : [ \"a\" , \"b\" ] , \"data\" : [ [ ] , [ ] ] } ",
		"{\"columns\":[\"a\"],\"data\":[[1,-2.5e3,\"x\\u00e9\",true,null]]}",
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		refused(pio_log_media(run, PIO_TABLE, "t", 0, NULL, bad[i], strlen(bad[i])), PIO_EINVAL,
		        "table \"t\" is ");
	for (size_t i = 0; i < sizeof uneven / sizeof uneven[0]; i++)
		refused(pio_log_media(run, PIO_TABLE, "t", 0, NULL, uneven[i], strlen(uneven[i])), PIO_EINVAL,
		        "one column a name expected");
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		ok(pio_log_media(run, PIO_TABLE, "t", 0, NULL, good[i], strlen(good[i])));
		for (size_t n = 1; n < strlen(good[i]) - 1; n++) { /* cut anywhere; never read beyond */
			char *cut = malloc(n);
			memcpy(cut, good[i], n);
			refused(pio_log_media(run, PIO_TABLE, "t", 0, NULL, cut, n), PIO_EINVAL, "table \"t\"");
			free(cut);
		}
	}
}

static void checkpoints(void **state)
{
	(void)state;
	static const float data[2];
	static const int64_t shape[1] = { 2 }, negative[1] = { -1 };
	pio_checkpoint *c = NULL;
	refused(pio_checkpoint_begin(NULL, run, 0, 1), PIO_EINVAL, "NULL");
	refused(pio_checkpoint_begin(&c, run, 0, 0), PIO_EINVAL, "0 writers");
	refused(pio_checkpoint_begin(&c, run, 0, -1), PIO_EINVAL, "-1 writers");
	refused(pio_checkpoint_begin(&c, run, 0, 2), PIO_EINVAL, "2 writers");
	ok(pio_checkpoint_begin(&c, run, 0, 1));
	refused(pio_checkpoint_add(c, NULL, "w", PIO_F32, 1, shape, NULL, data), PIO_EINVAL, "role");
	refused(pio_checkpoint_add(c, "a/b", "w", PIO_F32, 1, shape, NULL, data), PIO_EINVAL, "role");
	refused(pio_checkpoint_add(c, "model", NULL, PIO_F32, 1, shape, NULL, data), PIO_EINVAL, "empty");
	refused(pio_checkpoint_add(c, "model", "w", (pio_dtype)99, 1, shape, NULL, data), PIO_EINVAL, "element type");
	refused(pio_checkpoint_add(c, "model", "w", PIO_F32, -1, shape, NULL, data), PIO_EINVAL, "-1 dimensions");
	refused(pio_checkpoint_add(c, "model", "w", PIO_F32, INT_MAX, shape, NULL, data), PIO_EINVAL, "dimensions");
	refused(pio_checkpoint_add(c, "model", "w", PIO_F32, 1, NULL, NULL, data), PIO_EINVAL, "no shape");
	refused(pio_checkpoint_add(c, "model", "w", PIO_F32, 1, negative, NULL, data), PIO_EINVAL, "is -1");
	refused(pio_checkpoint_add(c, "model", "w", PIO_F32, 1, shape, NULL, NULL), PIO_EINVAL, "data is NULL");
	assert_true(pio_checkpoint_commit(&c, 0) != 0); /* spoiled */
	assert_null(c);
	ok(pio_checkpoint_commit(&c, 0));
	ok(pio_checkpoint_commit(NULL, 0));
	float read[2];
	refused(pio_resume_read(run, NULL, "w", PIO_F32, 1, shape, NULL, read), PIO_EINVAL, "NULL");
	refused(pio_resume_read(run, "model", NULL, PIO_F32, 1, shape, NULL, read), PIO_EINVAL, "NULL");
	refused(pio_resume_read(run, "model", "w", PIO_F32, 1, shape, NULL, NULL), PIO_EINVAL, "NULL");
	refused(pio_resume_read(run, "model", "w", PIO_F32, 1, shape, NULL, read), PIO_ENOTFOUND, "starts afresh");
}

static void collectives(void **state)
{
	(void)state;
	pio_comm *comm = NULL;
	refused(pio_comm_init(NULL, run, 100), PIO_EINVAL, "NULL");
	refused(pio_comm_init(&comm, run, 0), PIO_EINVAL, "timeout of 0 ms");
	refused(pio_comm_init(&comm, run, -5), PIO_EINVAL, "timeout of -5 ms");
	ok(pio_comm_init(&comm, run, 100));
	refused(pio_comm_allreduce(comm, NULL, 1), PIO_EINVAL, "data is NULL");
	refused(pio_comm_broadcast(comm, NULL, 1, 0), PIO_EINVAL, "data is NULL");
	refused(pio_comm_broadcast(comm, &comm, 1, 1), PIO_EINVAL, "from rank 1");
	refused(pio_comm_broadcast(comm, &comm, 1, -1), PIO_EINVAL, "from rank -1");
	ok(pio_comm_allreduce(comm, NULL, 0));
	ok(pio_comm_barrier(NULL));
	pio_comm_close(&comm, NULL);
	pio_comm_close(&comm, NULL);
	pio_comm_close(NULL, NULL);
}

static void life(void **state)
{
	(void)state;
	pio_run *other = run;
	refused(pio_open(NULL, "x"), PIO_EINVAL, "NULL");
	refused(pio_open(&other, "a\xff"), PIO_EINVAL, "UTF-8");
	assert_null(other);
	ok(pio_close(&other, 0));
	ok(pio_close(NULL, 0));
	ok(pio_should_stop(NULL, 1));
	ok(pio_should_stop(run, INT64_MIN)); /* standalone nobody asks for its end */
	ok(pio_should_stop(run, INT64_MAX));
	assert_int_equal(pio_info_get(NULL)->world, 1);
	assert_string_equal(pio_info_get(NULL)->ring, "");
	assert_non_null(pio_error());
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(names_of_every_kind), TEST(points), TEST(facts), TEST(histograms), TEST(media),
		TEST(tables), TEST(checkpoints), TEST(collectives), TEST(life),
	};
	return cmocka_run_group_tests_name("arguments", tests, NULL, NULL);
}
