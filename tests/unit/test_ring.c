#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "client/drain.h"
#include "client/ring_layout.h"
#include "heard.h"
#include "test.h"

typedef struct bench {
	char *dir;
	const char *ring_path, *journal_path;
	pio_ring *writer, *drainer;
	pio_journal_writer *journal;
} bench;

static void bench_open(bench *b, uint32_t slots, uint32_t side_bytes)
{
	b->dir = scratch_new();
	b->ring_path = path_in(b->dir, "ring");
	b->journal_path = path_in(b->dir, "journal.0");
	check_ok(pio_ring_create(&b->drainer, b->ring_path, 3, slots, side_bytes, &err));
	check_ok(pio_ring_attach(&b->writer, b->ring_path, &err));
	b->journal = journal_new(b->journal_path);
}

/* Writer and drainer in one mapping, as in a process that is its own agent:
 * then ThreadSanitizer, too, sees that they speak of the same bytes. */
static void bench_open_shared(bench *b, uint32_t slots, uint32_t side_bytes)
{
	bench_open(b, slots, side_bytes);
	pio_ring_close(&b->writer);
	b->writer = b->drainer;
}

static uint64_t drain(bench *b, bool dead)
{
	uint64_t moved = 0;
	check_ok(pio_ring_drain(b->drainer, b->journal, dead, &moved, &err));
	return moved;
}

static heard *bench_close(bench *b)
{
	drain(b, true);
	check_ok(pio_journal_close(&b->journal, &err));
	heard *h = heard_read(b->journal_path);
	if (b->writer != b->drainer)
		pio_ring_close(&b->writer);
	pio_ring_close(&b->drainer);
	scratch_remove(b->dir);
	return h;
}

static uint32_t key_of(pio_ring *ring, const char *name)
{
	pio_err err = PIO_ERR_INIT;
	uint32_t key = pio_ring_key(ring, name, strlen(name), &err);
	if (!key)
		fail_msg("%s", err.message);
	return key;
}

static void values_come_back_bit_for_bit(void **state)
{
	(void)state;
	static const uint64_t bits[] = {
		0x7ff8000000000001u, 0xfff0dead0000beefu, 0x7ff0000000000001u, 0x7ff0000000000000u,
		0xfff0000000000000u, 0x8000000000000000u, 0, 1, 0x000fffffffffffffu, 0x3ff0000000000000u,
	};
	static const int64_t steps[] = { 0, (INT64_C(1) << 53) + 1, INT64_MAX, INT64_MIN, -1 };
	const size_t n = sizeof bits / sizeof bits[0], m = sizeof steps / sizeof steps[0];
	bench b;
	bench_open(&b, 0, 0);
	uint32_t key = key_of(b.writer, "loss");
	int64_t before_ns = pio_clock_wall_ns();
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < m; j++) {
			double value;
			memcpy(&value, &bits[i], sizeof value);
			pio_ring_log(b.writer, key, steps[j], value);
		}
	}
	int64_t after_ns = pio_clock_wall_ns();
	assert_int_equal(drain(&b, false), n * m + 1);
	assert_int_equal(pio_ring_last_step(b.drainer), -1);
	heard *h = bench_close(&b);
	assert_int_equal(h->count, n * m);
	for (size_t i = 0; i < h->count; i++) {
		assert_true(h->points[i].value_bits == bits[i / m]);
		assert_true(h->points[i].step == steps[i % m]);
		assert_int_equal(h->points[i].key, key);
		assert_in_range(h->points[i].time_ns, before_ns - 1000000, after_ns + 1000000);
		assert_true(i == 0 || h->points[i].time_ns >= h->points[i - 1].time_ns);
	}
	heard_free(h);
}

static void times_stay_within_a_millisecond(void **state)
{
	(void)state;
	enum { N = 40 };
	int64_t before_ns[N], after_ns[N];
	bench b;
	bench_open(&b, 0, 0);
	uint32_t key = key_of(b.writer, "t");
	for (int i = 0; i < N; i++) {
		before_ns[i] = pio_clock_wall_ns();
		pio_ring_log(b.writer, key, i, 0);
		after_ns[i] = pio_clock_wall_ns();
		if (i % 7 == 0)
			drain(&b, false);
		pio_clock_sleep_ms(1 + i % 5);
	}
	heard *h = bench_close(&b);
	for (int i = 0; i < N; i++)
		assert_in_range(h->points[i].time_ns, before_ns[i] - 1000000, after_ns[i] + 1000000);
	heard_free(h);
}

