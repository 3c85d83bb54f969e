/* Does the node still make progress? Looked at with every beat: the newest step
 * and the bytes of each rank's ring.
 *
 *   all ranks silent for half the limit --> what the processes have done is noted
 *   ... for the whole limit, and they did nothing meanwhile --> hung
 *   ... they worked: a long step; looked at again after half a limit, until the
 *       limit of that phase (pace.h)
 *
 * All ranks, not one: in a program that works together all come to a stand soon
 * after one does, and one that does not may have ended its part. Who is named is
 * chosen among them afterwards. Under a head a node only reports that it is silent:
 * it may be waiting for another. A hung node first tells the stacks of its ranks
 * (in a thread: nothing here waits), then it ends with the result 'hang'. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "launch/agent_parts.h"
#include "launch/oom.h"
#include "launch/pace.h"
#include "launch/stacks.h"
#include "sys/proc.h"

#define SECOND_NS INT64_C(1000000000)
#define GAP_NS (2 * SECOND_NS)     /* between two beats: this process was held up itself */
#define PROCESSES_MAX 4096
#define BUSY_BYTES (1u << 20)
#define CHAIN_MAX 8
#define OOM_BEATS 4
#define SLOW 1.3                   /* times the median: a straggler */
#define SLOW_NO_MORE 1.15

/* How a rank looks when it is asked why it makes no steps. */
typedef struct suspect {
	int index;                 /* of the node */
	bool has_steps, is_stopped, is_odd;
	pio_proc_look look;
} suspect;

typedef struct stacks_job {
	uv_work_t work;
	pio_agent *agent;
	char *path;
	pio_err err;
	size_t count;
	pio_stacks_rank ranks[];
} stacks_job;

struct pio_agent_watch {
	pio_pace_book book;
	pio_pace *paces;           /* one a rank */
	bool *slow;                /* is in an episode of slow steps */
	pio_oom *ooms;             /* where its memory is counted */
	int64_t machine_kills[2];  /* for lack of memory: at the last two looks, the older one first */
	int beats;
	int64_t beat_ns;
	int64_t noted_ns;          /* when the two below were noted; 0: nobody is suspected */
	int64_t cpu_ns;
	uint64_t io_bytes;
	bool is_hung;
	bool has_steps, is_silent; /* as the head was told */
	int first;                 /* index of the rank that is named */
	pio_str what;              /* "rank 3 (dgx-002) has made no step since 812, ..." */
};

int pio_agent_watch_open(pio_agent *agent, pio_err *err)
{
	int n = agent->spec.ranks_per_node;
	pio_agent_watch *watch = pio_calloc(1, sizeof *watch);
	if (watch) {
		agent->watch = watch;
		watch->what = (pio_str)PIO_STR_INIT;
		watch->paces = pio_calloc((size_t)n, sizeof *watch->paces);
		watch->slow = pio_calloc((size_t)n, sizeof *watch->slow);
		watch->ooms = pio_calloc((size_t)n, sizeof *watch->ooms);
		watch->machine_kills[0] = watch->machine_kills[1] = pio_oom_machine_kills();
	}
	if (!watch || !watch->paces || !watch->slow || !watch->ooms)
		return pio_fail(err, PIO_ENOMEM, "out of memory to watch %d ranks", n);
	for (int i = 0; i < n; i++)
		watch->paces[i] = (pio_pace)PIO_PACE_INIT;
	return 0;
}

void pio_agent_watch_close(pio_agent *agent)
{
	pio_agent_watch *watch = agent->watch;
	if (!watch)
		return;
	pio_str_fini(&watch->what);
	pio_free(watch->paces);
	pio_free(watch->slow);
	pio_free(watch->ooms);
	pio_free(watch);
	agent->watch = NULL;
}

/* ---- stragglers -------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* Of the ranks that log steps; 0 where less than half of them have told their
 * time. The lower one of an even number: of two, the slower one is the straggler. */
static int64_t median_step_ns(const pio_agent *agent, int *count)
{
	int64_t times[PIO_RANKS_PER_NODE_MAX];
	int logging = 0;
	*count = 0;
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		const pio_pace *pace = &agent->watch->paces[i];
		if (pace->rises == 0 || agent->ranks[i].has_ended)
			continue;
		logging++;
		if (pace->step_ns > 0)
			times[(*count)++] = pace->step_ns;
	}
	if (*count < 2 || 2 * *count < logging)
		return 0;
	qsort(times, (size_t)*count, sizeof *times, by_value);
	return times[(*count - 1) / 2];
}

