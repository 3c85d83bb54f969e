#include "store_fixture.h"

static void numbers_and_generations_count_up(void **unused)
{
	(void)unused;
	int64_t gpt, other, id, found;
	fixture f = store_up();
	check_ok(pio_store_experiment(&gpt, f.store, "gpt", "val/loss", "minimize", &err));
	check_ok(pio_store_experiment(&found, f.store, "gpt", NULL, NULL, &err));
	assert_int_equal(gpt, found);
	assert_string_equal(sql_text(f.store, "SELECT goal_key || goal FROM experiment"), "val/lossminimize");
	check_ok(pio_store_experiment(&other, f.store, "other", NULL, NULL, &err));
	pio_store_run_spec spec = { .experiment_id = gpt, .identity = "abc", .seed = 3, .has_seed = true };
	check_ok(pio_store_run_create(&id, f.store, &spec, &err));
	check_ok(pio_store_run_create(&id, f.store, &spec, &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(number || '.' || generation || '.' || seed)"
	                             " FROM run"), "1.1.3,2.2.3");
	check_ok(pio_store_run_find(&found, f.store, "abc", &err));
	assert_int_equal(found, id);
	check_ok(pio_store_run_find(&found, f.store, "nothing", &err));
	assert_int_equal(found, 0);
	spec = (pio_store_run_spec){ .experiment_id = other };
	check_ok(pio_store_run_create(&id, f.store, &spec, &err));
	assert_int_equal(sql_int(f.store, "SELECT number FROM run ORDER BY id DESC LIMIT 1"), 1);
	assert_int_equal(sql_int(f.store, "SELECT seed IS NULL FROM run ORDER BY id DESC LIMIT 1"), 1);
	spec.experiment_id = 99;
	check_fails(pio_store_run_create(&id, f.store, &spec, &err), PIO_ENOTFOUND, "99");
	spec.ulid = "short";
	check_fails(pio_store_run_create(&id, f.store, &spec, &err), PIO_EINVAL, "\"short\"");
	store_down(&f);
}

static void bad_names_are_refused(void **unused)
{
	(void)unused;
	int64_t id;
	fixture f = store_up();
	static const char *const bad[] = { "", "-a", ".a", "a b", "a/b", "caf\xc3\xa9", "a\n" };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		check_fails(pio_store_experiment(&id, f.store, bad[i], NULL, NULL, &err), PIO_EINVAL,
		            "experiment name");
	check_fails(pio_store_experiment(&id, f.store, "a", "k", "best", &err), PIO_EINVAL, "\"best\"");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM experiment"), 0);
	store_down(&f);
}

static void status_moves_the_times(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	assert_string_equal(sql_text(f.store, "SELECT status FROM run"), "running");
	assert_int_equal(sql_int(f.store, "SELECT started_ns IS NOT NULL AND ended_ns IS NULL FROM run"), 1);
	check_ok(pio_store_run_set_status(f.store, f.run, "failed", "rank 1 died", &err));
	assert_int_equal(sql_int(f.store, "SELECT ended_ns >= started_ns FROM run"), 1);
	assert_string_equal(sql_text(f.store, "SELECT reason FROM run"), "rank 1 died");
	check_ok(pio_store_run_set_status(f.store, f.run, "running", NULL, &err));
	assert_int_equal(sql_int(f.store, "SELECT ended_ns IS NULL AND reason IS NULL FROM run"), 1);
	check_fails(pio_store_run_set_status(f.store, f.run, "done", NULL, &err), PIO_EINVAL, "\"done\"");
	check_fails(pio_store_run_set_status(f.store, 77, "failed", NULL, &err), PIO_ENOTFOUND, "77");
	store_down(&f);
}

static void set_param(fixture *f, const char *name, const char *json)
{
	check_ok(pio_store_param_set(f->store, f->run, name, strlen(name), json, strlen(json), &err));
}

static const char *param(fixture *f, const char *name)
{
	char sql[300];
	snprintf(sql, sizeof sql, "SELECT kind || ' ' || typeof(value) || ' ' || value FROM param WHERE"
	         " name = '%s'", name);
	return sql_text(f->store, sql);
}

