/* The words of a vote in every order in which a rank and its agent can come to them: vote.c
 * is compiled in here with a stop before each access to what the two share, and all ways
 * of going on from there are tried. */
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#include "client/ring_layout.h"
#include "test.h"

static void stop_here(void);
static void wait_here(void);

#undef atomic_load
#undef atomic_store
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_strong
#define IN_ORDER memory_order_seq_cst
#define atomic_load(at) (stop_here(), atomic_load_explicit((at), IN_ORDER))
#define atomic_store(at, value) (stop_here(), atomic_store_explicit((at), (value), IN_ORDER))
#define atomic_compare_exchange_strong(at, seen, value) \
	(stop_here(), atomic_compare_exchange_strong_explicit((at), (seen), (value), IN_ORDER, IN_ORDER))
#define atomic_compare_exchange_weak atomic_compare_exchange_strong
#define ring_futex_wait(word, seen, timeout_ns) ((void)(timeout_ns), wait_here())
#define ring_futex_wake(word) ((void)(word))
/* What the library has is left alone. */
#define pio_vote_ask stopping_ask
#define pio_vote_hold stopping_hold
#define pio_vote_give stopping_give
#define pio_vote_drop stopping_drop
#define pio_vote_is_told stopping_is_told
#include "client/vote.c"

#define STEPS 3
#define CHOICES_MAX 64

enum { RANK, AGENT, PARTIES };

static ring_header header;
static pio_ring ring = { .header = &header };
static sem_t go_on[PARTIES], stopped;
static bool is_waiting, has_ended[PARTIES];
static _Thread_local int party;
/* At each fork of the way who goes on, RANK first. */
static int way[CHOICES_MAX];
static int64_t told_at, stop_step;  /* 0: none */
/* What is given lies so far beyond what the rank has asked; 0: it is given too late. */
static int64_t beyond;

static void stop_here(void)
{
	sem_post(&stopped);
	sem_wait(&go_on[party]);
}

static void wait_here(void)
{
	is_waiting = true;
	stop_here();
	is_waiting = false;
}

static void *be_rank(void *context)
{
	(void)context;
	party = RANK;
	for (int64_t step = 1; step <= STEPS && !told_at; step++)
		if (pio_vote_ask(&ring, step))
			told_at = step;
	has_ended[RANK] = true;
	sem_post(&stopped);
	return NULL;
}

static void *be_agent(void *context)
{
	(void)context;
	party = AGENT;
	int64_t asked = pio_vote_hold(&ring);
	if (beyond)
		stop_step = (asked == INT64_MIN ? 0 : asked) + beyond;
	else
		pio_vote_drop(&ring);
	pio_vote_give(&ring, stop_step);
	has_ended[AGENT] = true;
	sem_post(&stopped);
	return NULL;
}

static bool can_go_on(int who)
{
	bool is_held = atomic_load_explicit(&header.vote, IN_ORDER) == PIO_VOTE_HELD;
	return !has_ended[who] && !(who == RANK && is_waiting && is_held);
}

/* One way to the end; true: there is another one, and way[] says which. */
static bool go_way(void)
{
	pthread_t threads[PARTIES];
	int forks = 0;
	atomic_init(&header.asked, INT64_MIN);
	atomic_init(&header.stop_step, 0);
	atomic_init(&header.vote, PIO_VOTE_OPEN);
	has_ended[RANK] = has_ended[AGENT] = false;
	told_at = stop_step = 0;
	assert_int_equal(pthread_create(&threads[RANK], NULL, be_rank, NULL), 0);
	assert_int_equal(pthread_create(&threads[AGENT], NULL, be_agent, NULL), 0);
	sem_wait(&stopped);
	sem_wait(&stopped);
	while (!has_ended[RANK] || !has_ended[AGENT]) {
		int who = can_go_on(RANK) ? RANK : AGENT;
		assert_true(can_go_on(who)); /* else the rank waits for ever */
		if (who == RANK && can_go_on(AGENT)) {
			assert_in_range(forks, 0, CHOICES_MAX - 1);
			who = way[forks++];
		}
		sem_post(&go_on[who]);
		sem_wait(&stopped);
	}
	for (int i = 0; i < PARTIES; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	while (forks > 0 && way[forks - 1] == AGENT)
		way[--forks] = RANK;
	if (forks > 0)
		way[forks - 1] = AGENT;
	return forks > 0;
}

static void it_ends_at_the_step_whatever_comes_first(void **state)
{
	(void)state;
	for (beyond = 1; beyond <= 2; beyond++) { /* 2: another rank is ahead */
		int ways = 0;
		bool is_more = true;
		while (is_more) {
			is_more = go_way();
			ways++;
			if (told_at != (stop_step <= STEPS ? stop_step : 0))
				fail_msg("way %d: the rank ended at %d, not at %d", ways, (int)told_at, (int)stop_step);
		}
		assert_in_range(ways, 100, 10000); /* there are stops indeed */
	}
}

static void what_is_dropped_ends_nowhere(void **state)
{
	(void)state;
	bool is_more = true;
	beyond = 0;
	while (is_more) {
		is_more = go_way();
		assert_int_equal(told_at, 0);
	}
}

int main(void)
{
	sem_init(&stopped, 0, 0);
	for (int i = 0; i < PARTIES; i++)
		sem_init(&go_on[i], 0, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_ends_at_the_step_whatever_comes_first),
		cmocka_unit_test(what_is_dropped_ends_nowhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
