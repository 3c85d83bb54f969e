/* A stand-in for libnccl.so.2, for the streams of gpu_host.h; a test tool.
 *
 * The process that makes a unique id serves it by a thread: all ranks connect to
 * that, and what they add up it adds up, in the order of the ranks. Kept of the
 * real one is what a caller can get wrong: calls that answer "in progress" and
 * must be polled; a refused argument, after which a communicator takes no other
 * call (ncclEnqueueCheck of a non-blocking one); a collective that never ends once
 * a rank is gone, until the communicator is aborted; ids that must come from evenly
 * spaced ranks. Misuse ends the program with a message.
 *
 *   GPU_HOST_NCCL_FAIL=N:RESULT   this process's Nth collective fails so
 *   GPU_HOST_NCCL_SILENT=1        a rank that is gone is no error, only missing
 *   GPU_HOST_NCCL_NO_NETWORK=1    there is no interface to make an id with
 *
 * With GPU_HOST_NCCL_OLD it is version 2.14.3. */
#include "gpu_host.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

enum { SUCCESS, CUDA_ERROR, SYSTEM_ERROR, INTERNAL_ERROR, INVALID_ARGUMENT, INVALID_USAGE,
       REMOTE_ERROR, IN_PROGRESS };
enum { INT32 = 2, INT64 = 4, FLOAT32 = 7, FLOAT64 = 8 };
enum { SUM = 0 };

struct ncclUniqueId {
	char bytes[128];
};

struct config {
	size_t size;
	unsigned magic, version;
	int blocking;
};

namespace {

using clock_type = std::chrono::steady_clock;
constexpr auto CONNECTING = std::chrono::milliseconds(2); /* of the first collective */

struct address {
	char magic[8];
	uint64_t nonce;
	uint16_t port;
	int maker;                      /* its rank; -1: of a group, not told */
};

enum class op : int { HELLO, REDUCE, BROADCAST, GATHER };

struct header {
	op what;
	int world, rank, ids, index, type, root;
	uint64_t nonce, bytes;
};

bool send_all(int fd, const void *data, size_t bytes)
{
	const char *at = static_cast<const char *>(data);
	while (bytes) {
		ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		at += n;
		bytes -= size_t(n);
	}
	return true;
}

bool recv_all(int fd, void *data, size_t bytes)
{
	char *at = static_cast<char *>(data);
	while (bytes) {
		ssize_t n = recv(fd, at, bytes, 0);
		if (n <= 0)
			return false;
		at += n;
		bytes -= size_t(n);
	}
	return true;
}

/* ---- the root --------------------------------------------------------------- */

int share_begin(int world, int ids, int index)
{
	int each = world / ids, more = world % ids;
	return index < more ? index * (each + 1) : more * (each + 1) + (index - more) * each;
}

template <typename T> void add(std::vector<char> &sum, const std::vector<char> &more)
{
	for (size_t at = 0; at + sizeof(T) <= sum.size(); at += sizeof(T)) {
		T a, b;
		memcpy(&a, &sum[at], sizeof a);
		memcpy(&b, &more[at], sizeof b);
		a = T(a + b);
		memcpy(&sum[at], &a, sizeof a);
	}
}

void add(std::vector<char> &sum, const std::vector<char> &more, int type)
{
	switch (type) {
	case INT32: return add<int32_t>(sum, more);
	case INT64: return add<int64_t>(sum, more);
	case FLOAT32: return add<float>(sum, more);
	default: return add<double>(sum, more);
	}
}

/* One collective of all ranks; false when a rank is gone, or wants another. */
bool serve_one(const std::vector<int> &fds)
{
	std::vector<char> result, data;
	header first{};
	for (size_t rank = 0; rank < fds.size(); rank++) {
		header h;
		if (!recv_all(fds[rank], &h, sizeof h))
			return false;
		if (rank == 0)
			first = h;
		else if (h.what != first.what || h.bytes != first.bytes || h.type != first.type ||
		         h.root != first.root)
			return false;
		data.resize(h.bytes);
		if (!recv_all(fds[rank], data.data(), h.bytes))
			return false;
		if (h.what == op::GATHER)
			result.insert(result.end(), data.begin(), data.end());
		else if (h.what == op::BROADCAST ? int(rank) == h.root : rank == 0)
			result = data;
		else if (h.what == op::REDUCE)
			add(result, data, h.type);
	}
	for (int fd : fds)
		if (!send_all(fd, result.data(), result.size()))
			return false;
	return true;
}

/* `expected` connections, by rank from `begin` on; empty if one is not right. */
std::vector<int> gather_ranks(int listener, const address &self)
{
	std::vector<int> fds;
	int begin = 0, expected = 1;
	for (int here = 0; here < expected; here++) {
		header h;
		int fd = accept(listener, nullptr, nullptr);
		if (fd < 0 || !recv_all(fd, &h, sizeof h) || h.nonce != self.nonce)
			return {};
		begin = h.index ? share_begin(h.world, h.ids, h.index) : 0;
		expected = h.index ? share_begin(h.world, h.ids, h.index + 1) - begin : h.world;
		if (self.maker >= 0 && self.maker != share_begin(h.world, h.ids, h.index))
			gpu_host_die("unique id %d of %d was made by rank %d: rank %d expected", h.index, h.ids,
			             self.maker, share_begin(h.world, h.ids, h.index));
		fds.resize(size_t(expected), -1);
		if (h.rank < begin || h.rank >= begin + expected || fds[size_t(h.rank - begin)] >= 0)
			gpu_host_die("rank %d at the root of ranks %d to %d", h.rank, begin, begin + expected - 1);
		fds[size_t(h.rank - begin)] = fd;
	}
	return fds;
}

void serve(int listener, address self)
{
	std::vector<int> fds = gather_ranks(listener, self);
	char go = 1;
	close(listener);
	for (int fd : fds)
		send_all(fd, &go, 1);
	while (!fds.empty() && serve_one(fds)) {
	}
	for (int fd : fds)
		close(fd);
}

int make_id(ncclUniqueId *id, int maker)
{
	sockaddr_in at{};
	socklen_t bytes = sizeof at;
	at.sin_family = AF_INET;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, reinterpret_cast<sockaddr *>(&at), sizeof at) || listen(fd, 1024) ||
	    getsockname(fd, reinterpret_cast<sockaddr *>(&at), &bytes))
		return SYSTEM_ERROR;
	address self{"GPUHOST", uint64_t(clock_type::now().time_since_epoch().count()) ^ uint64_t(getpid()),
	             ntohs(at.sin_port), maker};
	memset(id, 0, sizeof *id);
	memcpy(id, &self, sizeof self);
	std::thread(serve, fd, self).detach();
	return SUCCESS;
}

} // namespace

