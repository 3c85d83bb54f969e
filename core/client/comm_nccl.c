/* NCCL over a pio_comm.
 *
 * Rules that this file keeps (NCCL's user guide, "communicators"):
 *  1. Communicators are non-blocking: a call may answer "in progress", and until
 *     ncclCommGetAsyncError says otherwise nothing else is called on them.
 *  2. A stream with a collective on it is asked (cuStreamQuery), never waited
 *     for: NCCL's kernels spin for ever when a rank is gone.
 *  3. After an error, a deadline or word of a dead rank comes ncclCommAbort, once,
 *     and no other call after it. That all ranks abort is seen to outside NCCL,
 *     by the rendezvous. */
#include "client/pioche_nccl.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "client/comm.h"
#include "client/comm_nccl.h"
#include "client/nccl_library.h"

#define NS_PER_MS 1000000LL
#define RANKS_PER_ID 256           /* beyond, NCCL makes ranks queue for one id's root */
#define CULPRIT_MS 3000            /* how long a lost rank may stay unexplained */
#define EAGER_NS (200 * 1000)      /* a short wait is watched, a longer one napped */
#define NAP_NS (50 * 1000)

struct pio_nccl {
	pio_comm *comm;
	const pio_nccl_library *api;
	void *handle;              /* ncclComm_t; NULL when aborted */
	int size;                  /* its ranks; its parent's, until it is made */
	int timeout_ms;            /* for NCCL's own connecting */
	pio_err broken;            /* code 0 while all is well */
};

static const char *cuda_words(int result)
{
	const pio_nccl_library *api;
	const char *text = NULL;
	if (pio_nccl_library_get(&api, NULL) == 0)
		(void)api->cuGetErrorString(result, &text);
	return text;
}

/* ---- giving up -------------------------------------------------------------- */

static void abort_handle(pio_nccl *n)
{
	if (n->handle)
		(void)n->api->ncclCommAbort(n->handle);
	n->handle = NULL;
}

/* NCCL saw a connection break: the rendezvous says who is gone, and why. */
static void find_culprit(pio_nccl *n, pio_err *err)
{
	pio_err told = PIO_ERR_INIT;
	int64_t deadline_ns = pio_clock_mono_ns() + CULPRIT_MS * NS_PER_MS;
	if (n->comm->world == 1)
		return;
	while (pio_clock_mono_ns() < deadline_ns) {
		if (pio_comm_listen(n->comm, &told)) {
			*err = told;
			return;
		}
		pio_clock_sleep_ms(10);
	}
}

/* The first failure: nothing is called on the communicator any more. */
static int give_up(pio_nccl *n, int result, pio_err *err)
{
	if (n->broken.code)
		return -n->broken.code;
	abort_handle(n);
	if (result == PIO_NCCL_REMOTE_ERROR)
		err->code = PIO_EPEER; /* a system error that nobody explains is this rank's own */
	if (result == PIO_NCCL_REMOTE_ERROR || result == PIO_NCCL_SYSTEM_ERROR)
		find_culprit(n, err);
	n->broken = *err;
	(void)pio_comm_break(n->comm, err);
	return -err->code;
}

static int refuse_broken(const pio_nccl *n, pio_err *err)
{
	const pio_err *broken = n->broken.code ? &n->broken : &n->comm->broken;
	if (broken->code)
		*err = *broken;
	return -broken->code;
}

/* ---- waiting ---------------------------------------------------------------- */

static int check_timeout(int timeout_ms, pio_err *err)
{
	if (timeout_ms < 1)
		return pio_fail(err, PIO_EINVAL, "timeout of %d ms: at least 1 expected", timeout_ms);
	return 0;
}

static void nap(int64_t begin_ns)
{
	if (pio_clock_mono_ns() - begin_ns > EAGER_NS)
		nanosleep(&(struct timespec){ .tv_nsec = NAP_NS }, NULL);
}

/* -PIO_EIO, with NCCL's own last words; it has them before there is a communicator. */
static int describe(const pio_nccl *n, int result, const char *call, const char *file, int line,
                    pio_err *err)
{
	const char *detail = n->api->ncclGetLastError(n->handle);
	int rc = pio_check_fail(err, result, n->api->ncclGetErrorString, call, file, line);
	if (detail && *detail) {
		size_t used = strlen(err->message);
		snprintf(err->message + used, sizeof err->message - used, "; NCCL: %s", detail);
	}
	return rc;
}