/* Into the journal, where the rank's own events are. */
static void tell_straggler(pio_agent *agent, int index, int64_t median_ns, int count)
{
	pio_str message = PIO_STR_INIT, payload = PIO_STR_INIT;
	int64_t step_ns = agent->watch->paces[index].step_ns;
	pio_err err = PIO_ERR_INIT;
	pio_str_printf(&message, "rank %d (%s) takes %.3g s a step, %.2f times the median of %d ranks",
	               agent->ranks[index].rank, agent->spec.host, (double)step_ns / 1e9,
	               (double)step_ns / (double)median_ns, count);
	pio_record_put_u32(&payload, (uint32_t)agent->ranks[index].rank);
	pio_record_put_i64(&payload, pio_clock_wall_ns());
	pio_record_put_str(&payload, "straggler", strlen("straggler"));
	pio_record_put_str(&payload, message.data, message.len);
	if (!message.failed && !payload.failed &&
	    pio_journal_append(agent->journal, PIO_RECORD_EVENT, payload.data, payload.len, NULL, 0, &err) != 0)
		pio_agent_fail_journal(agent, &err);
	pio_str_fini(&message);
	pio_str_fini(&payload);
}

/* A window of this rank has ended: at least 20 steps. Told once an episode. */
static void compare(pio_agent *agent, int index)
{
	int count;
	bool *slow = &agent->watch->slow[index];
	int64_t median_ns = median_step_ns(agent, &count);
	if (!median_ns)
		return;
	double ratio = (double)agent->watch->paces[index].step_ns / (double)median_ns;
	if (ratio > SLOW && !*slow) {
		*slow = true;
		tell_straggler(agent, index, median_ns, count);
	} else if (ratio < SLOW_NO_MORE) {
		*slow = false;
	}
}

/* ---- who is to blame ------------------------------------------------------------------------- */

/* The process that the others of the rank wait for: a shell that has started the
 * program says nothing by waiting. */
static void look_at_rank(pio_proc_look *look, pid_t pid)
{
	char task[16], name[32], children[64];
	for (int depth = 0; depth < CHAIN_MAX; depth++) {
		int child;
		snprintf(task, sizeof task, "%d", (int)pid);
		if (!pio_proc_look_at(look, task) || look->state != 'S' || strcmp(look->wait, "do_wait") != 0)
			return;
		snprintf(name, sizeof name, "task/%d/children", (int)pid);
		if (pio_proc_read(children, sizeof children, task, name) <= 0 || sscanf(children, "%d", &child) != 1)
			return;
		pid = child;
	}
}

static bool is_alike(const suspect *a, const suspect *b)
{
	return a->look.state == b->look.state && strcmp(a->look.wait, b->look.wait) == 0;
}

/* Most ranks wait for one: who does something else than most is that one. */
static void find_odd(suspect *suspects, int count)
{
	for (int i = 0; i < count; i++) {
		int alike = 0;
		for (int k = 0; k < count; k++)
			alike += is_alike(&suspects[i], &suspects[k]);
		suspects[i].is_odd = count > 2 && 2 * alike < count;
	}
}

static bool is_before(const pio_agent_watch *watch, const suspect *a, const suspect *b)
{
	const pio_pace *x = &watch->paces[a->index], *y = &watch->paces[b->index];
	if (a->is_stopped != b->is_stopped)
		return a->is_stopped;
	if (a->has_steps != b->has_steps)
		return a->has_steps;
	if (x->step != y->step)
		return x->step < y->step;
	if (a->is_odd != b->is_odd)
		return a->is_odd;
	if (x->alive_ns != y->alive_ns)
		return x->alive_ns < y->alive_ns;
	return a->index < b->index;
}

/* Ranks that live, who came to a stand first in front. Few: sorted by insertion. */
static int line_up(suspect *suspects, const pio_agent *agent)
{
	int count = 0;
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		if (!agent->ranks[i].pid || agent->ranks[i].has_ended)
			continue;
		suspect *s = &suspects[count++];
		*s = (suspect){ .index = i, .has_steps = agent->watch->paces[i].rises > 0 };
		look_at_rank(&s->look, agent->ranks[i].pid);
		s->is_stopped = s->look.state == 'T' || s->look.state == 't';
	}
	find_odd(suspects, count);
	for (int i = 1; i < count; i++) {
		suspect s = suspects[i];
		int at = i;
		for (; at > 0 && is_before(agent->watch, &s, &suspects[at - 1]); at--)
			suspects[at] = suspects[at - 1];
		suspects[at] = s;
	}
	return count;
}

