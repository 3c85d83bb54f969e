/* The threads of a block, as fibers of one thread: makecontext enters a stack
 * once, and then the compiler's own setjmp and longjmp change between stacks, in a
 * few instructions and unseen by AddressSanitizer, which is told of each change.
 * A fiber whose thread ends goes on with the next thread that has not begun, so
 * that a kernel without barriers never changes stacks. */
#include "cuda_runtime.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES (256u << 10)
#else
#define STACK_BYTES (64u << 10)
#endif

enum { WARP = 32, THREADS_MAX = 1024 };

__thread uint3 threadIdx, blockIdx;
__thread dim3 blockDim, gridDim;

namespace {

enum class state { NEW, READY, AT_WARP, AT_BLOCK, DONE };

using place = void *[5]; /* of __builtin_setjmp */

struct fiber {
	place at;
	char *stack = nullptr;
	void *fake = nullptr;           /* AddressSanitizer's */
	unsigned thread = 0;            /* of the block, that it runs now */
	bool idle = true;
};

struct block_thread {
	state now;
	fiber *on;
	uint3 index;
};

struct machine {
	std::vector<std::unique_ptr<fiber>> fibers;
	std::vector<fiber *> idle;
	std::vector<block_thread> threads;
	const std::function<void()> *body = nullptr;
	unsigned count = 0, begun = 0;
	fiber *current = nullptr;
	place scheduler;
	void *scheduler_fake = nullptr;
	const void *scheduler_stack = nullptr;
	size_t scheduler_bytes = 0;
	ucontext_t first;
	unsigned turn[THREADS_MAX / WARP][WARP];
	unsigned char lanes[THREADS_MAX / WARP][2][WARP][8];
	bool reverse = false;

	~machine()
	{
		for (auto &f : fibers)
			munmap(f->stack, STACK_BYTES);
	}
};

/* A stream's own, made when it first runs a kernel. The pointer beside the owner
 * is read without asking whether that was made. */
thread_local std::unique_ptr<machine> owner;
__thread machine *m;

void leave_for(fiber *from, bool to_scheduler, const void *bottom, size_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(to_scheduler ? &from->fake : &m->scheduler_fake, bottom, bytes);
#else
	(void)from, (void)to_scheduler, (void)bottom, (void)bytes;
#endif
}

void arrived(void *fake)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
	(void)fake;
#endif
}

/* noipa: who calls it is not to know that it never returns, or AddressSanitizer
 * would clear the stack's shadow before each call. */
__attribute__((noipa, no_sanitize_address)) void jump(void **to)
{
	__builtin_longjmp(to, 1);
}

__attribute__((noinline)) void back_to_scheduler(fiber *f)
{
	leave_for(f, true, m->scheduler_stack, m->scheduler_bytes);
	if (__builtin_setjmp(f->at) == 0)
		jump(m->scheduler);
	arrived(m->current->fake);
}

