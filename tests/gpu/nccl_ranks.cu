/* One rank of a world that adds up by NCCL: nccl_ranks SCENE [RANKS_PER_ID].
 * Runs under `pioche run`, on GPUs or on the stand-in of tests/gpu_host; says on
 * stdout what it saw, for tests/cli/test_nccl.py. Exit status 1: as the scene has
 * it, a call failed; 2: what should not be. */
#include <cuda_runtime.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include <dlfcn.h>
#include <unistd.h>

extern "C" {
#include "client/comm_nccl.h"
}

enum { PATIENCE_MS = 60000, SHORT_MS = 1500, N = 1000 };

static const pio_info *info;
static pio_comm *comm;
static pio_nccl *nccl;
static cudaStream_t stream;
static float *data;

static void cuda(cudaError_t error, const char *what)
{
	if (error == cudaSuccess)
		return;
	printf("%s: %s\n", what, cudaGetErrorString(error));
	exit(2);
}

static void check(int code, const char *what)
{
	if (code == 0)
		return;
	printf("%s failed with %d: %s\n", what, code, pio_error());
	fflush(stdout);
	char why[256];
	snprintf(why, sizeof why, "%s", pio_error());
	pio_nccl_close(&nccl, why);
	pio_comm_close(&comm, why);
	exit(1);
}

static void expect(bool holds, const char *what)
{
	if (holds)
		return;
	printf("not so: %s\n", what);
	exit(2);
}

static void fill(float factor)
{
	std::vector<float> host(N);
	for (int i = 0; i < N; i++)
		host[size_t(i)] = factor * float(i);
	cuda(cudaMemcpyAsync(data, host.data(), N * sizeof(float), cudaMemcpyHostToDevice, stream), "copy");
	cuda(cudaStreamSynchronize(stream), "synchronize");
}

/* Every element is factor times its index, once the stream is done. */
static bool holds(pio_nccl *by, float factor)
{
	std::vector<float> host(N);
	check(pio_nccl_wait(by, stream, PATIENCE_MS), "wait");
	cuda(cudaMemcpyAsync(host.data(), data, N * sizeof(float), cudaMemcpyDeviceToHost, stream), "copy");
	cuda(cudaStreamSynchronize(stream), "synchronize");
	for (int i = 0; i < N; i++)
		if (host[size_t(i)] != factor * float(i))
			return false;
	return true;
}

static float sum_of_ranks()
{
	return float(info->world * (info->world + 1) / 2);
}

static void add_up(pio_nccl *by)
{
	fill(float(info->rank + 1));
	check(pio_nccl_allreduce(by, data, data, N, PIO_F32, stream), "allreduce");
}

static void groups()
{
	pio_nccl *group;
	int world = info->world, rank = info->rank, color = rank % 2;
	/* By the keys the last rank is the first of its group. */
	check(pio_nccl_split(&group, nccl, color, world - rank, PATIENCE_MS), "split");
	add_up(group);
	float sum = 0;
	int last = color;
	for (int r = color; r < world; r += 2) {
		sum += float(r + 1);
		last = r;
	}
	expect(holds(group, sum), "a group adds up its own ranks");
	fill(float(rank));
	check(pio_nccl_broadcast(group, data, N, PIO_F32, 0, stream), "broadcast");
	expect(holds(group, float(last)), "a group's ranks are in the order of their keys");
	expect(pio_nccl_broadcast(group, data, N, PIO_F32, (world + 1 - color) / 2, stream) == -1,
	       "a root beyond the group");
	pio_nccl_close(&group, NULL);
	check(pio_nccl_split(&group, nccl, rank == 0 ? -1 : 0, 0, PATIENCE_MS), "split");
	expect((group == NULL) == (rank == 0), "who has no color has no group");
	pio_nccl_close(&group, NULL);
}

static void sum_scene()
{
	expect(pio_nccl_handle(nccl) != NULL, "there is a handle");
	add_up(nccl);
	expect(holds(nccl, sum_of_ranks()), "the sum of all ranks");
	for (int round = 0; round < 20; round++) {
		fill(float(info->rank));
		check(pio_nccl_broadcast(nccl, data, N, PIO_F32, round % info->world, stream), "broadcast");
		expect(holds(nccl, float(round % info->world)), "what the root has");
	}
	expect(pio_nccl_allreduce(nccl, data, data, N, PIO_BOOL, stream) == -1, "a type that is refused");
	expect(pio_nccl_broadcast(nccl, data, N, PIO_F32, info->world, stream) == -1, "a root that is none");
	expect(pio_nccl_broadcast(nccl, data, N, PIO_F32, -1, stream) == -1, "nor is that one");
	expect(pio_nccl_wait(nccl, stream, 0) == -1, "a timeout that is none");
	expect(pio_nccl_handle(nccl) != NULL, "a refused call breaks nothing");
	add_up(nccl);
	expect(holds(nccl, sum_of_ranks()), "the sum of all ranks");
}

