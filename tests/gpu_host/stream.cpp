/* Streams and events, and what is launched on them. */
#include "device.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

/* When a stream that nobody waits for takes up its work all the same. */
static constexpr auto LATE = std::chrono::milliseconds(20);

struct CUstream_st {
	std::mutex lock;
	std::condition_variable changed;
	std::deque<std::function<void()>> work;
	bool wanted = false, busy = false, stop = false;
	const int device = gpu_host_device;

	void run()
	{
		std::unique_lock<std::mutex> guard(lock);
		for (;;) {
			changed.wait(guard, [this]() { return stop || !work.empty(); });
			if (work.empty())
				return;
			changed.wait_for(guard, LATE, [this]() { return wanted; });
			wanted = true;
			std::function<void()> next = std::move(work.front());
			work.pop_front();
			busy = true;
			guard.unlock();
			next();
			next = nullptr;
			guard.lock();
			busy = false;
			wanted = !work.empty();
			changed.notify_all();
		}
	}

	/* Locked, these. Somebody waits for all that was given until now. */
	void want()
	{
		wanted = !work.empty();
		changed.notify_all();
	}

	bool idle()
	{
		return work.empty() && !busy;
	}
};

namespace {

struct streams {
	std::mutex lock;
	std::condition_variable ended;
	std::set<CUstream_st *> all;
	size_t ending = 0;              /* destroyed, and not through with their work */

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

/* If it is still there. */
void want(CUstream_st *stream)
{
	std::lock_guard<std::mutex> guard(all_streams().lock);
	if (!all_streams().all.count(stream))
		return;
	std::lock_guard<std::mutex> its(stream->lock);
	stream->want();
}

struct marks {
	std::mutex lock;
	std::condition_variable changed;
	uint64_t recorded = 0, passed = 0;
	CUstream_st *stream = nullptr;  /* that is to pass the last one */

	void await(uint64_t mark)
	{
		std::unique_lock<std::mutex> guard(lock);
		CUstream_st *last = stream;
		guard.unlock();
		want(last);
		guard.lock();
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

bool gpu_host_faulted()
{
	return gpu_host_state() != cudaSuccess;
}

void gpu_host_run(CUstream_st *stream, std::function<void()> work)
{
	gpu_host_enqueue(stream, [work = std::move(work)]() {
		if (gpu_host_faulted())
			return;
		gpu_host_begin();
		work();
		gpu_host_end();
	});
}

void gpu_host_sync_all()
{
	for (CUstream_st *stream : all_streams().copy())
		cudaStreamSynchronize(stream);
	std::unique_lock<std::mutex> guard(all_streams().lock);
	all_streams().ended.wait(guard, []() { return all_streams().ending == 0; });
}

void gpu_host_sync_device(int device)
{
	for (CUstream_st *stream : all_streams().copy())
		if (stream->device == device)
			cudaStreamSynchronize(stream);
}

bool gpu_host_is_of_device(cudaStream_t stream)
{
	return stream && stream->device == gpu_host_device;
}

cudaError_t gpu_host_check_launch(const cudaLaunchConfig_t *c)
{
	size_t threads = size_t(c->blockDim.x) * c->blockDim.y * c->blockDim.z;
	bool fits = threads >= 1 && threads <= 1024 && c->blockDim.z <= 64 && c->gridDim.x >= 1 &&
	            c->gridDim.x <= 0x7fffffffu && c->gridDim.y >= 1 && c->gridDim.y <= 65535 &&
	            c->gridDim.z >= 1 && c->gridDim.z <= 65535 && c->dynamicSmemBytes <= (48u << 10);
	static const size_t fault = gpu_host_number("GPU_HOST_FAULT", 0);
	static std::atomic<size_t> kernels{0};
	if (c->stream && !gpu_host_is_of_device(c->stream))
		return cudaErrorInvalidResourceHandle;
	if (++kernels == fault)
		gpu_host_enqueue(c->stream, []() { gpu_host_fault(); });
	return fits ? gpu_host_state() : cudaErrorInvalidConfiguration;
}

EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
	(void)flags;
	gpu_host_choose_first();
	CUstream_st *made = new CUstream_st;
	std::lock_guard<std::mutex> guard(all_streams().lock);
	all_streams().all.insert(made);
	std::thread([made]() {
		made->run();
		delete made;
		std::lock_guard<std::mutex> its(all_streams().lock);
		all_streams().ending--;
		all_streams().ended.notify_all();
	}).detach();
	*stream = made;
	return gpu_host_state();
}

/* Its work goes on, and as late as before: nobody is waited for here. */
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	std::lock_guard<std::mutex> guard(all_streams().lock);
	if (!all_streams().all.erase(stream))
		return cudaErrorInvalidResourceHandle;
	all_streams().ending++;
	std::lock_guard<std::mutex> its(stream->lock);
	stream->stop = true;
	stream->changed.notify_all();
	return gpu_host_state();
}

EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	std::unique_lock<std::mutex> guard(stream->lock);
	stream->want();
	stream->changed.wait(guard, [=]() { return stream->idle(); });
	return gpu_host_state();
}

EXPORT int cuStreamCreate(cudaStream_t *stream, unsigned flags)
{
	return int(gpu_host_device < 0 ? cudaErrorInvalidContext : cudaStreamCreateWithFlags(stream, flags));
}

EXPORT int cuStreamSynchronize(cudaStream_t stream)
{
	return int(gpu_host_is_of_device(stream) ? cudaStreamSynchronize(stream) : cudaErrorInvalidContext);
}

EXPORT int cuStreamDestroy_v2(cudaStream_t stream)
{
	return int(cudaStreamDestroy(stream));
}

EXPORT int cuStreamQuery(cudaStream_t stream)
{
	std::lock_guard<std::mutex> guard(stream->lock);
	if (gpu_host_device < 0)
		return int(cudaErrorInvalidContext);
	stream->want();
	return int(gpu_host_faulted() || stream->idle() ? gpu_host_state() : cudaErrorNotReady);
}

EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	(void)flags;
	*event = new CUevent_st;
	return gpu_host_state();
}

EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	delete event;
	return cudaSuccess;
}

EXPORT int cuEventCreate(cudaEvent_t *event, unsigned flags)
{
	return int(gpu_host_device < 0 ? cudaErrorInvalidContext : cudaEventCreateWithFlags(event, flags));
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
		all->stream = stream;
	}
	gpu_host_enqueue(stream, [=]() {
		std::lock_guard<std::mutex> guard(all->lock);
		all->passed = mine;
		all->changed.notify_all();
	});
	return gpu_host_state();
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
	return int(gpu_host_state());
}

EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	std::shared_ptr<marks> all = event->all;
	uint64_t awaited = last_mark(event);
	(void)flags;
	gpu_host_enqueue(stream, [=]() { all->await(awaited); });
	return gpu_host_state();
}
