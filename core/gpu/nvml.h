/* nvml.h: the GPUs of this machine, as NVIDIA's management library sees them.
 *
 * libnvidia-ml.so.1 comes with the driver and is loaded at run time: a machine
 * without it has no GPUs as far as pioche is concerned, and nothing fails. No
 * NVIDIA header is needed; the few calls used are stable ABI of NVML 11 and
 * newer (docs.nvidia.com, NVML API reference). Thread-safe as NVML is. */
#ifndef PIO_GPU_NVML_H
#define PIO_GPU_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_GPU_NAME_BYTES 96
#define PIO_GPU_CPUS 2048               /* those above are not told */

typedef struct pio_gpu {
	int index;                          /* NVML's, in PCI bus order */
	char name[PIO_GPU_NAME_BYTES];      /* "NVIDIA H100 80GB HBM3" */
	char uuid[PIO_GPU_NAME_BYTES];      /* "GPU-..." */
	uint64_t memory_bytes;
	bool has_cpus;                      /* NVML knows the CPUs next to it: */
	uint64_t cpus[PIO_GPU_CPUS / 64];   /* bits by their numbers */
} pio_gpu;

typedef struct pio_gpus {
	pio_gpu *gpus;                      /* freed by pio_gpus_free */
	size_t count;
	char driver[PIO_GPU_NAME_BYTES];    /* "580.65.06"; "" without a driver */
	int cuda;                           /* 13000: the newest CUDA it runs is 13.0; 0: unknown */
} pio_gpus;

/* List the GPUs; none is not an error. PIO_EIO names the NVML call that failed
 * and NVML's own words. */
int pio_gpus_list(pio_gpus *list, pio_err *err);
void pio_gpus_free(pio_gpus *list);

#endif
