/* Runs against the stand-in of tests/gpu_host, which the Makefile puts into
 * build/gpu_host/ and on this test's library path. */
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "gpu/meter.h"
#include "gpu/nvml.h"
#include "gpu/xid.h"
#include "test.h"

#define PATIENCE_MS 60000

static void every_gpu_is_listed(void **state)
{
	(void)state;
	pio_gpus list;
	setenv("NVML_GPUS", "8", 1);
	check_ok(pio_gpus_list(&list, PATIENCE_MS, &err));
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
	check_ok(pio_gpus_list(&list, PATIENCE_MS, &err));
	assert_int_equal(list.count, 0);
	pio_gpus_free(&list);
}

static void a_lost_gpu_is_named_in_nvmls_words(void **state)
{
	(void)state;
	pio_gpus list;
	setenv("NVML_GPUS", "4", 1);
	setenv("NVML_LOST", "2", 1);
	check_fails(pio_gpus_list(&list, PATIENCE_MS, &err), PIO_EIO, 
	            "gpu 2: NVML: nvmlDeviceGetMemoryInfo: GPU is lost");
	assert_null(list.gpus);
	unsetenv("NVML_LOST");
}

static void a_driver_that_does_not_answer_is_not_waited_for(void **state)
{
	(void)state;
	pio_gpus list;
	setenv("NVML_INIT", "hang", 1);
	check_fails(pio_gpus_list(&list, 50, &err), PIO_ETIMEOUT, "NVML did not answer within 50 ms");
	assert_null(list.gpus);
	setenv("NVML_INIT", "9", 1);
	check_fails(pio_gpus_list(&list, PATIENCE_MS, &err), PIO_ENOTFOUND,
	            "NVML: nvmlInit_v2: Driver Not Loaded");
	setenv("NVML_INIT", "999", 1);
	check_fails(pio_gpus_list(&list, PATIENCE_MS, &err), PIO_EIO, "NVML: nvmlInit_v2: Unknown Error");
	unsetenv("NVML_INIT");
}

/* What ails GPU `index` of four; the others are well. */
static void expect_faults(int index, const char *words)
{
	pio_gpus list;
	pio_str text = PIO_STR_INIT;
	setenv("NVML_GPUS", "4", 1);
	check_ok(pio_gpus_list(&list, PATIENCE_MS, &err));
	for (int i = 0; i < 4; i++) {
		pio_str_clear(&text);
		assert_int_equal(pio_gpu_put_faults(&text, &list.gpus[i]), i == index);
		assert_string_equal(text.data, i == index ? words : "");
	}
	pio_str_fini(&text);
	pio_gpus_free(&list);
}

static void what_ails_a_gpu_is_told(void **state)
{
	(void)state;
	expect_faults(-1, "");
	setenv("NVML_ECC", "3:2", 1);
	expect_faults(3, "gpu 3: 2 uncorrected errors of its memory");
	setenv("NVML_ECC", "3:1", 1);
	setenv("NVML_PENDING", "3", 1);
	setenv("NVML_FAILED", "3", 1);
	setenv("NVML_RECOVERY", "3:1", 1);
	expect_faults(3, "gpu 3: 1 uncorrected error of its memory, a bad row of its memory waits for a reset "
	              "to be replaced, a bad row of its memory could not be replaced, an error left it in need "
	              "of a reset");
	setenv("NVML_MUTE", "1", 1);
	expect_faults(-1, "");
	unsetenv("NVML_MUTE");
	unsetenv("NVML_ECC");
	unsetenv("NVML_PENDING");
	unsetenv("NVML_FAILED");
	setenv("NVML_RECOVERY", "1:2", 1);
	expect_faults(1, "gpu 1: an error left its node in need of a reboot");
	setenv("NVML_RECOVERY", "1:77", 1); /* of a newer driver */
	expect_faults(1, "gpu 1: an error left it in need of recovery");
	unsetenv("NVML_RECOVERY");
	setenv("NVML_RETIRED", "0", 1);
	expect_faults(0, "gpu 0: a bad row of its memory waits for a reset to be replaced");
	unsetenv("NVML_RETIRED");
}