static void play(const char *scene)
{
	if (strcmp(scene, "sum") == 0 || strcmp(scene, "groups") == 0)
		sum_scene();
	if (strcmp(scene, "groups") == 0)
		groups();
	if (strcmp(scene, "error") == 0) {
		add_up(nccl);
		check(pio_nccl_wait(nccl, stream, PATIENCE_MS), "wait");
	}
	if (strcmp(scene, "refused") == 0) {
		/* Straight to NCCL, with an operation that is none. */
		auto add = reinterpret_cast<int (*)(const void *, void *, size_t, int, int, void *, void *)>(
			dlsym(dlopen("libnccl.so.2", RTLD_NOW), "ncclAllReduce"));
		int code = PIO_NCCL(nccl, add(data, data, N, 7, 99, pio_nccl_handle(nccl), stream));
		expect(code == -1 && pio_nccl_handle(nccl) == NULL, "what NCCL refuses breaks");
		expect(pio_nccl_wait(nccl, stream, PATIENCE_MS) == code, "broken stays broken");
		check(code, "call");
	}
	if (strcmp(scene, "death") == 0) {
		add_up(nccl);
		expect(holds(nccl, sum_of_ranks()), "the sum of all ranks");
		if (info->rank == 1)
			raise(SIGKILL);
		add_up(nccl);
		check(pio_nccl_wait(nccl, stream, PATIENCE_MS), "wait");
	}
	if (strcmp(scene, "absent") == 0) {
		if (info->rank == 1)
			sleep(3600);
		add_up(nccl);
		int code = pio_nccl_wait(nccl, stream, SHORT_MS);
		expect(pio_nccl_handle(nccl) == NULL, "a broken communicator has no handle");
		expect(pio_nccl_wait(nccl, stream, SHORT_MS) == code, "broken stays broken");
		expect(pio_comm_barrier(comm) == code, "and so is its pio_comm");
		check(code, "wait");
	}
}

/* Rank 1 does not come to what its group adds up; the others leave without it. */
static void leave()
{
	pio_nccl *group;
	check(pio_nccl_split(&group, nccl, 0, 0, PATIENCE_MS), "split");
	if (info->rank == 1)
		sleep(3600);
	add_up(group);
	expect(pio_nccl_wait(group, stream, SHORT_MS) != 0, "a rank is missing");
	pio_nccl_close(&group, NULL);
	expect(pio_nccl_handle(nccl) != NULL, "the parent's ranks were not missed yet");
	time_t begin = time(NULL);
	pio_nccl_close(&nccl, NULL);
	expect(time(NULL) - begin < PATIENCE_MS / 2000, "no rank of the parent is waited for");
	printf("left\n");
	exit(1);
}

/* Groups of two, and the last rank does not come when its group is split again. */
static void split_late()
{
	pio_nccl *group, *part;
	check(pio_nccl_split(&group, nccl, info->rank % 2, 0, PATIENCE_MS), "split");
	if (info->rank == info->world - 1)
		sleep(3600);
	check(pio_nccl_split(&part, group, 0, 0, info->rank % 2 ? SHORT_MS : PATIENCE_MS), "split");
	sleep(3600);
}

int main(int argc, char **argv)
{
	pio_run *run;
	const char *scene = argc > 1 ? argv[1] : "sum";
	int devices, per_id = argc > 2 ? atoi(argv[2]) : 256;
	setvbuf(stdout, NULL, _IOLBF, 0);
	check(pio_open(&run, NULL), "open");
	info = pio_info_get(run);
	cuda(cudaGetDeviceCount(&devices), "devices");
	cuda(cudaSetDevice(info->local_rank % devices), "device");
	cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
	cuda(cudaMalloc(reinterpret_cast<void **>(&data), N * sizeof *data), "memory");
	check(pio_comm_init(&comm, run, PATIENCE_MS), "comm");
	if (strcmp(scene, "late") == 0) {
		if (info->rank == 1)
			sleep(3600);
		check(pio_nccl_init(&nccl, comm, SHORT_MS), "init");
	}
	check(pio_nccl_open(&nccl, comm, per_id, PATIENCE_MS), "init");
	if (strcmp(scene, "leave") == 0)
		leave();
	if (strcmp(scene, "split late") == 0)
		split_late();
	play(scene);
	pio_nccl_close(&nccl, NULL);
	pio_comm_close(&comm, NULL);
	cuda(cudaFree(data), "free");
	cuda(cudaStreamDestroy(stream), "stream");
	printf("rank %d of %d: well\n", info->rank, info->world);
	pio_close(&run, 0);
	return 0;
}
