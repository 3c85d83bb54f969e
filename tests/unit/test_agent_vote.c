/* At which step the ranks of one node end: the words in their rings, and the agent. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "agent_fixture.h"
#include "client/vote.h"
#include "vote_rank.h"

/* ---- the words -------------------------------------------------------------------- */

#define RANKS 6
#define AGENTS 3
#define ROUNDS 200

typedef struct vote_scene {
	pio_ring *rings[RANKS];
	pthread_barrier_t collective;
	bool is_collective;          /* ranks wait for each other at each step */
	bool is_quick;               /* two, that do nothing but ask */
	int64_t ended[RANKS], passed[RANKS];
} vote_scene;

typedef struct vote_part {
	vote_scene *scene;
	int number;
	unsigned seed;
	int64_t asked;
} vote_part;

static void dawdle(unsigned *seed)
{
	static _Atomic unsigned sink;
	*seed = *seed * 1103515245u + 12345u;
	unsigned turns = *seed >> 16 & 7 ? *seed >> 20 & 255 : 10000;
	for (unsigned i = 0; i < turns; i++)
		atomic_fetch_add_explicit(&sink, 1, memory_order_relaxed);
	if ((*seed >> 8 & 31) == 0)
		sched_yield();
}

static void *be_rank(void *context)
{
	vote_part *part = context;
	vote_scene *scene = part->scene;
	for (int64_t step = 1;; step++) {
		if (scene->is_collective) /* one that ended earlier is waited for in vain */
			pthread_barrier_wait(&scene->collective);
		if (!scene->is_quick)
			dawdle(&part->seed);
		if (pio_vote_ask(scene->rings[part->number], step)) {
			scene->ended[part->number] = step;
			return NULL;
		}
		scene->passed[part->number] = step;
	}
}

static void *be_agent(void *context)
{
	vote_part *part = context;
	part->asked = INT64_MIN;
	dawdle(&part->seed);
	for (int i = part->number; i < RANKS && part->scene->rings[i]; i += AGENTS) {
		int64_t asked = pio_vote_hold(part->scene->rings[i]);
		part->asked = asked > part->asked ? asked : part->asked;
		dawdle(&part->seed);
	}
	return NULL;
}

/* Agents hold their ranks' rings, each in its own time; the head gives one more than all
 * have asked about. Ranks of any speed end at that step, and have passed all before it. */
static void one_round(bool is_collective, unsigned seed)
{
	vote_scene scene = { .is_collective = is_collective, .is_quick = seed % 3 > 0 && !is_collective };
	vote_part ranks[RANKS], agents[AGENTS];
	pthread_t threads[RANKS], others[AGENTS];
	int64_t step = INT64_MIN;
	char name[16];
	int count = scene.is_quick ? 2 : RANKS;
	pthread_barrier_init(&scene.collective, NULL, RANKS);
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof name, "ring.%d", i);
		check_ok(pio_ring_create(&scene.rings[i], path_in(root, name), (uint32_t)i, 64, 4096, &err));
		ranks[i] = (vote_part){ &scene, i, seed * 31 + (unsigned)i, 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, be_rank, &ranks[i]), 0);
	}
	for (int i = 0; i < AGENTS; i++) {
		agents[i] = (vote_part){ &scene, i, seed * 17 + (unsigned)i, 0 };
		assert_int_equal(pthread_create(&others[i], NULL, be_agent, &agents[i]), 0);
	}
	for (int i = 0; i < AGENTS; i++) {
		assert_int_equal(pthread_join(others[i], NULL), 0);
		step = agents[i].asked > step ? agents[i].asked : step;
	}
	step = step == INT64_MIN ? 1 : step + 1; /* nobody had asked yet */
	for (int i = count - 1; i >= 0; i--) {
		pio_vote_give(scene.rings[i], step);
		dawdle(&seed);
	}
	for (int i = 0; i < count; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(scene.ended[i], step);
		assert_int_equal(scene.passed[i], step - 1);
		assert_true(pio_vote_is_told(scene.rings[i]));
		pio_ring_close(&scene.rings[i]);
		snprintf(name, sizeof name, "ring.%d", i);
		check_ok(pio_fs_unlink(path_in(root, name), &err));
	}
	pthread_barrier_destroy(&scene.collective);
}

