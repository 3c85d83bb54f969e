/* meter.h: what the GPUs of this machine do, every few seconds.
 *
 * NVML is asked by a process of its own (sys/proc.h), because it may answer late or
 * never: then nothing comes. All GPUs that NVML sees, whoever computes on them. */
#ifndef PIO_GPU_METER_H
#define PIO_GPU_METER_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "sys/proc.h"

typedef enum pio_gpu_gauge {
	PIO_GPU_BUSY,               /* percent of the time that a kernel ran */
	PIO_GPU_MEMORY_BUSY,        /* percent of the time that its memory was read or written */
	PIO_GPU_MEMORY,             /* bytes in use */
	PIO_GPU_POWER,              /* watts */
	PIO_GPU_ENERGY,             /* joules since the meter's first reading */
	PIO_GPU_TEMPERATURE,        /* degrees Celsius */
	PIO_GPU_CLOCK,              /* of its multiprocessors, MHz */
	PIO_GPU_SLOWED,             /* nvmlClocksEventReasons: bits, why its clock is not higher */
	PIO_GPU_CORRECTED,          /* errors of its memory since the driver took it */
	PIO_GPU_UNCORRECTED,
	PIO_GPU_NVLINK_RECEIVED,    /* bytes a second, over all links */
	PIO_GPU_NVLINK_SENT,
	PIO_GPU_GAUGES
} pio_gpu_gauge;

typedef struct pio_gpu_reading {
	int gpu;                    /* NVML's index */
	int64_t time_ns, mono_ns;
	double gauges[PIO_GPU_GAUGES];   /* NaN: not told */
} pio_gpu_reading;

/* Every `period_ms`, from now on, a pio_gpu_reading of each GPU can be taken of the
 * feed. Returns before NVML is asked; without NVML nothing will come. */
int pio_gpu_meter_open(pio_proc_feed *feed, int period_ms, pio_err *err);

/* "busy_percent", "memory_bytes", "power_w", ... */
const char *pio_gpu_gauge_name(pio_gpu_gauge gauge);

/* What slows it that should not, by the bits of PIO_GPU_SLOWED: "its heat";
 * NULL: nothing, or what an idle or a capped GPU has. */
const char *pio_gpu_slowed_by(double bits);

#endif
