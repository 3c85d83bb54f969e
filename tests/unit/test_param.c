/* Parameters of many runs, column by column, against what is in each run. */
#include "store/param.h"
#include "store_fixture.h"

#define RUNS 60
#define NAMES 9

typedef struct made {
	fixture f;
	int64_t ids[RUNS];
} made;

/* What run i says of parameter n as an expression of SQL with its kind and bits;
 * NULL: it has none. */
static const char *said(int run, int n)
{
	static const char *const whole[] = { "1, 'int', NULL", "1.0, 'real', NULL" };
	static const char *const odd[] = {
		"1, 'int', NULL", "1.0, 'real', NULL", "1, 'bool', NULL", "'1', 'text', NULL", "'1', 'json', NULL",
		"NULL, 'real', 9221120237041091075", "0.0, 'real', -9223372036854775807 - 1", "0, 'int', NULL",
		"NULL, 'json', NULL", "'', 'text', NULL",
	};
	switch (n) {
	case 0: return "'same in all', 'text', NULL";
	case 1: return whole[run % 2];
	case 2: return run == RUNS - 1 ? NULL : "2, 'int', NULL";
	case 3: return run == 0 ? NULL : "3, 'int', NULL";
	case 4: return run == RUNS / 2 ? NULL : "'four', 'text', NULL";
	case 5: return run % 7 == 3 ? "'[1, 2]', 'json', NULL" : NULL;
	case 6: return odd[run % 10];
	case 7: return run == RUNS - 1 ? "0.5, 'real', NULL" : "7, 'int', NULL";
	default: return run % 2 ? "4611686018427387904, 'int', NULL" : "4611686018427387904.0, 'real', NULL";
	}
}

static int up(void **state)
{
	made *m = calloc(1, sizeof *m);
	if (!m)
		return -1;
	m->f = store_up();
	int64_t experiment;
	check_ok(pio_store_experiment(&experiment, m->f.store, "gpt", NULL, NULL, &err));
	for (int i = 0; i < RUNS; i++) {
		char ulid[PIO_ULID_CHARS + 1], sql[256];
		snprintf(ulid, sizeof ulid, "01ARZ3NDEKTSV4RRFFQ69G%04d", i);
		pio_store_run_spec spec = { .experiment_id = experiment, .ulid = ulid };
		check_ok(pio_store_run_create(&m->ids[i], m->f.store, &spec, &err));
		for (int n = 0; n < NAMES; n++) {
			if (!said(i, n))
				continue;
			snprintf(sql, sizeof sql, "INSERT INTO param (run_id, name, value, kind, bits) VALUES"
			         " (%lld, 'name%d', %s)", (long long)m->ids[i], n, said(i, n));
			assert_int_equal(sqlite3_exec(pio_store_db(m->f.store), sql, NULL, NULL, NULL), SQLITE_OK);
		}
	}
	*state = m;
	return 0;
}

static int down(void **state)
{
	made *m = *state;
	pio_store_close(&m->f.store);
	scratch_remove(m->f.dir);
	free(m);
	return 0;
}

static const pio_param_column *column_of(const pio_params *params, const char *name)
{
	size_t count;
	const pio_param_column *columns = pio_params_columns(params, &count);
	for (size_t i = 0; i < count; i++)
		if (columns[i].name_bytes == strlen(name) && memcmp(columns[i].name, name, strlen(name)) == 0)
			return &columns[i];
	return NULL;
}

/* Runs have the same value where SQL has written the same, and none where none
 * was written; in whatever order the runs are asked for. */
static void each_run_has_what_it_said(void **state)
{
	made *m = *state;
	int64_t backwards[RUNS];
	for (int i = 0; i < RUNS; i++)
		backwards[i] = m->ids[RUNS - 1 - i];
	for (int way = 0; way < 2; way++) {
		pio_params *params;
		check_ok(pio_params_read(&params, m->f.store, way ? backwards : m->ids, RUNS, &err));
		for (int n = 0; n < NAMES; n++) {
			char name[16];
			snprintf(name, sizeof name, "name%d", n);
			const pio_param_column *column = column_of(params, name);
			assert_non_null(column);
			size_t count = 0;
			for (int i = 0; i < RUNS; i++) {
				const char *text = said(i, n);
				int at = way ? RUNS - 1 - i : i;
				count += text != NULL;
				uint32_t value = column->by_run ? column->by_run[at] : 1;
				assert_int_equal(value != 0, text != NULL);
				for (int k = 0; k < i && text; k++) {
					uint32_t other = column->by_run ? column->by_run[way ? RUNS - 1 - k : k] : 1;
					if (said(k, n))
						assert_int_equal(other == value, strcmp(said(k, n), text) == 0);
				}
			}
			assert_int_equal(column->count, count);
		}
		pio_params_free(params);
	}
}

