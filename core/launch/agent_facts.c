/* What the ranks of a node run on, told once into its journal. */
#include <string.h>

#include "client/facts.h"
#include "launch/agent_parts.h"

/* Driver, the newest CUDA it runs, and how many GPUs of which kind there are. */
static void put_gpus(pio_str *json, const pio_gpus *gpus)
{
	if (!gpus->driver[0])
		return;
	pio_str_puts(json, ",\"driver\":");
	pio_str_put_json(json, gpus->driver, strlen(gpus->driver));
	if (gpus->cuda)
		pio_str_printf(json, ",\"cuda\":\"%d.%d\"", gpus->cuda / 1000, gpus->cuda % 1000 / 10);
	pio_str_puts(json, ",\"gpus\":{");
	for (size_t i = 0, told = 0; i < gpus->count; i++) {
		size_t first = 0, same = 0;
		while (strcmp(gpus->gpus[first].name, gpus->gpus[i].name) != 0)
			first++;
		if (first < i)
			continue;
		for (size_t j = i; j < gpus->count; j++)
			same += strcmp(gpus->gpus[j].name, gpus->gpus[i].name) == 0;
		pio_str_puts(json, told++ ? "," : "");
		pio_str_put_json(json, gpus->gpus[i].name, strlen(gpus->gpus[i].name));
		pio_str_printf(json, ":%zu", same);
	}
	pio_str_putc(json, '}');
}

int pio_agent_facts_tell(pio_agent *agent, pio_err *err)
{
	pio_str json = PIO_STR_INIT, payload = PIO_STR_INIT;
	char **envp;
	int rc = pio_agent_env(&envp, &agent->spec, 0, agent->ranks[0].ring_path, err);
	if (rc)
		return rc;
	pio_str_putc(&json, '{');
	pio_facts_put(&json, envp);
	put_gpus(&json, &agent->gpus);
	pio_str_puts(&json, ",\"pioche\":\"" PIO_VERSION "\"}");
	pio_agent_env_free(envp);
	rc = pio_str_check(&json, err);
	if (!rc) {
		pio_facts_payload(&payload, (unsigned)agent->spec.first_rank, "machine", agent->spec.host,
		                  agent->spec.cwd, json.data, json.len);
		rc = pio_str_check(&payload, err);
	}
	if (!rc)
		rc = pio_journal_append(agent->journal, PIO_RECORD_ENVIRONMENT, payload.data, payload.len, NULL,
		                        0, err);
	pio_str_fini(&json);
	pio_str_fini(&payload);
	return rc;
}
