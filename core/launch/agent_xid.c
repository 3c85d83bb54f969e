/* What the driver reports of the GPUs of this node while its ranks run (gpu/xid.h):
 * an event of the rank that has the GPU, in the journal where its own are; and
 * words on a rank that failed, or came to a stand, with it. GPUs that no rank may use are
 * somebody else's. */
#include "base/clock.h"
#include "base/mem.h"
#include "gpu/xid.h"
#include "launch/agent_parts.h"

#define NEAR_NS INT64_C(10000000000)   /* a cause comes no earlier before its failure */
#define AGAIN_NS INT64_C(10000000000)  /* the same of one GPU is told once in so long */
#define KNOWN_MAX 64

/* One code of one GPU, at one time or several. */
typedef struct known_xid {
	pio_xid xid;
	int64_t told_ns, newest_ns;    /* monotonic */
} known_xid;

struct pio_agent_xids {
	pio_agent_feed feed;
	known_xid known[KNOWN_MAX];    /* the oldest makes room */
	size_t count;
};

/* Read by nodes.lua as well: what is "as a rule" not the machine's fault. */
static const char *const exculpation[] = {
	[PIO_XID_MACHINE] = "",
	[PIO_XID_PROGRAM] = ", as a rule by the program's fault",
	[PIO_XID_SEQUEL] = ", as a rule after another fault",
};

/* "Xid 79 of gpu 3 (it has fallen off the bus)" */
static void put_xid(pio_str *text, const pio_xid *xid)
{
	pio_xid_kind kind;
	const char *words = pio_xid_words(xid->code, &kind);
	pio_str_printf(text, "Xid %u of ", xid->code);
	if (xid->gpu >= 0)
		pio_str_printf(text, "gpu %d", xid->gpu);
	else
		pio_str_puts(text, "a GPU");
	if (words)
		pio_str_printf(text, " (%s%s)", words, exculpation[kind]);
}

static bool is_of_rank(const pio_agent *agent, const pio_xid *xid, int local_rank)
{
	const pio_gpu *gpu = pio_agent_gpu_of(agent, local_rank);
	return xid->gpu < 0 || !gpu || gpu->index == xid->gpu;
}

/* The local rank that it is told of; -1: none may use that GPU. */
static int owner_of(const pio_agent *agent, const pio_xid *xid)
{
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (is_of_rank(agent, xid, i))
			return i;
	return pio_agent_rank_of_gpu(agent, xid->gpu);
}

static known_xid *remember(pio_agent_xids *xids, const pio_xid *xid)
{
	known_xid *oldest = &xids->known[0];
	for (size_t i = 0; i < xids->count; i++) {
		known_xid *known = &xids->known[i];
		if (known->xid.gpu == xid->gpu && known->xid.code == xid->code)
			return known;
		if (known->newest_ns < oldest->newest_ns)
			oldest = known;
	}
	if (xids->count < KNOWN_MAX)
		oldest = &xids->known[xids->count++];
	*oldest = (known_xid){ .xid = *xid };
	return oldest;
}

static void hear(pio_agent *agent, const pio_xid *xid)
{
	int owner = owner_of(agent, xid);
	if (owner < 0)
		return;
	known_xid *known = remember(agent->xids, xid);
	known->newest_ns = pio_clock_mono_ns();
	if (known->told_ns && known->newest_ns - known->told_ns < AGAIN_NS)
		return;
	known->told_ns = known->newest_ns;
	pio_str message = PIO_STR_INIT;
	put_xid(&message, xid);
	pio_str_printf(&message, ", node %s", agent->spec.host);
	pio_agent_event(agent, owner, "xid", &message);
	pio_str_fini(&message);
}

/* False: there is nobody to hear from. */
static bool take_all(pio_agent *agent)
{
	pio_xid xid;
	int more;
	while ((more = pio_proc_feed_take(&agent->xids->feed.feed, &xid)) > 0)
		hear(agent, &xid);
	return more == 0;
}

static void readable(uv_poll_t *poll, int status, int events)
{
	(void)events;
	if (!take_all(poll->data) || status < 0)
		uv_poll_stop(poll);
}

/* A node whose errors are not heard is worth no failure. */
void pio_agent_xids_open(pio_agent *agent)
{
	pio_err why = PIO_ERR_INIT;
	if (agent->gpus.count == 0)
		return;
	pio_agent_xids *xids = pio_calloc(1, sizeof *xids);
	if (!xids)
		return;
	agent->xids = xids;
	if (pio_xid_feed_open(&xids->feed.feed, &why) != 0)
		pio_agent_note(agent, "launch.gpu", why.message);
	else
		pio_agent_feed_start(&xids->feed, agent, readable);
}

void pio_agent_xids_reaped(pio_agent *agent, pid_t pid)
{
	if (agent->xids)
		pio_agent_feed_reaped(&agent->xids->feed, pid);
}

void pio_agent_xids_end(pio_agent *agent)
{
	if (!agent->xids || !agent->xids->feed.is_open)
		return;
	(void)take_all(agent);
	pio_agent_feed_end(&agent->xids->feed);
}

void pio_agent_xids_put(pio_str *text, const pio_agent *agent, int local_rank, int64_t failed_ns)
{
	const known_xid *best = NULL;
	pio_xid_kind kind, best_kind = PIO_XID_SEQUEL;
	for (size_t i = 0; agent->xids && i < agent->xids->count; i++) {
		const known_xid *known = &agent->xids->known[i];
		if (known->newest_ns < failed_ns - NEAR_NS ||
		    !(is_of_rank(agent, &known->xid, local_rank) || owner_of(agent, &known->xid) == local_rank))
			continue;
		(void)pio_xid_words(known->xid.code, &kind);
		if (!best || kind < best_kind || (kind == best_kind && known->told_ns < best->told_ns)) {
			best = known;
			best_kind = kind;
		}
	}
	if (best) {
		pio_str_puts(text, "; ");
		put_xid(text, &best->xid);
	}
}