static void put_doing(pio_str *text, const pio_proc_look *look)
{
	if (look->state == 'T' || look->state == 't')
		pio_str_printf(text, "it is %s (%c)", look->state == 'T' ? "stopped" : "held by a debugger",
		               look->state);
	else if (look->state == 'R')
		pio_str_puts(text, "it runs");
	else if (look->wait[0])
		pio_str_printf(text, "it waits in %s%s", look->wait, look->state == 'D' ? " (D)" : "");
	else
		pio_str_puts(text, look->state == 'D' ? "it waits for a device (D)" : "it sleeps");
}

/* "rank 3 (dgx-002) has made no step since 812, 64 s ago (limit 60 s); it waits in
 * futex_wait_queue" */
static void put_what(pio_str *text, const pio_agent *agent, const suspect *first, int64_t newest_ns,
                        int64_t limit_ns, int64_t now_ns)
{
	const pio_pace *pace = &agent->watch->paces[first->index];
	int rank = agent->ranks[first->index].rank;
	double limit_s = (double)limit_ns / 1e9;
	if (first->has_steps)
		pio_str_printf(text, "rank %d (%s) has made no step since %lld, %.0f s ago (limit %.0f s); ",
		               rank, agent->spec.host, (long long)pace->step,
		               (double)(now_ns - pace->alive_ns) / 1e9, limit_s);
	else
		pio_str_printf(text, "no rank has logged anything for %.0f s (limit %.0f s); rank %d (%s) logs"
		               " no steps; ", (double)(now_ns - newest_ns) / 1e9, limit_s, rank, agent->spec.host);
	put_doing(text, &first->look);
}

/* ---- stacks, then the end ------------------------------------------------------------------------ */

static void collect_stacks(uv_work_t *work)
{
	stacks_job *job = work->data;
	(void)pio_stacks_write(job->path, job->ranks, job->count, &job->err);
}

static void stacks_collected(uv_work_t *work, int status)
{
	stacks_job *job = work->data;
	pio_agent *agent = job->agent;
	if (agent->alive > 0 && status == 0) {
		if (job->err.code)
			pio_agent_note(agent, "stacks", job->err.message);
		else
			pio_agent_note(agent, "stacks", job->path);
		pio_agent_escalate(agent, PIO_STAGE_TERM);
	}
	pio_free(job->path);
	pio_free(job);
}

/* False: there is no memory for them, and no reason to wait. */
static bool start_stacks(pio_agent *agent, const suspect *suspects, int count)
{
	pio_str path = PIO_STR_INIT;
	stacks_job *job = pio_calloc(1, sizeof *job + (size_t)count * sizeof *job->ranks);
	if (!job)
		return false;
	pio_str_printf(&path, "%s/stacks.%d.txt", agent->spec.dir, agent->spec.node);
	job->path = pio_str_take(&path);
	pio_str_fini(&path);
	job->agent = agent;
	job->work.data = job;
	job->count = (size_t)count;
	for (int i = 0; i < count; i++) {
		const pio_agent_rank *rank = &agent->ranks[suspects[i].index];
		job->ranks[i] = (pio_stacks_rank){ .rank = rank->rank, .pid = rank->pid };
	}
	if (job->path && uv_queue_work(&agent->loop, &job->work, collect_stacks, stacks_collected) == 0)
		return true;
	pio_free(job->path);
	pio_free(job);
	return false;
}

static void end_with_stacks(pio_agent *agent)
{
	static suspect suspects[PIO_RANKS_PER_NODE_MAX];
	agent->watch->is_hung = true;
	if (!start_stacks(agent, suspects, line_up(suspects, agent)))
		pio_agent_escalate(agent, PIO_STAGE_TERM);
}

static void say_state(pio_agent *agent, const char *state)
{
	pio_agent_say(agent, json_pack("{s:s, s:s}", "event", "watch", "state", state));
}

/* The head hears who came to a stand first here, and decides when all nodes that
 * log steps have said so (head_watch.c). */