static void what_differs_is_known(void **state)
{
	made *m = *state;
	static const bool differs[NAMES] = { false, false, true, true, true, true, true, true, false };
	pio_params *params;
	check_ok(pio_params_read(&params, m->f.store, m->ids, RUNS, &err));
	for (int n = 0; n < NAMES; n++) {
		char name[16];
		snprintf(name, sizeof name, "name%d", n);
		if (column_of(params, name)->differs != differs[n])
			fail_msg("%s differs: %d", name, !differs[n]);
	}
	/* 1 and 1.0 are one value; true, "1", its JSON, NaN, -0.0, 0, null and "" are others. */
	const pio_param_column *odd = column_of(params, "name6");
	assert_int_equal(odd->values_count, 10);
	assert_int_equal(odd->values[1].same_as, 0);
	for (uint32_t i = 2; i < 10; i++)
		assert_int_equal(odd->values[i].same_as, i);
	static const char kinds[] = "irbtjrri";
	for (size_t i = 0; i < sizeof kinds - 1; i++)
		assert_int_equal(odd->values[i].kind, kinds[i]);
	assert_int_equal(odd->values[8].kind, 0);
	pio_params_free(params);
}

static void others_may_lie_between_the_runs(void **state)
{
	made *m = *state;
	enum { COUNT = 3 };
	static const int some[COUNT] = { 7, 1, 4 };
	int64_t ids[COUNT];
	for (int i = 0; i < COUNT; i++)
		ids[i] = m->ids[some[i]];
	pio_params *params;
	check_ok(pio_params_read(&params, m->f.store, ids, COUNT, &err));
	for (int n = 0; n < NAMES; n++) {
		char name[16];
		snprintf(name, sizeof name, "name%d", n);
		const pio_param_column *column = column_of(params, name);
		size_t count = 0;
		for (int i = 0; i < COUNT; i++) {
			bool has = column && (!column->by_run || column->by_run[i]);
			assert_int_equal(has, said(some[i], n) != NULL);
			count += has;
		}
		assert_int_equal(column ? column->count : 0, count);
	}
	pio_params_free(params);
}

static void few_runs_and_none(void **state)
{
	made *m = *state;
	pio_params *params;
	size_t count;
	check_ok(pio_params_read(&params, m->f.store, m->ids, 0, &err));
	pio_params_columns(params, &count);
	assert_int_equal(count, 0);
	pio_params_free(params);
	const int64_t stranger = 4711;
	check_ok(pio_params_read(&params, m->f.store, &stranger, 1, &err));
	pio_params_columns(params, &count);
	assert_int_equal(count, 0);
	pio_params_free(params);
	check_ok(pio_params_read(&params, m->f.store, m->ids, 1, &err));
	const pio_param_column *columns = pio_params_columns(params, &count);
	assert_int_equal(count, 7);
	for (size_t i = 0; i < count; i++)
		assert_false(columns[i].differs);
	pio_params_free(params);
}

static void no_memory_is_said_and_nothing_leaks(void **state)
{
	made *m = *state;
	pio_params *params;
	check_ok(pio_params_read(&params, m->f.store, m->ids, RUNS, &err));
	pio_params_free(params);
	int64_t live = pio_mem_live();
	for (uint64_t n = 1;; n++) {
		pio_err err = PIO_ERR_INIT;
		pio_mem_fail_at(n);
		int rc = pio_params_read(&params, m->f.store, m->ids, RUNS, &err);
		bool struck = pio_mem_fail_at(0) == 0;
		assert_int_equal(rc, struck ? -PIO_ENOMEM : 0);
		pio_params_free(params);
		assert_int_equal(pio_mem_live(), live);
		assert_true(sqlite3_get_autocommit(pio_store_db(m->f.store)));
		if (!struck)
			break;
	}
}

static void the_function_is_for_pioche_alone(void **state)
{
	made *m = *state;
	sqlite3_stmt *row = NULL;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(m->f.store), "SELECT param_beyond(1, 'a', 1, 'int')",
	                                    -1, &row, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(row), SQLITE_ERROR);
	sqlite3_finalize(row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_run_has_what_it_said, up, down),
		cmocka_unit_test_setup_teardown(what_differs_is_known, up, down),
		cmocka_unit_test_setup_teardown(others_may_lie_between_the_runs, up, down),
		cmocka_unit_test_setup_teardown(few_runs_and_none, up, down),
		cmocka_unit_test_setup_teardown(no_memory_is_said_and_nothing_leaks, up, down),
		cmocka_unit_test_setup_teardown(the_function_is_for_pioche_alone, up, down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
