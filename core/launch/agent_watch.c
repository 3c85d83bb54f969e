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
 * chosen among them afterwards (suspect.h). Under a head a node only reports that
 * it is silent, as it may be waiting for another; once all that make steps are, the
 * head asks each node what its ranks do. A hung node first tells the stacks of its
 * ranks (in a thread: nothing here waits), then it ends with the result 'hang'. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "launch/agent_parts.h"
#include "launch/oom.h"
#include "launch/stacks.h"
#include "launch/suspect.h"
#include "sys/proc.h"

#define SECOND_NS INT64_C(1000000000)
#define GAP_NS (2 * SECOND_NS)     /* between two beats: this process was held up itself */
#define LOOK_NS (2 * SECOND_NS)    /* shows whether the ranks work */
#define PROCESSES_MAX 4096
#define BUSY_BYTES (1u << 20)
#define CHAIN_MAX 8
#define OOM_BEATS 4

typedef struct stacks_job {
	uv_work_t work;
	pio_agent *agent;
	char *path;
	pio_err err;
	size_t count;
	pio_stacks_rank ranks[];
} stacks_job;

/* What all that the ranks started had done at a moment. */
typedef struct work_mark {
	int64_t at_ns;             /* 0: none was noted */
	int64_t cpu_ns;
	uint64_t io_bytes;
} work_mark;

struct pio_agent_watch {
	pio_pace_book book;
	pio_oom *ooms;             /* where a rank's memory is counted */
	int64_t machine_kills[2];  /* for lack of memory: at the last two looks, the older one first */
	int beats;
	int64_t beat_ns;
	work_mark suspected;       /* since half the limit has gone */
	work_mark asked;           /* since the head asked what they do; not yet answered */
	bool is_hung;
	bool has_steps, is_silent; /* as the head was told */
	int first;                 /* index of the rank that is named */
	int64_t stood_ns;          /* since when it, or else all, logged nothing */
	pio_str what;              /* "rank 3 (dgx-002) has made no step since 812, ..." */
	pio_suspect suspects[];    /* room for all ranks of the node */
};

int pio_agent_watch_open(pio_agent *agent, pio_err *err)
{
	int n = agent->spec.ranks_per_node;
	pio_agent_watch *watch = pio_calloc(1, sizeof *watch + (size_t)n * sizeof *watch->suspects);
	if (watch) {
		agent->watch = watch;
		watch->what = (pio_str)PIO_STR_INIT;
		agent->paces = pio_calloc((size_t)n, sizeof *agent->paces);
		watch->ooms = pio_calloc((size_t)n, sizeof *watch->ooms);
		watch->machine_kills[0] = watch->machine_kills[1] = pio_oom_machine_kills();
	}
	if (!watch || !agent->paces || !watch->ooms)
		return pio_fail(err, PIO_ENOMEM, "out of memory to watch %d ranks", n);
	for (int i = 0; i < n; i++)
		agent->paces[i] = (pio_pace)PIO_PACE_INIT;
	return 0;
}

void pio_agent_watch_close(pio_agent *agent)
{
	pio_agent_watch *watch = agent->watch;
	if (!watch)
		return;
	pio_str_fini(&watch->what);
	pio_free(agent->paces);
	pio_free(watch->ooms);
	pio_free(watch);
	agent->watch = NULL;
	agent->paces = NULL;
}

/* ---- what the ranks do ---------------------------------------------------------------------- */

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

static int64_t step_of(const pio_agent *agent, int index)
{
	const pio_pace *pace = &agent->paces[index];
	return pace->rises > 0 ? pace->step : INT64_MIN;
}

int64_t pio_agent_watch_step_ns(const pio_agent *agent)
{
	int64_t longest_ns = agent->watch->book.longest_ns, now_ns = pio_clock_mono_ns();
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		const pio_pace *pace = &agent->paces[i];
		if (pace->rises > 0 && !agent->ranks[i].has_ended && now_ns - pace->rose_ns > longest_ns)
			longest_ns = now_ns - pace->rose_ns;
	}
	return longest_ns;
}

