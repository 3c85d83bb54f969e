/* Which ranks of this node take longer for a step than those of the whole attempt?
 *
 * Every 5 s, and only if a rank's time has become known anew, an agent alone takes
 * the median of its own ranks. Under a head it reports their times, one frame a
 * node, and the head answers all nodes with the median over all of them, so that
 * one rank a node is compared, too. An episode of slow steps is told once, in the
 * journal, where the rank's own events are. */
#include <stdio.h>

#include "launch/agent_parts.h"

#define APART_NS INT64_C(5000000000)

static void tell(pio_agent *agent, int index, int64_t median_ns, size_t count)
{
	pio_str message = PIO_STR_INIT;
	int64_t step_ns = agent->paces[index].step_ns;
	pio_str_printf(&message, "rank %d (%s) takes %.3g s a step, %.2f times the median of %zu ranks",
	               agent->ranks[index].rank, agent->spec.host, (double)step_ns / 1e9,
	               (double)step_ns / (double)median_ns, count);
	pio_agent_event(agent, index, "straggler", &message);
	pio_str_fini(&message);
}

/* Of the ranks that log steps and live, what each has told; how many they are. */
static size_t list_times(int64_t *steps_ns, const pio_agent *agent)
{
	size_t count = 0;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->paces[i].rises > 0 && !agent->ranks[i].has_ended)
			steps_ns[count++] = agent->paces[i].step_ns;
	return count;
}

static void compare(pio_agent *agent, int64_t median_ns, size_t count)
{
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->paces[i].step_ns > 0 && !agent->ranks[i].has_ended &&
		    pio_pace_falls_behind(&agent->paces[i], median_ns))
			tell(agent, i, median_ns, count);
}

static void report(pio_agent *agent, const int64_t *steps_ns, size_t count)
{
	json_t *times = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(times, json_integer(steps_ns[i]));
	pio_agent_say(agent, json_pack("{s:s, s:o}", "event", "pace", "step_ns", times));
}

void pio_agent_straggler_beat(pio_agent *agent, int64_t now_ns)
{
	static int64_t steps_ns[PIO_RANKS_PER_NODE_MAX];
	if (!agent->has_new_paces || now_ns - agent->paces_told_ns < APART_NS)
		return;
	agent->has_new_paces = false;
	agent->paces_told_ns = now_ns;
	size_t count = list_times(steps_ns, agent);
	if (agent->joined) {
		report(agent, steps_ns, count);
		return;
	}
	int64_t median_ns = pio_pace_median_ns(steps_ns, &count);
	if (median_ns > 0)
		compare(agent, median_ns, count);
}

void pio_agent_straggler_obey(pio_agent *agent, const char *word)
{
	long long median_ns;
	size_t count;
	if (sscanf(word, "pace %lld %zu", &median_ns, &count) == 2 && median_ns > 0)
		compare(agent, median_ns, count);
}
