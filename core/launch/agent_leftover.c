/* An agent whose ranks run looks for what dead ones left on its node (leftover.h),
 * in a thread: no rank waits for that. */
#include <stdio.h>

#include "base/mem.h"
#include "launch/agent_parts.h"
#include "launch/leftover.h"

typedef struct leftover_job {
	uv_work_t work;
	pio_agent *agent;
	pio_str told;
	pio_err err;
} leftover_job;

static void drain(uv_work_t *work)
{
	leftover_job *job = work->data;
	(void)pio_leftover_drain(&job->told, NULL, &job->err);
}

static void tell(pio_agent *agent, const char *text)
{
	if (agent->ended_ns) /* its last word is said */
		fprintf(stderr, "pioche agent: %s\n", text);
	else
		pio_agent_note(agent, "leftover", text);
}

static void drained(uv_work_t *work, int status)
{
	leftover_job *job = work->data;
	pio_str text = PIO_STR_INIT;
	if (job->told.len)
		pio_str_printf(&text, "drained what was left on this node of: %s", job->told.data);
	if (status == 0 && text.len && !text.failed)
		tell(job->agent, text.data);
	if (status == 0 && job->err.code)
		tell(job->agent, job->err.message);
	pio_str_fini(&text);
	pio_str_fini(&job->told);
	pio_free(job);
}

void pio_agent_leftover_start(pio_agent *agent)
{
	leftover_job *job = pio_calloc(1, sizeof *job);
	if (!job)
		return; /* the next agent does it */
	job->agent = agent;
	job->told = (pio_str)PIO_STR_INIT;
	job->work.data = job;
	if (uv_queue_work(&agent->loop, &job->work, drain, drained) != 0)
		pio_free(job);
}