/* Those that live become suspects, who came to a stand first in front. */
static size_t line_up(pio_agent *agent)
{
	pio_suspect *suspects = agent->watch->suspects;
	size_t count = 0;
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		if (!agent->ranks[i].pid || agent->ranks[i].has_ended)
			continue;
		pio_suspect *s = &suspects[count++];
		*s = (pio_suspect){ .rank = agent->ranks[i].rank, .index = i, .step = step_of(agent, i),
		                    .alive_ns = agent->paces[i].alive_ns };
		look_at_rank(&s->look, agent->ranks[i].pid);
	}
	pio_suspects_line_up(suspects, count);
	return count;
}

static void mark_work(work_mark *mark)
{
	static pid_t pids[PROCESSES_MAX];
	size_t count = pio_proc_list_descendants(pids, PROCESSES_MAX, getpid());
	*mark = (work_mark){ .at_ns = pio_clock_mono_ns() };
	for (size_t i = 0; i < count; i++) {
		char task[16];
		pio_proc_look look;
		snprintf(task, sizeof task, "%d", (int)pids[i]);
		if (pio_proc_look_at(&look, task))
			mark->cpu_ns += look.cpu_ns;
		mark->io_bytes += pio_proc_io_bytes(pids[i]);
	}
}

/* Since the mark, which is set anew: more than a process uses that waits, which is
 * a twentieth of a core, and a hundredth a rank; or bytes that move. A rank that
 * was stopped holds up all others, however busily they wait. */
static bool have_worked(pio_agent *agent, work_mark *mark)
{
	work_mark old = *mark;
	mark_work(mark);
	int64_t span_ns = mark->at_ns - old.at_ns;
	if (mark->cpu_ns - old.cpu_ns <= span_ns / 20 + span_ns / 100 * agent->alive &&
	    (mark->io_bytes <= old.io_bytes || mark->io_bytes - old.io_bytes <= BUSY_BYTES))
		return false;
	return !pio_suspects_are_held_up(agent->watch->suspects, line_up(agent));
}

