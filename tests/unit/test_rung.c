/* What a stopping rule said of runs: once a run and rung, NaN and all. */
#include <math.h>

#include "store/plan.h"
#include "store/rung.h"
#include "store/run.h"
#include "store_fixture.h"

static int64_t add_run(pio_store *store, int64_t *sweep)
{
	int64_t experiment = 0, run = 0;
	bool existed = false;
	check_ok(pio_store_experiment(&experiment, store, "x", "loss", "minimize", &err));
	pio_store_sweep plan = { .experiment_id = experiment, .identity = "1", .spec = "{}",
	                         .recipe_path = "r.lua", .recipe = "" };
	check_ok(pio_store_sweep_add(sweep, &existed, store, &plan, &err));
	pio_store_run_spec spec = { .experiment_id = experiment, .sweep_id = *sweep };
	check_ok(pio_store_run_create(&run, store, &spec, &err));
	return run;
}

static void a_run_passes_each_rung_once(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = 0, run = add_run(f.store, &sweep);
	pio_store_rung rung = { .sweep_id = sweep, .run_id = run, .step = 50, .at_step = 48, .value = 2.5,
	                        .best = 2, .mean = 3, .verdict = "go", .reason = "the first" };
	check_ok(pio_store_rung_add(f.store, &rung, &err));
	rung.value = 9;
	check_fails(pio_store_rung_add(f.store, &rung, &err), PIO_EEXIST, "passed the rung at step 50");
	rung.step = 100;
	check_ok(pio_store_rung_add(f.store, &rung, &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(step || ' ' || at_step || ' ' || value ||"
	                             " ' ' || verdict, ', ') FROM (SELECT * FROM rung ORDER BY id)"),
	                    "50 48 2.5 go, 100 48 9.0 go");
	store_down(&f);
}

static void a_nan_keeps_its_bits(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = 0, run = add_run(f.store, &sweep);
	pio_store_rung rung = { .sweep_id = sweep, .run_id = run, .step = 1, .value = (double)NAN,
	                        .best = 1, .mean = (double)NAN, .verdict = "stop" };
	check_ok(pio_store_rung_add(f.store, &rung, &err));
	assert_int_equal(sql_int(f.store, "SELECT value IS NULL AND value_bits IS NOT NULL AND best = 1"
	                         " AND mean IS NULL AND reason IS NULL FROM rung"), 1);
	store_down(&f);
}

static void only_what_is_paused_is_promoted_and_once(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = 0, run = add_run(f.store, &sweep);
	static const char *const verdicts[] = { "go", "pause" };
	for (int i = 0; i < 2; i++) {
		pio_store_rung rung = { .sweep_id = sweep, .run_id = run, .step = i, .verdict = verdicts[i] };
		check_ok(pio_store_rung_add(f.store, &rung, &err));
		check_ok(pio_store_rung_promote(f.store, sweep, run, i, &err));
	}
	assert_string_equal(sql_text(f.store, "SELECT group_concat(verdict) FROM rung WHERE promoted_ns > 0"),
	                    "pause");
	int64_t first = sql_int(f.store, "SELECT promoted_ns FROM rung WHERE step = 1");
	check_ok(pio_store_rung_promote(f.store, sweep, run, 1, &err));
	assert_int_equal(sql_int(f.store, "SELECT promoted_ns FROM rung WHERE step = 1"), first);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_passes_each_rung_once),
		cmocka_unit_test(a_nan_keeps_its_bits),
		cmocka_unit_test(only_what_is_paused_is_promoted_and_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
