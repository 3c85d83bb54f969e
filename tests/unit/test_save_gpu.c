/* Checkpoints of a GPU's memory, on the stand-in of tests/gpu_host, which the Makefile
 * puts on this test's path: it works as late as it may, and what nobody waited for is
 * not there yet. */
#include <dlfcn.h>

#include "client/fetch.h"
#include "save_fixture.h"

enum { PIECE = PIO_FETCH_PIECE_BYTES, TENSORS = 7, TO_DEVICE = 1, TO_HOST = 2, OWN_STREAM = 1 };

static const size_t sizes[TENSORS] = { 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, 3 * PIECE + 7 };

/* Of the CUDA runtime, whose stand-in is in the same library as the driver's. */
static int (*cuda_set_device)(int device);
static int (*cuda_malloc)(void **memory, size_t bytes);
static int (*cuda_free)(void *memory);
static int (*cuda_copy)(void *to, const void *from, size_t bytes, int kind, void *stream);
static int (*cuda_fill)(void *memory, int value, size_t bytes, void *stream);
static int (*cuda_stream)(void **stream, unsigned flags);
static int (*cuda_stream_wait)(void *stream);
static int (*cuda_stream_destroy)(void *stream);
static int (*cuda_pinned)(void **memory, size_t bytes, unsigned flags);
static int (*cuda_pinned_free)(void *memory);
static void (*lose_gpu)(void);

static void find_runtime(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	const struct {
		const char *name;
		void **slot;
	} calls[] = {
		{ "cudaSetDevice", (void **)&cuda_set_device },
		{ "cudaMalloc", (void **)&cuda_malloc },
		{ "cudaFree", (void **)&cuda_free },
		{ "cudaMemcpyAsync", (void **)&cuda_copy },
		{ "cudaMemsetAsync", (void **)&cuda_fill },
		{ "cudaStreamCreateWithFlags", (void **)&cuda_stream },
		{ "cudaStreamSynchronize", (void **)&cuda_stream_wait },
		{ "cudaStreamDestroy", (void **)&cuda_stream_destroy },
		{ "cuMemHostAlloc", (void **)&cuda_pinned },
		{ "cuMemFreeHost", (void **)&cuda_pinned_free },
		{ "gpu_host_fault", (void **)&lose_gpu },
	};
	assert_non_null(library);
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
		assert_non_null(*calls[i].slot = dlsym(library, calls[i].name));
}

/* ---- a program with tensors on its GPUs, the last of which is current --------------------- */

/* Tensors 2 and 5 are on the host, one of no elements is nowhere. */
typedef struct program {
	bench b;
	int devices;
	void *device[TENSORS], *stream[2];
	uint8_t *host[TENSORS]; /* what is, or is to be, there */
} program;

static int device_of(const program *p, int tensor)
{
	return p->devices == 1 ? 0 : tensor % 2;
}

static void program_open(program *p, int devices)
{
	bench_open(&p->b);
	p->devices = devices;
	for (int d = devices - 1; d >= 0; d--) {
		assert_int_equal(cuda_set_device(d), 0);
		assert_int_equal(cuda_stream(&p->stream[d], OWN_STREAM), 0);
	}
	for (int i = 0; i < TENSORS; i++) {
		assert_int_equal(cuda_set_device(device_of(p, i)), 0);
		assert_non_null(p->host[i] = malloc(sizes[i]));
		assert_int_equal(cuda_malloc(&p->device[i], sizes[i]), 0);
	}
	assert_int_equal(cuda_set_device(p->devices - 1), 0);
}

static void program_close(program *p)
{
	for (int i = 0; i < TENSORS; i++) {
		assert_int_equal(cuda_free(p->device[i]), 0);
		free(p->host[i]);
	}
	for (int d = 0; d < p->devices; d++)
		assert_int_equal(cuda_stream_destroy(p->stream[d]), 0);
	bench_close(&p->b);
}

/* A step of training: new values, on their way to the GPU. */
static void step(program *p, unsigned seed)
{
	for (int i = 0; i < TENSORS; i++)
		for (size_t k = 0; k < sizes[i]; k++)
			p->host[i][k] = (uint8_t)(k * 7 + k / 251 + k / PIECE * 13 + (unsigned)i * 31 + seed);
	for (int i = 0; i < TENSORS; i++) {
		int d = device_of(p, i);
		assert_int_equal(cuda_set_device(d), 0);
		assert_int_equal(cuda_copy(p->device[i], p->host[i], sizes[i], TO_DEVICE, p->stream[d]), 0);
	}
	assert_int_equal(cuda_set_device(p->devices - 1), 0);
}

/* What comes after a save, once it is done: nothing of it may be in there. */
static void overwrite(program *p)
{
	for (int i = 0; i < TENSORS; i++) {
		int d = device_of(p, i);
		assert_int_equal(cuda_set_device(d), 0);
		assert_int_equal(cuda_fill(p->device[i], '!', sizes[i], p->stream[d]), 0);
		assert_int_equal(cuda_stream_wait(p->stream[d]), 0);
	}
	assert_int_equal(cuda_set_device(p->devices - 1), 0);
}

