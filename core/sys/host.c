#include "sys/host.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "sys/fs.h"

#define SECTOR_BYTES 512           /* of /proc/diskstats, whatever the disk's are */
#define RDMA_WORD_BYTES 4          /* the unit of port_rcv_data and port_xmit_data */
#define NAME_BYTES 64

/* A file below root; false, and nothing in `text`, if it cannot be read. */
static bool read_file(pio_str *text, const char *root, const char *path)
{
	pio_str whole = PIO_STR_INIT;
	pio_str_clear(text);
	pio_str_printf(&whole, "%s%s", root, path);
	bool read = !whole.failed && pio_fs_read(text, whole.data, NULL) == 0 && !text->failed;
	pio_str_fini(&whole);
	return read;
}

static bool is_there(const char *root, const char *dir, const char *name, const char *member)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s%s/%s/%s", root, dir, name, member);
	bool found = !path.failed && pio_fs_type(path.data) != PIO_FS_NONE;
	pio_str_fini(&path);
	return found;
}

static void add(double *sum, double more)
{
	*sum = isnan(*sum) ? more : *sum + more;
}

/* The line after the one that begins at `at`; NULL: there is none. */
static const char *next_line(const char *at)
{
	const char *end = strchr(at, '\n');
	return end && end[1] ? end + 1 : NULL;
}

/* ---- processors and memory --------------------------------------------------------- */

/* "cpu  user nice system idle iowait irq softirq steal ...", in ticks. */
static void look_at_cpus(pio_host_look *look, pio_str *text, const char *root)
{
	unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
	if (read_file(text, root, "/proc/stat") &&
	    sscanf(text->data, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle,
	           &iowait, &irq, &softirq, &steal) == 8)
		look->counts[PIO_HOST_CPUS] = (double)(user + nice + system + irq + softirq + steal) /
		                              (double)sysconf(_SC_CLK_TCK);
}

/* "MemAvailable:    1234 kB" */
static int64_t memory_bytes(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	return at ? strtoll(at + strlen(name), NULL, 10) * 1024 : -1;
}

bool pio_host_memory(int64_t *total_bytes, int64_t *available_bytes, const char *root)
{
	pio_str text = PIO_STR_INIT;
	*total_bytes = *available_bytes = -1;
	if (read_file(&text, root, "/proc/meminfo")) {
		*total_bytes = memory_bytes(text.data, "MemTotal:");
		*available_bytes = memory_bytes(text.data, "MemAvailable:");
	}
	pio_str_fini(&text);
	return *total_bytes >= 0 && *available_bytes >= 0;
}

/* ---- traffic -------------------------------------------------------------------------- */

/* A line of a table of devices: the name, and how much came in and went out. */
typedef bool line_reader(char name[NAME_BYTES], unsigned long long *in, unsigned long long *out,
                         const char *line);

