/* Proposals on record: what was proposed, in which order it came out, and who saw it. */
#include "store/plan.h"
#include "store_fixture.h"

static int64_t add_sweep(pio_store *store)
{
	int64_t experiment = 0, sweep = 0;
	bool existed = false;
	check_ok(pio_store_experiment(&experiment, store, "x", "loss", "minimize", &err));
	pio_store_sweep spec = { .experiment_id = experiment, .identity = "1", .spec = "{}",
	                         .recipe_path = "r.lua", .recipe = "" };
	check_ok(pio_store_sweep_add(&sweep, &existed, store, &spec, &err));
	return sweep;
}

static void a_proposal_keeps_how_many_observations_it_saw(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = add_sweep(f.store), ordinal = 0;
	for (int64_t n = 1; n <= 3; n++)
		check_ok(pio_store_proposal_add(f.store, sweep, n, "{}", n == 3 ? 1 : 0, &err));
	check_ok(pio_store_proposal_observe(&ordinal, f.store, sweep, 2, "{\"value\":0.5}", &err));
	assert_int_equal(ordinal, 1);
	check_ok(pio_store_proposal_observe(&ordinal, f.store, sweep, 1, "{\"value\":2}", &err));
	assert_int_equal(ordinal, 2);
	assert_string_equal(sql_text(f.store, "SELECT group_concat(number || ' ' || seen || ' ' ||"
	                             " coalesce(observed, '-'), ', ') FROM proposal"),
	                    "1 0 2, 2 0 1, 3 1 -");
	store_down(&f);
}

static void the_first_observation_stands(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = add_sweep(f.store), ordinal = 0;
	check_ok(pio_store_proposal_add(f.store, sweep, 1, "{}", 0, &err));
	check_ok(pio_store_proposal_observe(&ordinal, f.store, sweep, 1, "{\"value\":1}", &err));
	check_ok(pio_store_proposal_observe(&ordinal, f.store, sweep, 1, "{\"value\":9}", &err));
	assert_int_equal(ordinal, 1);
	assert_string_equal(sql_text(f.store, "SELECT observation FROM proposal"), "{\"value\":1}");
	check_fails(pio_store_proposal_observe(&ordinal, f.store, sweep, 7, "{}", &err), PIO_ENOTFOUND,
	            "no proposal 7");
	store_down(&f);
}

static void a_proposal_repeated_is_no_change_and_another_is_refused(void **state)
{
	(void)state;
	fixture f = store_up();
	int64_t sweep = add_sweep(f.store);
	check_ok(pio_store_proposal_add(f.store, sweep, 1, "{\"lr\":1}", 4, &err));
	check_ok(pio_store_proposal_add(f.store, sweep, 1, "{\"lr\":1}", 9, &err));
	assert_int_equal(sql_int(f.store, "SELECT seen FROM proposal"), 4);
	check_fails(pio_store_proposal_add(f.store, sweep, 1, "{\"lr\":2}", 4, &err), PIO_EEXIST,
	            "other parameters");
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_proposal_keeps_how_many_observations_it_saw),
		cmocka_unit_test(the_first_observation_stands),
		cmocka_unit_test(a_proposal_repeated_is_no_change_and_another_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
