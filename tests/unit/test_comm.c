#include <math.h>
#include <signal.h>

#include "comm_fixture.h"

/* ---- bodies ------------------------------------------------------------------ */

/* What rank `rank` brings: sums that depend on the order of additions. */
static float value_of(int rank, size_t i)
{
	uint32_t h = (uint32_t)i * 2654435761u ^ (uint32_t)(rank + 1) * 40503u;
	h ^= h >> 15;
	return ldexpf((float)(h % 20011) - 10005.f, (int)(h >> 20) % 24 - 12);
}

/* The documented order: chunk c is ((x[c] + x[c+1]) + x[c+2]) + ... */
static float reference(size_t i, size_t n, int size)
{
	size_t w = (size_t)size, each = n / w, rest = n % w, c = 0;
	while (i >= (c + 1) * each + (c + 1 < rest ? c + 1 : rest))
		c++;
	float sum = value_of((int)c, i);
	for (int k = 1; k < size; k++)
		sum += value_of(((int)c + k) % size, i);
	return sum;
}

static int sums_are_exact(pio_run *run, int rank, int size, uint8_t *result)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 4, 5, 7, 1000, 65537, 250001 };
	pio_comm *comm;
	TRY(pio_comm_init(&comm, run, 5000));
	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		size_t n = sizes[s];
		float *data = malloc((n + 1) * sizeof *data);
		for (size_t i = 0; i < n; i++)
			data[i] = value_of(rank, i);
		data[n] = 42;
		TRY(pio_comm_allreduce(comm, data, n));
		for (size_t i = 0; i < n; i++) {
			float expected = size == 1 ? value_of(0, i) : reference(i, n, size);
			if (memcmp(&data[i], &expected, sizeof expected) != 0) {
				fprintf(stderr, "n %zu: [%zu] is %a, not %a\n", n, i, data[i], expected);
				return 1;
			}
		}
		if (data[n] != 42)
			return 2;
		memcpy(result, data, n * sizeof *data < RESULT_BYTES ? n * sizeof *data : RESULT_BYTES);
		free(data);
	}
	pio_comm_close(&comm, NULL);
	return comm != NULL;
}

static int broadcasts_reach_all(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	TRY(pio_comm_init(&comm, run, 5000));
	for (int root = 0; root < size; root++) {
		size_t n = root == 0 ? 700001 : (size_t)root * 13;
		for (size_t i = 0; i < n; i++)
			result[i] = rank == root ? (uint8_t)(i * 7 + (size_t)root) : 0xee;
		TRY(pio_comm_broadcast(comm, result, n, root));
		for (size_t i = 0; i < n; i++)
			if (result[i] != (uint8_t)(i * 7 + (size_t)root))
				return 1;
		TRY(pio_comm_barrier(comm));
	}
	if (pio_comm_broadcast(comm, result, 1, size) != -PIO_EINVAL)
		return 2;
	pio_comm_close(&comm, NULL);
	return 0;
}

static atomic_int *arrived(uint8_t *result, int rank)
{
	return (atomic_int *)(void *)(result - (size_t)rank * RESULT_BYTES);
}

static int nobody_passes_a_barrier_early(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	TRY(pio_comm_init(&comm, run, 5000));
	for (int round = 1; round <= 20; round++) {
		if (rank == round % size)
			pio_clock_sleep_ms(3);
		atomic_fetch_add(arrived(result, rank), 1);
		TRY(pio_comm_barrier(comm));
		if (atomic_load(arrived(result, rank)) < round * size)
			return 1;
		TRY(pio_comm_barrier(comm));
	}
	pio_comm_close(&comm, NULL);
	return 0;
}

/* Rank 1 is killed by the test; the others report how they learnt of it. */
static int reduce_for_ever(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	float data[50000] = { 0 };
	(void)rank, (void)size;
	TRY(pio_comm_init(&comm, run, 5000));
	result[0] = 1;
	while (pio_comm_allreduce(comm, data, 50000) == 0)
		;
	int rc = pio_comm_allreduce(comm, data, 50000); /* broken for good */
	snprintf((char *)result + 1, 1000, "%d %s", rc, pio_error());
	pio_comm_close(&comm, NULL);
	return 0;
}

static int rank_one_gives_up(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	float data[10] = { 0 };
	(void)size;
	TRY(pio_comm_init(&comm, run, 5000));
	TRY(pio_comm_barrier(comm));
	if (rank == 1) {
		pio_comm_close(&comm, "the text ran out");
		return 0;
	}
	int rc = pio_comm_allreduce(comm, data, 10);
	snprintf((char *)result + 1, 1000, "%d %s", rc, pio_error());
	pio_comm_close(&comm, NULL);
	return 0;
}