static void all_end_at_one_step_whatever_the_timing(void **state)
{
	(void)state;
	alarm(300); /* a rank that ended alone leaves the others in the barrier */
	for (unsigned round = 0; round < ROUNDS; round++)
		one_round(round % 2, round);
	alarm(0);
}

static void *ask_once(void *context)
{
	return pio_vote_ask(context, 5) ? context : NULL;
}

/* Who waits is let go by a drop; a step that is given afterwards is nobody's. */
static void what_is_dropped_is_not_given(void **state)
{
	(void)state;
	pio_ring *ring;
	pthread_t thread;
	void *told;
	check_ok(pio_ring_create(&ring, path_in(root, "ring"), 0, 64, 4096, &err));
	pio_vote_give(ring, 1);
	assert_false(pio_vote_ask(ring, 3)); /* it was not held */
	assert_int_equal(pio_vote_hold(ring), 3);
	assert_int_equal(pthread_create(&thread, NULL, ask_once, ring), 0);
	pio_clock_sleep_ms(20);
	pio_vote_drop(ring);
	assert_int_equal(pthread_join(thread, &told), 0);
	assert_null(told);
	pio_vote_give(ring, 1);
	assert_false(pio_vote_ask(ring, 9));
	assert_false(pio_vote_ask(ring, 2)); /* asked about anew: the highest counts */
	assert_int_equal(pio_vote_hold(ring), 9);
	pio_vote_give(ring, 10);
	assert_false(pio_vote_ask(ring, 9));
	assert_false(pio_vote_is_told(ring));
	assert_true(pio_vote_ask(ring, 10));
	assert_true(pio_vote_ask(ring, 12));
	pio_ring_close(&ring);
}

/* ---- the agent ---------------------------------------------------------------------- */

static json_t *vote_orders(int ranks, const char *steps, const char *silent)
{
	return orders(ranks, json_pack("[s, s, s, s]", self, "rank", steps, silent));
}

/* "end N" of each rank, N the same; -1: a rank has said none. */
static int common_end(int ranks)
{
	int common = 0;
	for (int i = 0; i < ranks; i++) {
		char name[32];
		snprintf(name, sizeof name, "rank-%d.out", i);
		pio_str out = read_text(name);
		const char *at = strstr(out.data, "end ");
		int step = at ? atoi(at + 4) : -1;
		pio_str_fini(&out);
		assert_true(i == 0 || step == common);
		common = step;
	}
	return common;
}

static run start_voters(json_t *spec, int ranks)
{
	run r = start(spec);
	expect_started(&r);
	for (int i = 0; i < ranks; i++) {
		char name[32];
		snprintf(name, sizeof name, "rank-%d.out", i);
		wait_for_text(name, "up\n", 1);
	}
	return r;
}

static void expect_all_left_well(const json_t *record)
{
	size_t i;
	json_t *rank;
	json_array_foreach(json_object_get(record, "ranks"), i, rank)
		assert_int_equal(int_of(rank, "exit_code"), 0);
}

static void a_stop_ends_all_ranks_at_one_step(void **state)
{
	const struct { const char *order; int signal_number; const char *result; } ways[] = {
		{ "stop\n", 0, "cancelled" }, { NULL, SIGTERM, "cancelled" }, { NULL, SIGUSR2, "timeout" },
	};
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		run r = start_voters(vote_orders(2, "100000", "-1"), 2);
		if (ways[i].order)
			command(&r, ways[i].order);
		else
			kill(r.pid, ways[i].signal_number);
		json_t *record = end(&r);
		assert_string_equal(text_of(record, "result"), ways[i].result);
		assert_true(json_is_null(json_object_get(record, "first")));
		expect_all_left_well(record);
		int step = common_end(2);
		assert_true(step > 3);
		assert_int_equal(int_of(json_array_get(json_object_get(record, "ranks"), 1), "last_step"), step);
		json_decref(record);
		tear_down(state), set_up(state);
	}
}

