#include "gpu/cuda.h"

#include "base/mem.h"
#include "gpu/driver.h"

static int read_device(const pio_cuda_driver *api, pio_cuda_device *to, int ordinal, pio_err *err)
{
	int device;
	size_t bytes;
	to->ordinal = ordinal;
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuDeviceGet(&device, ordinal));
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuDeviceGetName(to->name, sizeof to->name, device));
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuDeviceTotalMem_v2(&bytes, device));
	PIO_CHECK_RETURN(err, pio_cuda_driver_words,
	                 api->cuDeviceGetAttribute(&to->major, PIO_CUDA_MAJOR, device));
	PIO_CHECK_RETURN(err, pio_cuda_driver_words,
	                 api->cuDeviceGetAttribute(&to->minor, PIO_CUDA_MINOR, device));
	to->memory_bytes = bytes;
	return 0;
}

int pio_cuda_devices_list(pio_cuda_devices *list, pio_err *err)
{
	const pio_cuda_driver *api;
	int count = 0, rc;
	*list = (pio_cuda_devices){ .devices = NULL };
	rc = pio_cuda_driver_get(&api, err);
	if (rc)
		return rc == -PIO_ENOTFOUND ? 0 : rc;
	int result = api->cuInit(0);
	if (result == PIO_CUDA_NO_DEVICE)
		return 0;
	if (result)
		return pio_check_fail(err, result, pio_cuda_driver_words, "cuInit", __FILE__, __LINE__);
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuDeviceGetCount(&count));
	if (count == 0)
		return 0;
	list->devices = pio_calloc((size_t)count, sizeof *list->devices);
	if (!list->devices)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %d GPUs", count);
	for (int i = 0; i < count && !rc; i++)
		rc = read_device(api, &list->devices[list->count++], i, err);
	if (rc)
		pio_cuda_devices_free(list);
	return rc;
}

void pio_cuda_devices_free(pio_cuda_devices *list)
{
	pio_free(list->devices);
	*list = (pio_cuda_devices){ .devices = NULL };
}
