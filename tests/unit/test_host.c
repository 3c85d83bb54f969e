#include <math.h>
#include <string.h>

#include "sys/host.h"
#include "test.h"

static void put(const char *root, const char *path, const char *text)
{
	pio_str whole = PIO_STR_INIT, dir = PIO_STR_INIT;
	pio_str_printf(&whole, "%s%s", root, path);
	pio_str_append(&dir, whole.data, (size_t)(strrchr(whole.data, '/') - whole.data));
	check_ok(pio_fs_mkdirs(dir.data, 0777, &err));
	check_ok(pio_fs_write(whole.data, text, strlen(text), 0666, &err));
	pio_str_fini(&whole);
	pio_str_fini(&dir);
}

/* A machine with one disk in use, one network card and one InfiniBand port, and with
 * what stands for these again: a partition, a RAID, the loopback, a bridge. */
static void put_machine(const char *root, int factor)
{
	char text[1024];
	snprintf(text, sizeof text, "cpu  %d 100 100 5000 60 0 0 0 0 0\ncpu0 1 2 3\n", 100 * factor);
	put(root, "/proc/stat", text);
	put(root, "/proc/meminfo", "MemTotal:   1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n");
	snprintf(text, sizeof text, "Inter-|   Receive            |  Transmit\n"
	         " face |bytes    packets errs drop fifo frame compressed multicast|bytes\n"
	         "    lo: 77777 1 0 0 0 0 0 0 88888 1 0 0 0 0 0 0\n"
	         "  eth0: %d 1 0 0 0 0 0 0 %d 1 0 0 0 0 0 0\n"
	         "   br0: 66666 1 0 0 0 0 0 0 99999 1 0 0 0 0 0 0\n", 1000 * factor, 2000 * factor);
	put(root, "/proc/net/dev", text);
	snprintf(text, sizeof text, " 8 0 sda 1 1 %d 1 1 1 %d 1 0 1 1\n 8 1 sda1 1 1 700 1 1 1 700 1 0 1 1\n"
	         " 9 0 md0 1 1 700 1 1 1 700 1 0 1 1", 10 * factor, 20 * factor);
	put(root, "/proc/diskstats", text);
	put(root, "/sys/class/net/eth0/device/vendor", "");
	put(root, "/sys/class/net/lo/mtu", "");
	put(root, "/sys/class/net/br0/mtu", "");
	put(root, "/sys/block/sda/device/vendor", "");
	put(root, "/sys/block/md0/size", "");
	snprintf(text, sizeof text, "%d\n", 5000 * factor);
	put(root, "/sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data", text);
	snprintf(text, sizeof text, "%d\n", 6000 * factor);
	put(root, "/sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_data", text);
}

static void gauges_are_differences_of_physical_devices(void **state)
{
	char *root = scratch_new();
	double gauges[PIO_HOST_GAUGES];
	pio_host_look before, now;
	(void)state;
	put_machine(root, 1);
	pio_host_look_at(&before, root);
	put_machine(root, 3);
	pio_host_look_at(&now, root);
	now.mono_ns = before.mono_ns + 2000000000;
	pio_host_gauges(gauges, &before, &now);
	assert_true(fabs(gauges[PIO_HOST_CPUS] - 100.0 / (double)sysconf(_SC_CLK_TCK)) < 1e-9);
	const double expected[] = { 600 * 1024, 1000, 2000, 20000, 24000, 5120, 10240 };
	for (int i = PIO_HOST_MEMORY; i < PIO_HOST_GAUGES; i++)
		assert_true(gauges[i] == expected[i - PIO_HOST_MEMORY]);
	pio_host_gauges(gauges, &now, &before); /* counters that were begun anew */
	assert_true(isnan(gauges[PIO_HOST_SENT]) && gauges[PIO_HOST_MEMORY] == 600 * 1024);
	scratch_remove(root);
}

static void what_is_not_there_is_unknown(void **state)
{
	char *root = scratch_new();
	double gauges[PIO_HOST_GAUGES];
	pio_host_look look;
	int64_t total, available;
	(void)state;
	pio_host_look_at(&look, root);
	pio_host_gauges(gauges, &look, &look);
	for (int i = 0; i < PIO_HOST_GAUGES; i++)
		assert_true(isnan(gauges[i]));
	assert_false(pio_host_memory(&total, &available, root));
	put(root, "/proc/stat", "no cpu\n");
	put(root, "/proc/net/dev", "::::\n\n  : : :");
	put(root, "/proc/diskstats", "8");
	pio_host_look_at(&look, root);
	for (int i = 0; i < PIO_HOST_GAUGES; i++)
		assert_true(isnan(look.counts[i]));
	scratch_remove(root);
}

static void this_machine_is_read(void **state)
{
	double gauges[PIO_HOST_GAUGES];
	pio_host_look before, now;
	(void)state;
	pio_host_look_at(&before, "");
	usleep(50000);
	pio_host_look_at(&now, "");
	pio_host_gauges(gauges, &before, &now);
	assert_true(gauges[PIO_HOST_CPUS] >= 0 && gauges[PIO_HOST_MEMORY] > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gauges_are_differences_of_physical_devices),
		cmocka_unit_test(what_is_not_there_is_unknown),
		cmocka_unit_test(this_machine_is_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
