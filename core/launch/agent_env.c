/* The environment of a rank. All families of variables are set for every task
 * (they do not collide): torchrun's (torch/distributed/run.py), DeepSpeed's,
 * JAX's coordinator, and pioche's own; Slurm's are left as they are. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "client/env.h"
#include "launch/agent_spec.h"

typedef struct env_list {
	char **entries;        /* count of them, then NULL */
	size_t count, capacity;
	bool failed;
} env_list;

static size_t find(const env_list *list, const char *name, size_t name_bytes)
{
	size_t i = 0;
	while (i < list->count && (strncmp(list->entries[i], name, name_bytes) != 0 ||
	                           list->entries[i][name_bytes] != '='))
		i++;
	return i;
}

static void put(env_list *list, const char *name, const char *value)
{
	pio_str entry = PIO_STR_INIT;
	pio_str_printf(&entry, "%s=%s", name, value);
	char *text = pio_str_take(&entry);
	pio_str_fini(&entry);
	size_t at = find(list, name, strlen(name));
	if (text && at + 2 > list->capacity) {
		size_t capacity = list->capacity ? 2 * list->capacity : 128;
		char **entries = pio_realloc(list->entries, capacity * sizeof *entries);
		if (entries) {
			list->entries = entries;
			list->capacity = capacity;
		}
	}
	if (!text || at + 2 > list->capacity) {
		pio_free(text);
		list->failed = true;
	} else if (at < list->count) {
		pio_free(list->entries[at]);
		list->entries[at] = text;
	} else {
		list->entries[list->count++] = text;
		list->entries[list->count] = NULL;
	}
}

static void put_int(env_list *list, const char *name, int64_t value)
{
	pio_str text = PIO_STR_INIT;
	pio_str_printf(&text, "%lld", (long long)value);
	put(list, name, text.data);
	list->failed |= text.failed;
	pio_str_fini(&text);
}

static void drop(env_list *list, const char *name)
{
	size_t at = find(list, name, strlen(name));
	if (at == list->count)
		return;
	pio_free(list->entries[at]);
	list->entries[at] = list->entries[--list->count];
	list->entries[list->count] = NULL;
}

/* PATH-like variables: ours first, then what was there. */
static void put_first(env_list *list, const char *name, const char *dir)
{
	pio_str value = PIO_STR_INIT;
	size_t at = find(list, name, strlen(name));
	pio_str_puts(&value, dir);
	if (at < list->count && list->entries[at][strlen(name) + 1])
		pio_str_printf(&value, ":%s", list->entries[at] + strlen(name) + 1);
	put(list, name, value.data);
	list->failed |= value.failed;
	pio_str_fini(&value);
}

static void put_torch(env_list *list, const pio_agent_spec *spec, int local_rank)
{
	const struct { const char *name; int64_t value; } numbers[] = {
		{ "RANK", spec->first_rank + local_rank },
		{ "WORLD_SIZE", spec->world },
		{ "LOCAL_RANK", local_rank },
		{ "LOCAL_WORLD_SIZE", spec->ranks_per_node },
		{ "LOCAL_SIZE", spec->ranks_per_node },
		{ "GROUP_RANK", spec->node },
		{ "GROUP_WORLD_SIZE", spec->nodes },
		{ "CROSS_RANK", spec->node },
		{ "CROSS_SIZE", spec->nodes },
		{ "NODE_RANK", spec->node },
		{ "ROLE_RANK", spec->first_rank + local_rank },
		{ "ROLE_WORLD_SIZE", spec->world },
		{ "MASTER_PORT", spec->master_port },
		{ "TORCHELASTIC_RESTART_COUNT", spec->attempt - 1 },
		{ "TORCHELASTIC_MAX_RESTARTS", spec->max_restarts },
		{ "JAX_NUM_PROCESSES", spec->world },
		{ "JAX_PROCESS_ID", spec->first_rank + local_rank },
	};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		put_int(list, numbers[i].name, numbers[i].value);
	put(list, "ROLE_NAME", "default");
	put(list, "MASTER_ADDR", spec->master_addr);
	put(list, "TORCHELASTIC_RUN_ID", spec->run);
	/* Torch's store and JAX's coordinator never run in one program: one port serves both. */
	pio_str address = PIO_STR_INIT;
	pio_str_printf(&address, "%s:%d", spec->master_addr, spec->master_port);
	put(list, "JAX_COORDINATOR_ADDRESS", address.data);
	list->failed |= address.failed;
	pio_str_fini(&address);
}

static void put_pioche(env_list *list, const pio_agent_spec *spec, const char *ring_path)
{
	pio_str path = PIO_STR_INIT;
	put(list, PIO_ENV_RUN, spec->run);
	put_int(list, PIO_ENV_ATTEMPT, spec->attempt);
	put(list, PIO_ENV_DIR, spec->dir);
	put(list, PIO_ENV_RING, ring_path);
	put(list, PIO_ENV_STAGING, spec->staging);
	put(list, PIO_ENV_RENDEZVOUS, spec->rendezvous);
	put(list, PIO_ENV_TOKEN, spec->token);
	put(list, PIO_ENV_STORE, spec->store);
	if (spec->resume)
		put(list, PIO_ENV_RESUME, spec->resume);
	else
		drop(list, PIO_ENV_RESUME); /* of an outer run, perhaps */
	pio_str_printf(&path, "%s/pioche", spec->lib_dir);
	put_first(list, "PYTHONPATH", path.data);
	list->failed |= path.failed;
	pio_str_clear(&path);
	pio_str_printf(&path, "%s/libpioche.so", spec->lib_dir);
	put(list, "PIOCHE_LIB", path.data);
	list->failed |= path.failed;
	pio_str_fini(&path);
	put_first(list, "LD_LIBRARY_PATH", spec->lib_dir);
}

int pio_agent_env(char ***envp, const pio_agent_spec *spec, int local_rank, const char *ring_path,
                  pio_err *err)
{
	env_list list = { NULL, 0, 0, false };
	const char *name;
	json_t *value;

	for (char **e = environ; *e; e++) {
		const char *equals = strchr(*e, '=');
		pio_str own = PIO_STR_INIT;
		if (!equals || equals == *e)
			continue;
		pio_str_append(&own, *e, (size_t)(equals - *e));
		put(&list, own.data, equals + 1);
		list.failed |= own.failed;
		pio_str_fini(&own);
	}
	json_object_foreach(spec->env, name, value)
		put(&list, name, json_string_value(value));
	put_torch(&list, spec, local_rank);
	put_pioche(&list, spec, ring_path);
	*envp = list.entries;
	if (!list.failed)
		return 0;
	pio_agent_env_free(list.entries);
	*envp = NULL;
	return pio_fail(err, PIO_ENOMEM, "out of memory for the environment of rank %d",
	                spec->first_rank + local_rank);
}

void pio_agent_env_free(char **envp)
{
	for (char **e = envp; e && *e; e++)
		pio_free(*e);
	pio_free(envp);
}