/* "  eth0: bytes packets errs drop fifo frame compressed multicast bytes ..." */
static bool read_interface(char name[NAME_BYTES], unsigned long long *in, unsigned long long *out,
                           const char *line)
{
	return sscanf(line, " %63[^: \n]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, in, out) == 3;
}

/* "   8       0 sda reads merged sectors ms writes merged sectors ..." */
static bool read_disk(char name[NAME_BYTES], unsigned long long *in, unsigned long long *out,
                      const char *line)
{
	return sscanf(line, " %*u %*u %63s %*u %*u %llu %*u %*u %*u %llu", name, in, out) == 3;
}

typedef struct device_table {
	const char *path, *devices;      /* below `devices` a directory each */
	line_reader *read;
	pio_host_gauge in, out;
	double unit_bytes;
} device_table;

static const device_table network = {
	"/proc/net/dev", "/sys/class/net", read_interface, PIO_HOST_RECEIVED, PIO_HOST_SENT, 1,
};
static const device_table disks = {
	"/proc/diskstats", "/sys/block", read_disk, PIO_HOST_READ, PIO_HOST_WRITTEN, SECTOR_BYTES,
};

static void look_at_devices(pio_host_look *look, pio_str *text, const char *root, const device_table *table)
{
	if (!read_file(text, root, table->path))
		return;
	for (const char *line = text->data; line; line = next_line(line)) {
		char name[NAME_BYTES];
		unsigned long long in, out;
		if (table->read(name, &in, &out, line) && is_there(root, table->devices, name, "device")) {
			add(&look->counts[table->in], (double)in * table->unit_bytes);
			add(&look->counts[table->out], (double)out * table->unit_bytes);
		}
	}
}

static void count_port(double *sum, pio_str *text, const char *root, const char *port, const char *counter)
{
	char path[512];
	snprintf(path, sizeof path, "%s/counters/%s", port, counter);
	if (read_file(text, root, path))
		add(sum, (double)strtoull(text->data, NULL, 10) * RDMA_WORD_BYTES);
}

static void look_at_ports(pio_host_look *look, pio_str *text, const char *root, const char *device)
{
	pio_str ports = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	pio_str_printf(&ports, "%s/sys/class/infiniband/%s/ports", root, device);
	if (!ports.failed && pio_fs_list(&names, &count, ports.data, NULL) != 0)
		count = 0;
	for (size_t i = 0; i < count; i++) {
		char port[256];
		snprintf(port, sizeof port, "/sys/class/infiniband/%s/ports/%s", device, names[i]);
		count_port(&look->counts[PIO_HOST_RDMA_RECEIVED], text, root, port, "port_rcv_data");
		count_port(&look->counts[PIO_HOST_RDMA_SENT], text, root, port, "port_xmit_data");
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&ports);
}

static void look_at_rdma(pio_host_look *look, pio_str *text, const char *root)
{
	pio_str devices = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	pio_str_printf(&devices, "%s/sys/class/infiniband", root);
	if (!devices.failed && pio_fs_list(&names, &count, devices.data, NULL) != 0)
		count = 0;
	for (size_t i = 0; i < count; i++)
		look_at_ports(look, text, root, names[i]);
	pio_fs_list_free(names, count);
	pio_str_fini(&devices);
}

/* ---- all of it ---------------------------------------------------------------------------- */

void pio_host_look_at(pio_host_look *look, const char *root)
{
	pio_str text = PIO_STR_INIT;
	int64_t total, available;
	look->mono_ns = pio_clock_mono_ns();
	for (int i = 0; i < PIO_HOST_GAUGES; i++)
		look->counts[i] = NAN;
	look_at_cpus(look, &text, root);
	if (pio_host_memory(&total, &available, root))
		look->counts[PIO_HOST_MEMORY] = (double)(total - available);
	look_at_devices(look, &text, root, &network);
	look_at_rdma(look, &text, root);
	look_at_devices(look, &text, root, &disks);
	pio_str_fini(&text);
}

void pio_host_gauges(double gauges[PIO_HOST_GAUGES], const pio_host_look *before, const pio_host_look *now)
{
	double seconds = (double)(now->mono_ns - before->mono_ns) / 1e9;
	for (int i = 0; i < PIO_HOST_GAUGES; i++) {
		double more = now->counts[i] - before->counts[i];
		if (i == PIO_HOST_MEMORY)
			gauges[i] = now->counts[i];
		else /* a counter that went back was begun anew: its device was */
			gauges[i] = seconds > 0 && more >= 0 ? more / seconds : NAN;
	}
}

const char *pio_host_gauge_name(pio_host_gauge gauge)
{
	static const char *const names[PIO_HOST_GAUGES] = {
		"cpus", "memory_bytes", "received_bytes_per_s", "sent_bytes_per_s", "rdma_received_bytes_per_s",
		"rdma_sent_bytes_per_s", "read_bytes_per_s", "written_bytes_per_s",
	};
	return names[gauge];
}