/* A rank that hangs leaves the others waiting, and all get the signal in the end. */
static void a_stopped_rank_is_not_waited_for_for_ever(void **state)
{
	(void)state;
	json_t *spec = vote_orders(2, "100000", "-1");
	json_object_set_new(spec, "last_step_s", json_integer(0));
	run r = start(spec);
	json_t *event = next_event(&r);
	while (strcmp(text_of(event, "event"), "started") != 0) {
		json_decref(event);
		event = next_event(&r);
	}
	pid_t hung = (pid_t)json_integer_value(json_array_get(json_object_get(event, "pids"), 1));
	json_decref(event);
	wait_for_text("rank-1.out", "up\n", 1);
	kill(hung, SIGSTOP);
	command(&r, "stop\n");
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_int_equal(int_of(json_array_get(json_object_get(record, "ranks"), 1), "signal"), SIGKILL);
	assert_int_equal(common_end(1), -1); /* rank 0 had no chance to come to that step */
	json_decref(record);
}

/* Only rank 0 asks: it ends, and rank 1 hears from its collective, or the signal. */
static void who_never_asks_gets_the_signal(void **state)
{
	(void)state;
	run r = start_voters(vote_orders(2, "100000", "1"), 2);
	command(&r, "stop\n");
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_true(common_end(1) > 3);
	json_decref(record);
}

/* How long the ranks have to come to their last step. */
static int64_t wait_for_vote(run *r)
{
	json_t *event = next_event(r);
	while (strcmp(text_of(event, "event"), "vote") != 0) {
		json_decref(event);
		event = next_event(r);
	}
	int64_t patience_s = int_of(event, "patience_s");
	json_decref(event);
	return patience_s;
}

/* Told to end at a step that the program has not. */
static void who_is_done_before_is_done(void **state)
{
	(void)state;
	run r = start_voters(vote_orders(1, "5", "-1"), 1);
	wait_for_text("rank-0.out", "waits\n", 1);
	command(&r, "stop\n");
	wait_for_vote(&r);
	assert_int_equal(mkdir(path_in(dir, "go"), 0700), 0);
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "ok");
	assert_true(json_is_null(json_object_get(record, "message")));
	json_decref(record);
}

/* The machine goes down: all get the signal, and ranks that end well by it are not done. */
static void who_ends_by_a_signal_is_not_done(void **state)
{
	(void)state;
	run r = start_voters(vote_orders(1, "5", "-1"), 1);
	wait_for_text("rank-0.out", "waits\n", 1);
	kill(r.pid, SIGTERM);
	wait_for_vote(&r);
	assert_int_equal(mkdir(path_in(dir, "go"), 0700), 0);
	json_t *record = end(&r);
	expect_all_left_well(record);
	assert_string_equal(text_of(record, "result"), "cancelled");
	json_decref(record);
}

/* Whatever it was that had the ranks told a step. */
static void a_signal_meanwhile_goes_to_the_ranks(void **state)
{
	for (int is_order = 0; is_order < 2; is_order++) {
		json_t *spec = vote_orders(1, "5", "-1");
		json_object_set_new(spec, "grace_s", json_integer(600));
		run r = start_voters(spec, 1);
		wait_for_text("rank-0.out", "waits\n", 1);
		alarm(200); /* for so long it is not waited */
		if (is_order)
			command(&r, "stop\n");
		else
			kill(r.pid, SIGTERM);
		wait_for_vote(&r);
		if (!is_order)
			pio_clock_sleep_ms(2500); /* else it is the same one, come by the keeper */
		kill(r.pid, SIGTERM);
		json_t *record = end(&r);
		alarm(0);
		expect_all_left_well(record);
		assert_string_equal(text_of(record, "result"), "cancelled");
		json_decref(record);
		tear_down(state), set_up(state);
	}
}

