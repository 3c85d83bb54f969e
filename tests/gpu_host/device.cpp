/* Streams, events and memory: the calls of the CUDA runtime and of the driver.
 *
 * Device memory is a region that nobody may touch but while a stream runs
 * something; under AddressSanitizer what was not allocated in it is poisoned. */
#include "cuda_runtime.h"

#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr size_t REGION_BYTES = size_t(1) << 36, ALIGN_BYTES = 256;

size_t number(const char *name, size_t preset)
{
	const char *text = getenv(name);
	return text ? strtoull(text, nullptr, 10) : preset;
}

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

struct CUstream_st {
	std::mutex lock;
	std::condition_variable changed;
	std::deque<std::function<void()>> work;
	bool busy = false, stop = false;
	std::thread thread;

	CUstream_st() : thread([this]() { run(); }) {}

	void run()
	{
		std::unique_lock<std::mutex> guard(lock);
		for (;;) {
			changed.wait(guard, [this]() { return stop || !work.empty(); });
			if (work.empty())
				return;
			std::function<void()> next = std::move(work.front());
			work.pop_front();
			busy = true;
			guard.unlock();
			next();
			next = nullptr;
			guard.lock();
			busy = false;
			changed.notify_all();
		}
	}

	bool idle()
	{
		return work.empty() && !busy;
	}
};

namespace {

struct streams {
	std::mutex lock;
	std::set<CUstream_st *> all;

	std::set<CUstream_st *> copy()
	{
		std::lock_guard<std::mutex> guard(lock);
		return all;
	}
};

streams &all_streams()
{
	static streams *all = new streams;
	return *all;
}

struct marks {
	std::mutex lock;
	std::condition_variable changed;
	uint64_t recorded = 0, passed = 0;

	void await(uint64_t mark)
	{
		std::unique_lock<std::mutex> guard(lock);
		changed.wait(guard, [=]() { return passed >= mark; });
	}
};

} // namespace

/* What a stream has still to pass outlives its event. */
struct CUevent_st {
	std::shared_ptr<marks> all = std::make_shared<marks>();
};

void gpu_host_enqueue(CUstream_st *stream, std::function<void()> work)
{
	if (!stream)
		gpu_host_die("the default stream is not used here");
	std::lock_guard<std::mutex> guard(stream->lock);
	stream->work.push_back(std::move(work));
	stream->changed.notify_all();
}

void gpu_host_begin()
{
	mem().begin();
}

void gpu_host_end()
{
	mem().end();
}

void gpu_host_run(CUstream_st *stream, std::function<void()> work)
{
	gpu_host_enqueue(stream, [work = std::move(work)]() {
		gpu_host_begin();
		work();
		gpu_host_end();
	});
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

cudaError_t gpu_host_check_launch(const cudaLaunchConfig_t *c)
{
	size_t threads = size_t(c->blockDim.x) * c->blockDim.y * c->blockDim.z;
	bool fits = threads >= 1 && threads <= 1024 && c->blockDim.z <= 64 && c->gridDim.x >= 1 &&
	            c->gridDim.x <= 0x7fffffffu && c->gridDim.y >= 1 && c->gridDim.y <= 65535 &&
	            c->gridDim.z >= 1 && c->gridDim.z <= 65535 && c->dynamicSmemBytes <= (48u << 10);
	return fits ? cudaSuccess : cudaErrorInvalidConfiguration;
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
	case cudaErrorNotReady: return "device not ready";
	}
	return "unrecognized error code";
}

/* ---- devices ---------------------------------------------------------------- */

EXPORT cudaError_t cudaGetDeviceCount(int *count)
{
	*count = int(number("GPU_HOST_GPUS", 1));
	return *count ? cudaSuccess : cudaErrorNoDevice;
}

EXPORT cudaError_t cudaSetDevice(int device)
{
	int count;
	if (cudaGetDeviceCount(&count) != cudaSuccess)
		return cudaErrorNoDevice;
	return device >= 0 && device < count ? cudaSuccess : cudaErrorInvalidDevice;
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
	*device = ordinal;
	return int(cudaSetDevice(ordinal));
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
	*bytes = number("GPU_HOST_MEMORY", size_t(1) << 30);
	return 0;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	(void)device;
	*value = attribute == 75 ? 9 : 0; /* compute capability 9.0 */
	return attribute == 75 || attribute == 76 ? 0 : int(cudaErrorInvalidValue);
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
	if (size == 0)
		return cudaErrorInvalidValue;
	if (m.live + size > number("GPU_HOST_MEMORY", size_t(1) << 30) || m.used + step > REGION_BYTES)
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
	return cudaSuccess;
}

