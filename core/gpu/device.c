#include "gpu/device.h"

#include "gpu/driver.h"

int pio_device_open(pio_device *d, int ordinal, size_t memory_bytes, pio_err *err)
{
	const pio_cuda_driver *api;
	void *context = NULL;
	uintptr_t memory = 0;
	*d = (pio_device){ .device = -1 };
	int rc = pio_cuda_driver_get(&api, err), device;
	if (rc)
		return rc;
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuInit(0));
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuDeviceGet(&device, ordinal));
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuDevicePrimaryCtxRetain(&context, device));
	d->device = device;
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuCtxSetCurrent(context));
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuMemAlloc_v2(&memory, memory_bytes));
	d->memory = (void *)memory;
	PIO_CHECK_RETURN(err, pio_cuda_driver_words, api->cuStreamCreate(&d->stream, PIO_CUDA_STREAM_OWN));
	return 0;
}

void pio_device_close(pio_device *d)
{
	const pio_cuda_driver *api;
	if (d->device < 0 || pio_cuda_driver_get(&api, NULL) != 0)
		return;
	if (d->stream)
		(void)api->cuStreamDestroy_v2(d->stream);
	if (d->memory)
		(void)api->cuMemFree_v2((uintptr_t)d->memory);
	(void)api->cuDevicePrimaryCtxRelease_v2(d->device);
	*d = (pio_device){ .device = -1 };
}
