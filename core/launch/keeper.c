#include "launch/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "client/drain.h"
#include "launch/leftover.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/sock.h"

#define BURY_MS 5000
#define AGAIN_MS 5
#define ROOM_MS 8000     /* a full disk may get room again */
#define ROOM_AGAIN_MS 500

static volatile sig_atomic_t worker_pid;

/* Whoever stops an agent by signal may have found its keeper. */
static void pass_on(int signal_number)
{
	if (worker_pid > 0)
		kill((pid_t)worker_pid, signal_number);
}

static int share_ranks(pio_agent *agent, pio_err *err)
{
	size_t bytes = (size_t)agent->spec.ranks_per_node * sizeof *agent->ranks;
	void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return pio_fail_errno(err, errno, "memory for %d ranks", agent->spec.ranks_per_node);
	agent->ranks = shared;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		agent->ranks[i] = (pio_agent_rank){ .rank = agent->spec.first_rank + i, .exit_code = -1,
		                                    .signal = -1, .last_step = INT64_MIN };
	return 0;
}

int pio_keeper_none(pio_agent *agent, pio_err *err)
{
	int rc = share_ranks(agent, err);
	agent->started_ns = pio_clock_wall_ns();
	agent->keeper_pid = getppid();
	return rc ? rc : pio_proc_adopt_orphans(err);
}

int pio_keeper_split(pio_agent *agent, pid_t *worker, pio_err *err)
{
	struct sigaction forward = { .sa_handler = pass_on };
	int rc = pio_keeper_none(agent, err);
	if (!rc && agent->joined)
		rc = pio_leftover_announce(&agent->note_fd, &agent->spec, err);
	if (!rc)
		rc = pio_proc_fork(worker, SIGTERM, err);
	if (rc)
		return rc;
	agent->keeper_pid = *worker ? 0 : getppid();
	if (*worker) {
		worker_pid = *worker;
		sigaction(SIGTERM, &forward, NULL);
		sigaction(SIGINT, &forward, NULL);
		sigaction(SIGUSR2, &forward, NULL);
	}
	return 0;
}

/* ---- after the worker's death --------------------------------------------------------------- */

/* Who ended by itself before is on record as that; the others die here. */
static void bury(pio_agent *agent)
{
	int64_t deadline_ns = pio_clock_mono_ns() + BURY_MS * INT64_C(1000000);
	do {
		pid_t pid;
		int status;
		pio_proc_signal_descendants(getpid(), SIGKILL);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			pio_agent_rank_ended(agent, pid, status, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		if (pid < 0 && errno == ECHILD)
			return;
		pio_clock_sleep_ms(AGAIN_MS);
	} while (pio_clock_mono_ns() < deadline_ns);
}

/* They say who is a victim; the worker's own mappings are gone with it. */
static void open_rings(pio_agent *agent)
{
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		pio_agent_rank *rank = &agent->ranks[i];
		pio_str path = PIO_STR_INIT;
		rank->ring = NULL;
		rank->ring_path = NULL;
		if (pio_ring_path(&path, agent->spec.run, agent->spec.attempt, rank->rank, NULL) == 0)
			(void)pio_ring_attach(&rank->ring, path.data, NULL); /* there may be none */
		pio_str_fini(&path);
	}
}

static int drain_rings(pio_agent *agent, pio_err *err)
{
	const pio_agent_spec *spec = &agent->spec;
	int64_t steps[PIO_RANKS_PER_NODE_MAX], deadline_ns = pio_clock_mono_ns() + ROOM_MS * INT64_C(1000000);
	int n = spec->ranks_per_node, rc;
	pio_ring_node node = pio_leftover_rings(spec);
	node.last_steps = steps;
	for (int i = 0; i < n; i++)
		steps[i] = agent->ranks[i].last_step;
	while ((rc = pio_ring_recover_node(&node, err)) == -PIO_ENOSPC &&
	       agent->joined && pio_clock_mono_ns() < deadline_ns)
		pio_clock_sleep_ms(ROOM_AGAIN_MS); /* nobody else can reach this node's memory */
	for (int i = 0; i < n; i++)
		agent->ranks[i].last_step = steps[i];
	return rc;
}

static void describe_death(pio_agent *agent, int status)
{
	pio_str text = PIO_STR_INIT;
	if (WIFSIGNALED(status))
		pio_str_printf(&text, "the agent died: %s", pio_proc_signal_name(WTERMSIG(status)));
	else
		pio_str_printf(&text, "the agent ended with %d", WEXITSTATUS(status));
	if (!pio_agent_first(agent)) {
		agent->verdict = "lost";
		(void)pio_fail(&agent->trouble, PIO_EIO, "%s", text.data);
		agent->trouble_mono_ns = pio_clock_mono_ns();
	}
	pio_str_fini(&text);
}

static void tell(pio_agent *agent, json_t *record)
{
	if (!agent->joined) {
		/* The worker may have died in the middle of a line. */
		(void)pio_fs_write_all(STDOUT_FILENO, "\n", 1, "standard output", NULL);
		json_object_set_new(record, "event", json_string("ended"));
		pio_agent_say(agent, json_incref(record));
		return;
	}
	pio_agent_slim(record);
	json_object_set_new(record, "event", json_string("ended"));
	char *text = pio_json_canonical(record);
	if (text)
		(void)pio_join_speak_for(agent->joined, text, NULL); /* the record's file says it too */
	free(text);
}

static int settle(pio_agent *agent, int status, pio_err *err)
{
	json_t *record = NULL;
	bury(agent);
	int rc = pio_agent_take_attempt(agent, err);
	if (rc) /* it was over before: killed in its last moments, or never begun */
		return rc == -PIO_EEXIST ? 0 : rc;
	open_rings(agent);
	describe_death(agent, status);
	rc = drain_rings(agent, err);
	if (rc) /* what is in the rings waits, if this is the supervisor's machine */
		fprintf(stderr, "pioche keeper: %s\n", err->message);
	agent->ended_ns = pio_clock_wall_ns();
	rc = pio_agent_write_record(agent, &record, err);
	pio_agent_rings_close(agent, false);
	if (!rc)
		tell(agent, record);
	json_decref(record);
	return rc;
}

int pio_keeper_watch(pio_agent *agent, pid_t worker)
{
	pio_err err = PIO_ERR_INIT;
	int status = 0;
	if (agent->joined) /* the head is to notice the worker's end */
		pio_sock_close(&agent->joined->fd);
	while (waitpid(worker, &status, 0) < 0 && errno == EINTR)
		continue;
	worker_pid = 0;
	int rc = 0;
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 3))
		rc = settle(agent, status, &err);
	else if (WEXITSTATUS(status) == 3)
		rc = -PIO_EIO; /* it has said why */
	else if (agent->joined) /* rings that it left because the journal was in trouble */
		rc = drain_rings(agent, &err);
	if (rc && err.code)
		fprintf(stderr, "pioche keeper: %s\n", err.message);
	if (agent->joined)
		pio_leftover_end(&agent->spec);
	munmap(agent->ranks, (size_t)agent->spec.ranks_per_node * sizeof *agent->ranks);
	return rc ? 3 : 0;
}