static void visible_is_what_cuda_is_told(void **state)
{
	(void)state;
	const pio_gpu gpu = { .index = 3, .uuid = "GPU-3a8f" };
	static const char *const yes[] = { "3", "0,3", "3,0", "GPU-3a8f", "0,GPU-3a", "MIG-1", NULL };
	static const char *const no[] = { "", "0,1,2", "33", "3x", "-1", "GPU-", "GPU-3a8f0", "GPU-4" };
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
		assert_true(pio_gpu_is_visible(&gpu, yes[i]));
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
		assert_false(pio_gpu_is_visible(&gpu, no[i]));
}

static void append(const char *path, const char *text)
{
	FILE *file = fopen(path, "a");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0 && fclose(file) == 0);
}

static int wait_for_xid(const pio_proc_feed *feed, pio_xid *xid)
{
	struct pollfd one = { .fd = feed->fd, .events = POLLIN };
	assert_int_equal(poll(&one, 1, PATIENCE_MS), 1);
	return pio_proc_feed_take(feed, xid);
}

static void xids_come_as_they_happen(void **state)
{
	pio_proc_feed feed;
	pio_xid xid;
	char *dir = scratch_new();
	const char *path = path_in(dir, "xids");
	(void)state;
	append(path, "");
	setenv("NVML_GPUS", "4", 1);
	setenv("NVML_XIDS", path, 1);
	check_ok(pio_xid_feed_open(&feed, &err));
	assert_int_equal(pio_proc_feed_take(&feed, &xid), 0);
	append(path, "3:79\n1:31\n");
	assert_int_equal(wait_for_xid(&feed, &xid), 1);
	assert_int_equal(xid.gpu * 1000 + (int)xid.code, 3079);
	assert_int_equal(wait_for_xid(&feed, &xid), 1);
	assert_int_equal(xid.gpu * 1000 + (int)xid.code, 1031);
	append(path, "7:48\n"); /* there are four */
	assert_int_equal(wait_for_xid(&feed, &xid), 1);
	assert_int_equal(xid.gpu, -1);
	assert_int_equal(pio_proc_feed_take(&feed, &xid), 0);
	pio_proc_feed_close(&feed);
	pio_proc_feed_close(&feed);
	unsetenv("NVML_XIDS");
	scratch_remove(dir);
}

