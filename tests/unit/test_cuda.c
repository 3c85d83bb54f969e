/* The GPUs of a process, and what is on its way to their memory, on the stand-in of
 * tests/gpu_host, which the Makefile puts on this test's path. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cuda.h"
#include "gpu/staging.h"
#include "test.h"

#define BUFFER_BYTES 1000u

/* Of the CUDA runtime, whose stand-in is in the same library as the driver's. */
static int (*cuda_malloc)(void **memory, size_t bytes);
static int (*cuda_free)(void *memory);
static int (*cuda_copy)(void *to, const void *from, size_t bytes, int kind, void *stream);
static int (*cuda_stream)(void **stream, unsigned flags);
static int (*cuda_stream_wait)(void *stream);
static int (*cuda_stream_destroy)(void *stream);

static int find_runtime(void **state)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	(void)state;
	if (!library)
		return -1;
	*(void **)&cuda_malloc = dlsym(library, "cudaMalloc");
	*(void **)&cuda_free = dlsym(library, "cudaFree");
	*(void **)&cuda_copy = dlsym(library, "cudaMemcpyAsync");
	*(void **)&cuda_stream = dlsym(library, "cudaStreamCreateWithFlags");
	*(void **)&cuda_stream_wait = dlsym(library, "cudaStreamSynchronize");
	*(void **)&cuda_stream_destroy = dlsym(library, "cudaStreamDestroy");
	int (*set_device)(int device);
	*(void **)&set_device = dlsym(library, "cudaSetDevice");
	bool found = cuda_malloc && cuda_free && cuda_copy && cuda_stream && cuda_stream_wait && cuda_stream_destroy &&
	             set_device;
	return found ? set_device(0) : -1;
}

static void every_visible_gpu_is_listed(void **state)
{
	(void)state;
	pio_cuda_devices list;
	setenv("GPU_HOST_GPUS", "3", 1);
	check_ok(pio_cuda_devices_list(&list, &err));
	assert_int_equal(list.count, 3);
	assert_int_equal(list.devices[2].ordinal, 2);
	assert_string_equal(list.devices[2].name, "Stand-in GPU");
	assert_int_equal(list.devices[0].major * 10 + list.devices[0].minor, 90);
	assert_true(list.devices[0].memory_bytes == 1ull << 30);
	pio_cuda_devices_free(&list);
	pio_cuda_devices_free(&list);
}

static void no_gpu_is_no_error(void **state)
{
	(void)state;
	pio_cuda_devices list;
	setenv("GPU_HOST_GPUS", "0", 1);
	check_ok(pio_cuda_devices_list(&list, &err));
	assert_int_equal(list.count, 0);
	setenv("GPU_HOST_GPUS", "1", 1);
}

static void fetch(void *to, void *device, size_t bytes, void *stream)
{
	assert_int_equal(cuda_copy(to, device, bytes, 2, stream), 0);
	assert_int_equal(cuda_stream_wait(stream), 0);
}

/* Less than a buffer, one, between, several and a bit; what lies behind the end
 * is left alone. */
static void memory_comes_whole_whatever_its_size(void **state)
{
	static const size_t sizes[] = { 0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1,
	                                2 * BUFFER_BYTES, 2 * BUFFER_BYTES + 1, 10 * BUFFER_BYTES + 7 };
	enum { MOST = 10 * BUFFER_BYTES + 8 };
	static unsigned char before[MOST], sent[MOST], got[MOST];
	pio_staging *staging;
	void *device, *stream;
	(void)state;
	check_ok(pio_staging_open(&staging, BUFFER_BYTES, &err));
	assert_int_equal(cuda_malloc(&device, MOST), 0);
	assert_int_equal(cuda_stream(&stream, 1), 0);
	memset(before, 0xee, MOST);
	for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
		for (size_t i = 0; i < MOST; i++)
			sent[i] = (unsigned char)(i * 7 + i / 251 + n);
		assert_int_equal(cuda_copy(device, before, MOST, 1, stream), 0);
		check_ok(pio_staging_send(staging, device, sent, sizes[n], stream, &err));
		fetch(got, device, MOST, stream);
		assert_memory_equal(got, sent, sizes[n]);
		for (size_t i = sizes[n]; i < MOST; i++)
			assert_int_equal(got[i], 0xee);
	}
	cuda_stream_destroy(stream);
	cuda_free(device);
	pio_staging_close(&staging);
	pio_staging_close(&staging);
}

/* The buffers are the device's until it has read them. */
static void what_is_under_way_when_staging_ends_arrives(void **state)
{
	static unsigned char source[BUFFER_BYTES], got[BUFFER_BYTES];
	pio_staging *staging;
	void *device, *stream;
	(void)state;
	memset(source, 'a', sizeof source);
	check_ok(pio_staging_open(&staging, BUFFER_BYTES, &err));
	assert_int_equal(cuda_malloc(&device, sizeof got), 0);
	assert_int_equal(cuda_stream(&stream, 1), 0);
	check_ok(pio_staging_send(staging, device, source, sizeof source, stream, &err));
	pio_staging_close(&staging);
	fetch(got, device, sizeof got, stream);
	assert_memory_equal(got, source, sizeof got);
	cuda_stream_destroy(stream);
	cuda_free(device);
}

static void *open_staging(void *err)
{
	pio_staging *staging;
	(void)pio_staging_open(&staging, BUFFER_BYTES, err);
	pio_staging_close(&staging);
	return NULL;
}

/* The driver, unlike the runtime, chooses none. */
static void a_thread_needs_a_device(void **state)
{
	pthread_t thread;
	pio_err err = PIO_ERR_INIT;
	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, open_staging, &err), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(err.code, PIO_EIO);
	assert_non_null(strstr(err.message, "cuMemHostAlloc: invalid device context (201); "));
}

/* There and back, several on their way at once; the source is overwritten as soon as
 * a call returns. */
static void memory_goes_whole_and_leaves_its_source_free(void **state)
{
	enum { PARTS = 5, PART = 3 * BUFFER_BYTES + 11 };
	static unsigned char source[PART], got[PARTS * PART];
	pio_staging *staging;
	void *device, *stream;
	(void)state;
	check_ok(pio_staging_open(&staging, BUFFER_BYTES, &err));
	assert_int_equal(cuda_malloc(&device, sizeof got), 0);
	assert_int_equal(cuda_stream(&stream, 1), 0);
	for (int part = 0; part < PARTS; part++) {
		memset(source, 'a' + part, PART);
		check_ok(pio_staging_send(staging, (char *)device + part * PART, source, PART, stream, &err));
		memset(source, 0xee, PART);
	}
	fetch(got, device, sizeof got, stream);
	for (size_t i = 0; i < sizeof got; i++)
		assert_int_equal(got[i], 'a' + i / PART);
	check_ok(pio_staging_send(staging, device, source, 0, stream, &err));
	check_fails(pio_staging_send(staging, source, got, 10, stream, &err), PIO_EIO,
	            "cuMemcpyHtoDAsync_v2: invalid argument (1); ");
	cuda_stream_destroy(stream);
	cuda_free(device);
	pio_staging_close(&staging);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_visible_gpu_is_listed),
		cmocka_unit_test(no_gpu_is_no_error),
		cmocka_unit_test(memory_comes_whole_whatever_its_size),
		cmocka_unit_test(what_is_under_way_when_staging_ends_arrives),
		cmocka_unit_test(a_thread_needs_a_device),
		cmocka_unit_test(memory_goes_whole_and_leaves_its_source_free),
	};
	return cmocka_run_group_tests(tests, find_runtime, NULL);
}
