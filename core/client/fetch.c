#include "client/fetch.h"

#include "base/check.h"

#define CALL(api, err, call) PIO_CHECK_RETURN((err), pio_cuda_library_words, api->call)

/* ---- contexts ----------------------------------------------------------------- */

/* Of memory out of a pool, which belongs to a device: its primary context, which the
 * program's own runtime keeps. */
static int primary_of(void **context, const pio_cuda_library *api, int device, pio_err *err)
{
	CALL(api, err, cuDevicePrimaryCtxRetain(context, device));
	CALL(api, err, cuDevicePrimaryCtxRelease_v2(device));
	return 0;
}

/* Does it say that an address is none of CUDA's? */
static bool is_unknown(int result)
{
	return result == PIO_CU_INVALID_VALUE || result == PIO_CU_NOT_INITIALIZED || result == PIO_CU_DEINITIALIZED ||
	       result == PIO_CU_NO_DEVICE || result == PIO_CU_INVALID_CONTEXT;
}

int pio_fetch_context(void **context, const void *data, pio_err *err)
{
	const pio_cuda_library *api = pio_cuda_library_find();
	int attributes[] = { PIO_CU_POINTER_CONTEXT, PIO_CU_POINTER_MEMORY_TYPE, PIO_CU_POINTER_DEVICE_ORDINAL };
	unsigned type = 0;
	int device = 0;
	void *values[] = { context, &type, &device };
	*context = NULL;
	if (!api)
		return 0;
	int result = api->cuPointerGetAttributes(3, attributes, values, (uintptr_t)data);
	if (result && !is_unknown(result))
		return pio_check_fail(err, result, pio_cuda_library_words, "cuPointerGetAttributes", __FILE__,
		                      __LINE__);
	if (result || type != PIO_CU_MEMORY_DEVICE) {
		*context = NULL; /* pinned memory has one, too */
		return 0;
	}
	return *context ? 0 : primary_of(context, api, device, err);
}

int pio_fetch_wait(pio_fetch *f, pio_err *err)
{
	if (f->stream)
		CALL(f->api, err, cuStreamSynchronize(f->stream));
	return 0;
}

/* Nobody can do anything about what these fail with: a context that is lost. */
static void leave(pio_fetch *f)
{
	void *unused;
	if (!f->context)
		return;
	for (int i = 0; i < PIO_FETCH_PIECES; i++) {
		if (f->filled[i])
			(void)f->api->cuEventDestroy_v2(f->filled[i]);
		f->filled[i] = NULL;
	}
	if (f->stream)
		(void)f->api->cuStreamDestroy_v2(f->stream);
	(void)f->api->cuCtxPopCurrent_v2(&unused);
	f->stream = f->context = NULL;
}

static int enter(pio_fetch *f, void *context, pio_err *err)
{
	if (f->context == context)
		return 0;
	int rc = pio_fetch_wait(f, err);
	leave(f);
	if (rc)
		return rc;
	f->api = pio_cuda_library_find();
	CALL(f->api, err, cuCtxPushCurrent_v2(context));
	f->context = context;
	CALL(f->api, err, cuCtxSynchronize());
	CALL(f->api, err, cuStreamCreate(&f->stream, PIO_CU_STREAM_OWN));
	for (int i = 0; i < PIO_FETCH_PIECES; i++)
		CALL(f->api, err, cuEventCreate(&f->filled[i], PIO_CU_EVENT_NO_TIMING));
	return 0;
}

/* ---- copying ------------------------------------------------------------------- */

/* The piece that begins at byte `at`. */
static int number_of(uint64_t at)
{
	return (int)(at / PIO_FETCH_PIECE_BYTES % PIO_FETCH_PIECES);
}

static size_t piece_bytes(uint64_t size_bytes, uint64_t at)
{
	return size_bytes - at < PIO_FETCH_PIECE_BYTES ? (size_t)(size_bytes - at) : PIO_FETCH_PIECE_BYTES;
}

static int fill(pio_fetch *f, const void *data, uint64_t size_bytes, uint64_t at, pio_err *err)
{
	int n = number_of(at);
	CALL(f->api, err, cuMemcpyDtoHAsync_v2(f->pieces[n], (uintptr_t)data + at, piece_bytes(size_bytes, at),
	                                       f->stream));
	CALL(f->api, err, cuEventRecord(f->filled[n], f->stream));
	return 0;
}

static int make_pieces(pio_fetch *f, pio_err *err)
{
	for (int i = 0; i < PIO_FETCH_PIECES; i++)
		if (!f->pieces[i])
			CALL(f->api, err, cuMemHostAlloc(&f->pieces[i], PIO_FETCH_PIECE_BYTES, PIO_CU_HOST_PORTABLE));
	return 0;
}

int pio_fetch_pieces(pio_fetch *f, void *context, const void *data, uint64_t size_bytes, pio_fetch_fn *take, void *to,
                     pio_err *err)
{
	uint64_t asked = 0, taken = 0;
	int rc = enter(f, context, err);
	if (!rc)
		rc = make_pieces(f, err);
	while (!rc && taken < size_bytes) {
		while (!rc && asked < size_bytes && asked < taken + PIO_FETCH_PIECES * PIO_FETCH_PIECE_BYTES) {
			rc = fill(f, data, size_bytes, asked, err);
			asked += piece_bytes(size_bytes, asked);
		}
		if (rc)
			break;
		CALL(f->api, err, cuEventSynchronize(f->filled[number_of(taken)]));
		size_t n = piece_bytes(size_bytes, taken);
		rc = take(to, f->pieces[number_of(taken)], n, err);
		taken += n;
	}
	return rc;
}

int pio_fetch_copy(pio_fetch *f, void *context, void *to, const void *data, uint64_t size_bytes, pio_err *err)
{
	int rc = enter(f, context, err);
	if (!rc)
		CALL(f->api, err, cuMemcpyDtoHAsync_v2(to, (uintptr_t)data, (size_t)size_bytes, f->stream));
	return rc;
}

void pio_fetch_close(pio_fetch *f)
{
	(void)pio_fetch_wait(f, NULL); /* pieces are the device's until then */
	for (int i = 0; i < PIO_FETCH_PIECES; i++) {
		if (f->pieces[i])
			(void)f->api->cuMemFreeHost(f->pieces[i]);
		f->pieces[i] = NULL;
	}
	leave(f);
}

/* ---- pinning ------------------------------------------------------------------- */

bool pio_fetch_pin(void *context, void *memory, size_t size_bytes)
{
	const pio_cuda_library *api = pio_cuda_library_find();
	void *unused;
	if (!api || api->cuCtxPushCurrent_v2(context) != 0)
		return false;
	int result = api->cuMemHostRegister_v2(memory, size_bytes, PIO_CU_REGISTER_PORTABLE);
	(void)api->cuCtxPopCurrent_v2(&unused);
	return result == 0;
}

/* A context that is gone took the pinning with it. */
void pio_fetch_unpin(void *context, void *memory)
{
	const pio_cuda_library *api = pio_cuda_library_find();
	void *unused;
	if (!api || api->cuCtxPushCurrent_v2(context) != 0)
		return;
	(void)api->cuMemHostUnregister(memory);
	(void)api->cuCtxPopCurrent_v2(&unused);
}