static void who_cannot_listen_says_so(void **state)
{
	pio_proc_feed feed;
	pio_xid xid;
	(void)state;
	setenv("NVML_GPUS", "4", 1); /* whose events are not supported */
	check_ok(pio_xid_feed_open(&feed, &err));
	assert_int_equal(wait_for_xid(&feed, &xid), -1);
	pio_proc_feed_close(&feed);
	setenv("NVML_INIT", "hang", 1);
	check_ok(pio_xid_feed_open(&feed, &err));
	assert_int_equal(pio_proc_feed_take(&feed, &xid), 0);
	pio_proc_feed_close(&feed);
	unsetenv("NVML_INIT");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void common_codes_have_words(void **state)
{
	pio_xid_kind kind;
	(void)state;
	assert_string_equal(pio_xid_words(79, &kind), "it has fallen off the bus");
	assert_int_equal(kind, PIO_XID_MACHINE);
	assert_non_null(pio_xid_words(31, &kind));
	assert_int_equal(kind, PIO_XID_PROGRAM);
	assert_non_null(pio_xid_words(45, &kind));
	assert_int_equal(kind, PIO_XID_SEQUEL);
	assert_ptr_equal(pio_xid_words(144, &kind), pio_xid_words(150, &kind));
	assert_null(pio_xid_words(151, &kind));
	assert_int_equal(kind, PIO_XID_MACHINE);
}

/* The next reading of that GPU. */
static pio_gpu_reading reading_of(const pio_proc_feed *feed, int gpu)
{
	for (;;) {
		pio_gpu_reading reading;
		struct pollfd one = { .fd = feed->fd, .events = POLLIN };
		assert_int_equal(poll(&one, 1, PATIENCE_MS), 1);
		assert_int_equal(pio_proc_feed_take(feed, &reading), 1);
		if (reading.gpu == gpu)
			return reading;
	}
}

static void gpus_are_measured_again_and_again(void **state)
{
	pio_proc_feed feed;
	(void)state;
	setenv("NVML_GPUS", "4", 1);
	setenv("NVML_HOT", "2", 1);
	setenv("NVML_ECC", "2:6", 1);
	check_ok(pio_gpu_meter_open(&feed, 20, &err));
	pio_gpu_reading first = reading_of(&feed, 2), next = reading_of(&feed, 2);
	assert_true(next.mono_ns > first.mono_ns && next.time_ns >= first.time_ns);
	const double *g = next.gauges;
	assert_int_equal((int)g[PIO_GPU_BUSY], 12);
	assert_int_equal((int)g[PIO_GPU_MEMORY_BUSY], 7);
	assert_int_equal((int)(g[PIO_GPU_MEMORY] / 1073741824.0), 3);
	assert_int_equal((int)g[PIO_GPU_POWER], 102);
	assert_int_equal((int)g[PIO_GPU_TEMPERATURE], 93);
	assert_int_equal((int)g[PIO_GPU_CLOCK], 600);
	assert_int_equal((int)g[PIO_GPU_CORRECTED], 5);
	assert_int_equal((int)g[PIO_GPU_UNCORRECTED], 6);
	assert_string_equal(pio_gpu_slowed_by(g[PIO_GPU_SLOWED]), "its heat");
	assert_null(pio_gpu_slowed_by(reading_of(&feed, 3).gauges[PIO_GPU_SLOWED])); /* it is idle */
	/* The driver counts whole milliseconds. */
	double seconds = (double)(next.mono_ns - first.mono_ns) / 1e9;
	assert_true(first.gauges[PIO_GPU_ENERGY] == 0);
	assert_true(g[PIO_GPU_ENERGY] > 0 && g[PIO_GPU_ENERGY] < 102 * (seconds + 0.1));
	assert_true(isnan(first.gauges[PIO_GPU_NVLINK_SENT]));
	assert_true(g[PIO_GPU_NVLINK_SENT] > 0 && g[PIO_GPU_NVLINK_RECEIVED] > g[PIO_GPU_NVLINK_SENT]);
	pio_proc_feed_close(&feed);
	unsetenv("NVML_HOT");
	unsetenv("NVML_ECC");
}

static void what_a_gpu_does_not_tell_is_unknown(void **state)
{
	pio_proc_feed feed;
	(void)state;
	setenv("NVML_GPUS", "1", 1);
	setenv("NVML_UNCOUNTED", "1", 1);
	check_ok(pio_gpu_meter_open(&feed, 20, &err));
	pio_gpu_reading first = reading_of(&feed, 0), next = reading_of(&feed, 0);
	double seconds = (double)(next.mono_ns - first.mono_ns) / 1e9;
	assert_true(fabs(next.gauges[PIO_GPU_ENERGY] - 100 * seconds) < 1e-6); /* power times time */
	pio_proc_feed_close(&feed);
	unsetenv("NVML_UNCOUNTED");
	setenv("NVML_MUTE", "1", 1);
	check_ok(pio_gpu_meter_open(&feed, 20, &err));
	next = reading_of(&feed, 0);
	for (int i = 0; i < PIO_GPU_GAUGES; i++)
		assert_true(isnan(next.gauges[i]));
	pio_proc_feed_close(&feed);
	unsetenv("NVML_MUTE");
	setenv("NVML_INIT", "9", 1); /* no driver */
	pio_gpu_reading none;
	struct pollfd one = { .events = POLLIN };
	check_ok(pio_gpu_meter_open(&feed, 20, &err));
	one.fd = feed.fd;
	assert_int_equal(poll(&one, 1, PATIENCE_MS), 1);
	assert_int_equal(pio_proc_feed_take(&feed, &none), -1);
	pio_proc_feed_close(&feed);
	unsetenv("NVML_INIT");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_gpu_is_listed),
		cmocka_unit_test(no_gpu_is_no_error),
		cmocka_unit_test(a_lost_gpu_is_named_in_nvmls_words),
		cmocka_unit_test(a_driver_that_does_not_answer_is_not_waited_for),
		cmocka_unit_test(what_ails_a_gpu_is_told),
		cmocka_unit_test(visible_is_what_cuda_is_told),
		cmocka_unit_test(xids_come_as_they_happen),
		cmocka_unit_test(who_cannot_listen_says_so),
		cmocka_unit_test(common_codes_have_words),
		cmocka_unit_test(gpus_are_measured_again_and_again),
		cmocka_unit_test(what_a_gpu_does_not_tell_is_unknown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
