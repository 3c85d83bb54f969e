/* Where the ranks of this node meet, and those of the others: the rendezvous,
 * and without a head the assembly behind it. */
#include "launch/agent_parts.h"
#include "sys/sock.h"

/* ---- between the rendezvous and the assembly -------------------------------------------- */

static void to_assembly(pio_agent *agent, pio_str *frames)
{
	size_t at = 0, used;
	pio_frame frame;
	while (!frames->failed && pio_frame_next(&frame, &used, frames->data + at, frames->len - at, NULL) == 1) {
		pio_assembly_hear(agent->assembly, 0, &frame);
		at += used;
	}
	pio_str_fini(frames);
}

static void up(void *context, pio_str *frames)
{
	pio_agent *agent = context;
	if (agent->joined)
		pio_agent_head_send(agent, frames);
	else
		to_assembly(agent, frames);
}

static void down(void *context, int node, pio_str *frames)
{
	pio_agent *agent = context;
	size_t at = 0, used;
	pio_frame frame;
	(void)node; /* there is one */
	while (!frames->failed && agent->rendezvous &&
	       pio_frame_next(&frame, &used, frames->data + at, frames->len - at, NULL) == 1) {
		pio_rendezvous_hear(agent->rendezvous, &frame);
		at += used;
	}
	pio_str_fini(frames);
}

static void ticked(uv_timer_t *timer)
{
	pio_agent *agent = timer->data;
	pio_assembly_tick(agent->assembly);
}

/* ---- life --------------------------------------------------------------------------------- */

/* A free port of this node, found by binding it. Somebody may take it before
 * rank 0 binds it again; nothing can hold it for a program it does not know. */
static int find_master(pio_agent_spec *spec, pio_err *err)
{
	int fd = -1;
	uint16_t port = 0;
	if (!spec->master_addr)
		spec->master_addr = "127.0.0.1";
	if (spec->master_port)
		return 0;
	int rc = pio_sock_listen(&fd, spec->master_addr, &port, err);
	pio_sock_close(&fd);
	spec->master_port = port;
	return rc;
}

/* On one machine: the agent is its own head. */
static int open_assembly(pio_agent *agent, pio_err *err)
{
	const pio_assembly_owner owner = { agent, down, NULL, pio_agent_note };
	int rc = find_master(&agent->spec, err);
	if (!rc)
		rc = pio_assembly_new(&agent->assembly, 1, agent->spec.ranks_per_node, &owner, err);
	uv_timer_init(&agent->loop, &agent->assembly_tick);
	agent->assembly_tick.data = agent;
	if (!rc)
		uv_timer_start(&agent->assembly_tick, ticked, 50, 50);
	agent->spec.address = agent->spec.master_addr;
	return rc;
}

int pio_agent_meet_open(pio_agent *agent, pio_err *err)
{
	pio_agent_spec *spec = &agent->spec;
	const pio_rendezvous_owner owner = { agent, up, pio_agent_note };
	int rc = 0;
	if (agent->joined)
		spec->address = agent->joined->self.address;
	else
		rc = open_assembly(agent, err);
	if (!rc)
		rc = pio_rendezvous_open(&agent->rendezvous, &agent->loop, spec->token, spec->world,
		                         spec->first_rank, spec->ranks_per_node, &owner, err);
	if (!rc)
		spec->rendezvous = pio_rendezvous_name(agent->rendezvous);
	return rc;
}

void pio_agent_meet_close(pio_agent *agent)
{
	pio_rendezvous_close(&agent->rendezvous);
	pio_assembly_free(agent->assembly);
	agent->assembly = NULL;
}