/* To keeper and agent, as to all of a process group. */
static void one_signal_that_comes_twice_is_one(void **state)
{
	(void)state;
	run r = start(vote_orders(2, "100000", "-1"));
	pid_t agent = expect_started(&r);
	wait_for_text("rank-0.out", "up\n", 1);
	wait_for_text("rank-1.out", "up\n", 1);
	kill(r.pid, SIGTERM);
	wait_for_vote(&r);
	kill(agent, SIGTERM);
	json_t *record = end(&r);
	assert_true(common_end(2) > 3);
	json_decref(record);
}

/* Its last save failed, say: the others are not left to wait for it. */
static void who_fails_at_the_last_step_is_named(void **state)
{
	(void)state;
	json_t *spec = orders(2, json_pack("[s, s, s, s, s]", self, "rank", "100000", "-1", "1"));
	json_object_set_new(spec, "grace_s", json_integer(600));
	run r = start_voters(spec, 2);
	alarm(200);
	command(&r, "stop\n");
	json_t *record = end(&r);
	alarm(0);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_string_equal(text_of(record, "message"), "stopped on request; rank 1 exited with 1");
	assert_int_equal(int_of(json_array_get(json_object_get(record, "ranks"), 0), "exit_code"), 0);
	json_decref(record);
}

/* Before they are signalled ranks have a minute and grace_s, and longer where a step took
 * longer, or the present one has by now; with a time limit near, a minute in all. */
static void patience_follows_the_longest_step(void **state)
{
	const struct { const char *steps, *long_ms, *text; int floor_s, from_s, to_s; int signal_number; } ways[] = {
		{ "100000", "1", "on\n", 60, 61, 61, 0 },
		{ "100000", "1", "on\n", 60, 60, 60, SIGUSR2 },
		{ "100000", "3000", "on\n", 0, 5, 30, 0 },
		{ "5", "1", "waits\n", 0, 5, 30, 0 },
	};
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		json_t *spec = orders(1, json_pack("[s, s, s, s, s, s]", self, "rank", ways[i].steps, "-1", "-1",
		                                   ways[i].long_ms));
		if (!ways[i].floor_s)
			json_object_set_new(spec, "last_step_s", json_integer(0));
		run r = start_voters(spec, 1);
		wait_for_text("rank-0.out", ways[i].text, 1);
		if (!ways[i].floor_s) /* the agent has looked: steps have been short since, or there is none */
			pio_clock_sleep_ms(2500);
		if (ways[i].signal_number)
			kill(r.pid, ways[i].signal_number);
		else
			command(&r, "stop\n");
		assert_in_range(wait_for_vote(&r), ways[i].from_s, ways[i].to_s);
		assert_int_equal(mkdir(path_in(dir, "go"), 0700), 0);
		json_decref(end(&r));
		tear_down(state), set_up(state);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "agent") == 0)
		return agent_main();
	if (argc > 3 && strcmp(argv[1], "rank") == 0)
		_exit(vote_rank_main(atoi(argv[2]), atoi(argv[3]), argc > 4 ? atoi(argv[4]) : -1,
		                     argc > 5 ? atoi(argv[5]) : 1));
	find_self();
	const struct CMUnitTest tests[] = {
		T(all_end_at_one_step_whatever_the_timing), T(what_is_dropped_is_not_given),
		T(a_stop_ends_all_ranks_at_one_step), T(a_stopped_rank_is_not_waited_for_for_ever),
		T(who_never_asks_gets_the_signal), T(who_is_done_before_is_done),
		T(who_ends_by_a_signal_is_not_done), T(a_signal_meanwhile_goes_to_the_ranks),
		T(one_signal_that_comes_twice_is_one),
		T(who_fails_at_the_last_step_is_named), T(patience_follows_the_longest_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