static void names_are_kept_and_bad_ones_refused(void **state)
{
	(void)state;
	char longest[4097];
	memset(longest, 'k', sizeof longest);
	const struct { const char *name; size_t bytes; } good[] = {
		{ "a b\"c'\\d\n\te", 11 },
		{ "perte/\xc3\xa9t\xc3\xa9 \xe2\x9c\x93", 15 }, { longest, 4096 }, { "x", 1 },
	}, bad[] = {
		{ "", 0 }, { "a\0b", 3 }, { longest, 4097 }, { "\xff", 1 }, { "\xc3", 1 }, { "\xed\xa0\x80", 3 },
	};
	static const char *const why[] = { "empty", "NUL", "4097 bytes", "not UTF-8", "not UTF-8",
	                                   "not UTF-8" };
	bench b;
	bench_open(&b, 0, 0);
	for (size_t i = 0; i < 4; i++) {
		uint32_t key = pio_ring_key(b.writer, good[i].name, good[i].bytes, NULL);
		assert_int_equal(key, i + 1);
		assert_int_equal(pio_ring_key(b.writer, good[i].name, good[i].bytes, NULL), key);
	}
	for (size_t i = 0; i < 6; i++) {
		pio_err err = PIO_ERR_INIT;
		assert_int_equal(pio_ring_key(b.writer, bad[i].name, bad[i].bytes, &err), 0);
		assert_int_equal(err.code, PIO_EINVAL);
		if (!strstr(err.message, why[i]))
			fail_msg("\"%s\" lacks \"%s\"", err.message, why[i]);
	}
	heard *h = bench_close(&b);
	assert_int_equal(h->keys, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(h->key_bytes[i], good[i].bytes);
		assert_memory_equal(h->key_names[i], good[i].name, good[i].bytes);
	}
	heard_free(h);
}

static void thousands_of_names_find_their_numbers(void **state)
{
	(void)state;
	bench b;
	bench_open(&b, 0, 0);
	char name[32];
	for (int round = 0; round < 2; round++)
		for (uint32_t i = 1; i <= 5000; i++) {
			snprintf(name, sizeof name, "layer/%u/norm", i);
			assert_int_equal(key_of(b.writer, name), i);
		}
	assert_int_equal(drain(&b, false), 5000);
	check_ok(pio_journal_close(&b.journal, &err));
	pio_ring_close(&b.writer);
	pio_ring_close(&b.drainer);
	scratch_remove(b.dir);
}

enum { THREADS = 8, EACH = 20000 };

static void *log_points(void *argument)
{
	pio_ring *ring = argument;
	static atomic_uint next;
	unsigned me = atomic_fetch_add(&next, 1) % THREADS;
	char name[16];
	snprintf(name, sizeof name, "t%u", me);
	uint32_t key = key_of(ring, name);
	for (int i = 0; i < EACH; i++)
		pio_ring_log(ring, key, i, (double)me);
	return NULL;
}

static void log_from_many_threads(void (*open)(bench *, uint32_t, uint32_t))
{
	pthread_t threads[THREADS];
	bench b;
	open(&b, 1024, 0); /* small, so that they wait for one another */
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, log_points, b.writer), 0);
	for (uint64_t got = 0; got < THREADS * EACH + THREADS;)
		got += drain(&b, false);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	heard *h = bench_close(&b);
	int64_t expected[THREADS] = { 0 };
	assert_int_equal(h->count, THREADS * EACH);
	assert_false(h->point_before_key);
	for (size_t i = 0; i < h->count; i++) {
		double value;
		memcpy(&value, &h->points[i].value_bits, sizeof value);
		assert_true(h->points[i].step == expected[(int)value]++); /* in each thread's order */
	}
	heard_free(h);
}

static void no_point_of_many_threads_is_lost_or_doubled(void **state)
{
	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("two mappings of one file are two memories to ThreadSanitizer: left out\n");
	skip();
#endif
	log_from_many_threads(bench_open);
}

static void nor_of_a_process_that_drains_itself(void **state)
{
	(void)state;
	log_from_many_threads(bench_open_shared);
}

static void *log_three_rings_full(void *argument)
{
	pio_ring *ring = argument;
	for (int i = 0; i < 3 * 64; i++)
		pio_ring_log(ring, 1, i, i);
	return NULL;
}