/* ---- who is named ----------------------------------------------------------------------------- */

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
static void name_hung(pio_agent *agent, const pio_suspect *first, int64_t silent_ns, int64_t limit_ns)
{
	pio_agent_watch *watch = agent->watch;
	int64_t now_ns = pio_clock_mono_ns();
	bool logs = first->step != INT64_MIN;
	double limit_s = (double)limit_ns / 1e9;
	watch->first = first->index;
	watch->stood_ns = logs ? first->alive_ns : now_ns - silent_ns;
	double silent_s = (double)(now_ns - watch->stood_ns) / 1e9;
	pio_str_clear(&watch->what);
	if (logs)
		pio_str_printf(&watch->what, "rank %d (%s) has made no step since %lld, %.0f s ago (limit %.0f s); ",
		               first->rank, agent->spec.host, (long long)first->step, silent_s, limit_s);
	else
		pio_str_printf(&watch->what, "no rank has logged anything for %.0f s (limit %.0f s); rank %d (%s)"
		               " logs no steps; ", silent_s, limit_s, first->rank, agent->spec.host);
	put_doing(&watch->what, &first->look);
	pio_agent_xids_put(&watch->what, agent, first->index, watch->stood_ns);
	agent->verdict = "hang";
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
static bool start_stacks(pio_agent *agent, size_t count)
{
	pio_str path = PIO_STR_INIT;
	stacks_job *job = pio_calloc(1, sizeof *job + count * sizeof *job->ranks);
	if (!job)
		return false;
	pio_str_printf(&path, "%s/stacks.%d.txt", agent->spec.dir, agent->spec.node);
	job->path = pio_str_take(&path);
	pio_str_fini(&path);
	job->agent = agent;
	job->work.data = job;
	job->count = count;
	for (size_t i = 0; i < count; i++) {
		const pio_agent_rank *rank = &agent->ranks[agent->watch->suspects[i].index];
		job->ranks[i] = (pio_stacks_rank){ .rank = rank->rank, .pid = rank->pid };
	}
	if (job->path && uv_queue_work(&agent->loop, &job->work, collect_stacks, stacks_collected) == 0)
		return true;
	pio_free(job->path);
	pio_free(job);
	return false;
}

static void end_with_stacks(pio_agent *agent, size_t count)
{
	agent->watch->is_hung = true;
	if (!start_stacks(agent, count))
		pio_agent_escalate(agent, PIO_STAGE_TERM);
}

json_t *pio_agent_watch_first(const pio_agent *agent)
{
	const pio_agent_watch *watch = agent->watch;
	if (!watch || !agent->verdict || strcmp(agent->verdict, "hang") != 0)
		return json_null();
	const pio_agent_rank *rank = &agent->ranks[watch->first];
	int64_t step = step_of(agent, watch->first);
	pio_str message = PIO_STR_INIT;
	pio_str_printf(&message, "hang: %s", watch->what.data);
	json_t *record = json_pack("{s:i, s:i, s:I, s:I, s:b, s:o, s:o, s:o}", "rank", rank->rank,
		"pid", (int)rank->pid, "time_ns", (json_int_t)rank->ended_ns, "clock_ns",
		(json_int_t)pio_agent_head_clock_ns(agent, watch->stood_ns), "victim", 0, "step",
		step == INT64_MIN ? json_null() : json_integer(step), "what",
		pio_agent_json_text(message.data, message.len), "message",
		pio_agent_json_text(message.data, message.len));
	pio_str_fini(&message);
	return record;
}

/* ---- what is said to the head, and what it orders ------------------------------------------------- */

static void say_state(pio_agent *agent, const char *state)
{
	pio_agent_say(agent, json_pack("{s:s, s:s}", "event", "watch", "state", state));
}

static void say_silent(pio_agent *agent, int64_t newest_ns, int64_t limit_ns, int64_t busy_ns)
{
	if (!agent->watch->is_silent)
		pio_agent_say(agent, json_pack("{s:s, s:s, s:I, s:I, s:I}", "event", "watch", "state", "silent",
			"since_ns", (json_int_t)pio_agent_head_clock_ns(agent, newest_ns),
			"limit_ns", (json_int_t)limit_ns, "busy_ns", (json_int_t)busy_ns));
	agent->watch->is_silent = true;
}

/* What each rank does, and whether they work. */
static void answer(pio_agent *agent)
{
	pio_suspect *suspects = agent->watch->suspects;
	bool is_busy = have_worked(agent, &agent->watch->asked);
	size_t count = line_up(agent);
	json_t *ranks = json_array();
	for (size_t i = 0; i < count; i++) {
		suspects[i].alive_ns = pio_agent_head_clock_ns(agent, suspects[i].alive_ns);
		json_array_append_new(ranks, pio_suspect_to_json(&suspects[i]));
	}
	pio_agent_say(agent, json_pack("{s:s, s:s, s:b, s:o}", "event", "watch", "state", "looked", "is_busy",
	                               is_busy, "ranks", ranks));
	agent->watch->asked.at_ns = 0;
}

/* The rank that the head names, or who is first here, if that is none of ours. */
static void obey_hang(pio_agent *agent, int rank, int64_t silent_ns, int64_t limit_ns)
{
	pio_suspect *suspects = agent->watch->suspects;
	size_t count = line_up(agent), first = 0;
	if (count == 0)
		return; /* they are ending by themselves */
	for (size_t i = 0; i < count; i++)
		if (suspects[i].rank == rank)
			first = i;
	pio_suspect named = suspects[first];
	memmove(&suspects[1], &suspects[0], first * sizeof *suspects);
	suspects[0] = named;
	name_hung(agent, &named, silent_ns, limit_ns);
	end_with_stacks(agent, count);
}

void pio_agent_watch_obey(pio_agent *agent, const char *word)
{
	int rank;
	long long silent_s, limit_s;
	if (agent->stage != PIO_STAGE_RUNNING || agent->watch->is_hung || agent->verdict)
		return;
	if (strcmp(word, "look") == 0) {
		mark_work(&agent->watch->asked);
	} else if (strcmp(word, "stacks") == 0) {
		agent->failed_elsewhere = true;
		end_with_stacks(agent, line_up(agent));
	} else if (sscanf(word, "hang %d %lld %lld", &rank, &silent_s, &limit_s) == 3) {
		obey_hang(agent, rank, silent_s * SECOND_NS, limit_s * SECOND_NS);
	} else {
		pio_agent_straggler_obey(agent, word);
	}
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

/* No rank of this node has made a step for longer than limit_ns; while ranks work,
 * here or on another node, they may be silent for busy_ns. */
static void declare(pio_agent *agent, int64_t newest_ns, int64_t limit_ns, int64_t busy_ns)
{
	if (agent->joined) {
		say_silent(agent, newest_ns, limit_ns, busy_ns);
		return;
	}
	size_t count = line_up(agent);
	if (count == 0)
		return;
	name_hung(agent, &agent->watch->suspects[0], pio_clock_mono_ns() - newest_ns, limit_ns);
	end_with_stacks(agent, count);
}

static void judge(pio_agent *agent, int64_t newest_ns, bool is_first, int64_t now_ns)
{
	pio_agent_watch *watch = agent->watch;
	int64_t fixed_ns = agent->spec.hang_s * SECOND_NS, silent_ns = now_ns - newest_ns;
	int64_t floor_ns = agent->spec.hang_floor_s * SECOND_NS;
	int64_t limit_ns = pio_pace_limit_ns(&watch->book, is_first ? PIO_PACE_FIRST : PIO_PACE_IDLE, floor_ns);
	int64_t busy_ns = pio_pace_limit_ns(&watch->book, PIO_PACE_BUSY, floor_ns);
	if (is_first && agent->spec.hang_first_s > 0)
		limit_ns = agent->spec.hang_first_s * SECOND_NS;
	else if (fixed_ns > 0 && (!is_first || fixed_ns > limit_ns))
		limit_ns = fixed_ns;
	if (silent_ns < limit_ns / 2) {
		watch->suspected.at_ns = 0;
		if (watch->is_silent)
			say_state(agent, "moving");
		watch->is_silent = false;
	} else if (is_first || fixed_ns > 0) {
		if (silent_ns >= limit_ns)
			declare(agent, newest_ns, limit_ns, limit_ns);
	} else if (!watch->suspected.at_ns) {
		mark_work(&watch->suspected);
	} else if (silent_ns >= limit_ns && now_ns - watch->suspected.at_ns >= limit_ns / 2) {
		if (have_worked(agent, &watch->suspected))
			limit_ns = busy_ns;
		if (silent_ns >= limit_ns)
			declare(agent, newest_ns, limit_ns, busy_ns);
	}
}

/* How many steps that one has made that made most, and *newest_ns, when any that
 * makes steps logged anything last. */
static uint64_t see_ranks(pio_agent *agent, int64_t *newest_ns, int64_t gap_ns, int64_t now_ns)
{
	uint64_t rises = 0;
	*newest_ns = INT64_MIN;
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		pio_pace *pace = &agent->paces[i];
		const pio_ring *ring = agent->ranks[i].ring;
		if (!ring || agent->ranks[i].has_ended)
			continue;
		if (gap_ns > GAP_NS)
			pio_pace_forgive(pace, gap_ns);
		if (pio_pace_see(pace, &agent->watch->book, pio_ring_last_step(ring), pio_ring_taken(ring), now_ns))
			agent->has_new_paces = true;
		if (pace->rises > 0 && pace->alive_ns > *newest_ns)
			*newest_ns = pace->alive_ns;
		if (pace->rises > rises)
			rises = pace->rises;
	}
	return rises;
}

void pio_agent_watch_beat(pio_agent *agent)
{
	pio_agent_watch *watch = agent->watch;
	int64_t now_ns = pio_clock_mono_ns(), newest_ns;
	int64_t gap_ns = watch->beat_ns ? now_ns - watch->beat_ns : 0;
	watch->beat_ns = now_ns;
	if (agent->stage != PIO_STAGE_RUNNING || watch->is_hung)
		return;
	look_at_memory(agent);
	uint64_t rises = see_ranks(agent, &newest_ns, gap_ns, now_ns);
	pio_agent_straggler_beat(agent, now_ns);
	if (rises > 0 && agent->joined && !watch->has_steps)
		say_state(agent, "steps");
	watch->has_steps |= rises > 0;
	if (watch->asked.at_ns && now_ns - watch->asked.at_ns >= LOOK_NS)
		answer(agent);
	if (rises > 0 && agent->spec.hang_s != 0)
		judge(agent, newest_ns, rises < 2, now_ns);
}
