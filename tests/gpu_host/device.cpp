/* Devices and memory: the calls of the CUDA runtime and of the driver.
 *
 * Device memory is a region that nobody may touch but while a stream runs
 * something, and no address of it is given out twice; under AddressSanitizer what
 * is not allocated in it is poisoned. */
#include "device.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

namespace {

constexpr size_t REGION_BYTES = size_t(1) << 36, ALIGN_BYTES = 256;
std::atomic<bool> faulted{false};

struct memory {
	std::mutex lock;
	char *region = nullptr;
	size_t used = 0, live = 0;              /* bytes handed out ever, and now */
	int running = 0;                        /* streams that may touch it */
	std::map<void *, size_t> blocks, pinned;

	memory()
	{
		void *at = mmap(nullptr, REGION_BYTES, PROT_NONE,
		                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (at == MAP_FAILED)
			gpu_host_die("no address space for device memory");
		region = static_cast<char *>(at);
	}

	void protect(int how)
	{
		if (used && mprotect(region, used, how) != 0)
			gpu_host_die("cannot protect device memory");
	}

	void begin()
	{
		std::lock_guard<std::mutex> guard(lock);
		if (running++ == 0)
			protect(PROT_READ | PROT_WRITE);
	}

	void end()
	{
		std::lock_guard<std::mutex> guard(lock);
		if (--running == 0)
			protect(PROT_NONE);
	}

	bool owns(const void *at) const
	{
		return at >= region && at < region + REGION_BYTES;
	}
};

memory &mem();

void report()
{
	fprintf(stderr, "gpu_host: %zu blocks of device memory, %zu of pinned memory not freed\n",
	        mem().blocks.size(), mem().pinned.size());
}

/* Never destroyed: the streams of whoever forgot them still run at exit. */
memory &mem()
{
	static memory *all = []() {
		if (getenv("GPU_HOST_LEAKS"))
			atexit(report);
		return new memory;
	}();
	return *all;
}

} // namespace

thread_local int gpu_host_device = -1;

void gpu_host_choose_first()
{
	if (gpu_host_device < 0)
		gpu_host_device = 0;
}

void gpu_host_fault()
{
	faulted = true;
}

cudaError_t gpu_host_state()
{
	return faulted ? cudaErrorIllegalAddress : cudaSuccess;
}

size_t gpu_host_number(const char *name, size_t preset)
{
	const char *text = getenv(name);
	return text ? strtoull(text, nullptr, 10) : preset;
}

void gpu_host_begin()
{
	mem().begin();
}

void gpu_host_end()
{
	mem().end();
}

void gpu_host_die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "gpu_host: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	abort();
}

EXPORT const char *cudaGetErrorString(cudaError_t error)
{
	switch (error) {
	case cudaSuccess: return "no error";
	case cudaErrorInvalidValue: return "invalid argument";
	case cudaErrorMemoryAllocation: return "out of memory";
	case cudaErrorInvalidConfiguration: return "invalid configuration argument";
	case cudaErrorNoDevice: return "no CUDA-capable device is detected";
	case cudaErrorInvalidDevice: return "invalid device ordinal";
	case cudaErrorInvalidContext: return "invalid device context";
	case cudaErrorInvalidResourceHandle: return "invalid resource handle";
	case cudaErrorNotReady: return "device not ready";
	case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
	}
	return "unrecognized error code";
}

/* ---- devices ---------------------------------------------------------------- */

EXPORT cudaError_t cudaGetDeviceCount(int *count)
{
	*count = int(gpu_host_number("GPU_HOST_GPUS", 1));
	return *count ? cudaSuccess : cudaErrorNoDevice;
}

EXPORT cudaError_t cudaSetDevice(int device)
{
	int count;
	if (cudaGetDeviceCount(&count) != cudaSuccess)
		return cudaErrorNoDevice;
	if (device < 0 || device >= count)
		return cudaErrorInvalidDevice;
	gpu_host_device = device;
	return gpu_host_state();
}

EXPORT int cuInit(unsigned flags)
{
	int count;
	return flags ? int(cudaErrorInvalidValue) : int(cudaGetDeviceCount(&count));
}

EXPORT int cuDriverGetVersion(int *version)
{
	*version = 13000;
	return 0;
}

EXPORT int cuDeviceGetCount(int *count)
{
	return int(cudaGetDeviceCount(count));
}

EXPORT int cuDeviceGet(int *device, int ordinal)
{
	int count;
	*device = ordinal;
	if (cudaGetDeviceCount(&count) != cudaSuccess)
		return int(cudaErrorNoDevice);
	return int(ordinal >= 0 && ordinal < count ? cudaSuccess : cudaErrorInvalidDevice);
}

EXPORT int cuDeviceGetName(char *name, int bytes, int device)
{
	(void)device;
	snprintf(name, size_t(bytes), "Stand-in GPU");
	return 0;
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
	(void)device;
	*bytes = gpu_host_number("GPU_HOST_MEMORY", size_t(1) << 30);
	return 0;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	(void)device;
	*value = attribute == 75 ? 9 : 0; /* compute capability 9.0 */
	return attribute == 75 || attribute == 76 ? 0 : int(cudaErrorInvalidValue);
}

/* Of contexts there is nothing to be seen here. */
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device)
{
	static char only;
	*context = &only;
	return int(cudaSetDevice(device));
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device)
{
	return int(cudaSetDevice(device));
}