static void a_full_ring_waits_and_says_so(void **state)
{
	(void)state;
	pthread_t thread;
	bench b;
	bench_open(&b, 64, 0);
	key_of(b.writer, "x");
	assert_int_equal(pthread_create(&thread, NULL, log_three_rings_full, b.writer), 0);
	pio_clock_sleep_ms(150);
	assert_int_equal(atomic_load(&b.drainer->header->head), 65); /* it stands at the 65th */
	for (uint64_t got = 0; got < 3 * 64 + 1;)
		got += drain(&b, false);
	pthread_join(thread, NULL);
	heard *h = bench_close(&b);
	assert_int_equal(h->count, 3 * 64);
	for (size_t i = 0; i < h->count; i++)
		assert_true(h->points[i].step == (int64_t)i);
	assert_true(h->stalls >= 1);
	assert_true(h->stalled_ns > 100000000);
	heard_free(h);
}

static void *log_texts(void *argument)
{
	pio_ring *ring = argument;
	uint8_t payload[300] = { 0 };
	for (uint32_t i = 0; i < 200; i++) {
		pio_str p = PIO_STR_INIT;
		memset(payload, 'a' + (int)(i % 26), sizeof payload);
		pio_record_put_u32(&p, 99); /* not its rank: the drainer corrects it */
		pio_record_put_i64(&p, i);
		pio_record_put_str(&p, "k", 1);
		pio_record_put_str(&p, (char *)payload, 20 + i);
		check_ok(pio_ring_record(ring, PIO_RECORD_EVENT, p.data, p.len, &err));
		pio_str_fini(&p);
	}
	return NULL;
}

static void records_wrap_and_wait(void **state)
{
	(void)state;
	pthread_t thread;
	bench b;
	bench_open(&b, 64, 1024);
	assert_int_equal(pthread_create(&thread, NULL, log_texts, b.writer), 0);
	for (uint64_t got = 0; got < 200;)
		got += drain(&b, false);
	pthread_join(thread, NULL);
	uint8_t big[600] = { 0 };
	check_fails(pio_ring_record(b.writer, PIO_RECORD_EVENT, big, sizeof big, &err), PIO_EINVAL,
	            "600 bytes");
	heard *h = bench_close(&b);
	assert_int_equal(h->records[PIO_RECORD_EVENT], 200);
	assert_int_equal(strlen(h->last[PIO_RECORD_EVENT]), 219);
	assert_int_equal(strspn(h->last[PIO_RECORD_EVENT], "r"), 219);
	heard_free(h);
}

static void what_a_killed_rank_logged_is_kept(void **state)
{
	(void)state;
	bench b;
	bench_open(&b, 1u << 16, 0);
	_Atomic uint64_t *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(told != MAP_FAILED);
	for (int round = 0; round < 5; round++) {
		uint64_t start = atomic_load(told);
		pid_t child = fork();
		if (child == 0) {
			uint32_t key = key_of(b.writer, "killed");
			for (;;) {
				pio_ring_log(b.writer, key, (int64_t)atomic_load(told), 1.0);
				atomic_fetch_add(told, 1);
			}
		}
		while (atomic_load(told) < start + 1000)
			;
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		for (int i = 0; i < 3; i++)
			drain(&b, true);
	}
	uint64_t acknowledged = atomic_load(told);
	heard *h = bench_close(&b);
	munmap(told, 4096);
	/* One more than was told may have been logged in each round. */
	assert_in_range(h->count, acknowledged, acknowledged + 5);
	uint64_t next = 0;
	for (size_t i = 0; i < h->count; i++) {
		assert_true(h->points[i].step == (int64_t)next || h->points[i].step == (int64_t)next - 1);
		next = (uint64_t)h->points[i].step + 1;
	}
	assert_int_equal(next, acknowledged + (h->points[h->count - 1].step == (int64_t)acknowledged));
	heard_free(h);
}

static void children_of_a_rank_log_too(void **state)
{
	(void)state;
	bench b;
	bench_open(&b, 0, 0);
	uint32_t parent = key_of(b.writer, "parent");
	pid_t children[3];
	for (int c = 0; c < 3; c++) {
		children[c] = fork();
		if (children[c] == 0) {
			char name[16];
			snprintf(name, sizeof name, "child%d", c);
			uint32_t key = key_of(b.writer, name);
			for (int i = 0; i < 1000; i++) {
				pio_ring_log(b.writer, key, i, c);
				pio_ring_log(b.writer, parent, i, c);
			}
			_exit(0);
		}
	}
	for (int c = 0; c < 3; c++)
		waitpid(children[c], NULL, 0);
	key_of(b.writer, "later");
	heard *h = bench_close(&b);
	assert_int_equal(h->count, 6000);
	assert_int_equal(h->keys, 5);
	assert_false(h->point_before_key);
	for (size_t i = 0; i < 5; i++)
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(h->key_numbers[i], h->key_numbers[j]);
	heard_free(h);
}

