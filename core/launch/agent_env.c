/* The environment of a rank, as client/env.h promises it. */
#include <stdbool.h>
#include <stdlib.h>
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
	/* For the NULL behind it too. */
	if (!text || pio_grow(&list->entries, &list->capacity, at + 1, "variables", NULL) != 0) {
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

static void put_default(env_list *list, const char *name, const char *value)
{
	if (find(list, name, strlen(name)) == list->count)
		put(list, name, value);
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

typedef struct number {
	const char *name;
	int64_t value;
} number;

static void put_numbers(env_list *list, const number *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		put_int(list, numbers[i].name, numbers[i].value);
}

/* torch/distributed/elastic/agent/server/local_elastic_agent.py, and what
 * Lightning and Composer read besides. */
static void put_torch(env_list *list, const pio_agent_spec *spec, int local_rank)
{
	const number numbers[] = {
		{ "RANK", spec->first_rank + local_rank },
		{ "WORLD_SIZE", spec->world },
		{ "LOCAL_RANK", local_rank },
		{ "LOCAL_WORLD_SIZE", spec->ranks_per_node },
		{ "GROUP_RANK", spec->node },
		{ "GROUP_WORLD_SIZE", spec->nodes },
		{ "NODE_RANK", spec->node },
		{ "ROLE_RANK", spec->first_rank + local_rank },
		{ "ROLE_WORLD_SIZE", spec->world },
		{ "MASTER_PORT", spec->master_port },
		{ "TORCHELASTIC_RESTART_COUNT", spec->attempt - 1 },
		{ "TORCHELASTIC_MAX_RESTARTS", spec->max_restarts },
	};
	put_numbers(list, numbers, sizeof numbers / sizeof *numbers);
	put(list, "ROLE_NAME", "default");
	put(list, "MASTER_ADDR", spec->master_addr);
	put(list, "TORCHELASTIC_RUN_ID", spec->run);
	/* Rank 0 opens torch's store itself: no agent of torch's does it for all. */
	put(list, "TORCHELASTIC_USE_AGENT_STORE", "False");
	put_default(list, "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
	if (spec->ranks_per_node > 1)
		put_default(list, "OMP_NUM_THREADS", "1");
}

/* What deepspeed/launcher/launch.py sets beyond torchrun's. */
static void put_deepspeed(env_list *list, const pio_agent_spec *spec)
{
	const number numbers[] = {
		{ "LOCAL_SIZE", spec->ranks_per_node },
		{ "CROSS_RANK", spec->node },
		{ "CROSS_SIZE", spec->nodes },
	};
	put_numbers(list, numbers, sizeof numbers / sizeof *numbers);
}

static void put_jax(env_list *list, const pio_agent_spec *spec, int local_rank)
{
	put_int(list, "JAX_NUM_PROCESSES", spec->world);
	put_int(list, "JAX_PROCESS_ID", spec->first_rank + local_rank);
	/* Torch's store and JAX's coordinator never run in one program: one port serves both. */
	pio_str address = PIO_STR_INIT;
	pio_str_printf(&address, "%s:%d", spec->master_addr, spec->master_port);
	put(list, "JAX_COORDINATOR_ADDRESS", address.data);
	list->failed |= address.failed;
	pio_str_fini(&address);
}

static void put_mpi(env_list *list, const pio_agent_spec *spec, int local_rank)
{
	const number numbers[] = {
		{ "OMPI_COMM_WORLD_RANK", spec->first_rank + local_rank },
		{ "OMPI_COMM_WORLD_SIZE", spec->world },
		{ "OMPI_COMM_WORLD_LOCAL_RANK", local_rank },
		{ "OMPI_COMM_WORLD_LOCAL_SIZE", spec->ranks_per_node },
		{ "OMPI_COMM_WORLD_NODE_RANK", local_rank },
	};
	put_numbers(list, numbers, sizeof numbers / sizeof *numbers);
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
	put(list, PIO_ENV_ADDRESS, spec->address);
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

/* Variables of a launcher that counts agents, where each of its tasks is one:
 * mpirun, srun --mpi, an outer torchrun. A rank that took them for its own
 * would be one of several with the same number. */
static bool is_of_an_outer_launcher(const char *entry)
{
	static const char *const prefixes[] = { "OMPI_COMM_WORLD_", "PMI_", "PMIX_", "MPI_LOCAL",
	                                        "TORCHELASTIC_ERROR_FILE=" };
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static void put_own(env_list *list)
{
	for (char **e = environ; *e; e++) {
		const char *equals = strchr(*e, '=');
		pio_str name = PIO_STR_INIT;
		if (!equals || equals == *e || is_of_an_outer_launcher(*e))
			continue;
		pio_str_append(&name, *e, (size_t)(equals - *e));
		put(list, name.data, equals + 1);
		list->failed |= name.failed;
		pio_str_fini(&name);
	}
}

bool pio_agent_env_has(const pio_agent_spec *spec, const char *name)
{
	return json_object_get(spec->env, name) || getenv(name);
}

int pio_agent_env(char ***envp, const pio_agent_spec *spec, int local_rank, const char *ring_path,
                  pio_err *err)
{
	env_list list = { NULL, 0, 0, false };
	const char *name;
	json_t *value;

	put_own(&list);
	json_object_foreach(spec->env, name, value)
		put(&list, name, json_string_value(value));
	put_torch(&list, spec, local_rank);
	put_deepspeed(&list, spec);
	put_jax(&list, spec, local_rank);
	if (spec->mpi_env)
		put_mpi(&list, spec, local_rank);
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
