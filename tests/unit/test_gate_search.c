/* The search for slow nodes, on rings that are simulated: latency, noise, any
 * number of nodes. */
#include <math.h>
#include <string.h>

#include "launch/gate_search.h"
#include "test.h"

#define NODES_MAX 127
#define GOOD 2.1e9
#define BYTES (4 << 20)

typedef struct ring {
	int count;
	double busbw[NODES_MAX];   /* of each node's own connection */
	double latency_s;          /* of a step */
	double noise;              /* 0.1: up to 10 % less or more */
	uint64_t random;
} ring;

static double noise_of(ring *r)
{
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return 1 + r->noise * ((double)(r->random % 20001) / 10000 - 1);
}

/* Bus bandwidth as it is measured: 2(n-1)/n of the bytes in the time of 2(n-1) steps. */
static double measure(ring *r, const pio_gate_search *search, int group)
{
	int n = 0;
	double slowest = INFINITY;
	for (int i = 0; i < r->count; i++)
		if (search->nodes[i].group == group) {
			n++;
			slowest = fmin(slowest, r->busbw[i]);
		}
	if (n < 2)
		return 0;
	double bytes = 2.0 * (n - 1) / n * BYTES;
	return bytes / (bytes / slowest + 2.0 * (n - 1) * r->latency_s) * noise_of(r);
}

static ring ring_of(int count, double noise, double latency_s)
{
	ring r = { .count = count, .noise = noise, .latency_s = latency_s, .random = 88172645463325252u };
	for (int i = 0; i < count; i++)
		r.busbw[i] = GOOD;
	return r;
}

/* Two groups have no node in common, and who is told to be slow is measured. */
static int search_through(pio_gate_search *s, ring *r, int most, double expected)
{
	check_ok(pio_gate_search_init(s, r->count, most, expected, &err));
	while (pio_gate_search_next(s)) {
		int at_work = pio_gate_search_size(s, 0) + pio_gate_search_size(s, 1);
		assert_in_range(at_work, 2, r->count);
		pio_gate_search_take(s, (double[2]){ measure(r, s, 0), measure(r, s, 1) });
	}
	return s->round;
}

static void expect(const pio_gate_search *s, int node, enum pio_gate_state state)
{
	if (s->nodes[node].state != state)
		fail_msg("of %d nodes, %d is %d, not %d", s->count, node, (int)s->nodes[node].state, (int)state);
}

static void expect_slow(ring *r, int a, int b)
{
	pio_gate_search s;
	r->busbw[a] = r->busbw[b] = GOOD / 4;
	int rounds = search_through(&s, r, 3, 0);
	for (int i = 0; i < r->count; i++)
		expect(&s, i, i == a || i == b ? PIO_GATE_SLOW : PIO_GATE_GOOD);
	assert_in_range(rounds, 1, 40);
	assert_true(s.nodes[a].busbw < PIO_GATE_RATIO * s.nodes[a].control);
	pio_gate_search_fini(&s);
	r->busbw[a] = r->busbw[b] = GOOD;
}

/* ---- the promises --------------------------------------------------------------------- */

static void where_none_is_slow_all_are_good_after_four_rounds(void **state)
{
	(void)state;
	for (int count = 1; count <= NODES_MAX; count++)
		for (int latency = 0; latency < 2; latency++) {
			pio_gate_search s;
			ring r = ring_of(count, 0.1, latency ? 5e-5 : 0);
			assert_in_range(search_through(&s, &r, 3, 0), count > 1, 4);
			for (int i = 0; i < count; i++)
				expect(&s, i, PIO_GATE_GOOD);
			pio_gate_search_fini(&s);
		}
}

/* Of two, neither can be told to be the slow one. */
static void every_single_slow_node_is_found(void **state)
{
	(void)state;
	for (int count = 3; count <= NODES_MAX; count += count < 16 ? 1 : 37)
		for (int slow = 0; slow < count; slow++) {
			ring r = ring_of(count, 0.1, 0), late = ring_of(count, 0.1, 5e-5);
			expect_slow(&r, slow, slow);
			expect_slow(&late, slow, slow);
		}
	for (int slow = 0; slow < NODES_MAX; slow++) {
		ring r = ring_of(NODES_MAX, 0.1, 2e-5);
		expect_slow(&r, slow, slow);
	}
}

