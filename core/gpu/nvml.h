/* nvml.h: the GPUs of this machine, as NVIDIA's management library sees them.
 *
 * libnvidia-ml.so.1 comes with the driver and is loaded at run time: a machine
 * without it has no GPUs as far as pioche is concerned, and nothing fails. No
 * NVIDIA header is needed; the few calls used are stable ABI of NVML 11 and
 * newer (docs.nvidia.com, NVML API reference), held against nvml.h by `make cuda`
 * (tests/gpu/abi.c).
 *
 * A driver in trouble answers late or never, and its callers wait in the kernel,
 * where no signal reaches them. It is therefore asked by a process of its own
 * (pio_proc_apart), and no longer than the caller says. */
#ifndef PIO_GPU_NVML_H
#define PIO_GPU_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_GPU_NAME_BYTES 96
#define PIO_GPU_CPUS 2048               /* those above are not told */

typedef struct pio_gpu {
	int index;                          /* NVML's, in PCI bus order */
	char name[PIO_GPU_NAME_BYTES];      /* "NVIDIA H100 80GB HBM3" */
	char uuid[PIO_GPU_NAME_BYTES];      /* "GPU-..." */
	uint64_t memory_bytes;
	bool has_cpus;                      /* NVML knows the CPUs next to it: */
	uint64_t cpus[PIO_GPU_CPUS / 64];   /* bits by their numbers */
	/* Its health; what it cannot tell is 0. */
	uint64_t uncorrected;               /* memory errors since the driver took it */
	bool row_pending;                   /* a bad row of memory is replaced at the next reset */
	bool row_failed;                    /* ... could not be replaced */
	unsigned recovery;                  /* nvmlDeviceGpuRecoveryAction_t: what an error (Xid) left to do */
} pio_gpu;

typedef struct pio_gpus {
	pio_gpu *gpus;                      /* freed by pio_gpus_free */
	size_t count;
	char driver[PIO_GPU_NAME_BYTES];    /* "580.65.06"; "" without a driver */
	int cuda;                           /* 13000: the newest CUDA it runs is 13.0; 0: unknown */
} pio_gpus;

/* Eight GPUs that no process holds take a driver some ten seconds. */
#define PIO_GPUS_TIMEOUT_MS 60000

/* List the GPUs; none is not an error. -PIO_ENOTFOUND: NVML is there, but no driver
 * is loaded. -PIO_EIO names the GPU, the NVML call that failed and NVML's own
 * words; -PIO_ETIMEOUT: it has not answered within `timeout_ms`. */
int pio_gpus_list(pio_gpus *list, int timeout_ms, pio_err *err);
void pio_gpus_free(pio_gpus *list);

/* Is it one of CUDA_VISIBLE_DEVICES (NULL: not set), by its number or by (the
 * beginning of) its UUID? Parts of GPUs ("MIG-...") are not told apart: with one
 * of these all are. */
bool pio_gpu_is_visible(const pio_gpu *gpu, const char *visible);
/* Does an entry of CUDA_VISIBLE_DEVICES name it? */
bool pio_gpu_has_name(const pio_gpu *gpu, const char *name, size_t name_bytes);

/* Why nothing should be computed on it: "gpu 3: 2 uncorrected errors of its memory,
 * ..."; false, and nothing put, if it is well. */
bool pio_gpu_put_faults(pio_str *text, const pio_gpu *gpu);

#endif
