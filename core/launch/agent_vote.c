/* An ending in good order: all ranks leave at one step (client/vote.h). On one machine
 * the agent holds the rings and gives the step at once; under a head it answers "hold"
 * with what its ranks have asked about, and waits for "end"; where that does not come in
 * time, as the head is stopped or cut off, the ranks go on, and the step is theirs no more. */
#include <stdio.h>
#include <string.h>

#include "client/vote.h"
#include "launch/agent.h"
#include "launch/agent_parts.h"

#define STEP_S_MAX 600          /* for how long a step in progress is waited for */
#define LIMIT_STEP_S_MAX 60     /* the same where a time limit is near */

int64_t pio_vote_patience_s(int64_t step_ns, const pio_agent_spec *spec, bool is_limit)
{
	int64_t steps_s = 2 * (step_ns / 1000000000), most_s = is_limit ? LIMIT_STEP_S_MAX : STEP_S_MAX;
	int64_t patience_s = (steps_s > spec->last_step_s ? steps_s : spec->last_step_s) + spec->grace_s;
	return patience_s < most_s ? patience_s : most_s;
}

/* The highest step that a rank of this node asked about; INT64_MIN: none asks. */
static int64_t hold(pio_agent *agent)
{
	int64_t asked = INT64_MIN;
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		int64_t step = agent->ranks[i].ring ? pio_vote_hold(agent->ranks[i].ring) : INT64_MIN;
		asked = step > asked ? step : asked;
	}
	return asked;
}

void pio_agent_vote_drop(pio_agent *agent)
{
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->ranks[i].ring)
			pio_vote_drop(agent->ranks[i].ring);
}

static void give(pio_agent *agent, int64_t step, int64_t patience_s, const char *verdict)
{
	agent->verdict = verdict;
	agent->patience_s = patience_s;
	pio_agent_escalate(agent, PIO_STAGE_VOTE);
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->ranks[i].ring)
			pio_vote_give(agent->ranks[i].ring, step);
}

static bool may_vote(const pio_agent *agent)
{
	return agent->stage == PIO_STAGE_RUNNING && !agent->verdict && agent->alive > 0;
}

bool pio_agent_vote(pio_agent *agent, const char *verdict)
{
	bool is_limit = strcmp(verdict, "timeout") == 0;
	if (agent->stage == PIO_STAGE_VOTE)
		return !is_limit; /* else there is no time for more patience */
	if (agent->joined || !may_vote(agent))
		return false;
	int64_t asked = hold(agent);
	if (asked == INT64_MIN || asked == INT64_MAX)
		return false;
	int64_t patience_s = pio_vote_patience_s(pio_agent_watch_step_ns(agent), &agent->spec, is_limit);
	char note[64];
	give(agent, asked + 1, patience_s, verdict);
	pio_agent_say(agent, json_pack("{s:s, s:I}", "event", "vote", "patience_s", (json_int_t)patience_s));
	snprintf(note, sizeof note, PIO_VOTE_NOTE, (long long)asked + 1);
	pio_agent_note(agent, "vote", note);
	return true;
}

static void head_is_silent(uv_timer_t *timer)
{
	pio_agent *agent = timer->data;
	agent->is_holding = false;
	pio_agent_vote_drop(agent);
}

bool pio_agent_vote_obey(pio_agent *agent, const char *word)
{
	long long step, patience_s;
	char reason[16];
	if (strcmp(word, "hold") == 0 && may_vote(agent)) {
		int64_t asked = hold(agent);
		agent->is_holding = true;
		uv_timer_start(&agent->escalation, head_is_silent, (uint64_t)agent->spec.hold_s * 1000, 0);
		pio_agent_say(agent, json_pack("{s:s, s:o, s:I}", "event", "hold", "asked",
		                               asked == INT64_MIN ? json_null() : json_integer(asked), "step_ns",
		                               (json_int_t)pio_agent_watch_step_ns(agent)));
		return true;
	}
	if (sscanf(word, "end %lld %lld %15s", &step, &patience_s, reason) != 3 || !may_vote(agent))
		return false;
	if (agent->is_holding)
		give(agent, step, patience_s, strcmp(reason, "timeout") == 0 ? "timeout" : "cancelled");
	else
		pio_agent_obey(agent, reason);
	return true;
}

bool pio_agent_vote_is_told(const pio_agent *agent, const pio_agent_rank *rank)
{
	return agent->stage == PIO_STAGE_VOTE && rank->ring && pio_vote_is_told(rank->ring);
}

bool pio_agent_vote_is_moot(const pio_agent *agent)
{
	if (agent->stage != PIO_STAGE_VOTE || agent->signalled_ns)
		return false;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->ranks[i].was_stopped || agent->ranks[i].exit_code != 0)
			return false;
	return true;
}