static bool is_on_host(int tensor)
{
	return tensor == 2 || tensor == 5;
}

static int save(program *p, int64_t at, int flags)
{
	pio_checkpoint *c;
	const int64_t none = 0;
	ok(pio_checkpoint_begin(&c, p->b.run, at, 1));
	for (int i = 0; i < TENSORS; i++) {
		const int64_t size = (int64_t)sizes[i];
		const char name[] = { (char)('a' + i), 0 };
		ok(pio_checkpoint_add(c, "model", name, PIO_U8, 1, &size, NULL,
		                      is_on_host(i) ? (void *)p->host[i] : p->device[i]));
	}
	ok(pio_checkpoint_add(c, "model", "none", PIO_U8, 1, &none, NULL, NULL));
	return pio_checkpoint_commit(&c, flags);
}

/* All tensors one behind the other, by name. */
static void check_file(const program *p, const char *path)
{
	pio_str text = PIO_STR_INIT;
	size_t sum = 0;
	check_ok(pio_fs_read(&text, path, &err));
	for (int i = 0; i < TENSORS; i++)
		sum += sizes[i];
	assert_true(text.len > sum);
	const char *at = text.data + text.len - sum;
	for (int i = 0; i < TENSORS; at += sizes[i++])
		if (memcmp(at, p->host[i], sizes[i]) != 0)
			fail_msg("tensor %d is not what was saved", i);
	pio_str_fini(&text);
}

/* Saves at steps 1 and 2; the program goes on at once. */
static void save_twice(program *p, int flags)
{
	static told t[2];
	for (int i = 0; i < 2; i++) {
		step(p, (unsigned)i);
		ok(save(p, i + 1, flags));
		/* Where another GPU were current now, this would be refused. */
		assert_int_equal(cuda_copy(p->host[1], p->device[1], 1, TO_HOST, p->stream[p->devices - 1]), 0);
		overwrite(p);
	}
	ok(pio_close(&p->b.run, 0));
	assert_int_equal(listen(t, 2, p->b.dir), 2);
	check_file(p, t[1].path[0]);
	step(p, 0);
	check_file(p, t[0].path[0]);
}

/* ---- tests ----------------------------------------------------------------------------- */

/* The library is there, and nothing was done with it. */
static void a_program_that_has_not_begun_with_cuda_saves(void **unused)
{
	static uint8_t data[1000];
	const int64_t size = sizeof data;
	(void)unused;
	bench b;
	pio_checkpoint *c;
	find_runtime();
	bench_open(&b);
	for (int flags = 0; flags <= PIO_ASYNC; flags += PIO_ASYNC) {
		ok(pio_checkpoint_begin(&c, b.run, flags, 1));
		ok(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, &size, NULL, data));
		ok(pio_checkpoint_commit(&c, flags));
	}
	bench_close(&b);
}

static void memory_of_a_gpu_comes_whole_whatever_its_size(void **unused)
{
	(void)unused;
	for (int flags = 0; flags <= PIO_ASYNC; flags += PIO_ASYNC) {
		program p;
		program_open(&p, 1);
		save_twice(&p, flags);
		program_close(&p);
	}
}

static void where_a_snapshot_cannot_be_pinned_it_goes_by_pieces(void **unused)
{
	char limit[32];
	(void)unused;
	program p;
	snprintf(limit, sizeof limit, "%d", PIO_FETCH_PIECES * PIECE);
	setenv("GPU_HOST_PINNED", limit, 1);
	program_open(&p, 1);
	save_twice(&p, PIO_ASYNC);
	program_close(&p);
	unsetenv("GPU_HOST_PINNED");
}

/* Each from its own GPU, also where its memory names no context. */
static void tensors_of_several_gpus_are_in_one_checkpoint(void **unused)
{
	(void)unused;
	setenv("GPU_HOST_GPUS", "2", 1);
	for (int pool = 0; pool < 2; pool++) {
		for (int flags = 0; flags <= PIO_ASYNC; flags += PIO_ASYNC) {
			program p;
			if (pool)
				setenv("GPU_HOST_POOL", "1", 1);
			program_open(&p, 2);
			save_twice(&p, flags);
			program_close(&p);
			unsetenv("GPU_HOST_POOL");
		}
	}
	unsetenv("GPU_HOST_GPUS");
}

static void pinned_memory_of_the_host_is_the_hosts(void **unused)
{
	static told t[2];
	const int64_t size = 100;
	(void)unused;
	bench b;
	pio_checkpoint *c;
	void *pinned, *context;
	assert_int_equal(cuda_pinned(&pinned, 100, 0), 0);
	memset(pinned, 'p', 100);
	check_ok(pio_fetch_context(&context, pinned, &err));
	assert_null(context);
	bench_open(&b);
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, &size, NULL, pinned));
	ok(pio_checkpoint_commit(&c, 0));
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, 2, b.dir), 1);
	assert_int_equal(t[0].files, 1);
	bench_close(&b);
	assert_int_equal(cuda_pinned_free(pinned), 0);
}

