/* gpu_host.h: a GPU made of one thread for each stream; a test tool, never
 * installed.
 *
 * What a stream is given runs in order on its own thread, as late as can be: when
 * somebody waits for it or asks for it, or after a while. A program that forgets to
 * wait, or has one stream not wait for the other, reads old values here for sure.
 * Device memory can be touched by streams alone: the host's loads and stores there
 * are faults, and so is host memory, or device memory that was freed, where a
 * kernel, cuBLAS or NCCL is given it. A kernel's blocks run one after the other; the threads
 * of a block are fibers that change places at barriers and shuffles, in the
 * order of their numbers or, with GPU_HOST_ORDER=reverse, against it. What
 * hardware would hang on or leave undefined (a barrier that not all threads
 * reach, a shuffle in a part of a warp) ends the program with a message.
 *
 *   GPU_HOST_GPUS     how many devices there are (1)
 *   GPU_HOST_MEMORY   bytes of memory of each (1 GiB)
 *   GPU_HOST_ORDER    reverse: see above
 *   GPU_HOST_FAULT    N: the Nth kernel goes where no memory is; its context is lost
 *   GPU_HOST_PINNED   bytes of host memory that may be pinned (all)
 *   GPU_HOST_POOL     device memory is a pool's, which belongs to no context
 *   GPU_HOST_LEAKS    say at exit what was not freed, on stderr */
#ifndef GPU_HOST_H
#define GPU_HOST_H

#include <cstddef>
#include <functional>

struct dim3 {
	unsigned x, y, z;
	constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct CUstream_st;

/* Run `work` on the stream's thread, after all it was given before. Device memory
 * is there for `run`, and for `enqueue` between begin and end. */
void gpu_host_enqueue(CUstream_st *stream, std::function<void()> work);
void gpu_host_run(CUstream_st *stream, std::function<void()> work);
void gpu_host_begin();
void gpu_host_end();
bool gpu_host_faulted();

/* Bytes from `at` to the end of its block of device memory; 0: it is in none. */
size_t gpu_host_room(const void *at);

/* Run `thread` as every thread of every block; on a stream's thread. */
void gpu_host_grid(dim3 grid, dim3 block, const std::function<void()> &thread);

/* What a thread of a block calls: wait for the block, for the warp. */
void gpu_host_sync_block();
void gpu_host_sync_warp();
/* 8 bytes of each lane, to be read by the others after a barrier; two sets,
 * taken in turns, so that one barrier a shuffle is enough. */
unsigned char (*gpu_host_lanes())[8];
unsigned gpu_host_lane();

[[noreturn]] void gpu_host_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