/* Of the process, whatever the communicator. */
static std::atomic<const char *> last_words{""};

EXPORT int ncclGetUniqueId(ncclUniqueId *id)
{
	const char *rank = getenv("RANK");
	if (getenv("GPU_HOST_NCCL_NO_NETWORK")) {
		last_words = "no socket interface found";
		return SYSTEM_ERROR;
	}
	return make_id(id, rank ? atoi(rank) : 0);
}

/* ---- communicators ---------------------------------------------------------- */

struct ncclComm {
	int world = 1, rank = 0;
	std::atomic<int> fd{-1}, state{IN_PROGRESS}, error{SUCCESS}, pending{0};
	std::atomic<bool> aborted{false}, finalized{false};
	bool used = false;
	clock_type::time_point connected{};
	std::mutex lock;                /* of the connection */
	std::thread starter;

	~ncclComm()
	{
		if (starter.joinable())
			starter.join();
		if (fd >= 0)
			close(fd);
	}

	/* What does not end with its call. */
	void later(std::function<void()> work)
	{
		state = IN_PROGRESS;
		if (starter.joinable())
			starter.join();
		starter = std::thread(std::move(work));
	}

	int now() const
	{
		if (error)
			return error;
		return state == SUCCESS && used && clock_type::now() < connected ? int(IN_PROGRESS) : int(state);
	}

	int fail(int result, const char *why)
	{
		last_words = why;
		return error = result;
	}

	bool call(header h, const void *mine, std::vector<char> &result, size_t result_bytes)
	{
		std::lock_guard<std::mutex> guard(lock);
		result.resize(result_bytes);
		return send_all(fd, &h, sizeof h) && send_all(fd, mine, h.bytes) &&
		       recv_all(fd, result.data(), result_bytes);
	}
};