static void any_two_slow_nodes_are_found(void **state)
{
	(void)state;
	for (int count = 4; count <= NODES_MAX; count = count < 20 ? count + 1 : count * 2 - 1)
		for (int a = 0; a < count; a++)
			for (int b = a + 1; b < count; b++) {
				ring r = ring_of(count, 0.1, 1e-5);
				expect_slow(&r, a, b);
			}
	for (int a = 0; a < NODES_MAX; a += 3)
		for (int b = a + 1; b < NODES_MAX; b++) {
			ring r = ring_of(NODES_MAX, 0.1, 1e-5);
			expect_slow(&r, a, b);
		}
}

/* A rack, say: as many as the search is to find, and one more ends it. */
static void more_slow_nodes_are_found_where_a_half_is_clean(void **state)
{
	(void)state;
	pio_gate_search s;
	ring r = ring_of(NODES_MAX, 0.1, 0);
	for (int i = 70; i < 78; i++)
		r.busbw[i] = GOOD / 3;
	search_through(&s, &r, 8, 0);
	for (int i = 0; i < NODES_MAX; i++)
		expect(&s, i, i >= 70 && i < 78 ? PIO_GATE_SLOW : PIO_GATE_GOOD);
	pio_gate_search_fini(&s);
	search_through(&s, &r, 2, 0);
	assert_int_equal(s.slow, 3);
	for (int i = 0; i < NODES_MAX; i++)
		assert_true(s.nodes[i].state != PIO_GATE_SLOW || (i >= 70 && i < 78));
	pio_gate_search_fini(&s);
}

static void what_is_expected_decides(void **state)
{
	(void)state;
	pio_gate_search s;
	ring r = ring_of(8, 0, 0);
	assert_int_equal(search_through(&s, &r, 3, 0.9 * GOOD), 1);
	expect(&s, 7, PIO_GATE_GOOD);
	pio_gate_search_fini(&s);
	r.busbw[5] = 0.8 * GOOD; /* not a clear factor, but less than expected */
	search_through(&s, &r, 3, 0.9 * GOOD);
	for (int i = 0; i < 8; i++)
		expect(&s, i, i == 5 ? PIO_GATE_SLOW : PIO_GATE_GOOD);
	pio_gate_search_fini(&s);
	search_through(&s, &r, 3, 0);
	expect(&s, 5, PIO_GATE_GOOD);
	pio_gate_search_fini(&s);
	search_through(&s, &r, 3, 2 * GOOD); /* nobody reaches it: none is worse than the others */
	expect(&s, 5, PIO_GATE_GOOD);
	assert_true(pio_gate_search_best(&s) < s.expected);
	pio_gate_search_fini(&s);
}

/* One bad measure of a good node, by whatever else the machine did meanwhile. */
static void one_bad_measure_condemns_nobody(void **state)
{
	(void)state;
	for (int bad = 0; bad < 12; bad++) {
		pio_gate_search s;
		ring r = ring_of(16, 0.05, 0);
		check_ok(pio_gate_search_init(&s, 16, 3, 0, &err));
		while (pio_gate_search_next(&s)) {
			double busbw[2] = { measure(&r, &s, 0), measure(&r, &s, 1) };
			busbw[0] *= s.round == bad ? 0.3 : 1;
			pio_gate_search_take(&s, busbw);
		}
		for (int i = 0; i < 16; i++)
			expect(&s, i, PIO_GATE_GOOD);
		pio_gate_search_fini(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(where_none_is_slow_all_are_good_after_four_rounds),
		cmocka_unit_test(every_single_slow_node_is_found),
		cmocka_unit_test(any_two_slow_nodes_are_found),
		cmocka_unit_test(more_slow_nodes_are_found_where_a_half_is_clean),
		cmocka_unit_test(what_is_expected_decides),
		cmocka_unit_test(one_bad_measure_condemns_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