/* Rank 1 comes when it is told to and leaves at once; rank 0 passes the same barrier, and learns
 * of it at the next. */
static int leave_after_a_barrier(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	(void)size;
	TRY(pio_comm_init(&comm, run, 5000));
	((volatile uint8_t *)result)[0] = 1;
	while (rank == 1 && ((volatile uint8_t *)result)[0] != 2)
		pio_clock_sleep_ms(1);
	TRY(pio_comm_barrier(comm));
	if (rank == 1)
		_exit(0);
	int rc = pio_comm_barrier(comm);
	snprintf((char *)result + 1, 1000, "%d %s", rc, pio_error());
	return 0;
}

static int calls_differ(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	float data[10] = { 0 };
	(void)size;
	TRY(pio_comm_init(&comm, run, 5000));
	int rc = rank == 0 ? pio_comm_allreduce(comm, data, 10) : pio_comm_broadcast(comm, data, 40, 0);
	snprintf((char *)result + 1, 1000, "%d %s", rc, pio_error());
	pio_comm_close(&comm, rc ? pio_error() : NULL);
	return 0;
}

/* Two groups at once, of which ranks 1 and 3 and all others; then one of the first two
 * ranks; the ring of all is whole in between and after. */
static int groups_add_up_among_themselves(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm, *group;
	bool is_odd = rank == 1 || rank == 3;
	TRY(pio_comm_init(&comm, run, 5000));
	for (int round = 0; round < 3; round++) {
		float sums[3] = { (float)(1 << rank), 1, (float)rank }, all = 1;
		TRY(pio_comm_group(&group, comm, is_odd, 5000));
		TRY(pio_comm_allreduce(group, sums, 3));
		int members = is_odd ? (1 << 1 | 1 << 3) & ((1 << size) - 1) : ((1 << size) - 1) & ~(1 << 1 | 1 << 3);
		if ((int)sums[0] != members || (int)sums[1] != __builtin_popcount((unsigned)members))
			return 1;
		pio_comm_group_close(&group);
		TRY(pio_comm_group(&group, comm, rank < 2 ? 7 : -1, 5000));
		if ((group != NULL) != (rank < 2))
			return 2;
		float two = 1;
		TRY(pio_comm_allreduce(group, &two, 1));
		pio_comm_group_close(&group);
		TRY(pio_comm_allreduce(comm, &all, 1));
		if ((int)two != (rank < 2 ? 2 : 1) || (int)all != size)
			return 3;
	}
	result[0] = 1;
	pio_comm_close(&comm, NULL);
	return 0;
}

/* ---- tests ------------------------------------------------------------------- */

static const int sizes[] = { 1, 2, 3, 5 };

static void allreduce_adds_in_the_documented_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		run_world(sizes[i], sums_are_exact);
}

static void broadcast_reaches_every_rank_from_every_root(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		run_world(sizes[i], broadcasts_reach_all);
}

static void groups_have_rings_of_their_own(void **state)
{
	(void)state;
	for (size_t i = 1; i < 4; i++)
		run_world(sizes[i], groups_add_up_among_themselves);
}

static void barrier_holds_until_all_came(void **state)
{
	(void)state;
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, 3);
	world_start(&w, nobody_passes_a_barrier_early);
	world_wait(&w, statuses);
	for (int i = 0; i < 3; i++)
		assert_int_equal(statuses[i], 0);
	world_close(&w);
}

static char state_of(pid_t pid)
{
	char path[64], text[512] = "";
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof text - 1, f) > 0);
	fclose(f);
	return strrchr(text, ')')[2];
}

/* However late a rank looks at what has come to it. */
static void who_leaves_after_a_barrier_breaks_it_for_nobody(void **state)
{
	(void)state;
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, 2);
	world_start(&w, leave_after_a_barrier);
	volatile uint8_t *waits = w.results, *comes = w.results + RESULT_BYTES;
	while (!*waits || !*comes || state_of(w.pids[0]) != 'S')
		pio_clock_sleep_ms(1);
	kill(w.pids[0], SIGSTOP);
	*comes = 2;
	siginfo_t left;
	assert_int_equal(waitid(P_PID, (id_t)w.pids[1], &left, WEXITED | WNOWAIT), 0);
	pio_clock_sleep_ms(100); /* the head says so */
	kill(w.pids[0], SIGCONT);
	world_wait(&w, statuses);
	assert_int_equal(statuses[0], 0);
	assert_int_equal(statuses[1], 0);
	assert_string_equal((char *)w.results + 1, "-13 rank 1 died: SIGKILL");
	world_close(&w);
}

