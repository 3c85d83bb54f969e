#include "gpu/nvml.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gpu/nvml_library.h"
#include "sys/library.h"
#include "sys/proc.h"

static int load(pio_nvml *api, void **library, pio_err *err)
{
	const pio_symbol symbols[] = {
		{ "nvmlInit_v2", (void **)&api->nvmlInit_v2, false },
		{ "nvmlErrorString", (void **)&api->nvmlErrorString, false },
		{ "nvmlSystemGetDriverVersion", (void **)&api->nvmlSystemGetDriverVersion, false },
		{ "nvmlSystemGetCudaDriverVersion_v2", (void **)&api->nvmlSystemGetCudaDriverVersion_v2, true },
		{ "nvmlDeviceGetCount_v2", (void **)&api->nvmlDeviceGetCount_v2, false },
		{ "nvmlDeviceGetHandleByIndex_v2", (void **)&api->nvmlDeviceGetHandleByIndex_v2, false },
		{ "nvmlDeviceGetName", (void **)&api->nvmlDeviceGetName, false },
		{ "nvmlDeviceGetUUID", (void **)&api->nvmlDeviceGetUUID, false },
		{ "nvmlDeviceGetMemoryInfo", (void **)&api->nvmlDeviceGetMemoryInfo, false },
		{ "nvmlDeviceGetCpuAffinity", (void **)&api->nvmlDeviceGetCpuAffinity, true },
		{ "nvmlDeviceGetTotalEccErrors", (void **)&api->nvmlDeviceGetTotalEccErrors, true },
		{ "nvmlDeviceGetRemappedRows", (void **)&api->nvmlDeviceGetRemappedRows, true },
		{ "nvmlDeviceGetRetiredPagesPendingStatus",
		  (void **)&api->nvmlDeviceGetRetiredPagesPendingStatus, true },
		{ "nvmlDeviceGetFieldValues", (void **)&api->nvmlDeviceGetFieldValues, true },
	};
	return pio_library_open(library, "libnvidia-ml.so.1", symbols, sizeof symbols / sizeof symbols[0], err);
}

/* 0, or -PIO_EIO naming the call. */
static int checked(const pio_nvml *api, int result, const char *call, pio_err *err)
{
	return result == 0 ? 0 : pio_fail(err, PIO_EIO, "NVML: %s: %s", call, api->nvmlErrorString(result));
}

/* ---- one GPU ---------------------------------------------------------------- */

/* Not on every machine: a virtual one may hide its topology. */
static void read_cpus(const pio_nvml *api, pio_gpu *gpu, void *device)
{
	_Static_assert(sizeof(unsigned long) == sizeof *gpu->cpus, "NVML's words are 64 bits");
	gpu->has_cpus = api->nvmlDeviceGetCpuAffinity &&
	                api->nvmlDeviceGetCpuAffinity(device, PIO_GPU_CPUS / 64,
	                                              (unsigned long *)gpu->cpus) == 0;
}

/* Not of every GPU: rows are remapped since Ampere and pages retired before, ECC
 * may be off, and what an error left to do is told by drivers since R570. */
static void read_health(const pio_nvml *api, pio_gpu *gpu, void *device)
{
	unsigned long long errors = 0;
	unsigned corrected, uncorrected, pending, failed;
	int retiring;
	pio_nvml_field recovery = { .field = PIO_NVML_RECOVERY_ACTION };
	if (api->nvmlDeviceGetTotalEccErrors &&
	    api->nvmlDeviceGetTotalEccErrors(device, PIO_NVML_UNCORRECTED, PIO_NVML_VOLATILE, &errors) == 0)
		gpu->uncorrected = errors;
	if (api->nvmlDeviceGetRemappedRows &&
	    api->nvmlDeviceGetRemappedRows(device, &corrected, &uncorrected, &pending, &failed) == 0) {
		gpu->row_pending = pending != 0;
		gpu->row_failed = failed != 0;
	} else if (api->nvmlDeviceGetRetiredPagesPendingStatus &&
	           api->nvmlDeviceGetRetiredPagesPendingStatus(device, &retiring) == 0) {
		gpu->row_pending = retiring != 0;
	}
	if (api->nvmlDeviceGetFieldValues && api->nvmlDeviceGetFieldValues(device, 1, &recovery) == 0 &&
	    recovery.result == 0)
		gpu->recovery = recovery.value.as_unsigned;
}

static int read_gpu(const pio_nvml *api, pio_gpu *gpu, unsigned index, pio_err *err)
{
	void *device;
	pio_nvml_memory memory = { 0, 0, 0 };
	gpu->index = (int)index;
	int rc = checked(api, api->nvmlDeviceGetHandleByIndex_v2(index, &device),
	                 "nvmlDeviceGetHandleByIndex_v2", err);
	if (rc == 0)
		rc = checked(api, api->nvmlDeviceGetName(device, gpu->name, sizeof gpu->name),
		             "nvmlDeviceGetName", err);
	if (rc == 0)
		rc = checked(api, api->nvmlDeviceGetUUID(device, gpu->uuid, sizeof gpu->uuid),
		             "nvmlDeviceGetUUID", err);
	if (rc == 0) { /* a GPU that shares the host's memory has none of its own to tell */
		int result = api->nvmlDeviceGetMemoryInfo(device, &memory);
		rc = result == PIO_NVML_NOT_SUPPORTED ? 0 : checked(api, result, "nvmlDeviceGetMemoryInfo", err);
	}
	if (rc) {
		pio_err_context(err, "gpu %u", index);
		return rc;
	}
	gpu->memory_bytes = memory.total;
	read_cpus(api, gpu, device);
	read_health(api, gpu, device);
	return 0;
}

