/* The sum over ranks by NCCL, on a stream of its own: a range that has become
 * final is sent as soon as there is a bucket of it, while the layers below are
 * still computed. */
#include "cuda/gpu.h"

#include <cstdlib>

extern "C" {
#include "client/pioche_nccl.h"
#include "reduce.h"
}

/* 16 MiB: less would not fill the links. The tests have models of less. */
#ifndef GPT_BUCKET_FLOATS
#define GPT_BUCKET_FLOATS (4u << 20)
#endif

struct gpt_reduce {
	pio_nccl *nccl;
	cudaStream_t stream;
	cudaEvent_t computed;
	float *data;
	size_t begin, end;              /* of the bucket that is gathered */
	int status;                     /* the first failure of pio_nccl since the last finish */
};

int gpt_reduce_open(gpt_reduce **reduce, pio_comm *comm, float *data, size_t count, int timeout_ms,
                    gpt_err *err)
{
	gpt_reduce *r = static_cast<gpt_reduce *>(calloc(1, sizeof *r));

	*reduce = r;
	if (!r)
		return gpt_err_set(err, GPT_SYSTEM, "no memory for a sum over ranks");
	r->data = data;
	r->begin = r->end = count;
	KEEP(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
	KEEP(cudaEventCreateWithFlags(&r->computed, cudaEventDisableTiming));
	if (pio_nccl_init(&r->nccl, comm, timeout_ms))
		return gpt_err_set(err, GPT_SYSTEM, "%s", pio_error());
	return gpt_gpu_status(err);
}

static void send_bucket(gpt_reduce *r)
{
	float *at = r->data + r->begin;
	size_t count = r->end - r->begin;

	KEEP(cudaEventRecord(r->computed, gpt_gpu.stream));
	KEEP(cudaStreamWaitEvent(r->stream, r->computed, 0));
	if (!r->status)
		r->status = pio_nccl_allreduce(r->nccl, at, at, count, PIO_F32, r->stream);
	r->end = r->begin;
}

void gpt_reduce_ready(gpt_reduce *r, size_t at, size_t count)
{
	if (r->begin == r->end)
		r->end = at + count;
	r->begin = at;
	if (r->end - r->begin >= GPT_BUCKET_FLOATS || at == 0)
		send_bucket(r);
}

int gpt_reduce_finish(gpt_reduce *r, int patience_ms, gpt_err *err)
{
	if (!r->status)
		r->status = pio_nccl_wait(r->nccl, r->stream, patience_ms);
	if (r->status)
		return gpt_err_set(err, GPT_SYSTEM, "%s", pio_error());
	return gpt_gpu_status(err);
}

void gpt_reduce_close(gpt_reduce **reduce, const char *abort_reason)
{
	gpt_reduce *r = *reduce;

	*reduce = nullptr;
	if (!r)
		return;
	pio_nccl_close(&r->nccl, abort_reason);
	if (r->computed)
		(void)cudaEventDestroy(r->computed);
	if (r->stream)
		(void)cudaStreamDestroy(r->stream);
	free(r);
}
