/* What a stopping rule said of runs, once a run and rung, NaN and all; and what a race asked for. */
#include <math.h>

#include "store/change.h"
#include "store/plan.h"
#include "store/repeat.h"
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
	rung.audited = true;
	rung.forecast = "{}";
	check_ok(pio_store_rung_add(f.store, &rung, &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(step || ' ' || at_step || ' ' || value ||"
	                             " ' ' || verdict, ', ') FROM (SELECT * FROM rung ORDER BY id)"),
	                    "50 48 2.5 go, 100 48 9.0 go");
	assert_string_equal(sql_text(f.store, "SELECT group_concat(audited || coalesce(forecast, '-')) FROM rung"),
	                    "0-,1{}");
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

static void what_a_race_decides_and_sees_is_numbered(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = 0, run = add_run(f.store, &sweep);
	for (int number = 1; number <= 2; number++) {
		check_ok(pio_store_proposal_add(f.store, sweep, number, number == 1 ? "{}" : "{\"x\":1}", 0, &err));
		check_ok(pio_store_proposal_run_add(f.store, sweep, number, 1, run, &err));
	}
	check_ok(pio_store_repeat_observe(f.store, sweep, 2, 1, 1, 0.5, &err));
	check_ok(pio_store_repeat_add(f.store, sweep, 2, 2, run, 1, 1, &err));
	check_fails(pio_store_repeat_add(f.store, sweep, 2, 2, run, 1, 1, &err), PIO_EEXIST,
	            "proposal 2 runs with seed 2 already");
	check_ok(pio_store_repeat_observe(f.store, sweep, 1, 1, 2, (double)NAN, &err));
	check_ok(pio_store_repeat_observe(f.store, sweep, 2, 1, 3, 9, &err)); /* the first stands */
	int64_t change = 0;
	check_ok(pio_store_change_add(&change, f.store, sweep, "drop", "{}", "why", &err));
	check_ok(pio_store_repeat_add(f.store, sweep, 1, 2, run, 2, 2, &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(number || ' ' || seed || ' ' || coalesce(asked,"
	                             " '-') || ' ' || coalesce(seen || '/' || changed, '-') || ' ' ||"
	                             " coalesce(observed, '-') || ' ' || coalesce(value, '-'), ', ')"
	                             " FROM proposal_run ORDER BY number, seed"),
	                    "1 1 - - 2 -, 1 2 2 2/1 - -, 2 1 - - 1 0.5, 2 2 1 1/0 - -");
	store_down(&f);
}

static void a_forecast_stands_once_and_before_what_came(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = 0, ordinal = 0;
	add_run(f.store, &sweep);
	for (int number = 1; number <= 2; number++)
		check_ok(pio_store_proposal_add(f.store, sweep, number, "{}", 0, &err));
	check_ok(pio_store_proposal_forecast(f.store, sweep, 1, "[1]", &err));
	check_ok(pio_store_proposal_forecast(f.store, sweep, 1, "[2]", &err));
	check_ok(pio_store_proposal_observe(&ordinal, f.store, sweep, 2, "{}", &err));
	check_ok(pio_store_proposal_forecast(f.store, sweep, 2, "[3]", &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(coalesce(forecast, '-')) FROM proposal"), "[1],-");
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_passes_each_rung_once),
		cmocka_unit_test(a_nan_keeps_its_bits),
		cmocka_unit_test(only_what_is_paused_is_promoted_and_once),
		cmocka_unit_test(what_a_race_decides_and_sees_is_numbered),
		cmocka_unit_test(a_forecast_stands_once_and_before_what_came),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
