/* The belt: blocks in order, whole; the first failure kept, what follows it
 * dropped; an end that waits for nothing. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pack/belt.h"
#include "test.h"

#define BLOCKS 64u

typedef struct seen {
	atomic_uint count;
	unsigned fail_at;        /* number of the block that fails; 0: none */
	int64_t pause_ms;
	bool disordered;
} seen;

static int work(void *context, const void *bytes, size_t size_bytes, pio_err *err)
{
	seen *s = context;
	unsigned number = atomic_load(&s->count) + 1;
	const unsigned char *at = bytes;
	if (s->pause_ms)
		pio_clock_sleep_ms((int)s->pause_ms);
	for (size_t i = 0; i < size_bytes; i++)
		s->disordered = s->disordered || at[i] != (unsigned char)number;
	s->disordered = s->disordered || size_bytes != number * 1000;
	atomic_store(&s->count, number);
	return number == s->fail_at ? pio_fail(err, PIO_ENOSPC, "block %u does not fit", number) : 0;
}

static void put(pio_belt *belt, unsigned number)
{
	memset(pio_belt_block(belt), (int)number, number * 1000);
	pio_belt_put(belt, number * 1000);
}

static void blocks_are_worked_off_in_order(void **state)
{
	(void)state;
	seen s = { .fail_at = 0 };
	pio_belt *belt;
	check_ok(pio_belt_new(&belt, work, &s, &err));
	for (unsigned i = 1; i <= BLOCKS; i++)
		put(belt, i);
	check_ok(pio_belt_wait(belt, &err));
	assert_int_equal(atomic_load(&s.count), BLOCKS);
	assert_false(s.disordered);
	pio_belt_free(belt);
}

/* Who fills runs ahead by a few blocks, not by all. */
static void it_is_bounded(void **state)
{
	(void)state;
	seen s = { .pause_ms = 2 };
	pio_belt *belt;
	check_ok(pio_belt_new(&belt, work, &s, &err));
	for (unsigned i = 1; i <= BLOCKS; i++) {
		put(belt, i);
		assert_true(i - atomic_load(&s.count) <= 5);
	}
	pio_belt_free(belt);
}

static void the_first_failure_is_kept(void **state)
{
	(void)state;
	seen s = { .fail_at = 3 };
	pio_belt *belt;
	check_ok(pio_belt_new(&belt, work, &s, &err));
	for (unsigned i = 1; i <= BLOCKS; i++)
		put(belt, i);
	check_fails(pio_belt_wait(belt, &err), PIO_ENOSPC, "block 3 does not fit");
	check_fails(pio_belt_check(belt, &err), PIO_ENOSPC, "block 3 does not fit");
	assert_int_equal(atomic_load(&s.count), 3);
	pio_belt_free(belt);
}

static void an_end_drops_what_is_left(void **state)
{
	(void)state;
	int64_t live = pio_mem_live();
	for (unsigned i = 0; i < 20; i++) {
		seen s = { .pause_ms = 1 };
		pio_belt *belt;
		check_ok(pio_belt_new(&belt, work, &s, &err));
		for (unsigned n = 1; n <= i % 4; n++)
			put(belt, n);
		pio_belt_free(belt);
		assert_true(atomic_load(&s.count) <= i % 4);
	}
	pio_belt_free(NULL);
	assert_int_equal(pio_mem_live(), live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_worked_off_in_order),
		cmocka_unit_test(it_is_bounded),
		cmocka_unit_test(the_first_failure_is_kept),
		cmocka_unit_test(an_end_drops_what_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