static void a_lock_held_by_the_dead_is_taken_over(void **state)
{
	(void)state;
	bench b;
	bench_open(&b, 0, 0);
	pid_t child = fork();
	if (child == 0) {
		pthread_mutex_lock(&b.writer->header->side_mutex);
		kill(getpid(), SIGKILL);
	}
	waitpid(child, NULL, 0);
	assert_int_equal(key_of(b.writer, "x"), 1);
	assert_int_equal(key_of(b.writer, "y"), 2);
	heard_free(bench_close(&b));
}

static void holes_of_the_dead_are_passed_over(void **state)
{
	(void)state;
	bench b;
	bench_open(&b, 64, 0);
	uint32_t key = key_of(b.writer, "x");
	pio_ring_log(b.writer, key, 1, 1);
	atomic_fetch_add(&b.writer->header->head, 1); /* claimed, never published */
	pio_ring_log(b.writer, key, 3, 3);
	assert_int_equal(drain(&b, false), 2);
	assert_int_equal(drain(&b, false), 0);
	assert_int_equal(drain(&b, true), 1);
	heard *h = bench_close(&b);
	assert_int_equal(h->count, 2);
	assert_true(h->points[1].step == 3);
	heard_free(h);
}

/* A rank that scribbles over its ring must not make the drainer crash or hang. */
static void a_scribbled_ring_harms_only_itself(void **state)
{
	(void)state;
	uint64_t seed = 88172645463325252u;
	for (int round = 0; round < 200; round++) {
		bench b;
		bench_open(&b, 64, 1024);
		uint32_t key = key_of(b.writer, "x");
		for (int i = 0; i < 40; i++)
			pio_ring_log(b.writer, key, i, i);
		uint8_t *bytes = b.writer->shm.base;
		for (int i = 0; i < 200; i++) {
			seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
			bytes[seed % b.writer->shm.size_bytes] = (uint8_t)(seed >> 40);
			if (round % 2)
				bytes[seed % 512] = (uint8_t)(seed >> 32);
		}
		for (int i = 0; i < 3; i++) {
			drain(&b, false);
			drain(&b, true);
		}
		pio_ring *again = NULL;
		if (pio_ring_attach(&again, b.ring_path, NULL) == 0)
			pio_ring_close(&again);
		check_ok(pio_journal_close(&b.journal, &err));
		pio_ring_close(&b.writer);
		pio_ring_close(&b.drainer);
		scratch_remove(b.dir);
	}
}

static void what_is_no_ring_is_refused(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_ring *ring;
	const char *path = path_in(dir, "ring");
	check_fails(pio_ring_attach(&ring, path, &err), PIO_ENOTFOUND, "ring");
	check_ok(pio_fs_write(path, "short", 5, 0600, &err));
	check_fails(pio_ring_attach(&ring, path, &err), PIO_ECORRUPT, "5 bytes");
	check_ok(pio_fs_unlink(path, &err));
	check_ok(pio_ring_create(&ring, path, 0, 64, 1024, &err));
	ring->header->slots = 128;
	pio_ring_close(&ring);
	check_fails(pio_ring_attach(&ring, path, &err), PIO_ECORRUPT, "128 slots");
	check_ok(pio_fs_unlink(path, &err));
	check_ok(pio_ring_create(&ring, path, 0, 64, 1024, &err));
	ring->header->version = RING_VERSION + 1;
	pio_ring_close(&ring);
	check_fails(pio_ring_attach(&ring, path, &err), PIO_EVERSION, "version");
	check_fails(pio_ring_create(&ring, path, 0, 100, 1024, &err), PIO_EINVAL, "powers of two");
	scratch_remove(dir);
}

/* ---- recovery --------------------------------------------------------------- */