static void kill_one(int size, bool mute, const char *expected)
{
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, size);
	w.head.mute = mute;
	world_start(&w, reduce_for_ever);
	for (int i = 0; i < size; i++)
		while (!((volatile uint8_t *)w.results)[(size_t)i * RESULT_BYTES])
			pio_clock_sleep_ms(1);
	pio_clock_sleep_ms(30);
	int64_t start_ns = pio_clock_mono_ns();
	kill(w.pids[1], SIGKILL);
	world_wait(&w, statuses);
	assert_true(pio_clock_mono_ns() - start_ns < 20000000000);
	for (int i = 0; i < size; i++) {
		if (i == 1)
			continue;
		const char *told = (char *)w.results + (size_t)i * RESULT_BYTES + 1;
		pio_ring *ring;
		assert_int_equal(statuses[i], 0);
		if (strncmp(told, "-13 ", 4) != 0 || !strstr(told, expected))
			fail_msg("rank %d of %d was told \"%s\"", i, size, told);
		check_ok(pio_ring_attach(&ring, ring_path(&w, i), &err));
		assert_true(pio_ring_is_secondary(ring));
		pio_ring_close(&ring);
	}
	world_close(&w);
}

static void a_killed_rank_is_named_to_all_others(void **state)
{
	(void)state;
	kill_one(2, false, "rank 1 died: SIGKILL");
	kill_one(3, false, "rank 1 died: SIGKILL");
	kill_one(5, false, "rank 1 died: SIGKILL");
}

static void without_a_word_from_the_head_the_neighbour_is_named(void **state)
{
	(void)state;
	kill_one(2, true, "rank 1 is gone");
}

static void an_abort_carries_its_reason(void **state)
{
	(void)state;
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, 3);
	world_start(&w, rank_one_gives_up);
	world_wait(&w, statuses);
	for (int i = 0; i < 3; i++)
		assert_int_equal(statuses[i], 0);
	for (int i = 0; i < 3; i += 2)
		assert_string_equal((char *)w.results + (size_t)i * RESULT_BYTES + 1,
		                    "-13 rank 1: the text ran out");
	world_close(&w);
}

static void different_calls_are_an_error(void **state)
{
	(void)state;
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, 2);
	world_start(&w, calls_differ);
	world_wait(&w, statuses);
	int named = 0;
	for (int i = 0; i < 2; i++)
		named += strstr((char *)w.results + (size_t)i * RESULT_BYTES + 1, "ranks disagree") != NULL;
	assert_true(named >= 1);
	world_close(&w);
}

static int wait_in_vain(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	(void)size;
	if (rank == 1)
		return 0;
	int rc = pio_comm_init(&comm, run, 300);
	snprintf((char *)result + 1, 1000, "%d %s", rc, pio_error());
	return comm != NULL;
}

static void a_missing_rank_ends_the_wait(void **state)
{
	(void)state;
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, 2);
	int64_t start_ns = pio_clock_mono_ns();
	world_start(&w, wait_in_vain);
	world_wait(&w, statuses);
	assert_true(pio_clock_mono_ns() - start_ns < 20000000000);
	assert_non_null(strstr((char *)w.results + 1, "-11 not all ranks came within 300 ms"));
	world_close(&w);
}

static int bring_a_wrong_token(pio_run *run, int rank, int size, uint8_t *result)
{
	pio_comm *comm;
	(void)rank, (void)size;
	setenv(PIO_ENV_TOKEN, "ffffffffffffffffffffffffffffffff", 1);
	int rc = pio_comm_init(&comm, run, 3000);
	snprintf((char *)result + 1, 1000, "%d %s", rc, pio_error());
	return comm != NULL;
}

static void a_stranger_is_refused(void **state)
{
	(void)state;
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, 2);
	world_start(&w, bring_a_wrong_token);
	world_wait(&w, statuses);
	assert_int_equal(statuses[0], 0);
	assert_non_null(strstr((char *)w.results + 1, "refused this rank's token"));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allreduce_adds_in_the_documented_order),
		cmocka_unit_test(broadcast_reaches_every_rank_from_every_root),
		cmocka_unit_test(groups_have_rings_of_their_own),
		cmocka_unit_test(barrier_holds_until_all_came),
		cmocka_unit_test(who_leaves_after_a_barrier_breaks_it_for_nobody),
		cmocka_unit_test(a_killed_rank_is_named_to_all_others),
		cmocka_unit_test(without_a_word_from_the_head_the_neighbour_is_named),
		cmocka_unit_test(an_abort_carries_its_reason),
		cmocka_unit_test(different_calls_are_an_error),
		cmocka_unit_test(a_missing_rank_ends_the_wait),
		cmocka_unit_test(a_stranger_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