EXPORT int cuCtxSetCurrent(void *context)
{
	return context ? 0 : int(cudaErrorInvalidValue);
}

EXPORT int cuGetErrorString(int error, const char **text)
{
	*text = cudaGetErrorString(cudaError_t(error));
	return 0;
}

/* ---- memory ----------------------------------------------------------------- */

EXPORT cudaError_t cudaMalloc(void **at, size_t size)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	size_t step = (size + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES + ALIGN_BYTES;
	gpu_host_choose_first();
	if (size == 0)
		return cudaErrorInvalidValue;
	if (m.live + size > gpu_host_number("GPU_HOST_MEMORY", size_t(1) << 30) || m.used + step > REGION_BYTES)
		return cudaErrorMemoryAllocation;
	char *block = m.region + m.used;
	*at = block;
	m.used += step;
	m.live += size;
	m.protect(PROT_READ | PROT_WRITE);
	/* Fresh memory is whatever was there before: not zeros. */
	memset(block, 0xff, size);
	ASAN_POISON_MEMORY_REGION(block + size, step - size);
	m.blocks[*at] = size;
	m.protect(m.running ? PROT_READ | PROT_WRITE : PROT_NONE);
	return gpu_host_state();
}

/* Waits for all streams first, as the real one does. */
EXPORT cudaError_t cudaFree(void *at)
{
	memory &m = mem();
	gpu_host_sync_all();
	std::lock_guard<std::mutex> guard(m.lock);
	if (!at)
		return cudaSuccess;
	auto block = m.blocks.find(at);
	if (block == m.blocks.end())
		return cudaErrorInvalidValue;
	m.protect(PROT_READ | PROT_WRITE);
	memset(at, 0xff, block->second);
	m.protect(m.running ? PROT_READ | PROT_WRITE : PROT_NONE);
	ASAN_POISON_MEMORY_REGION(at, block->second);
	m.live -= block->second;
	m.blocks.erase(block);
	return gpu_host_state();
}

size_t gpu_host_room(const void *at)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	auto next = m.blocks.upper_bound(const_cast<void *>(at));
	if (next == m.blocks.begin())
		return 0;
	--next;
	size_t offset = size_t(static_cast<const char *>(at) - static_cast<char *>(next->first));
	return offset < next->second ? next->second - offset : 0;
}

EXPORT int cuMemAlloc_v2(uintptr_t *at, size_t size)
{
	return int(cudaMalloc(reinterpret_cast<void **>(at), size));
}

EXPORT int cuMemFree_v2(uintptr_t at)
{
	return int(cudaFree(reinterpret_cast<void *>(at)));
}

EXPORT int cuMemHostAlloc(void **at, size_t size, unsigned flags)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	(void)flags;
	if (gpu_host_device < 0)
		return int(cudaErrorInvalidContext);
	*at = malloc(size);
	if (!*at)
		return int(cudaErrorMemoryAllocation);
	m.pinned[*at] = size;
	return int(gpu_host_state());
}

EXPORT int cuMemFreeHost(void *at)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	auto block = m.pinned.find(at);
	if (block == m.pinned.end())
		return int(cudaErrorInvalidValue);
	/* Not waited for: a copy on its way takes these. */
	memset(at, 0xff, block->second);
	m.pinned.erase(block);
	free(at);
	return 0;
}

namespace {

bool is_pinned(const void *at)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	auto next = m.pinned.upper_bound(const_cast<void *>(at));
	if (next == m.pinned.begin())
		return false;
	--next;
	return at < static_cast<char *>(next->first) + next->second;
}

cudaError_t copy(void *to, const void *from, size_t size, cudaStream_t stream)
{
	bool to_device = mem().owns(to), from_device = mem().owns(from);
	if ((to_device && gpu_host_room(to) < size) || (from_device && gpu_host_room(from) < size))
		return cudaErrorInvalidValue;
	/* Pageable memory too is read when the stream comes to it, as a device does that
	 * shares the host's page tables; others read it before the call returns. */
	gpu_host_run(stream, [=]() { memcpy(to, from, size); });
	/* Pageable memory is written before the call returns. */
	return to_device || is_pinned(to) ? gpu_host_state() : cudaStreamSynchronize(stream);
}

} // namespace

EXPORT cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind,
                                   cudaStream_t stream)
{
	if (mem().owns(to) != (kind != cudaMemcpyDeviceToHost) ||
	    mem().owns(from) != (kind != cudaMemcpyHostToDevice))
		return cudaErrorInvalidValue;
	return copy(to, from, size, stream);
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t size, cudaStream_t stream)
{
	return int(gpu_host_device < 0 ? cudaErrorInvalidContext :
	           cudaMemcpyAsync(to, reinterpret_cast<void *>(from), size, cudaMemcpyDeviceToHost, stream));
}

EXPORT int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t size, cudaStream_t stream)
{
	return int(gpu_host_device < 0 ? cudaErrorInvalidContext :
	           cudaMemcpyAsync(reinterpret_cast<void *>(to), from, size, cudaMemcpyHostToDevice, stream));
}

EXPORT cudaError_t cudaMemsetAsync(void *at, int value, size_t size, cudaStream_t stream)
{
	if (gpu_host_room(at) < size)
		return cudaErrorInvalidValue;
	gpu_host_run(stream, [=]() { memset(at, value, size); });
	return gpu_host_state();
}
