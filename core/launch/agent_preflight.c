/* An agent looks at its node before it starts ranks there (preflight.h). */
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/agent_parts.h"
#include "launch/preflight.h"

/* The head tells both its clocks when it gives orders; the monotonic ones have
 * been compared since (join.h). */
static int64_t skew_ns(const pio_agent *agent)
{
	const json_t *clock = json_object_get(agent->spec.json, "head_clock");
	if (!agent->joined || !json_is_object(clock))
		return PIO_SKEW_UNKNOWN;
	int64_t since_ns = pio_agent_head_clock_ns(agent, pio_clock_mono_ns()) -
	                   pio_json_int_or(clock, "mono_ns", 0);
	return pio_clock_wall_ns() - (pio_json_int_or(clock, "wall_ns", 0) + since_ns);
}

int pio_agent_preflight(pio_agent *agent, pio_err *err)
{
	pio_str failures = PIO_STR_INIT;
	if (!agent->spec.preflight)
		return 0;
	int rc = pio_preflight(&agent->checks, &failures, &agent->spec, skew_ns(agent), err);
	if (!rc && failures.len) {
		agent->is_unfit = true;
		rc = pio_fail(err, PIO_EINVAL, "preflight: %s: %s", agent->spec.host, failures.data);
	}
	pio_str_fini(&failures);
	return rc;
}

json_t *pio_agent_unfit_record(const pio_agent *agent)
{
	pio_str what = PIO_STR_INIT;
	pio_str_puts(&what, "fails its preflight");
	size_t i;
	json_t *check;
	json_array_foreach(agent->checks, i, check)
		if (strcmp(pio_json_string_or(check, "state", ""), "failed") == 0)
			pio_str_printf(&what, "; %s", pio_json_string_or(check, "message", ""));
	json_t *record = json_pack("{s:n, s:n, s:n, s:I, s:I, s:b, s:o, s:o}", "rank", "pid", "step", "time_ns",
		(json_int_t)agent->ended_ns, "clock_ns",
		(json_int_t)pio_agent_head_clock_ns(agent, agent->trouble_mono_ns), "victim", 0, "what",
		pio_agent_json_text(what.data, what.len), "message",
		pio_agent_json_text(agent->trouble.message, strlen(agent->trouble.message)));
	pio_str_fini(&what);
	return record;
}