/* Waits for all streams first, as the real one does. */
EXPORT cudaError_t cudaFree(void *at)
{
	memory &m = mem();
	for (CUstream_st *stream : all_streams().copy())
		cudaStreamSynchronize(stream);
	std::lock_guard<std::mutex> guard(m.lock);
	if (!at)
		return cudaSuccess;
	auto block = m.blocks.find(at);
	if (block == m.blocks.end())
		return cudaErrorInvalidValue;
	ASAN_POISON_MEMORY_REGION(at, block->second);
	m.live -= block->second;
	m.blocks.erase(block);
	return cudaSuccess;
}

EXPORT int cuMemHostAlloc(void **at, size_t size, unsigned flags)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	(void)flags;
	*at = malloc(size);
	if (!*at)
		return int(cudaErrorMemoryAllocation);
	m.pinned[*at] = size;
	return 0;
}

EXPORT int cuMemFreeHost(void *at)
{
	memory &m = mem();
	std::lock_guard<std::mutex> guard(m.lock);
	if (!m.pinned.erase(at))
		return int(cudaErrorInvalidValue);
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
	if (!to_device && !from_device)
		return cudaErrorInvalidValue;
	/* Pageable memory too is read when the stream comes to it, as a device does that
	 * shares the host's page tables; others read it before the call returns. */
	gpu_host_run(stream, [=]() { memcpy(to, from, size); });
	/* Pageable memory is written before the call returns. */
	return to_device || is_pinned(to) ? cudaSuccess : cudaStreamSynchronize(stream);
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
	return int(cudaMemcpyAsync(to, reinterpret_cast<void *>(from), size, cudaMemcpyDeviceToHost, stream));
}

EXPORT int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t size, cudaStream_t stream)
{
	return int(cudaMemcpyAsync(reinterpret_cast<void *>(to), from, size, cudaMemcpyHostToDevice, stream));
}

EXPORT cudaError_t cudaMemsetAsync(void *at, int value, size_t size, cudaStream_t stream)
{
	if (!mem().owns(at))
		return cudaErrorInvalidValue;
	gpu_host_run(stream, [=]() { memset(at, value, size); });
	return cudaSuccess;
}

/* ---- streams and events ----------------------------------------------------- */

EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
	(void)flags;
	*stream = new CUstream_st;
	std::lock_guard<std::mutex> guard(all_streams().lock);
	all_streams().all.insert(*stream);
	return cudaSuccess;
}

EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	{
		std::lock_guard<std::mutex> guard(all_streams().lock);
		all_streams().all.erase(stream);
	}
	{
		std::lock_guard<std::mutex> guard(stream->lock);
		stream->stop = true;
		stream->changed.notify_all();
	}
	stream->thread.join();
	delete stream;
	return cudaSuccess;
}

EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	std::unique_lock<std::mutex> guard(stream->lock);
	stream->changed.wait(guard, [=]() { return stream->idle(); });
	return cudaSuccess;
}

EXPORT int cuStreamQuery(cudaStream_t stream)
{
	std::lock_guard<std::mutex> guard(stream->lock);
	return stream->idle() ? 0 : int(cudaErrorNotReady);
}

EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	(void)flags;
	*event = new CUevent_st;
	return cudaSuccess;
}

EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	delete event;
	return cudaSuccess;
}

EXPORT int cuEventCreate(cudaEvent_t *event, unsigned flags)
{
	return int(cudaEventCreateWithFlags(event, flags));
}

EXPORT int cuEventDestroy_v2(cudaEvent_t event)
{
	return int(cudaEventDestroy(event));
}

EXPORT cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	std::shared_ptr<marks> all = event->all;
	uint64_t mine;
	{
		std::lock_guard<std::mutex> guard(all->lock);
		mine = ++all->recorded;
	}
	gpu_host_enqueue(stream, [=]() {
		std::lock_guard<std::mutex> guard(all->lock);
		all->passed = mine;
		all->changed.notify_all();
	});
	return cudaSuccess;
}

EXPORT int cuEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	return int(cudaEventRecord(event, stream));
}

namespace {

uint64_t last_mark(cudaEvent_t event)
{
	std::lock_guard<std::mutex> guard(event->all->lock);
	return event->all->recorded;
}

} // namespace

EXPORT int cuEventSynchronize(cudaEvent_t event)
{
	event->all->await(last_mark(event));
	return 0;
}

EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	std::shared_ptr<marks> all = event->all;
	uint64_t awaited = last_mark(event);
	(void)flags;
	gpu_host_enqueue(stream, [=]() { all->await(awaited); });
	return cudaSuccess;
}
