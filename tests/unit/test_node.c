#include "store/node.h"
#include "store_fixture.h"

static void end_attempt(fixture *f, const char *result, const char *node, int64_t ended_ns)
{
	pio_store_attempt_end row = { .result = result, .node = node, .rank = -1, .exit_code = -1, .signal = -1,
	                              .step = INT64_MIN, .ended_ns = ended_ns };
	check_ok(pio_store_attempt_finish(f->store, f->attempt, &row, &err));
	check_ok(pio_store_attempt_finish(f->store, f->attempt, &row, &err)); /* counts no second time */
}

static const char *row_of(fixture *f, const char *name)
{
	char sql[300];
	snprintf(sql, sizeof sql, "SELECT coalesce((SELECT attempts || ' ' || failures || ' ' || slow || ' ' ||"
	         " (last_seen_ns) FROM node WHERE name = '%s'), 'none')", name);
	return sql_text(f->store, sql);
}

static void an_attempt_counts_for_each_of_its_nodes(void **state)
{
	(void)state;
	fixture f = store_up_run();
	const char *const hosts[] = { "dgx-001", "dgx-001", "dgx-002", "dgx-002" };
	for (int rank = 0; rank < 4; rank++)
		check_ok(pio_store_rank_set(f.store, f.attempt, rank, hosts[rank], 0, -1, NULL, NULL, &err));
	check_ok(pio_store_event_add(f.store, f.run, f.attempt, 3, 7, 5, "straggler", NULL, "slow", &err));
	check_ok(pio_store_event_add(f.store, f.run, f.attempt, 3, 9, 6, "straggler", NULL, "slow", &err));
	check_ok(pio_store_event_add(f.store, f.run, f.attempt, 0, 9, 6, "mark", NULL, "x", &err));
	end_attempt(&f, "signal", "dgx-002", 1000);
	assert_string_equal(row_of(&f, "dgx-001"), "1 0 0 1000");
	assert_string_equal(row_of(&f, "dgx-002"), "1 1 2 1000");
	/* The next attempt is cancelled there: nobody's fault. */
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	check_ok(pio_store_rank_set(f.store, f.attempt, 0, "dgx-002", -1, 15, NULL, NULL, &err));
	end_attempt(&f, "cancelled", "dgx-002", 900);
	assert_string_equal(row_of(&f, "dgx-002"), "2 1 2 1000");
	/* No rank was started: the node that failed is known all the same. */
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	end_attempt(&f, "node_fail", "dgx-003", 2000);
	assert_string_equal(row_of(&f, "dgx-003"), "1 1 0 2000");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM node"), 3);
	store_down(&f);
}

static void checks_are_kept_a_row_each(void **state)
{
	(void)state;
	fixture f = store_up_run();
	check_ok(pio_store_node_check(f.store, "dgx-001", f.attempt, "shm", "ok", "64 GiB", 1, &err));
	check_ok(pio_store_node_check(f.store, "dgx-001", f.attempt, "disk", "failed", "12 KiB", 2, &err));
	check_ok(pio_store_node_check(f.store, "dgx-001", f.attempt, "disk", "failed", "8 KiB", 3, &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(name || ' ' || state || ' ' || message)"
	                             " FROM (SELECT * FROM node_check ORDER BY name)"),
	                    "disk failed 8 KiB,shm ok 64 GiB");
	check_fails(pio_store_node_check(f.store, "dgx-001", f.attempt, "disk", "so-so", "", 3, &err), PIO_EIO,
	            "CHECK constraint failed");
	store_down(&f);
}

/* A spare that was measured took no part; one that was left out has failed, and is counted
 * once where the attempt failed for it. */
static void who_was_only_checked_is_known_too(void **state)
{
	(void)state;
	fixture f = store_up_run();
	check_ok(pio_store_rank_set(f.store, f.attempt, 0, "dgx-001", 0, -1, NULL, NULL, &err));
	check_ok(pio_store_node_check(f.store, "dgx-001", f.attempt, "tmp", "ok", "64 GiB", 1, &err));
	check_ok(pio_store_node_check(f.store, "dgx-002", f.attempt, "tmp", "failed", "8 KiB", 4, &err));
	check_ok(pio_store_node_check(f.store, "dgx-002", f.attempt, "shm", "failed", "8 KiB", 5, &err));
	check_ok(pio_store_node_check(f.store, "dgx-003", f.attempt, "tmp", "warning", "64 GiB", 6, &err));
	end_attempt(&f, "ok", NULL, 1000);
	assert_string_equal(row_of(&f, "dgx-001"), "1 0 0 1000");
	assert_string_equal(row_of(&f, "dgx-002"), "0 1 0 5");
	assert_string_equal(row_of(&f, "dgx-003"), "0 0 0 6");
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	check_ok(pio_store_node_check(f.store, "dgx-002", f.attempt, "tmp", "failed", "8 KiB", 7, &err));
	end_attempt(&f, "node_fail", "dgx-002", 2000);
	assert_string_equal(row_of(&f, "dgx-002"), "1 2 0 2000");
	store_down(&f);
}

static void a_node_is_left_out_until_it_is_cleared(void **state)
{
	(void)state;
	fixture f = store_up_run();
	check_ok(pio_store_node_exclude(f.store, "dgx-009", 5000, "fan 3", &err));
	check_ok(pio_store_node_exclude(f.store, "dgx-009", 7000, "fan 4", &err));
	assert_string_equal(sql_text(f.store, "SELECT excluded_until_ns || reason FROM node"), "7000fan 4");
	check_ok(pio_store_node_clear(f.store, "dgx-009", &err));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM node WHERE excluded_until_ns IS NULL AND reason"
	                         " IS NULL AND cleared_ns > 1e18"), 1);
	check_fails(pio_store_node_clear(f.store, "dgx-010", &err), PIO_ENOTFOUND, "no node 'dgx-010'");
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_attempt_counts_for_each_of_its_nodes),
		cmocka_unit_test(checks_are_kept_a_row_each),
		cmocka_unit_test(who_was_only_checked_is_known_too),
		cmocka_unit_test(a_node_is_left_out_until_it_is_cleared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