static int files_in_staging(const program *p, const char *name)
{
	char **names = NULL;
	size_t count = 0;
	check_ok(pio_fs_list(&names, &count, path_in(pio_info_get(p->b.run)->staging, name), &err));
	pio_fs_list_free(names, count);
	return (int)count;
}

/* A tensor that is larger than its memory. */
static int save_too_much(program *p, int flags)
{
	pio_checkpoint *c;
	const int64_t size = 3 * PIECE, more = (int64_t)sizes[6] + 1;
	ok(pio_checkpoint_begin(&c, p->b.run, 5, 1));
	ok(pio_checkpoint_add(c, "model", "a", PIO_U8, 1, &size, NULL, p->device[6]));
	ok(pio_checkpoint_add(c, "model", "b", PIO_U8, 1, &more, NULL, p->device[6]));
	return pio_checkpoint_commit(&c, flags);
}

typedef struct taker {
	const uint8_t *expected;
	int pieces;
} taker;

static int take_two(void *taker_in, const void *bytes, uint64_t size_bytes, pio_err *err)
{
	taker *t = taker_in;
	assert_memory_equal(bytes, t->expected + t->pieces++ * PIECE, size_bytes);
	return t->pieces == 2 ? pio_fail(err, PIO_ENOSPC, "no room") : 0;
}

/* As where a disk is full. The piece that the GPU fills at that time is waited for: here
 * it would else be written to after it was freed. */
static void who_takes_the_pieces_may_fail(void **unused)
{
	(void)unused;
	program p;
	program_open(&p, 1);
	step(&p, 3);
	pio_fetch fetch = PIO_FETCH_INIT;
	taker t = { .expected = p.host[6] };
	void *context;
	check_ok(pio_fetch_context(&context, p.device[6], &err));
	check_fails(pio_fetch_pieces(&fetch, context, p.device[6], sizes[6], take_two, &t, &err), PIO_ENOSPC,
	            "no room");
	assert_int_equal(t.pieces, 2);
	pio_fetch_close(&fetch);
	program_close(&p);
}

/* Nothing is left of such a save, and the next one works. */
static void what_cuda_refuses_is_told_by_its_name(void **unused)
{
	enum { FAILURES = 4 };
	static told t[FAILURES + 1];
	(void)unused;
	program p;
	program_open(&p, 1);
	step(&p, 1);
	setenv("GPU_HOST_PINNED", "1500000", 1); /* one piece */
	for (int flags = 0; flags <= PIO_ASYNC; flags += PIO_ASYNC)
		refused(save(&p, 5, flags), PIO_EIO, "cuMemHostAlloc: out of memory (2); ");
	unsetenv("GPU_HOST_PINNED");
	for (int flags = 0; flags <= PIO_ASYNC; flags += PIO_ASYNC)
		refused(save_too_much(&p, flags), PIO_EIO, "cuMemcpyDtoHAsync_v2: invalid argument (1); ");
	assert_int_equal(files_in_staging(&p, "step-5"), 0);
	ok(save(&p, 6, 0));
	ok(pio_close(&p.b.run, 0));
	assert_int_equal(listen(t, FAILURES + 1, p.b.dir), FAILURES + 1);
	for (int i = 0; i < FAILURES; i++)
		assert_true(t[i].files == 0 && t[i].failure[0]);
	check_file(&p, t[FAILURES].path[0]);
	program_close(&p);
}

static void a_gpu_that_is_lost_is_told_of(void **unused)
{
	const int64_t size = 1;
	(void)unused;
	program p;
	pio_checkpoint *c;
	program_open(&p, 1);
	ok(pio_checkpoint_begin(&c, p.b.run, 1, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, &size, NULL, p.device[0]));
	lose_gpu();
	refused(pio_checkpoint_commit(&c, 0), PIO_EIO,
	        "cuCtxSynchronize: an illegal memory access was encountered (700); ");
	ok(pio_checkpoint_begin(&c, p.b.run, 2, 1));
	refused(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, &size, NULL, p.device[0]), PIO_EIO,
	        "cuPointerGetAttributes: an illegal memory access was encountered (700); ");
	refused(pio_checkpoint_commit(&c, 0), PIO_EIO, "an illegal memory access was encountered (700); ");
	for (int i = 0; i < TENSORS; i++)
		free(p.host[i]);
	bench_close(&p.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_that_has_not_begun_with_cuda_saves), /* the first */
		cmocka_unit_test(memory_of_a_gpu_comes_whole_whatever_its_size),
		cmocka_unit_test(where_a_snapshot_cannot_be_pinned_it_goes_by_pieces),
		cmocka_unit_test(tensors_of_several_gpus_are_in_one_checkpoint),
		cmocka_unit_test(pinned_memory_of_the_host_is_the_hosts),
		cmocka_unit_test(who_takes_the_pieces_may_fail),
		cmocka_unit_test(what_cuda_refuses_is_told_by_its_name),
		cmocka_unit_test(a_gpu_that_is_lost_is_told_of), /* the last */
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
