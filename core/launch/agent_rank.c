#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/drain.h"
#include "launch/agent_parts.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define LEFTOVERS_MS 5000

/* A program that ran away with its arguments must not fill rank-<n>.out with
 * another's bytes: O_APPEND, one file a rank and stream. */
static int open_output(int *fd, const pio_agent *agent, int rank, const char *suffix, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/rank-%d.%s", agent->spec.dir, rank, suffix);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_open(fd, path.data, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	pio_str_fini(&path);
	return rc;
}

static int make_ring(pio_agent *agent, pio_agent_rank *rank, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = pio_ring_path(&path, agent->spec.run, agent->spec.attempt, rank->rank, err);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc) {
		rank->ring_path = pio_str_take(&path);
		if (!rank->ring_path)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for a ring's path");
	}
	pio_str_fini(&path);
	if (!rc)
		rc = pio_ring_create(&rank->ring, rank->ring_path, (uint32_t)rank->rank, 0, 0, err);
	return rc;
}

static int start_rank(pio_agent *agent, int local_rank, pio_err *err)
{
	pio_agent_rank *rank = &agent->ranks[local_rank];
	char **envp = NULL;
	int out = -1, errors = -1;
	int rc = pio_agent_env(&envp, &agent->spec, local_rank, rank->ring_path, err);
	if (!rc)
		rc = open_output(&out, agent, rank->rank, "out", err);
	if (!rc)
		rc = open_output(&errors, agent, rank->rank, "err", err);
	if (!rc) {
		pio_proc_spec spec = { .argv = agent->spec.command, .envp = (const char *const *)envp,
		                       .cwd = agent->spec.cwd, .stdin_fd = -1, .stdout_fd = out,
		                       .stderr_fd = errors };
		rc = pio_agent_rank_spawn(agent, local_rank, &spec, err);
		if (rc)
			rank->pid = 0;
	}
	if (rc) {
		agent->trouble_rank = rank->rank;
	} else {
		rank->started_ns = pio_clock_wall_ns();
		rank->started_mono_ns = pio_clock_mono_ns();
		agent->alive++;
	}
	if (out >= 0)
		(void)pio_fs_close(&out, "rank's output", NULL);
	if (errors >= 0)
		(void)pio_fs_close(&errors, "rank's errors", NULL);
	pio_agent_env_free(envp);
	return rc;
}

static void tell_of_threads(pio_agent *agent)
{
	char message[160];
	int n = agent->spec.ranks_per_node;
	if (agent->spec.node > 0 || n == 1 || pio_agent_env_has(&agent->spec, "OMP_NUM_THREADS"))
		return;
	snprintf(message, sizeof message, "OMP_NUM_THREADS=1 for each of the %d ranks of a node, as torchrun "
	         "has it; the program's env may say otherwise", n);
	pio_agent_note(agent, "launch.threads", message);
}

int pio_agent_ranks_start(pio_agent *agent, pio_err *err)
{
	int n = agent->spec.ranks_per_node, rc = 0;
	for (int i = 0; i < n && !rc; i++)
		rc = make_ring(agent, &agent->ranks[i], err);
	if (!rc)
		rc = pio_agent_place(agent, err);
	if (!rc)
		pio_agent_xids_open(agent);
	if (!rc)
		pio_agent_meter_open(agent);
	for (int i = 0; i < n && !rc; i++)
		rc = start_rank(agent, i, err);
	if (rc)
		return rc;
	json_t *pids = json_array();
	for (int i = 0; i < n; i++)
		json_array_append_new(pids, json_integer(agent->ranks[i].pid));
	pio_agent_say(agent, json_pack("{s:s, s:i, s:o}", "event", "started", "agent", (int)getpid(), "pids",
	                               pids));
	tell_of_threads(agent);
	return pio_agent_facts_tell(agent, err);
}

static pio_agent_rank *find_pid(const pio_agent *agent, pid_t pid)
{
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->ranks[i].pid == pid && !agent->ranks[i].has_ended)
			return &agent->ranks[i];
	return NULL;
}

static bool has_failed(const pio_agent_rank *rank)
{
	return rank->has_ended && !rank->was_stopped && (rank->exit_code > 0 || rank->signal > 0);
}

bool pio_agent_is_victim(const pio_agent_rank *rank)
{
	return rank->ring && pio_ring_is_secondary(rank->ring);
}