/* ---- all of them ------------------------------------------------------------ */

static int read_all(const pio_nvml *api, pio_gpus *list, pio_err *err)
{
	unsigned count = 0;
	int rc = checked(api, api->nvmlSystemGetDriverVersion(list->driver, sizeof list->driver),
	                 "nvmlSystemGetDriverVersion", err);
	if (rc == 0)
		rc = checked(api, api->nvmlDeviceGetCount_v2(&count), "nvmlDeviceGetCount_v2", err);
	if (rc == 0 && (!api->nvmlSystemGetCudaDriverVersion_v2 ||
	                api->nvmlSystemGetCudaDriverVersion_v2(&list->cuda) != 0))
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

/* The list and then its GPUs, byte by byte: both ends are this program. NVML is
 * not shut down: it ends with its process. */
static int tell(pio_str *answer, void *context, pio_err *err)
{
	pio_gpus list = { .gpus = NULL };
	pio_nvml api;
	void *library;
	(void)context;
	int rc = load(&api, &library, err);
	if (rc == -PIO_ENOTFOUND)
		rc = 0;
	else if (rc == 0) {
		int result = api.nvmlInit_v2();
		rc = checked(&api, result, "nvmlInit_v2", err);
		if (result == PIO_NVML_NO_DRIVER)
			rc = pio_fail(err, PIO_ENOTFOUND, "NVML: nvmlInit_v2: %s", api.nvmlErrorString(result));
		if (rc == 0)
			rc = read_all(&api, &list, err);
	}
	pio_str_append(answer, &list, sizeof list);
	if (list.count)
		pio_str_append(answer, list.gpus, list.count * sizeof *list.gpus);
	pio_gpus_free(&list);
	return rc;
}

int pio_gpus_list(pio_gpus *list, int timeout_ms, pio_err *err)
{
	pio_str answer = PIO_STR_INIT;
	*list = (pio_gpus){ .gpus = NULL };
	int rc = pio_proc_apart(&answer, tell, NULL, "NVML", timeout_ms, err);
	if (!rc && answer.len < sizeof *list)
		rc = pio_fail(err, PIO_EIO, "NVML: its process died while it answered");
	if (rc)
		goto out;
	memcpy(list, answer.data, sizeof *list);
	list->gpus = NULL;
	size_t bytes = list->count * sizeof *list->gpus;
	if (answer.len - sizeof *list != bytes)
		rc = pio_fail(err, PIO_EIO, "NVML: its process died while it answered");
	if (!rc && bytes) {
		list->gpus = pio_alloc(bytes);
		if (list->gpus)
			memcpy(list->gpus, answer.data + sizeof *list, bytes);
		else
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for %zu GPUs", list->count);
	}
	if (rc)
		pio_gpus_free(list);
out:
	pio_str_fini(&answer);
	return rc;
}

void pio_gpus_free(pio_gpus *list)
{
	pio_free(list->gpus);
	*list = (pio_gpus){ .gpus = NULL };
}

/* ---- what is told of one ---------------------------------------------------- */

bool pio_gpu_has_name(const pio_gpu *gpu, const char *name, size_t name_bytes)
{
	char *end;
	long number = strtol(name, &end, 10);
	if (name_bytes && end == name + name_bytes && number == gpu->index)
		return true;
	return name_bytes > strlen("GPU-") && strncmp(gpu->uuid, name, name_bytes) == 0;
}

bool pio_gpu_is_visible(const pio_gpu *gpu, const char *visible)
{
	if (!visible || strstr(visible, "MIG-"))
		return true;
	for (;;) {
		size_t n = strcspn(visible, ",");
		if (pio_gpu_has_name(gpu, visible, n))
			return true;
		if (!visible[n])
			return false;
		visible += n + 1;
	}
}

static const char *recovery_words(unsigned action)
{
	static const char *const words[] = {
		NULL, "an error left it in need of a reset", "an error left its node in need of a reboot",
		"an error left it in need of an end of all peer-to-peer traffic",
		"an error left it in need of a reset without peer-to-peer traffic",
	};
	return action < sizeof words / sizeof words[0] ? words[action] : "an error left it in need of recovery";
}

static void next_fault(pio_str *text, const pio_gpu *gpu, int *count)
{
	if ((*count)++ == 0)
		pio_str_printf(text, "gpu %d: ", gpu->index);
	else
		pio_str_puts(text, ", ");
}

bool pio_gpu_put_faults(pio_str *text, const pio_gpu *gpu)
{
	int count = 0;
	if (gpu->uncorrected) {
		next_fault(text, gpu, &count);
		pio_str_printf(text, "%llu uncorrected error%s of its memory",
		               (unsigned long long)gpu->uncorrected, gpu->uncorrected == 1 ? "" : "s");
	}
	if (gpu->row_pending) {
		next_fault(text, gpu, &count);
		pio_str_puts(text, "a bad row of its memory waits for a reset to be replaced");
	}
	if (gpu->row_failed) {
		next_fault(text, gpu, &count);
		pio_str_puts(text, "a bad row of its memory could not be replaced");
	}
	if (gpu->recovery) {
		next_fault(text, gpu, &count);
		pio_str_puts(text, recovery_words(gpu->recovery));
	}
	return count > 0;
}