/* A call that NCCL refuses does nothing; but most of them leave the refusal as the
 * communicator's state, and then it takes no other call. */
static bool is_unharmed(const pio_nccl *n)
{
	int state;
	return n->handle && n->api->ncclCommGetAsyncError(n->handle, &state) == 0 &&
	       state == PIO_NCCL_SUCCESS;
}

static int fail_with(pio_nccl *n, int result, const char *call, const char *file, int line,
                     pio_err *err)
{
	(void)describe(n, result, call, file, line, err);
	if (result == PIO_NCCL_INVALID_ARGUMENT) {
		err->code = PIO_EINVAL;
		if (is_unharmed(n))
			return -PIO_EINVAL;
	}
	return give_up(n, result, err);
}

/* One look at all that can end a wait early. */
static int look(pio_nccl *n, int *state, pio_err *err)
{
	int result = n->api->ncclCommGetAsyncError(n->handle, state);
	if (result)
		return fail_with(n, result, "ncclCommGetAsyncError", __FILE__, __LINE__, err);
	int rc = n->comm->world > 1 ? pio_comm_listen(n->comm, err) : 0;
	if (rc)
		return give_up(n, PIO_NCCL_SUCCESS, err);
	return 0;
}

/* Until the call that answered `result` is done with or under way. */
static int settle(pio_nccl *n, int result, int timeout_ms, const char *call, const char *file,
                  int line, pio_err *err)
{
	int64_t begin_ns = pio_clock_mono_ns();
	while (result == PIO_NCCL_IN_PROGRESS) {
		int rc = look(n, &result, err);
		if (rc)
			return rc;
		if (result != PIO_NCCL_IN_PROGRESS)
			break;
		if (pio_clock_mono_ns() - begin_ns > timeout_ms * NS_PER_MS) {
			pio_fail(err, PIO_ETIMEOUT, "%s: not all of %d ranks came within %d ms", call,
			         n->size, timeout_ms);
			return give_up(n, PIO_NCCL_SUCCESS, err);
		}
		nap(begin_ns);
	}
	return result ? fail_with(n, result, call, file, line, err) : 0;
}

#define SETTLE(n, timeout_ms, name, call, err) \
	settle((n), (n)->api->call, (timeout_ms), (name), __FILE__, __LINE__, (err))

/* 1: the stream is not done, 0: it is, and all is well; else the failure. */
static int ask(pio_nccl *n, void *stream, pio_err *err)
{
	int state, result = n->api->cuStreamQuery(stream);
	if (result != 0 && result != PIO_CUDA_NOT_READY) {
		pio_check_fail(err, result, cuda_words, "cuStreamQuery", __FILE__, __LINE__);
		return give_up(n, PIO_NCCL_SUCCESS, err);
	}
	int rc = look(n, &state, err);
	if (rc)
		return rc;
	if (state != PIO_NCCL_SUCCESS && state != PIO_NCCL_IN_PROGRESS)
		return fail_with(n, state, "ncclCommGetAsyncError", __FILE__, __LINE__, err);
	return result != 0 || state != PIO_NCCL_SUCCESS;
}

int pio_nccl_wait(pio_nccl *nccl, void *stream, int timeout_ms)
{
	pio_err *err = pio_last_err();
	if (!nccl)
		return 0;
	int64_t begin_ns = pio_clock_mono_ns();
	int rc = check_timeout(timeout_ms, err);
	if (!rc)
		rc = refuse_broken(nccl, err);
	if (rc)
		return rc;
	while ((rc = ask(nccl, stream, err)) == 1) {
		if (pio_clock_mono_ns() - begin_ns > timeout_ms * NS_PER_MS) {
			pio_fail(err, PIO_ETIMEOUT, "rank %d: a collective was not done within %d ms: another "
			         "rank has not come to it", nccl->comm->rank, timeout_ms);
			return give_up(nccl, PIO_NCCL_SUCCESS, err);
		}
		nap(begin_ns);
	}
	return rc;
}

/* ---- joining ---------------------------------------------------------------- */

/* The ranks of a communicator are shared out among its ids in order, the first
 * world % ids of them one rank more each; the first rank of a share makes the
 * id (NCCL's user guide, "using multiple ncclUniqueIds"). */