namespace {

/* Connect to the root of one id and wait there for its other ranks. */
int meet(ncclComm *c, const ncclUniqueId &id, int ids, int index)
{
	address root;
	sockaddr_in at{};
	header h{};
	char go;
	memcpy(&root, &id, sizeof root);
	if (memcmp(root.magic, "GPUHOST", 8) != 0)
		gpu_host_die("a unique id that nobody made");
	at.sin_family = AF_INET;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.sin_port = htons(root.port);
	h.world = c->world;
	h.rank = c->rank;
	h.ids = ids;
	h.index = index;
	h.nonce = root.nonce;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	c->fd = fd;
	if (connect(fd, reinterpret_cast<sockaddr *>(&at), sizeof at) || !send_all(fd, &h, sizeof h) ||
	    !recv_all(fd, &go, 1))
		return -1;
	return fd;
}

void start(ncclComm *c, const std::vector<ncclUniqueId> &ids)
{
	int count = int(ids.size()), share = 0;
	while (share + 1 < count && share_begin(c->world, count, share + 1) <= c->rank)
		share++;
	if (share > 0) {
		int fd = meet(c, ids[size_t(share)], count, share);
		if (fd < 0)
			return void(c->fail(REMOTE_ERROR, "the root of this share is gone"));
		close(fd);
	}
	if (meet(c, ids[0], count, 0) < 0)
		return void(c->fail(REMOTE_ERROR, "the root is gone"));
	c->state = SUCCESS;
}

void check_config(const config *c)
{
	if (!c || c->magic != 0xcafebeefu || c->blocking != 0 || c->size < sizeof *c)
		gpu_host_die("not the configuration of a non-blocking communicator");
}

/* A communicator in progress or in error takes no call. */
void check_ready(const ncclComm *c, const char *call)
{
	if (c->now() != SUCCESS)
		gpu_host_die("%s on a communicator whose state is %d", call, c->now());
}

int begin(ncclComm **comm, int world, int rank, int count, const ncclUniqueId *ids, const config *c)
{
	check_config(c);
	if (world < 1 || rank < 0 || rank >= world || count < 1 || count > world)
		return INVALID_ARGUMENT;
	ncclComm *made = new ncclComm;
	made->world = world;
	made->rank = rank;
	*comm = made;
	std::vector<ncclUniqueId> all(ids, ids + count);
	made->starter = std::thread([made, all]() { start(made, all); });
	return IN_PROGRESS;
}

size_t type_bytes(int type)
{
	return type == INT32 || type == FLOAT32 ? 4 : type == INT64 || type == FLOAT64 ? 8 : 0;
}

bool is_chosen(int *result)
{
	static std::atomic<int> calls{0};
	const char *text = getenv("GPU_HOST_NCCL_FAIL");
	int at;
	return ++calls, text && sscanf(text, "%d:%d", &at, result) == 2 && at == calls;
}

/* A kernel that waits for a rank that is gone never ends by itself. */
void hang(ncclComm *c)
{
	while (!c->aborted)
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

int enqueue(ncclComm *c, header h, const void *from, void *to, CUstream_st *stream, const char *call)
{
	int chosen = SUCCESS;
	check_ready(c, call);
	if (gpu_host_room(from) < h.bytes || gpu_host_room(to) < h.bytes)
		gpu_host_die("%s beyond device memory", call);
	if (is_chosen(&chosen)) {
		c->fail(chosen, "as the test wants it");
		return chosen == INVALID_ARGUMENT ? chosen : int(SUCCESS);
	}
	bool first = !c->used;
	c->used = true;
	if (first)
		c->connected = clock_type::now() + CONNECTING;
	c->pending++;
	gpu_host_enqueue(stream, [=]() {
		std::vector<char> mine(h.bytes), result;
		if (gpu_host_faulted())
			return void(c->pending--);
		gpu_host_begin();
		memcpy(mine.data(), from, h.bytes);
		gpu_host_end();
		if (c->call(h, mine.data(), result, h.bytes)) {
			gpu_host_begin();
			memcpy(to, result.data(), h.bytes);
			gpu_host_end();
		} else {
			if (!getenv("GPU_HOST_NCCL_SILENT"))
				c->fail(REMOTE_ERROR, "a connection was closed");
			hang(c);
		}
		c->pending--;
	});
	return first ? IN_PROGRESS : SUCCESS;
}

} // namespace

EXPORT int ncclGetVersion(int *version)
{
#ifdef GPU_HOST_NCCL_OLD
	*version = 21403;
#else
	*version = 23007;
#endif
	return SUCCESS;
}

EXPORT const char *ncclGetErrorString(int result)
{
	static const char *const words[] = {
		"no error", "unhandled cuda error", "unhandled system error", "internal error",
		"invalid argument", "invalid usage", "remote process exited or there was a network error",
		"NCCL operation in progress",
	};
	return result >= 0 && result < 8 ? words[result] : "unknown result code";
}

EXPORT const char *ncclGetLastError(ncclComm *c)
{
	(void)c;
	return last_words;
}

EXPORT int ncclCommInitRankConfig(ncclComm **comm, int world, ncclUniqueId id, int rank, config *c)
{
	return begin(comm, world, rank, 1, &id, c);
}

#ifndef GPU_HOST_NCCL_OLD
EXPORT int ncclCommInitRankScalable(ncclComm **comm, int world, int rank, int count, ncclUniqueId *ids,
                                    config *c)
{
	return begin(comm, world, rank, count, ids, c);
}

namespace {

struct choice {
	int color, key, rank;
	ncclUniqueId id;
};

/* This rank's group, by what all ranks chose: its first makes the id. The caller
 * has it when that is done, not before. */
void split(ncclComm *parent, ncclComm *child, choice mine, ncclComm **comm)
{
	std::vector<char> gathered;
	std::vector<choice> all(size_t(parent->world));
	header h{};
	int before = 0, size = 0, first = parent->rank;
	h.what = op::GATHER;
	h.bytes = sizeof mine;
	for (int round = 0; round < 2; round++) {
		if (!parent->call(h, &mine, gathered, all.size() * sizeof mine)) {
			if (child)
				child->fail(REMOTE_ERROR, "a connection was closed");
			*comm = child;
			return void(parent->fail(REMOTE_ERROR, "a connection was closed"));
		}
		memcpy(all.data(), gathered.data(), gathered.size());
		if (!child)
			continue;
		before = size = 0;
		for (const choice &c : all) {
			size += c.color == mine.color;
			before += c.color == mine.color &&
			          (c.key < mine.key || (c.key == mine.key && c.rank < mine.rank));
		}
		for (const choice &c : all)
			if (c.color == mine.color && (c.key < all[size_t(first)].key ||
			    (c.key == all[size_t(first)].key && c.rank < first)))
				first = c.rank;
		if (round == 0 && first == mine.rank)
			make_id(&mine.id, -1);
	}
	*comm = child;
	parent->state = SUCCESS;
	if (!child)
		return;
	child->world = size;
	child->rank = before;
	start(child, {all[size_t(first)].id});
}

} // namespace

EXPORT int ncclCommSplit(ncclComm *parent, int color, int key, ncclComm **comm, config *c)
{
	check_config(c);
	check_ready(parent, "ncclCommSplit");
	ncclComm *child = color < 0 ? nullptr : new ncclComm;
	parent->later([=]() { split(parent, child, choice{color, key, parent->rank, {}}, comm); });
	return IN_PROGRESS;
}
#endif

EXPORT int ncclCommCount(ncclComm *c, int *count)
{
	check_ready(c, "ncclCommCount");
	*count = c->world;
	return SUCCESS;
}

EXPORT int ncclCommGetAsyncError(ncclComm *c, int *result)
{
	*result = c->now();
	return SUCCESS;
}

/* Done when all ranks have come. */
EXPORT int ncclCommFinalize(ncclComm *c)
{
	check_ready(c, "ncclCommFinalize");
	c->later([=]() {
		header h{};
		std::vector<char> all;
		char here = 1;
		h.what = op::GATHER;
		h.bytes = sizeof here;
		while (c->pending && !c->error && !c->aborted)
			std::this_thread::sleep_for(std::chrono::milliseconds(1));
		if (!c->call(h, &here, all, size_t(c->world)))
			return void(c->fail(REMOTE_ERROR, "a connection was closed"));
		c->finalized = true;
		c->state = SUCCESS;
	});
	return IN_PROGRESS;
}

EXPORT int ncclCommDestroy(ncclComm *c)
{
	check_ready(c, "ncclCommDestroy");
	if (!c->finalized)
		gpu_host_die("ncclCommDestroy before ncclCommFinalize");
	delete c;
	return SUCCESS;
}

EXPORT int ncclCommAbort(ncclComm *c)
{
	c->aborted = true;
	while (c->pending || c->state == IN_PROGRESS) {
		if (c->fd >= 0)
			shutdown(c->fd, SHUT_RDWR);
		if (c->error && !c->pending)
			break;
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
	}
	delete c;
	return SUCCESS;
}

EXPORT int ncclAllReduce(const void *from, void *to, size_t count, int type, int what, ncclComm *c,
                         CUstream_st *stream)
{
	if (!type_bytes(type) || what != SUM)
		return c->fail(INVALID_ARGUMENT, "no such type or operation");
	header h{};
	h.what = op::REDUCE;
	h.type = type;
	h.bytes = count * type_bytes(type);
	return enqueue(c, h, from, to, stream, "ncclAllReduce");
}

EXPORT int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, ncclComm *c,
                         CUstream_st *stream)
{
	if (!type_bytes(type) || root < 0 || root >= c->world)
		return c->fail(INVALID_ARGUMENT, "no such type or root");
	header h{};
	h.what = op::BROADCAST;
	h.type = type;
	h.root = root;
	h.bytes = count * type_bytes(type);
	return enqueue(c, h, from, to, stream, "ncclBroadcast");
}