/* Deaths of one batch came so close together that their order is unknown: a
 * signal then rather is the cause than an exit status. */
static bool is_earlier(const pio_agent_rank *a, const pio_agent_rank *b)
{
	if (pio_agent_is_victim(a) != pio_agent_is_victim(b))
		return !pio_agent_is_victim(a);
	if (a->batch != b->batch)
		return a->batch < b->batch;
	if ((a->signal > 0) != (b->signal > 0))
		return a->signal > 0;
	return a->rank < b->rank;
}

const pio_agent_rank *pio_agent_first(const pio_agent *agent)
{
	const pio_agent_rank *first = NULL;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (has_failed(&agent->ranks[i]) && (!first || is_earlier(&agent->ranks[i], first)))
			first = &agent->ranks[i];
	return first;
}

void pio_agent_rank_ended(pio_agent *agent, pid_t pid, int status, bool was_stopped)
{
	pio_agent_rank *rank = find_pid(agent, pid);
	if (!rank) { /* an orphan of a rank, or who listens to GPUs */
		pio_agent_xids_reaped(agent, pid);
		pio_agent_meter_reaped(agent, pid);
		return;
	}
	/* One that could not save at its last step has failed. */
	bool ended_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	rank->was_stopped = was_stopped || (ended_well && pio_agent_vote_is_told(agent, rank));
	rank->batch = agent->batches;
	rank->ended_ns = pio_clock_wall_ns();
	rank->ended_mono_ns = pio_clock_mono_ns();
	rank->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	rank->signal = WIFSIGNALED(status) ? WTERMSIG(status) : -1;
	rank->has_ended = true;
	agent->alive--;
}

void pio_agent_ranks_reap(pio_agent *agent)
{
	int status;
	pid_t pid;
	agent->batches++;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR))
		pio_agent_rank_ended(agent, pid, status, agent->stage >= PIO_STAGE_TERM);
	const pio_agent_rank *first = pio_agent_first(agent);
	if (first && agent->stage <= PIO_STAGE_VOTE) {
		pio_str reason = PIO_STR_INIT;
		pio_agent_describe(&reason, agent, first);
		if (agent->rendezvous && !agent->joined) /* else the head says it to all nodes */
			pio_rendezvous_abort(agent->rendezvous, reason.data);
		pio_str_fini(&reason);
		pio_agent_escalate(agent, PIO_STAGE_PEERS);
	}
	if (first)
		pio_agent_head_tell_failure(agent);
	if (agent->alive == 0)
		uv_stop(&agent->loop);
}

void pio_agent_ranks_signal(int signal_number)
{
	/* This process adopts orphans: nothing that a rank started can leave the set. */
	pio_proc_signal_descendants(getpid(), signal_number);
}

int pio_agent_leftovers_kill(void)
{
	int64_t deadline_ns = pio_clock_mono_ns() + LEFTOVERS_MS * INT64_C(1000000);
	int killed = pio_proc_signal_descendants(getpid(), SIGKILL);
	/* Orphans come to this process one generation after the other. */
	while (pio_clock_mono_ns() < deadline_ns) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);
		if (pid < 0 && errno == ECHILD)
			break;
		if (pid == 0) {
			pio_clock_sleep_ms(5);
			pio_proc_signal_descendants(getpid(), SIGKILL);
		}
	}
	return killed;
}

int pio_agent_drain(pio_agent *agent, bool dead, uint64_t *moved, pio_err *err)
{
	*moved = 0;
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		uint64_t n = 0;
		if (!agent->ranks[i].ring)
			continue;
		int rc = pio_ring_drain(agent->ranks[i].ring, agent->journal, dead, &n, err);
		if (rc)
			return rc;
		agent->ranks[i].last_step = pio_ring_last_step(agent->ranks[i].ring);
		*moved += n;
	}
	return 0;
}

void pio_agent_rings_close(pio_agent *agent, bool unlink)
{
	for (int i = 0; agent->ranks && i < agent->spec.ranks_per_node; i++) {
		pio_agent_rank *rank = &agent->ranks[i];
		bool is_ours = rank->ring != NULL;
		pio_ring_close(&rank->ring);
		if (unlink && is_ours)
			(void)pio_fs_unlink(rank->ring_path, NULL);
		pio_free(rank->ring_path);
		rank->ring_path = NULL;
	}
}