int pio_nccl_id_maker(int world, int ids, int index)
{
	int each = world / ids, more = world % ids;
	return index * each + (index < more ? index : more);
}

/* Everyone's ids, each from its maker. */
static int share_ids(pio_nccl *n, pio_nccl_id *ids, int count, int64_t deadline_ns, pio_err *err)
{
	for (int i = 0; i < count; i++) {
		int maker = pio_nccl_id_maker(n->comm->world, count, i);
		int result = n->comm->rank == maker ? n->api->ncclGetUniqueId(&ids[i]) : PIO_NCCL_SUCCESS;
		if (result)
			return describe(n, result, "ncclGetUniqueId", __FILE__, __LINE__, err);
	}
	for (int i = 0; i < count; i++) {
		int maker = pio_nccl_id_maker(n->comm->world, count, i);
		int rc = pio_comm_share(n->comm, &ids[i], sizeof ids[i], maker, deadline_ns, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int join(pio_nccl *n, int ranks_per_id, pio_err *err)
{
	pio_comm *comm = n->comm;
	pio_nccl_config config = PIO_NCCL_CONFIG_INIT;
	int world = comm->world, count = (world + ranks_per_id - 1) / ranks_per_id;
	if (!n->api->ncclCommInitRankScalable)
		count = 1;
	pio_nccl_id *ids = pio_calloc((size_t)count, sizeof *ids);
	if (!ids)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %d ids", count);
	int64_t deadline_ns = pio_clock_mono_ns() + n->timeout_ms * NS_PER_MS;
	int rc = share_ids(n, ids, count, deadline_ns, err);
	if (rc)
		(void)pio_comm_break(comm, err);
	int left_ms = (int)((deadline_ns - pio_clock_mono_ns()) / NS_PER_MS);
	if (!rc && count == 1)
		rc = SETTLE(n, left_ms, "ncclCommInitRankConfig",
		            ncclCommInitRankConfig(&n->handle, world, ids[0], comm->rank, &config), err);
	else if (!rc)
		rc = SETTLE(n, left_ms, "ncclCommInitRankScalable",
		            ncclCommInitRankScalable(&n->handle, world, comm->rank, count, ids, &config),
		            err);
	pio_free(ids);
	return rc;
}

int pio_nccl_open(pio_nccl **nccl, pio_comm *comm, int ranks_per_id, int timeout_ms)
{
	pio_err *err = pio_last_err();
	if (!nccl || !comm)
		return pio_fail(err, PIO_EINVAL, "pio_nccl_init: %s is NULL",
		                nccl ? "the pio_comm" : "where to put the communicator");
	*nccl = NULL;
	int rc = check_timeout(timeout_ms, err);
	if (rc)
		return rc;
	pio_nccl *made = pio_calloc(1, sizeof *made);
	if (!made)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a communicator");
	made->comm = comm;
	made->size = comm->world;
	made->timeout_ms = timeout_ms;
	rc = comm->broken.code ? refuse_broken(made, err) : pio_nccl_library_get(&made->api, err);
	if (!rc)
		rc = join(made, ranks_per_id, err);
	if (rc)
		pio_nccl_close(&made, err->message);
	*nccl = made;
	return rc;
}

int pio_nccl_init(pio_nccl **nccl, pio_comm *comm, int timeout_ms)
{
	return pio_nccl_open(nccl, comm, RANKS_PER_ID, timeout_ms);
}

int pio_nccl_split(pio_nccl **group, pio_nccl *parent, int color, int key, int timeout_ms)
{
	pio_err *err = pio_last_err();
	pio_nccl_config config = PIO_NCCL_CONFIG_INIT;
	if (!group || !parent)
		return pio_fail(err, PIO_EINVAL, "pio_nccl_split: %s is NULL",
		                group ? "the communicator to split" : "where to put the group");
	*group = NULL;
	int rc = check_timeout(timeout_ms, err);
	if (!rc)
		rc = refuse_broken(parent, err);
	if (rc)
		return rc;
	if (!parent->api->ncclCommSplit)
		return pio_fail(err, PIO_EVERSION, "NCCL %d.%d.%d has no groups: 2.18.1 or newer expected",
		                parent->api->version / 10000, parent->api->version / 100 % 100,
		                parent->api->version % 100);
	pio_nccl *made = pio_calloc(1, sizeof *made);
	if (!made)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a group");
	*made = (pio_nccl){ .comm = parent->comm, .api = parent->api, .size = parent->size,
	                    .timeout_ms = timeout_ms };
	/* The parent is in progress until the group is made. */
	rc = SETTLE(parent, timeout_ms, "ncclCommSplit",
	            ncclCommSplit(parent->handle, color < 0 ? PIO_NCCL_NO_COLOR : color, key,
	                          &made->handle, &config), err);
	if (!rc && made->handle)
		rc = settle(made, PIO_NCCL_IN_PROGRESS, timeout_ms, "ncclCommSplit", __FILE__, __LINE__, err);
	if (!rc && made->handle)
		rc = SETTLE(made, timeout_ms, "ncclCommCount", ncclCommCount(made->handle, &made->size), err);
	if (rc || !made->handle)
		pio_nccl_close(&made, "the split failed");
	*group = made;
	return rc;
}

void pio_nccl_close(pio_nccl **nccl, const char *abort_reason)
{
	pio_nccl *n = nccl ? *nccl : NULL;
	pio_err err = PIO_ERR_INIT;
	if (!n)
		return;
	*nccl = NULL;
	if (n->handle && !abort_reason && !refuse_broken(n, &err) &&
	    SETTLE(n, n->timeout_ms, "ncclCommFinalize", ncclCommFinalize(n->handle), &err) == 0) {
		(void)n->api->ncclCommDestroy(n->handle);
		n->handle = NULL;
	}
	abort_handle(n);
	pio_free(n);
}

/* ---- collectives ------------------------------------------------------------ */

/* -1: NCCL does not add these up. */
static int type_of(pio_dtype dtype)
{
	switch (dtype) {
	case PIO_I8: return PIO_NCCL_INT8;
	case PIO_U8: return PIO_NCCL_UINT8;
	case PIO_I32: return PIO_NCCL_INT32;
	case PIO_U32: return PIO_NCCL_UINT32;
	case PIO_I64: return PIO_NCCL_INT64;
	case PIO_U64: return PIO_NCCL_UINT64;
	case PIO_F16: return PIO_NCCL_FLOAT16;
	case PIO_F32: return PIO_NCCL_FLOAT32;
	case PIO_F64: return PIO_NCCL_FLOAT64;
	case PIO_BF16: return PIO_NCCL_BFLOAT16;
	default: return -1;
	}
}

static int prepare(const pio_nccl *n, int *type, const char *what, pio_dtype dtype, pio_err *err)
{
	int rc = refuse_broken(n, err);
	*type = type_of(dtype);
	if (!rc && *type < 0)
		rc = pio_fail(err, PIO_EINVAL, "%s: NCCL has no elements of pio_dtype %d", what, (int)dtype);
	return rc;
}

int pio_nccl_allreduce(pio_nccl *nccl, const void *from, void *to, size_t n, pio_dtype dtype,
                       void *stream)
{
	pio_err *err = pio_last_err();
	int type;
	if (!nccl)
		return 0;
	int rc = prepare(nccl, &type, "allreduce", dtype, err);
	return rc ? rc : SETTLE(nccl, nccl->timeout_ms, "ncclAllReduce",
	                        ncclAllReduce(from, to, n, type, PIO_NCCL_SUM, nccl->handle, stream), err);
}

int pio_nccl_broadcast(pio_nccl *nccl, void *data, size_t n, pio_dtype dtype, int root, void *stream)
{
	pio_err *err = pio_last_err();
	int type;
	if (!nccl)
		return 0;
	int rc = prepare(nccl, &type, "broadcast", dtype, err);
	if (!rc && (root < 0 || root >= nccl->size))
		rc = pio_fail(err, PIO_EINVAL, "broadcast: root %d: expected 0 to %d", root, nccl->size - 1);
	return rc ? rc : SETTLE(nccl, nccl->timeout_ms, "ncclBroadcast",
	                        ncclBroadcast(data, data, n, type, root, nccl->handle, stream), err);
}

void *pio_nccl_handle(const pio_nccl *nccl)
{
	return nccl ? nccl->handle : NULL;
}

int pio_nccl_check(pio_nccl *nccl, int result, const char *call, const char *file, int line)
{
	pio_err *err = pio_last_err();
	if (!nccl)
		return 0;
	int rc = refuse_broken(nccl, err);
	return rc ? rc : settle(nccl, result, nccl->timeout_ms, call, file, line, err);
}
