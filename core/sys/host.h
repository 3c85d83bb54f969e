/* host.h: how busy this machine is, by the kernel's counters (proc(5), sysfs).
 *
 * Traffic is that of physical devices: neither bridges, bonds and the loopback nor
 * partitions and RAID count what goes through a card or a disk again. What RDMA
 * moves (InfiniBand, RoCE) passes by the network's counters and has its own. */
#ifndef PIO_SYS_HOST_H
#define PIO_SYS_HOST_H

#include <stdbool.h>
#include <stdint.h>

typedef enum pio_host_gauge {
	PIO_HOST_CPUS,           /* busy ones, in CPUs */
	PIO_HOST_MEMORY,         /* bytes that could not be had */
	PIO_HOST_RECEIVED, PIO_HOST_SENT,             /* bytes a second, as all below */
	PIO_HOST_RDMA_RECEIVED, PIO_HOST_RDMA_SENT,
	PIO_HOST_READ, PIO_HOST_WRITTEN,
	PIO_HOST_GAUGES
} pio_host_gauge;

/* One look at the counters: seconds of CPUs, bytes; NaN: not told here. */
typedef struct pio_host_look {
	int64_t mono_ns;
	double counts[PIO_HOST_GAUGES];
} pio_host_look;

/* `root` is put before /proc and /sys, for tests; "" otherwise. */
void pio_host_look_at(pio_host_look *look, const char *root);
/* The gauges between two looks; NaN: unknown. */
void pio_host_gauges(double gauges[PIO_HOST_GAUGES], const pio_host_look *before, const pio_host_look *now);
/* "cpus", "memory_bytes", "received_bytes_per_s", ... */
const char *pio_host_gauge_name(pio_host_gauge gauge);

/* False: the kernel does not say. */
bool pio_host_memory(int64_t *total_bytes, int64_t *available_bytes, const char *root);

#endif