static const char ulid[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/* As an agent measures, of a rank of the same number. */
static void append_measured(pio_journal_writer *journal)
{
	const uint32_t head[2] = { 1, 1 };
	const pio_journal_point point = { .step = 7, .key = PIO_KEYS_OF_AGENT };
	pio_str name = PIO_STR_INIT;
	pio_record_put_u32(&name, 1);
	pio_record_put_u32(&name, PIO_KEYS_OF_AGENT);
	pio_record_put_str(&name, "sys/host/cpus", strlen("sys/host/cpus"));
	check_ok(pio_journal_append(journal, PIO_RECORD_KEY, name.data, name.len, NULL, 0, &err));
	check_ok(pio_journal_append(journal, PIO_RECORD_POINTS, head, sizeof head, &point, sizeof point, &err));
	pio_str_fini(&name);
}

static void recover_after(bool flushed_but_not_moved)
{
	char *dir = scratch_new();
	pio_str path = PIO_STR_INIT;
	pio_ring *ring;
	setenv("PIOCHE_SHM", dir, 1);
	check_ok(pio_ring_path(&path, ulid, 2, 1, &err));
	check_ok(pio_ring_create(&ring, path.data, 1, 0, 0, &err));
	pio_journal_header header = { .attempt = 2, .created_ns = 5 };
	assert_true(pio_ulid_parse(&header.run, ulid));
	pio_journal_writer *journal;
	check_ok(pio_journal_open(&journal, path_in(dir, "journal.0"), &header, &err));
	uint32_t key = key_of(ring, "x");
	uint64_t moved;
	for (int i = 0; i < 500; i++)
		pio_ring_log(ring, key, 7, 7); /* all alike, so that only their place tells them apart */
	check_ok(pio_ring_drain(ring, journal, false, &moved, &err));
	uint64_t tail = atomic_load(&ring->header->tail), side_tail = atomic_load(&ring->header->side_tail);
	for (int i = 0; i < 300; i++)
		pio_ring_log(ring, key, 7, 7);
	key_of(ring, "y");
	check_ok(pio_ring_drain(ring, journal, false, &moved, &err));
	if (flushed_but_not_moved) { /* what a drainer leaves that is killed in between */
		atomic_store(&ring->header->tail, tail);
		atomic_store(&ring->header->side_tail, side_tail);
	}
	for (int i = 0; i < 200; i++)
		pio_ring_log(ring, key, 7, 7);
	append_measured(journal);
	check_ok(pio_journal_close(&journal, &err));
	pio_ring_close(&ring);

	check_ok(pio_ring_recover(dir, ulid, 2, 3, &err));
	assert_int_equal(pio_fs_type(path.data), PIO_FS_NONE);
	check_ok(pio_ring_recover(dir, ulid, 2, 3, &err));
	heard *h = heard_read(path_in(dir, "journal.0"));
	assert_int_equal(h->count, 1000 + 1);
	assert_int_equal(h->records[PIO_RECORD_KEY], 2 + 1);
	heard_free(h);
	pio_str_fini(&path);
	unsetenv("PIOCHE_SHM");
	scratch_remove(dir);
}

static void a_left_ring_is_recovered_once(void **state)
{
	(void)state;
	recover_after(false);
	recover_after(true);
}

/* The points that are in ring and journal both may lie in several segments. */
static void also_where_the_journal_has_segments(void **state)
{
	(void)state;
	setenv("PIOCHE_SEGMENT_BYTES", "2000", 1);
	recover_after(false);
	recover_after(true);
	unsetenv("PIOCHE_SEGMENT_BYTES");
}

static void an_overwritten_ring_is_recorded(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_str path = PIO_STR_INIT;
	setenv("PIOCHE_SHM", dir, 1);
	check_ok(pio_ring_path(&path, ulid, 1, 0, &err));
	check_ok(pio_fs_write(path.data, "garbage", 7, 0600, &err));
	check_ok(pio_ring_recover(dir, ulid, 1, 1, &err));
	assert_int_equal(pio_fs_type(path.data), PIO_FS_NONE);
	heard *h = heard_read(path_in(dir, "journal.0"));
	assert_int_equal(h->records[PIO_RECORD_EVENT], 1);
	assert_non_null(strstr(h->last[PIO_RECORD_EVENT], "7 bytes"));
	heard_free(h);
	pio_str_fini(&path);
	unsetenv("PIOCHE_SHM");
	scratch_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_come_back_bit_for_bit),
		cmocka_unit_test(times_stay_within_a_millisecond),
		cmocka_unit_test(names_are_kept_and_bad_ones_refused),
		cmocka_unit_test(thousands_of_names_find_their_numbers),
		cmocka_unit_test(no_point_of_many_threads_is_lost_or_doubled),
		cmocka_unit_test(nor_of_a_process_that_drains_itself),
		cmocka_unit_test(a_full_ring_waits_and_says_so),
		cmocka_unit_test(records_wrap_and_wait),
		cmocka_unit_test(what_a_killed_rank_logged_is_kept),
		cmocka_unit_test(children_of_a_rank_log_too),
		cmocka_unit_test(a_lock_held_by_the_dead_is_taken_over),
		cmocka_unit_test(holes_of_the_dead_are_passed_over),
		cmocka_unit_test(a_scribbled_ring_harms_only_itself),
		cmocka_unit_test(what_is_no_ring_is_refused),
		cmocka_unit_test(a_left_ring_is_recovered_once),
		cmocka_unit_test(also_where_the_journal_has_segments),
		cmocka_unit_test(an_overwritten_ring_is_recorded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
