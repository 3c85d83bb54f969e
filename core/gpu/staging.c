#include "gpu/staging.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "gpu/driver.h"

#define BUFFERS 2

struct pio_staging {
	const pio_cuda_driver *api;
	size_t buffer_bytes;
	void *buffers[BUFFERS];
	void *done[BUFFERS];            /* events: the device has read it */
	int next;                       /* to be sent from */
};

int pio_staging_open(pio_staging **staging, size_t buffer_bytes, pio_err *err)
{
	pio_staging *s = pio_calloc(1, sizeof *s);
	*staging = NULL;
	if (!s)
		return pio_fail(err, PIO_ENOMEM, "out of memory for staging buffers");
	s->buffer_bytes = buffer_bytes;
	int rc = pio_cuda_driver_get(&s->api, err);
	if (rc)
		goto failed;
	for (int i = 0; i < BUFFERS; i++) {
		PIO_CHECK_GOTO(rc, failed, err, pio_cuda_driver_words,
		               s->api->cuMemHostAlloc(&s->buffers[i], buffer_bytes, 0));
		PIO_CHECK_GOTO(rc, failed, err, pio_cuda_driver_words,
		               s->api->cuEventCreate(&s->done[i], PIO_CUDA_EVENT_NO_TIMING));
	}
	*staging = s;
	return 0;
failed:
	pio_staging_close(&s);
	return rc;
}

int pio_staging_send(pio_staging *s, void *device, const void *from, size_t size_bytes, void *stream,
                     pio_err *err)
{
	for (size_t at = 0; at < size_bytes;) {
		size_t n = size_bytes - at < s->buffer_bytes ? size_bytes - at : s->buffer_bytes;
		int buffer = s->next;
		s->next = (s->next + 1) % BUFFERS;
		PIO_CHECK_RETURN(err, pio_cuda_driver_words, s->api->cuEventSynchronize(s->done[buffer]));
		memcpy(s->buffers[buffer], (const char *)from + at, n);
		PIO_CHECK_RETURN(err, pio_cuda_driver_words,
		                 s->api->cuMemcpyHtoDAsync_v2((uintptr_t)device + at, s->buffers[buffer], n,
		                                              stream));
		PIO_CHECK_RETURN(err, pio_cuda_driver_words, s->api->cuEventRecord(s->done[buffer], stream));
		at += n;
	}
	return 0;
}

void pio_staging_close(pio_staging **staging)
{
	pio_staging *s = *staging;
	pio_err err = PIO_ERR_INIT; /* nobody can do anything about it */
	if (!s)
		return;
	*staging = NULL;
	for (int i = 0; i < BUFFERS; i++) {
		if (s->done[i]) {
			PIO_CHECK_KEEP(&err, pio_cuda_driver_words, s->api->cuEventSynchronize(s->done[i]));
			PIO_CHECK_KEEP(&err, pio_cuda_driver_words, s->api->cuEventDestroy_v2(s->done[i]));
		}
		if (s->buffers[i])
			PIO_CHECK_KEEP(&err, pio_cuda_driver_words, s->api->cuMemFreeHost(s->buffers[i]));
	}
	pio_free(s);
}