static void params_keep_their_type(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	set_param(&f, "i", "9007199254740993");
	set_param(&f, "r", "0.1");
	set_param(&f, "s", "\"line\\n\\\"quoted\\\" \xc3\xa9\"");
	set_param(&f, "b", "true");
	set_param(&f, "j", "{\"b\":[1,2],\"a\":null}");
	set_param(&f, "z", "-0.0");
	assert_string_equal(param(&f, "i"), "int integer 9007199254740993");
	assert_string_equal(param(&f, "r"), "real real 0.1");
	assert_string_equal(param(&f, "s"), "text text line\n\"quoted\" \xc3\xa9");
	assert_string_equal(param(&f, "b"), "bool integer 1");
	assert_string_equal(param(&f, "j"), "json text {\"a\":null,\"b\":[1,2]}");
	assert_int_equal(sql_int(f.store, "SELECT bits FROM param WHERE name = 'z'"), INT64_MIN);
	set_param(&f, "i", "\"now text\"");
	assert_string_equal(param(&f, "i"), "text text now text");
	store_down(&f);
}

static void names_of_any_bytes_but_nul(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	static char longest[4097];
	memset(longest, 'k', 4096);
	set_param(&f, longest, "1");
	set_param(&f, "a 'b' \"c\"\n\xe2\x82\xac", "2");
	check_fails(pio_store_param_set(f.store, f.run, longest, 4097, "1", 1, &err), PIO_EINVAL, "4097");
	check_fails(pio_store_param_set(f.store, f.run, "", 0, "1", 1, &err), PIO_EINVAL, "0 bytes");
	check_fails(pio_store_param_set(f.store, f.run, "ab\0c", 4, "1", 1, &err), PIO_EINVAL,
	            "NUL byte at position 2");
	check_fails(pio_store_tag_set(f.store, f.run, "ab\0c", 4, "1", 1, &err), PIO_EINVAL, "NUL");
	check_fails(pio_store_param_set(f.store, f.run, "a", 1, "1 2", 3, &err), PIO_ECORRUPT, "line 1");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM param"), 2);
	store_down(&f);
}

static void an_attempt_ends_once(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	assert_string_equal(sql_text(f.store, "SELECT dir FROM attempt"), "runs/" ULID_1 "/1");
	check_ok(pio_store_attempt_started(f.store, f.attempt, 4242, &err));
	assert_string_equal(sql_text(f.store, "SELECT state || agent_pid FROM attempt"), "running4242");
	pio_store_attempt_end end = { .result = "signal", .node = "n1", .rank = 2, .exit_code = -1,
	                              .signal = 9, .step = 40, .message = "killed", .ended_ns = 5 };
	check_ok(pio_store_attempt_finish(f.store, f.attempt, &end, &err));
	end.result = "ok";
	check_ok(pio_store_attempt_finish(f.store, f.attempt, &end, &err));
	assert_string_equal(sql_text(f.store, "SELECT result || node || rank || signal || step FROM attempt"),
	                    "signaln12940");
	assert_int_equal(sql_int(f.store, "SELECT exit_code IS NULL FROM attempt"), 1);
	assert_int_equal(sql_int(f.store, "SELECT failures FROM node WHERE name = 'n1'"), 1);
	check_ok(pio_store_rank_set(f.store, f.attempt, 2, "n1", -1, 9, "out", "err", &err));
	check_ok(pio_store_rank_set(f.store, f.attempt, 2, "n1", 3, -1, "out2", "err", &err));
	assert_string_equal(sql_text(f.store, "SELECT exit_code || stdout_tail FROM rank"), "3out2");
	int64_t id;
	check_ok(pio_store_attempt_create(&id, &f.number, f.store, f.run, "slurm", 8, "abc", &err));
	assert_int_equal(f.number, 2);
	check_fails(pio_store_attempt_create(&id, &f.number, f.store, 55, "local", 1, NULL, &err),
	            PIO_ENOTFOUND, "55");
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_and_generations_count_up),
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(status_moves_the_times),
		cmocka_unit_test(params_keep_their_type),
		cmocka_unit_test(names_of_any_bytes_but_nul),
		cmocka_unit_test(an_attempt_ends_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
