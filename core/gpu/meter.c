#include "gpu/meter.h"

#include <math.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "gpu/nvml_library.h"
#include "sys/library.h"

#define GPUS_MAX 64
#define KIB 1024.0

/* What a reading is the difference to. */
typedef struct history {
	bool any;
	int64_t mono_ns;
	double energy_j;            /* by the driver's count; NaN: it has none */
	double begin_j, summed_j;   /* of the first reading; of power by time, without a count */
	double received, sent;      /* bytes by NVLink */
} history;

typedef struct meter {
	pio_nvml_gauges api;
	void *devices[GPUS_MAX];    /* NULL: this one cannot be asked */
	unsigned count;
	history before[GPUS_MAX];
} meter;

static bool load(pio_nvml_gauges *api)
{
	void *library;
	const pio_symbol symbols[] = {
		{ "nvmlInit_v2", (void **)&api->nvmlInit_v2, false },
		{ "nvmlDeviceGetCount_v2", (void **)&api->nvmlDeviceGetCount_v2, false },
		{ "nvmlDeviceGetHandleByIndex_v2", (void **)&api->nvmlDeviceGetHandleByIndex_v2, false },
		{ "nvmlDeviceGetUtilizationRates", (void **)&api->nvmlDeviceGetUtilizationRates, true },
		{ "nvmlDeviceGetMemoryInfo", (void **)&api->nvmlDeviceGetMemoryInfo, true },
		{ "nvmlDeviceGetPowerUsage", (void **)&api->nvmlDeviceGetPowerUsage, true },
		{ "nvmlDeviceGetTotalEnergyConsumption",
		  (void **)&api->nvmlDeviceGetTotalEnergyConsumption, true },
		{ "nvmlDeviceGetTemperature", (void **)&api->nvmlDeviceGetTemperature, true },
		{ "nvmlDeviceGetClockInfo", (void **)&api->nvmlDeviceGetClockInfo, true },
		{ "nvmlDeviceGetCurrentClocksEventReasons",
		  (void **)&api->nvmlDeviceGetCurrentClocksEventReasons, true },
		{ "nvmlDeviceGetCurrentClocksThrottleReasons",
		  (void **)&api->nvmlDeviceGetCurrentClocksThrottleReasons, true },
		{ "nvmlDeviceGetTotalEccErrors", (void **)&api->nvmlDeviceGetTotalEccErrors, true },
		{ "nvmlDeviceGetFieldValues", (void **)&api->nvmlDeviceGetFieldValues, true },
	};
	return pio_library_open(&library, "libnvidia-ml.so.1", symbols, sizeof symbols / sizeof symbols[0],
	                        NULL) == 0;
}

/* ---- one reading ---------------------------------------------------------------- */

static void read_state(const pio_nvml_gauges *api, void *device, double *gauges)
{
	pio_nvml_utilization utilization;
	pio_nvml_memory memory;
	unsigned number;
	if (api->nvmlDeviceGetUtilizationRates &&
	    api->nvmlDeviceGetUtilizationRates(device, &utilization) == 0) {
		gauges[PIO_GPU_BUSY] = utilization.gpu;
		gauges[PIO_GPU_MEMORY_BUSY] = utilization.memory;
	}
	if (api->nvmlDeviceGetMemoryInfo && api->nvmlDeviceGetMemoryInfo(device, &memory) == 0)
		gauges[PIO_GPU_MEMORY] = (double)memory.used;
	if (api->nvmlDeviceGetPowerUsage && api->nvmlDeviceGetPowerUsage(device, &number) == 0)
		gauges[PIO_GPU_POWER] = number / 1e3;
	if (api->nvmlDeviceGetTemperature &&
	    api->nvmlDeviceGetTemperature(device, PIO_NVML_OF_GPU, &number) == 0)
		gauges[PIO_GPU_TEMPERATURE] = number;
	if (api->nvmlDeviceGetClockInfo && api->nvmlDeviceGetClockInfo(device, PIO_NVML_CLOCK_SM, &number) == 0)
		gauges[PIO_GPU_CLOCK] = number;
}

static void read_health(const pio_nvml_gauges *api, void *device, double *gauges)
{
	unsigned long long number;
	int (*reasons)(void *, unsigned long long *) = api->nvmlDeviceGetCurrentClocksEventReasons
	                                             ? api->nvmlDeviceGetCurrentClocksEventReasons
	                                             : api->nvmlDeviceGetCurrentClocksThrottleReasons;
	if (reasons && reasons(device, &number) == 0)
		gauges[PIO_GPU_SLOWED] = (double)number;
	if (!api->nvmlDeviceGetTotalEccErrors)
		return;
	if (api->nvmlDeviceGetTotalEccErrors(device, PIO_NVML_CORRECTED, PIO_NVML_VOLATILE, &number) == 0)
		gauges[PIO_GPU_CORRECTED] = (double)number;
	if (api->nvmlDeviceGetTotalEccErrors(device, PIO_NVML_UNCORRECTED, PIO_NVML_VOLATILE, &number) == 0)
		gauges[PIO_GPU_UNCORRECTED] = (double)number;
}

