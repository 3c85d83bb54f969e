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
#include <vector>

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
	std::map<void *, size_t> blocks;
	std::map<void *, int> devices;          /* whose the blocks are */
	std::map<void *, size_t> pinned, registered;

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
	        mem().blocks.size(), mem().pinned.size() + mem().registered.size());
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
static std::atomic<bool> begun{false};

void gpu_host_choose_first()
{
	begun = true;
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
	begun = true;
	gpu_host_device = device;
	return gpu_host_state();
}

EXPORT int cuInit(unsigned flags)
{
	int count;
	begun = true;
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

/* ---- contexts: one for each device, its primary one ------------------------------- */

namespace {

constexpr int DEVICES_MAX = 64;
char contexts[DEVICES_MAX];
thread_local std::vector<int> pushed;

void *context_of(int device)
{
	return &contexts[device];
}

int device_of(void *context)
{
	char *at = static_cast<char *>(context);
	return at >= contexts && at < contexts + DEVICES_MAX ? int(at - contexts) : -1;
}

} // namespace

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device)
{
	int unused, error = cuDeviceGet(&unused, device);
	*context = error ? nullptr : context_of(device);
	return error;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device)
{
	int unused;
	return cuDeviceGet(&unused, device);
}

EXPORT int cuCtxSetCurrent(void *context)
{
	int device = device_of(context);
	if (device < 0)
		return int(cudaErrorInvalidContext);
	gpu_host_device = device;
	return 0;
}

EXPORT int cuCtxPushCurrent_v2(void *context)
{
	int before = gpu_host_device, error = cuCtxSetCurrent(context);
	if (!error)
		pushed.push_back(before);
	return error;
}

EXPORT int cuCtxPopCurrent_v2(void **context)
{
	if (pushed.empty())
		return int(cudaErrorInvalidContext);
	*context = context_of(gpu_host_device);
	gpu_host_device = pushed.back();
	pushed.pop_back();
	return 0;
}

EXPORT int cuCtxSynchronize()
{
	if (gpu_host_device < 0)
		return int(cudaErrorInvalidContext);
	gpu_host_sync_device(gpu_host_device);
	return int(gpu_host_state());
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
	m.devices[*at] = gpu_host_device;
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
	m.devices.erase(at);
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

namespace {

/* Locked. */
bool may_pin(size_t size)
{
	size_t sum = size;
	for (const auto *all : { &mem().pinned, &mem().registered })
		for (const auto &block : *all)
			sum += block.second;
	return sum <= gpu_host_number("GPU_HOST_PINNED", SIZE_MAX);
}

} // namespace

EXPORT int cuMemHostAlloc(void **at, size_t size, unsigned flags)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	(void)flags;
	if (gpu_host_device < 0)
		return int(cudaErrorInvalidContext);
	*at = may_pin(size) ? malloc(size) : nullptr;
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

EXPORT int cuMemHostRegister_v2(void *at, size_t size, unsigned flags)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	(void)flags;
	if (gpu_host_device < 0)
		return int(cudaErrorInvalidContext);
	if (!may_pin(size))
		return int(cudaErrorMemoryAllocation);
	return int(m.registered.emplace(at, size).second ? gpu_host_state() : cudaErrorInvalidValue);
}

EXPORT int cuMemHostUnregister(void *at)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	return int(m.registered.erase(at) ? cudaSuccess : cudaErrorInvalidValue);
}

namespace {

bool is_within(const std::map<void *, size_t> &blocks, const void *at)
{
	auto next = blocks.upper_bound(const_cast<void *>(at));
	if (next == blocks.begin())
		return false;
	--next;
	return at < static_cast<char *>(next->first) + next->second;
}

bool is_pinned(const void *at)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	return is_within(m.pinned, at) || is_within(m.registered, at);
}

/* Of device memory; -1: it is none. */
int owner_of(const void *at)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	if (!is_within(m.blocks, at))
		return -1;
	return std::prev(m.devices.upper_bound(const_cast<void *>(at)))->second;
}

cudaError_t copy(void *to, const void *from, size_t size, cudaStream_t stream)
{
	bool to_device = mem().owns(to), from_device = mem().owns(from);
	/* Hardware reaches other devices' memory where they are peers: not here. */
	if ((to_device && owner_of(to) != gpu_host_device) || (from_device && owner_of(from) != gpu_host_device))
		return cudaErrorInvalidValue;
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
	gpu_host_choose_first();
	if (mem().owns(to) != (kind != cudaMemcpyDeviceToHost) ||
	    mem().owns(from) != (kind != cudaMemcpyHostToDevice))
		return cudaErrorInvalidValue;
	return copy(to, from, size, stream);
}

/* CU_POINTER_ATTRIBUTE_CONTEXT, _MEMORY_TYPE (host 1, device 2) and _DEVICE_ORDINAL; of an
 * address that is not CUDA's all are 0. */
EXPORT int cuPointerGetAttributes(unsigned count, int *attributes, void **values, uintptr_t address)
{
	void *at = reinterpret_cast<void *>(address);
	int device = owner_of(at);
	bool pinned = is_pinned(at);
	if (!begun)
		return 3; /* CUDA_ERROR_NOT_INITIALIZED */
	for (unsigned i = 0; i < count; i++) {
		if (attributes[i] == 1)
			*static_cast<void **>(values[i]) = pinned || (device >= 0 && !getenv("GPU_HOST_POOL")) ?
			                                   context_of(device >= 0 ? device : 0) : nullptr;
		else if (attributes[i] == 2)
			*static_cast<unsigned *>(values[i]) = pinned ? 1 : device >= 0 ? 2 : 0;
		else if (attributes[i] == 9)
			*static_cast<int *>(values[i]) = device >= 0 ? device : 0;
		else
			return int(cudaErrorInvalidValue);
	}
	return int(gpu_host_state());
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t size, cudaStream_t stream)
{
	return int(!gpu_host_is_of_device(stream) ? cudaErrorInvalidContext :
	           cudaMemcpyAsync(to, reinterpret_cast<void *>(from), size, cudaMemcpyDeviceToHost, stream));
}

EXPORT int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t size, cudaStream_t stream)
{
	return int(!gpu_host_is_of_device(stream) ? cudaErrorInvalidContext :
	           cudaMemcpyAsync(reinterpret_cast<void *>(to), from, size, cudaMemcpyHostToDevice, stream));
}

EXPORT cudaError_t cudaMemsetAsync(void *at, int value, size_t size, cudaStream_t stream)
{
	if (gpu_host_room(at) < size)
		return cudaErrorInvalidValue;
	gpu_host_run(stream, [=]() { memset(at, value, size); });
	return gpu_host_state();
}
