/* An ending in good order: all ranks leave at one step (client/vote.h). On one machine
 * the agent holds the rings and gives the step at once; under a head it answers "hold"
 * with what its ranks have asked about, and waits for "end". */
#include <stdio.h>
#include <string.h>

#include "client/vote.h"
#include "launch/agent.h"
#include "launch/agent_parts.h"

#define STEP_S_MAX 600          /* for how long a step in progress is waited for */
#define LIMIT_STEP_S_MAX 60     /* the same where a time limit is near */

int64_t pio_vote_patience_s(int64_t step_ns, int64_t grace_s, bool is_limit)
{
	int64_t step_s = 2 * step_ns / 1000000000, most_s = is_limit ? LIMIT_STEP_S_MAX : STEP_S_MAX;
	return step_s + grace_s < most_s ? step_s + grace_s : most_s;
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
	return agent->stage == PIO_STAGE_RUNNING && !agent->verdict;
}

bool pio_agent_vote(pio_agent *agent, const char *verdict)
{
	bool is_limit = strcmp(verdict, "timeout") == 0;
	if (agent->stage == PIO_STAGE_VOTE)
		return !is_limit; /* else there is no time for more patience */
	if (agent->joined || !may_vote(agent))
		return false;
	int64_t asked = hold(agent), step_ns = 0;
	if (asked == INT64_MIN || asked == INT64_MAX)
		return false;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->paces[i].step_ns > step_ns)
			step_ns = agent->paces[i].step_ns;
	int64_t patience_s = pio_vote_patience_s(step_ns, agent->spec.grace_s, is_limit);
	char note[64];
	give(agent, asked + 1, patience_s, verdict);
	pio_agent_say(agent, json_pack("{s:s, s:I}", "event", "vote", "patience_s", (json_int_t)patience_s));
	snprintf(note, sizeof note, PIO_VOTE_NOTE, (long long)asked + 1);
	pio_agent_note(agent, "vote", note);
	return true;
}

bool pio_agent_vote_obey(pio_agent *agent, const char *word)
{
	long long step, patience_s;
	char reason[16];
	if (strcmp(word, "hold") == 0 && may_vote(agent)) {
		int64_t asked = hold(agent);
		pio_agent_say(agent, json_pack("{s:s, s:o}", "event", "hold", "asked",
		                               asked == INT64_MIN ? json_null() : json_integer(asked)));
		return true;
	}
	if (sscanf(word, "end %lld %lld %15s", &step, &patience_s, reason) != 3 || !may_vote(agent))
		return false;
	give(agent, step, patience_s, strcmp(reason, "timeout") == 0 ? "timeout" : "cancelled");
	return true;
}

bool pio_agent_vote_is_told(const pio_agent *agent, const pio_agent_rank *rank)
{
	return agent->stage == PIO_STAGE_VOTE && rank->ring && pio_vote_is_told(rank->ring);
}

bool pio_agent_vote_is_moot(const pio_agent *agent)
{
	if (agent->stage != PIO_STAGE_VOTE || agent->was_signalled)
		return false;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->ranks[i].was_stopped || agent->ranks[i].exit_code != 0)
			return false;
	return true;
}