/* The driver counts since Volta; before, power times time comes close. */
static void read_energy(const pio_nvml_gauges *api, void *device, history *before, double seconds,
                        double *gauges)
{
	unsigned long long millijoules;
	bool counts = api->nvmlDeviceGetTotalEnergyConsumption &&
	              api->nvmlDeviceGetTotalEnergyConsumption(device, &millijoules) == 0;
	if (counts) {
		double now_j = (double)millijoules / 1e3;
		if (!before->any || now_j < before->energy_j) /* a reset */
			before->begin_j = now_j - (before->any ? before->energy_j - before->begin_j : 0);
		before->energy_j = now_j;
		gauges[PIO_GPU_ENERGY] = now_j - before->begin_j;
	} else if (!isnan(gauges[PIO_GPU_POWER])) {
		before->summed_j += before->any ? gauges[PIO_GPU_POWER] * seconds : 0;
		gauges[PIO_GPU_ENERGY] = before->summed_j;
	}
}

static double rate(double now, double *before, double seconds)
{
	double more = now - *before;
	*before = now;
	return seconds > 0 && more >= 0 ? more / seconds : NAN;
}

static void read_links(const pio_nvml_gauges *api, void *device, history *before, double seconds,
                       double *gauges)
{
	pio_nvml_field fields[] = {
		{ .field = PIO_NVML_NVLINK_RECEIVED, .scope = PIO_NVML_ALL_LINKS },
		{ .field = PIO_NVML_NVLINK_SENT, .scope = PIO_NVML_ALL_LINKS },
	};
	if (!api->nvmlDeviceGetFieldValues || api->nvmlDeviceGetFieldValues(device, 2, fields) != 0)
		return;
	double received = (double)fields[0].value.as_long * KIB, sent = (double)fields[1].value.as_long * KIB;
	if (fields[0].result == 0)
		gauges[PIO_GPU_NVLINK_RECEIVED] = rate(received, &before->received, seconds);
	if (fields[1].result == 0)
		gauges[PIO_GPU_NVLINK_SENT] = rate(sent, &before->sent, seconds);
}

static void take_reading(pio_gpu_reading *reading, meter *m, unsigned index)
{
	void *device = m->devices[index];
	history *before = &m->before[index];
	*reading = (pio_gpu_reading){ .gpu = (int)index, .time_ns = pio_clock_wall_ns(),
	                              .mono_ns = pio_clock_mono_ns() };
	double seconds = before->any ? (double)(reading->mono_ns - before->mono_ns) / 1e9 : 0;
	for (int i = 0; i < PIO_GPU_GAUGES; i++)
		reading->gauges[i] = NAN;
	read_state(&m->api, device, reading->gauges);
	read_health(&m->api, device, reading->gauges);
	read_energy(&m->api, device, before, seconds, reading->gauges);
	read_links(&m->api, device, before, seconds, reading->gauges);
	before->any = true;
	before->mono_ns = reading->mono_ns;
}

/* ---- the process that asks ----------------------------------------------------------- */

static bool open_devices(meter *m)
{
	if (!load(&m->api) || m->api.nvmlInit_v2() != 0 || m->api.nvmlDeviceGetCount_v2(&m->count) != 0)
		return false;
	if (m->count > GPUS_MAX)
		m->count = GPUS_MAX;
	for (unsigned i = 0; i < m->count; i++)
		if (m->api.nvmlDeviceGetHandleByIndex_v2(i, &m->devices[i]) != 0)
			m->devices[i] = NULL;
	return m->count > 0;
}

/* Until it is killed, or nobody reads any more. */
static int measure_for_ever(int answer_fd, void *context)
{
	static meter m;
	const int period_ms = *(const int *)context;
	if (!open_devices(&m))
		return 0;
	for (int64_t next_ns = pio_clock_mono_ns();; next_ns += period_ms * INT64_C(1000000)) {
		int64_t wait_ns = next_ns - pio_clock_mono_ns();
		if (wait_ns > 0)
			pio_clock_sleep_ms((int)(wait_ns / 1000000));
		else
			next_ns -= wait_ns; /* readings that are late are not made up for */
		for (unsigned i = 0; i < m.count; i++) {
			pio_gpu_reading reading;
			if (!m.devices[i])
				continue;
			take_reading(&reading, &m, i);
			if (write(answer_fd, &reading, sizeof reading) != (ssize_t)sizeof reading)
				return 0; /* a pipe takes so little whole, or not at all */
		}
	}
}

int pio_gpu_meter_open(pio_proc_feed *feed, int period_ms, pio_err *err)
{
	return pio_proc_feed_open(feed, measure_for_ever, &period_ms, sizeof(pio_gpu_reading), "NVML", err);
}

/* ---- what is told of it --------------------------------------------------------------- */

const char *pio_gpu_gauge_name(pio_gpu_gauge gauge)
{
	static const char *const names[PIO_GPU_GAUGES] = {
		"busy_percent", "memory_busy_percent", "memory_bytes", "power_w", "energy_j", "temperature_c",
		"clock_mhz", "slowed_by", "ecc_corrected", "ecc_uncorrected", "nvlink_received_bytes_per_s",
		"nvlink_sent_bytes_per_s",
	};
	return names[gauge];
}

const char *pio_gpu_slowed_by(double bits)
{
	uint64_t reasons = bits >= 0 ? (uint64_t)bits : 0; /* NaN is not */
	if (reasons & (PIO_NVML_SLOW_HEAT_SOFTWARE | PIO_NVML_SLOW_HEAT_HARDWARE))
		return "its heat";
	if (reasons & PIO_NVML_SLOW_BRAKE)
		return "its node's power supply";
	return reasons & PIO_NVML_SLOW_HARDWARE ? "its hardware (heat or power)" : NULL;
}
