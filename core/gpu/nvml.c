#include "gpu/nvml.h"

#include <dlfcn.h>
#include <stdbool.h>

#include "base/mem.h"

#define LIBRARY "libnvidia-ml.so.1"

typedef void *device;
typedef struct memory_info {
	unsigned long long total, free, used;
} memory_info;

/* The calls in use, by their versioned symbols. */
typedef struct nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	const char *(*error_text)(int);
	int (*driver_version)(char *, unsigned);
	int (*count)(unsigned *);
	int (*handle)(unsigned, device *);
	int (*name)(device, char *, unsigned);
	int (*uuid)(device, char *, unsigned);
	int (*memory)(device, memory_info *);
	/* Missing without harm: */
	int (*cpu_affinity)(device, unsigned, unsigned long *);
	int (*cuda_version)(int *);
} nvml;

static bool resolve(nvml *api)
{
	const struct {
		const char *symbol;
		void **slot;
	} symbols[] = {
		{ "nvmlInit_v2", (void **)&api->init },
		{ "nvmlShutdown", (void **)&api->shutdown },
		{ "nvmlErrorString", (void **)&api->error_text },
		{ "nvmlSystemGetDriverVersion", (void **)&api->driver_version },
		{ "nvmlDeviceGetCount_v2", (void **)&api->count },
		{ "nvmlDeviceGetHandleByIndex_v2", (void **)&api->handle },
		{ "nvmlDeviceGetName", (void **)&api->name },
		{ "nvmlDeviceGetUUID", (void **)&api->uuid },
		{ "nvmlDeviceGetMemoryInfo", (void **)&api->memory },
	};
	for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
		if (!(*symbols[i].slot = dlsym(api->library, symbols[i].symbol)))
			return false;
	*(void **)&api->cpu_affinity = dlsym(api->library, "nvmlDeviceGetCpuAffinity");
	*(void **)&api->cuda_version = dlsym(api->library, "nvmlSystemGetCudaDriverVersion_v2");
	return true;
}

/* 0, or -PIO_EIO naming the call. */
static int checked(const nvml *api, int result, const char *call, pio_err *err)
{
	return result == 0 ? 0 : pio_fail(err, PIO_EIO, "NVML: %s: %s", call, api->error_text(result));
}

/* Not on every machine: a virtual one may hide its topology. */
static void read_cpus(const nvml *api, pio_gpu *gpu, device handle)
{
	_Static_assert(sizeof(unsigned long) == sizeof *gpu->cpus, "NVML's words are 64 bits");
	gpu->has_cpus = api->cpu_affinity &&
	                api->cpu_affinity(handle, PIO_GPU_CPUS / 64, (unsigned long *)gpu->cpus) == 0;
}

static int read_gpu(const nvml *api, pio_gpu *gpu, unsigned index, pio_err *err)
{
	device handle;
	memory_info memory;
	gpu->index = (int)index;
	int rc = checked(api, api->handle(index, &handle), "nvmlDeviceGetHandleByIndex_v2", err);
	if (rc == 0)
		rc = checked(api, api->name(handle, gpu->name, sizeof gpu->name), "nvmlDeviceGetName", err);
	if (rc == 0)
		rc = checked(api, api->uuid(handle, gpu->uuid, sizeof gpu->uuid), "nvmlDeviceGetUUID", err);
	if (rc == 0)
		rc = checked(api, api->memory(handle, &memory), "nvmlDeviceGetMemoryInfo", err);
	if (rc == 0) {
		gpu->memory_bytes = memory.total;
		read_cpus(api, gpu, handle);
	}
	return rc;
}

static int read_all(const nvml *api, pio_gpus *list, pio_err *err)
{
	unsigned count = 0;
	int rc = checked(api, api->driver_version(list->driver, sizeof list->driver),
	                 "nvmlSystemGetDriverVersion", err);
	if (rc == 0)
		rc = checked(api, api->count(&count), "nvmlDeviceGetCount_v2", err);
	if (rc == 0 && (!api->cuda_version || api->cuda_version(&list->cuda) != 0))
		list->cuda = 0;
	if (rc || count == 0)
		return rc;
	list->gpus = pio_calloc(count, sizeof *list->gpus);
	if (!list->gpus)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %u GPUs", count);
	for (unsigned i = 0; i < count && rc == 0; i++)
		rc = read_gpu(api, &list->gpus[list->count++], i, err);
	return rc;
}

int pio_gpus_list(pio_gpus *list, pio_err *err)
{
	*list = (pio_gpus){ .gpus = NULL };
	nvml api = { .library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL) };
	if (!api.library)
		return 0;
	int rc;
	if (!resolve(&api)) {
		rc = pio_fail(err, PIO_EVERSION, LIBRARY " is too old: it lacks a call of NVML 11");
	} else {
		rc = checked(&api, api.init(), "nvmlInit_v2", err);
		if (rc == 0) {
			rc = read_all(&api, list, err);
			api.shutdown();
		}
	}
	dlclose(api.library);
	if (rc)
		pio_gpus_free(list);
	return rc;
}

void pio_gpus_free(pio_gpus *list)
{
	pio_free(list->gpus);
	*list = (pio_gpus){ .gpus = NULL };
}
