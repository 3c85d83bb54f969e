#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "launch/preflight.h"
#include "test.h"

#define S INT64_C(1000000000)

static json_t *checks;
static pio_str failures = PIO_STR_INIT;

static void look(int ranks, const char *host, int64_t skew_ns)
{
	pio_agent_spec spec = { .store = "/", .host = host, .fit_for = ranks };
	json_decref(checks);
	pio_str_clear(&failures);
	check_ok(pio_preflight(&checks, &failures, &spec, skew_ns, &err));
}

static void expect(const char *name, const char *state, const char *part)
{
	size_t i;
	json_t *check;
	json_array_foreach(checks, i, check)
		if (strcmp(json_string_value(json_object_get(check, "name")), name) == 0) {
			const char *message = json_string_value(json_object_get(check, "message"));
			assert_string_equal(json_string_value(json_object_get(check, "state")), state);
			if (!strstr(message, part))
				fail_msg("\"%s\" is not in:\n%s", part, message);
			return;
		}
	fail_msg("there is no check \"%s\"", name);
}

static int tear_down(void **state)
{
	(void)state;
	json_decref(checks);
	checks = NULL;
	pio_str_fini(&failures);
	failures = (pio_str)PIO_STR_INIT;
	return 0;
}

static void a_sound_node_passes(void **state)
{
	(void)state;
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	assert_string_equal(failures.data, "");
	assert_int_equal(json_array_size(checks), 8);
	expect("store", "ok", "/ has ");
	expect("shm", "ok", " MiB");
	expect("memory", "ok", "MiB of memory are free");
	expect("host", "ok", "the name localhost resolves");
	expect("clock", "ok", "one node, one clock");
}

/* As many ranks as nothing has room for. */
static void lack_of_room_is_told_in_figures(void **state)
{
	(void)state;
	setenv("PIOCHE_SHM", "/dev", 1); /* where a file system of a few MiB at most is */
	setenv("TMPDIR", "/no/such/directory", 1);
	look(1 << 20, "localhost", PIO_SKEW_UNKNOWN);
	unsetenv("PIOCHE_SHM");
	unsetenv("TMPDIR");
	expect("shm", "failed", "1048576 rings need ");
	expect("memory", "failed", "1048576 ranks need at least 67108864 MiB");
	expect("tmp", "failed", "/no/such/directory cannot be looked at");
	assert_non_null(strstr(failures.data, "/no/such/directory cannot be looked at; /dev has "));
}

static void limits_and_names_warn(void **state)
{
	(void)state;
	struct rlimit before, few;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = 128;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	look(1, "no-such-host.invalid", PIO_SKEW_UNKNOWN);
	expect("files", "warning", "128 open files, 1024 expected (ulimit -n)");
	expect("host", "warning", "the name no-such-host.invalid does not resolve: ");
	few.rlim_cur = 32;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	expect("files", "failed", "32 open files");
}

static void a_clock_that_is_off_is_told(void **state)
{
	(void)state;
	look(1, "localhost", S / 2);
	expect("clock", "ok", "the clock is 0.500 s ahead of the head's");
	look(1, "localhost", -5 * S);
	expect("clock", "warning", "the clock is 5.000 s behind the head's, at most 1 s expected");
	look(1, "localhost", 61 * S);
	expect("clock", "failed", "61.000 s ahead");
	assert_non_null(strstr(failures.data, "the clock is 61.000 s ahead of the head's"));
}

/* On the stand-in of tests/gpu_host. */
static void a_gpu_in_trouble_is_named(void **state)
{
	(void)state;
	setenv("NVML_GPUS", "4", 1);
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	assert_string_equal(failures.data, "");
	setenv("NVML_ECC", "3:2", 1);
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	expect("gpus", "failed", "4 GPUs, driver 580.65.06; gpu 3: 2 uncorrected errors of its memory");
	assert_non_null(strstr(failures.data, "gpu 3: 2 uncorrected errors of its memory"));
	setenv("CUDA_VISIBLE_DEVICES", "0,1", 1); /* the ranks do not see it */
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	assert_string_equal(failures.data, "");
	unsetenv("CUDA_VISIBLE_DEVICES");
	unsetenv("NVML_ECC");
	setenv("NVML_PENDING", "0", 1);
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	expect("gpus", "failed", "; gpu 0: a bad row of its memory waits for a reset to be replaced");
	unsetenv("NVML_PENDING");
	setenv("NVML_LOST", "2", 1);
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	expect("gpus", "failed", "gpu 2: NVML: nvmlDeviceGetMemoryInfo: GPU is lost");
	unsetenv("NVML_LOST");
}

static void a_library_without_a_driver_fails_where_gpus_are_expected(void **state)
{
	(void)state;
	setenv("NVML_INIT", "9", 1);
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	expect("gpus", "ok", "Driver Not Loaded");
	setenv("SLURM_GPUS_ON_NODE", "8", 1);
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	expect("gpus", "failed", "Driver Not Loaded");
	unsetenv("NVML_INIT");
	look(1, "localhost", PIO_SKEW_UNKNOWN);
	expect("gpus", "failed", "4 GPUs, driver 580.65.06, 8 expected");
	unsetenv("SLURM_GPUS_ON_NODE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_sound_node_passes, tear_down),
		cmocka_unit_test_teardown(lack_of_room_is_told_in_figures, tear_down),
		cmocka_unit_test_teardown(limits_and_names_warn, tear_down),
		cmocka_unit_test_teardown(a_clock_that_is_off_is_told, tear_down),
		cmocka_unit_test_teardown(a_gpu_in_trouble_is_named, tear_down),
		cmocka_unit_test_teardown(a_library_without_a_driver_fails_where_gpus_are_expected, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