static void report(pio_agent *agent, const suspect *first)
{
	const pio_pace *pace = &agent->watch->paces[first->index];
	agent->watch->is_silent = true;
	pio_agent_say(agent, json_pack("{s:s, s:s, s:b, s:b, s:I, s:I}", "event", "watch", "state", "silent",
		"is_stopped", first->is_stopped, "is_odd", first->is_odd, "step", (json_int_t)pace->step,
		"clock_ns", (json_int_t)pio_agent_head_clock_ns(agent, pace->alive_ns)));
}

static void declare(pio_agent *agent, int64_t newest_ns, int64_t limit_ns, int64_t now_ns)
{
	static suspect suspects[PIO_RANKS_PER_NODE_MAX];
	pio_agent_watch *watch = agent->watch;
	if (watch->is_silent || line_up(suspects, agent) == 0)
		return;
	watch->first = suspects[0].index;
	pio_str_clear(&watch->what);
	put_what(&watch->what, agent, &suspects[0], newest_ns, limit_ns, now_ns);
	if (agent->joined) {
		report(agent, &suspects[0]);
	} else {
		agent->verdict = "hang";
		end_with_stacks(agent);
	}
}

void pio_agent_watch_obey(pio_agent *agent, const char *word)
{
	bool is_here = strcmp(word, "hang") == 0;
	if ((!is_here && strcmp(word, "stacks") != 0) || agent->stage != PIO_STAGE_RUNNING ||
	    agent->watch->is_hung || agent->verdict)
		return;
	if (is_here)
		agent->verdict = "hang";
	else
		agent->failed_elsewhere = true;
	end_with_stacks(agent);
}

json_t *pio_agent_watch_first(const pio_agent *agent)
{
	const pio_agent_watch *watch = agent->watch;
	if (!watch || !agent->verdict || strcmp(agent->verdict, "hang") != 0)
		return json_null();
	const pio_agent_rank *rank = &agent->ranks[watch->first];
	const pio_pace *pace = &watch->paces[watch->first];
	pio_str message = PIO_STR_INIT;
	pio_str_printf(&message, "hang: %s", watch->what.data);
	json_t *record = json_pack("{s:i, s:i, s:I, s:I, s:b, s:o, s:o, s:o}", "rank", rank->rank,
		"pid", (int)rank->pid, "time_ns", (json_int_t)rank->ended_ns, "clock_ns",
		(json_int_t)pio_agent_head_clock_ns(agent, pace->alive_ns), "victim", 0, "step",
		pace->step == INT64_MIN ? json_null() : json_integer(pace->step), "what",
		pio_agent_json_text(message.data, message.len), "message",
		pio_agent_json_text(message.data, message.len));
	pio_str_fini(&message);
	return record;
}

/* ---- memory -------------------------------------------------------------------------------------- */

/* Once a second: the ranks may have been moved into cgroups of their own. */
static void look_at_memory(pio_agent *agent)
{
	pio_agent_watch *watch = agent->watch;
	if (watch->beats++ % OOM_BEATS)
		return;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->ranks[i].pid && !agent->ranks[i].has_ended)
			pio_oom_find(&watch->ooms[i], agent->ranks[i].pid);
	watch->machine_kills[0] = watch->machine_kills[1];
	watch->machine_kills[1] = pio_oom_machine_kills();
}

bool pio_agent_watch_is_oom(const pio_agent *agent, const pio_agent_rank *rank)
{
	const pio_agent_watch *watch = agent->watch;
	if (!watch || rank->signal != SIGKILL || rank->was_stopped) /* a keeper has none */
		return false;
	return pio_oom_has_struck(&watch->ooms[rank - agent->ranks]) ||
	       (watch->machine_kills[0] >= 0 && pio_oom_machine_kills() > watch->machine_kills[0]);
}

void pio_agent_watch_put_oom(pio_str *text, const pio_agent *agent, const pio_agent_rank *rank)
{
	if (!agent->watch)
		return;
	const pio_oom *oom = &agent->watch->ooms[rank - agent->ranks];
	if (pio_agent_watch_is_oom(agent, rank))
		pio_oom_put_figures(text, oom);
	else if (rank->exit_code > 0 && pio_oom_has_struck(oom))
		pio_str_puts(text, "; a process of its memory cgroup was killed because memory was out");
}

/* ---- silence ------------------------------------------------------------------------------------- */