uint3 place_of(unsigned thread)
{
	return uint3{thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
}

unsigned number_of(unsigned index)
{
	return m->reverse ? m->count - 1 - index : index;
}

[[noreturn]] void live(fiber *f)
{
	for (;;) {
		while (m->begun < m->count) {
			f->thread = number_of(m->begun++);
			threadIdx = place_of(f->thread);
			m->threads[f->thread] = {state::READY, f, threadIdx};
			(*m->body)();
			m->threads[f->thread].now = state::DONE;
		}
		f->idle = true;
		m->idle.push_back(f);
		back_to_scheduler(f);
	}
}

void enter()
{
	fiber *f = m->current;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(nullptr, &m->scheduler_stack, &m->scheduler_bytes);
#endif
	live(f);
}

__attribute__((noinline)) void resume(fiber *f)
{
	bool fresh = !f->stack;
	m->current = f;
	f->idle = false;
	if (fresh) {
		void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
		                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
		if (stack == MAP_FAILED)
			gpu_host_die("no memory for a fiber");
		f->stack = static_cast<char *>(stack);
	}
	leave_for(f, false, f->stack, STACK_BYTES);
	if (__builtin_setjmp(m->scheduler) == 0) {
		if (!fresh)
			jump(f->at);
		getcontext(&m->first);
		m->first.uc_stack.ss_sp = f->stack;
		m->first.uc_stack.ss_size = STACK_BYTES;
		m->first.uc_link = nullptr;
		makecontext(&m->first, enter, 0);
		setcontext(&m->first);
	}
	arrived(m->scheduler_fake);
}

fiber *new_fiber()
{
	if (m->idle.empty()) {
		m->fibers.push_back(std::make_unique<fiber>());
		return m->fibers.back().get();
	}
	fiber *f = m->idle.back();
	m->idle.pop_back();
	return f;
}

/* Everyone in [begin, end) that has not ended stands at `where`: let them go. */
bool release(unsigned begin, unsigned end, state where)
{
	unsigned at = 0, done = 0;
	for (unsigned i = begin; i < end; i++) {
		at += m->threads[i].now == where;
		done += m->threads[i].now == state::DONE;
	}
	if (at == 0 || at + done < end - begin)
		return false;
	if (done)
		gpu_host_die("block (%u, %u, %u): %u of %u threads ended while the others wait at a barrier",
		             blockIdx.x, blockIdx.y, blockIdx.z, done, end - begin);
	for (unsigned i = begin; i < end; i++)
		m->threads[i].now = state::READY;
	return true;
}

bool release_any()
{
	bool any = false;
	for (unsigned begin = 0; begin < m->count; begin += WARP)
		any |= release(begin, begin + WARP < m->count ? begin + WARP : m->count, state::AT_WARP);
	return any || release(0, m->count, state::AT_BLOCK);
}

void run_block(const std::function<void()> &body)
{
	m->body = &body;
	m->count = blockDim.x * blockDim.y * blockDim.z;
	m->begun = 0;
	m->threads.assign(m->count, {state::NEW, nullptr, {}});
	memset(m->turn, 0, sizeof m->turn);
	while (m->begun < m->count)
		resume(new_fiber());
	for (;;) {
		unsigned done = 0;
		for (unsigned i = 0; i < m->count; i++) {
			block_thread *t = &m->threads[number_of(i)];
			if (t->now == state::READY) {
				threadIdx = t->index;
				resume(t->on);
			}
			done += t->now == state::DONE;
		}
		if (done == m->count)
			return;
		if (!release_any())
			gpu_host_die("block (%u, %u, %u): its threads wait for each other at different barriers",
			             blockIdx.x, blockIdx.y, blockIdx.z);
	}
}

void wait_at(state where)
{
	fiber *f = m->current;
	unsigned thread = f->thread;
	m->threads[thread].now = where;
	back_to_scheduler(f);
}

} // namespace

void gpu_host_grid(dim3 grid, dim3 block, const std::function<void()> &thread)
{
	const char *order = getenv("GPU_HOST_ORDER");
	if (!m) {
		owner = std::make_unique<machine>();
		m = owner.get();
	}
	m->reverse = order && strcmp(order, "reverse") == 0;
	gridDim = grid;
	blockDim = block;
	for (unsigned z = 0; z < grid.z; z++)
		for (unsigned y = 0; y < grid.y; y++)
			for (unsigned x = 0; x < grid.x; x++) {
				blockIdx = uint3{x, y, z};
				run_block(thread);
			}
}

void gpu_host_sync_block()
{
	wait_at(state::AT_BLOCK);
}

void gpu_host_sync_warp()
{
	wait_at(state::AT_WARP);
}

unsigned gpu_host_lane()
{
	return m->current->thread % WARP;
}

unsigned char (*gpu_host_lanes())[8]
{
	unsigned warp = m->current->thread / WARP;
	return m->lanes[warp][m->turn[warp][gpu_host_lane()]++ % 2];
}
