/* Where the ranks of a node run: its GPUs, and the binding to its cores. */
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "launch/agent_parts.h"
#include "sys/proc.h"

const char *pio_agent_visible(const pio_agent *agent)
{
	return pio_json_string_or(agent->spec.env, "CUDA_VISIBLE_DEVICES", getenv("CUDA_VISIBLE_DEVICES"));
}

const pio_gpu *pio_agent_gpu_of(const pio_agent *agent, int local_rank)
{
	return pio_gpu_of_rank(&agent->gpus, pio_agent_visible(agent), local_rank);
}

int pio_agent_rank_of_gpu(const pio_agent *agent, int index)
{
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		const pio_gpu *gpu = pio_agent_gpu_of(agent, i);
		if (gpu && gpu->index == index)
			return i;
	}
	for (size_t i = 0; i < agent->gpus.count; i++)
		if (agent->gpus.gpus[i].index == index &&
		    pio_gpu_is_visible(&agent->gpus.gpus[i], pio_agent_visible(agent)))
			return 0;
	return -1;
}

/* Of a node that is shared its ranks see the GPUs of their slots alone, unless the
 * recipe itself says which. */
static int take_gpus(const pio_agent *agent, const char *visible, pio_err *err)
{
	pio_str list = PIO_STR_INIT;
	const json_t *slot;
	size_t i;
	if (json_object_get(agent->spec.env, "CUDA_VISIBLE_DEVICES"))
		return 0;
	json_array_foreach(agent->spec.slots, i, slot)
		pio_gpu_put_visible(&list, &agent->gpus, visible, (int)json_integer_value(slot));
	int rc = pio_str_check(&list, err);
	if (!rc && list.len && setenv("CUDA_VISIBLE_DEVICES", list.data, 1) != 0)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the GPUs of a node's slots");
	pio_str_fini(&list);
	return rc;
}

/* A shared node is split as if it had a rank in each of its slots. What belongs to
 * those of this agent is from now on all that it may use. */
static int take_slots(pio_agent *agent, pio_binding_request *request, pio_err *err)
{
	pio_binding whole;
	pio_binding_request all = *request;
	pio_cpus part = { { 0 } };
	pio_err why = PIO_ERR_INIT;
	const json_t *slot;
	size_t i;
	all.ranks = agent->spec.slots_per_node;
	int rc = pio_binding_plan(&whole, &all, err);
	if (rc)
		return rc;
	if (whole.why[0])
		pio_agent_note(agent, "launch.bind", whole.why);
	json_array_foreach(whole.ranks ? agent->spec.slots : NULL, i, slot)
		pio_cpus_or(&part, &whole.ranks[json_integer_value(slot)].cpus);
	if (whole.ranks && pio_cpus_bind(&part, &why) == 0)
		request->allowed = part;
	else if (whole.ranks)
		pio_agent_note(agent, "launch.bind", why.message);
	pio_binding_fini(&whole);
	rc = take_gpus(agent, request->visible, err);
	request->visible = pio_agent_visible(agent);
	return rc;
}

int pio_agent_place(pio_agent *agent, pio_err *err)
{
	const pio_agent_spec *spec = &agent->spec;
	pio_err why = PIO_ERR_INIT;
	int rc = 0, listed = pio_gpus_list(&agent->gpus, PIO_GPUS_TIMEOUT_MS, &why);
	if (listed && listed != -PIO_ENOTFOUND)
		pio_agent_note(agent, "launch.gpu", why.message);
	pio_binding_request request = { .mode = spec->bind, .ranks = spec->ranks_per_node, .sys = "/sys",
	                                .gpus = &agent->gpus, .visible = pio_agent_visible(agent) };
	if (pio_cpus_allowed(&request.allowed, &why) != 0) {
		pio_agent_note(agent, "launch.bind", why.message);
		return 0;
	}
	if (spec->slots)
		rc = take_slots(agent, &request, err);
	if (!rc)
		rc = pio_binding_plan(&agent->binding, &request, err);
	if (!rc && agent->binding.why[0])
		pio_agent_note(agent, "launch.bind", agent->binding.why);
	return rc;
}

void pio_agent_place_end(pio_agent *agent)
{
	pio_free(agent->xids);
	agent->xids = NULL;
	pio_free(agent->meter);
	agent->meter = NULL;
	pio_binding_fini(&agent->binding);
	pio_gpus_free(&agent->gpus);
}

/* The rank inherits where this thread runs. What cannot be had is told, and the
 * rank starts without. */
int pio_agent_rank_spawn(pio_agent *agent, int local_rank, const pio_proc_spec *spec, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	if (pio_binding_enter(&agent->binding, local_rank, &why) != 0)
		pio_agent_note(agent, "launch.bind", why.message);
	int rc = pio_proc_spawn(&agent->ranks[local_rank].pid, spec, err);
	if (pio_binding_leave(&agent->binding, local_rank, &why) != 0)
		pio_agent_note(agent, "launch.bind", why.message);
	return rc;
}