/* What all that the ranks started has done so far. */
static void add_up(int64_t *cpu_ns, uint64_t *io_bytes)
{
	static pid_t pids[PROCESSES_MAX];
	size_t count = pio_proc_list_descendants(pids, PROCESSES_MAX, getpid());
	*cpu_ns = 0;
	*io_bytes = 0;
	for (size_t i = 0; i < count; i++) {
		char task[16];
		pio_proc_look look;
		snprintf(task, sizeof task, "%d", (int)pids[i]);
		if (pio_proc_look_at(&look, task))
			*cpu_ns += look.cpu_ns;
		*io_bytes += pio_proc_io_bytes(pids[i]);
	}
}

static bool is_any_stopped(const pio_agent *agent)
{
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		pio_proc_look look = { .state = '?' };
		if (agent->ranks[i].pid && !agent->ranks[i].has_ended)
			look_at_rank(&look, agent->ranks[i].pid);
		if (look.state == 'T')
			return true;
	}
	return false;
}

/* More than a process uses that waits: a twentieth of a core, and a hundredth a
 * rank; or bytes that move. A rank that was stopped holds up all others, however
 * busily they wait. */
static bool have_worked(pio_agent *agent, int64_t now_ns)
{
	pio_agent_watch *watch = agent->watch;
	int64_t cpu_ns = watch->cpu_ns, span_ns = now_ns - watch->noted_ns;
	uint64_t io_bytes = watch->io_bytes;
	add_up(&watch->cpu_ns, &watch->io_bytes);
	watch->noted_ns = now_ns;
	return (watch->cpu_ns - cpu_ns > span_ns / 20 + span_ns / 100 * agent->alive ||
	        watch->io_bytes - io_bytes > BUSY_BYTES) && !is_any_stopped(agent);
}

static void judge(pio_agent *agent, int64_t newest_ns, bool is_first, int64_t now_ns)
{
	pio_agent_watch *watch = agent->watch;
	int64_t fixed_ns = agent->spec.hang_s * SECOND_NS, silent_ns = now_ns - newest_ns;
	int64_t floor_ns = agent->spec.hang_floor_s * SECOND_NS;
	int64_t limit_ns = pio_pace_limit_ns(&watch->book, is_first ? PIO_PACE_FIRST : PIO_PACE_IDLE, floor_ns);
	if (fixed_ns > 0 && (!is_first || fixed_ns > limit_ns))
		limit_ns = fixed_ns;
	if (silent_ns < limit_ns / 2) {
		watch->noted_ns = 0;
		if (watch->is_silent)
			say_state(agent, "moving");
		watch->is_silent = false;
	} else if (is_first || fixed_ns > 0) {
		if (silent_ns >= limit_ns)
			declare(agent, newest_ns, limit_ns, now_ns);
	} else if (!watch->noted_ns) {
		add_up(&watch->cpu_ns, &watch->io_bytes);
		watch->noted_ns = now_ns;
	} else if (silent_ns >= limit_ns && now_ns - watch->noted_ns >= limit_ns / 2) {
		if (have_worked(agent, now_ns))
			limit_ns = pio_pace_limit_ns(&watch->book, PIO_PACE_BUSY, floor_ns);
		if (silent_ns >= limit_ns)
			declare(agent, newest_ns, limit_ns, now_ns);
	}
}

void pio_agent_watch_beat(pio_agent *agent)
{
	pio_agent_watch *watch = agent->watch;
	int64_t now_ns = pio_clock_mono_ns(), newest_ns = INT64_MIN;
	int64_t gap_ns = watch->beat_ns ? now_ns - watch->beat_ns : 0;
	uint64_t rises = 0;
	watch->beat_ns = now_ns;
	if (agent->stage != PIO_STAGE_RUNNING || watch->is_hung)
		return;
	look_at_memory(agent);
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		pio_pace *pace = &watch->paces[i];
		const pio_ring *ring = agent->ranks[i].ring;
		if (!ring || agent->ranks[i].has_ended)
			continue;
		if (gap_ns > GAP_NS)
			pio_pace_forgive(pace, gap_ns);
		if (pio_pace_see(pace, &watch->book, pio_ring_last_step(ring), pio_ring_taken(ring), now_ns))
			compare(agent, i);
		if (pace->rises > 0 && pace->alive_ns > newest_ns)
			newest_ns = pace->alive_ns;
		if (pace->rises > rises)
			rises = pace->rises;
	}
	if (rises > 0 && agent->joined && !watch->has_steps)
		say_state(agent, "steps");
	watch->has_steps |= rises > 0;
	if (rises > 0 && agent->spec.hang_s != 0)
		judge(agent, newest_ns, rises < 2, now_ns);
}
