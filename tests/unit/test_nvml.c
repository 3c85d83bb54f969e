/* Runs against the stand-in of tests/gpu_host, which the Makefile puts into
 * build/gpu_host/ and on this test's library path. */
#include <string.h>

#include "gpu/nvml.h"
#include "test.h"

static void every_gpu_is_listed(void **state)
{
	(void)state;
	pio_gpus list;
	setenv("NVML_GPUS", "8", 1);
	check_ok(pio_gpus_list(&list, &err));
	assert_int_equal(list.count, 8);
	assert_string_equal(list.driver, "580.65.06");
	assert_string_equal(list.gpus[7].uuid, "GPU-7");
	assert_int_equal(list.gpus[7].index, 7);
	assert_true(list.gpus[0].memory_bytes == 80ull << 30);
	assert_int_equal(list.cuda, 13000);
	assert_true(list.gpus[3].has_cpus && list.gpus[3].cpus[0] == 0xff && list.gpus[4].cpus[0] == 0xff00);
	pio_gpus_free(&list);
	pio_gpus_free(&list);
}

static void no_gpu_is_no_error(void **state)
{
	(void)state;
	pio_gpus list;
	setenv("NVML_GPUS", "0", 1);
	check_ok(pio_gpus_list(&list, &err));
	assert_int_equal(list.count, 0);
	pio_gpus_free(&list);
}

static void a_lost_gpu_is_named_in_nvmls_words(void **state)
{
	(void)state;
	pio_gpus list;
	setenv("NVML_GPUS", "4", 1);
	setenv("NVML_LOST", "2", 1);
	check_fails(pio_gpus_list(&list, &err), PIO_EIO, "nvmlDeviceGetMemoryInfo: GPU is lost");
	assert_null(list.gpus);
	unsetenv("NVML_LOST");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_gpu_is_listed),
		cmocka_unit_test(no_gpu_is_no_error),
		cmocka_unit_test(a_lost_gpu_is_named_in_nvmls_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
