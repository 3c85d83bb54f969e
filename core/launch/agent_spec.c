#include "launch/agent_spec.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/json.h"
#include "base/mem.h"

static int get_count(const json_t *json, const char *name, int low, int high, int *value,
                     pio_err *err)
{
	int64_t wide;
	int rc = pio_json_get_int(json, name, &wide, "orders of the agent", err);
	if (rc)
		return rc;
	if (wide < low || wide > high)
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"%s\" is %lld, expected %d to %d", name,
		                (long long)wide, low, high);
	*value = (int)wide;
	return 0;
}

static int get_path(const json_t *json, const char *name, const char **value, pio_err *err)
{
	int rc = pio_json_get_string(json, name, value, "orders of the agent", err);
	if (!rc && (*value)[0] != '/')
		rc = pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"%s\" is \"%s\", expected an absolute path",
		              name, *value);
	return rc;
}

static int append_strings(const char **argv, size_t *count, const json_t *list, const char *name,
                          pio_err *err)
{
	size_t i;
	json_t *item;
	if (list && !json_is_array(list))
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"%s\" is no array", name);
	json_array_foreach(list, i, item) {
		if (!json_is_string(item))
			return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"%s\"[%zu] is no string", name, i);
		argv[(*count)++] = json_string_value(item);
	}
	return 0;
}

/* sh -c 'SETUP\nexec "$@"' sh WRAP... COMMAND...: the shell is there only where
 * a setup line asks for it, and is gone when the program runs. */
static int build_command(pio_agent_spec *spec, pio_err *err)
{
	const json_t *wrap = json_object_get(spec->json, "wrap");
	const json_t *command = json_object_get(spec->json, "command");
	size_t n = 0;
	if (json_array_size(command) == 0)
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"command\" is empty");
	spec->command = pio_calloc(json_array_size(wrap) + json_array_size(command) + 5, sizeof(char *));
	if (!spec->command)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the command");
	if (spec->setup) {
		pio_str script = PIO_STR_INIT;
		pio_str_printf(&script, "%s\nexec \"$@\"", spec->setup);
		char *text = pio_str_take(&script);
		/* Kept in the JSON tree, which owns every string of the command. */
		json_t *kept = text ? json_string(text) : NULL;
		pio_free(text);
		if (!kept || json_object_set_new(spec->json, "setup_script", kept) != 0)
			return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"setup\" is no line of text");
		spec->command[n++] = "/bin/sh";
		spec->command[n++] = "-c";
		spec->command[n++] = json_string_value(kept);
		spec->command[n++] = "sh";
	}
	int rc = append_strings(spec->command, &n, wrap, "wrap", err);
	return rc ? rc : append_strings(spec->command, &n, command, "command", err);
}

static int check_env(const pio_agent_spec *spec, pio_err *err)
{
	const char *name;
	json_t *value;
	if (spec->env && !json_is_object(spec->env))
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"env\" is no object");
	json_object_foreach(spec->env, name, value)
		if (!json_is_string(value) || !*name || strchr(name, '='))
			return pio_fail(err, PIO_ECORRUPT, "orders of the agent: env \"%s\" is no name with a string",
			                name);
	return 0;
}

static int get_slots(pio_agent_spec *spec, pio_err *err)
{
	const json_t *of_nodes = json_object_get(spec->json, "slots"), *slot;
	size_t i;
	if (!of_nodes)
		return 0;
	int rc = get_count(spec->json, "slots_per_node", 1, PIO_RANKS_PER_NODE_MAX, &spec->slots_per_node, err);
	if (rc)
		return rc;
	spec->slots = json_array_get(of_nodes, (size_t)spec->node);
	json_int_t last = -1;
	bool is_good = json_array_size(spec->slots) == (size_t)spec->ranks_per_node;
	json_array_foreach(spec->slots, i, slot) {
		is_good = is_good && json_is_integer(slot) && json_integer_value(slot) > last;
		last = json_integer_value(slot);
	}
	if (!is_good || last >= spec->slots_per_node)
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"slots\" of node %d: expected %d numbers"
		                " below %d, each larger than the one before", spec->node, spec->ranks_per_node,
		                spec->slots_per_node);
	return 0;
}

static int parse_members(pio_agent_spec *spec, pio_err *err)
{
	json_t *json = spec->json;
	int version, rc;
	if ((rc = get_count(json, "version", 1, 1, &version, err)) ||
	    (rc = pio_json_get_string(json, "run", &spec->run, "orders of the agent", err)) ||
	    (rc = get_count(json, "attempt", 1, INT32_MAX, &spec->attempt, err)) ||
	    (rc = get_count(json, "nodes", 1, 65536, &spec->nodes, err)) ||
	    (rc = get_count(json, "node", 0, spec->nodes - 1, &spec->node, err)) ||
	    (rc = get_count(json, "ranks_per_node", 1, PIO_RANKS_PER_NODE_MAX, &spec->ranks_per_node, err)) ||
	    (rc = get_path(json, "dir", &spec->dir, err)) ||
	    (rc = get_path(json, "cwd", &spec->cwd, err)) ||
	    (rc = get_path(json, "store", &spec->store, err)) ||
	    (rc = get_path(json, "staging", &spec->staging, err)) ||
	    (rc = get_path(json, "lib_dir", &spec->lib_dir, err)) ||
	    (rc = pio_json_get_string(json, "token", &spec->token, "orders of the agent", err)))
		return rc;
	if (!pio_ulid_parse(&spec->ulid, spec->run))
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"run\" is \"%s\", expected a ULID",
		                spec->run);
	if (!pio_hex_valid(spec->token, 32))
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"token\" is not 32 hexadecimal digits");
	spec->world = spec->nodes * spec->ranks_per_node;
	spec->first_rank = spec->node * spec->ranks_per_node;
	spec->setup = pio_json_string_or(json, "setup", NULL);
	spec->resume = pio_json_string_or(json, "resume", NULL);
	spec->master_addr = pio_json_string_or(json, "master_addr", NULL);
	spec->master_port = (int)pio_json_int_or(json, "master_port", 0);
	spec->timeout_s = pio_json_int_or(json, "timeout_s", 0);
	spec->grace_s = pio_json_int_or(json, "grace_s", PIO_GRACE_S_DEFAULT);
	spec->hang_s = pio_json_int_or(json, "hang_s", -1);
	spec->hang_first_s = pio_json_int_or(json, "hang_first_s", 0);
	spec->hang_floor_s = pio_json_int_or(json, "hang_floor_s", PIO_HANG_FLOOR_S_DEFAULT);
	spec->last_step_s = pio_json_int_or(json, "last_step_s", PIO_LAST_STEP_S_DEFAULT);
	spec->hold_s = pio_json_int_or(json, "hold_s", PIO_HOLD_S_DEFAULT);
	spec->max_restarts = pio_json_int_or(json, "max_restarts", 0);
	spec->bind = pio_json_string_or(json, "bind", "auto");
	spec->sample_ms = (int)pio_json_int_or(json, "sample_ms", 0);
	spec->fit_for = pio_json_int_or(json, "fit_for", spec->ranks_per_node);
	spec->preflight = json_is_true(json_object_get(json, "preflight"));
	spec->mpi_env = json_is_true(json_object_get(json, "mpi_env"));
	spec->env = json_object_get(json, "env");
	if (spec->timeout_s < 0 || spec->grace_s < 0 || spec->grace_s > 86400)
		return pio_fail(err, PIO_ECORRUPT,
		                "orders of the agent: \"timeout_s\" or \"grace_s\" is out of range");
	if (spec->sample_ms < 0)
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"sample_ms\" is out of range");
	if (strcmp(spec->bind, "auto") && strcmp(spec->bind, "gpu") && strcmp(spec->bind, "cores") &&
	    strcmp(spec->bind, "none"))
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: \"bind\" is \"%s\", expected auto, gpu,"
		                " cores or none", spec->bind);
	if (spec->node > 0 && (!spec->master_addr || spec->master_port <= 0))
		return pio_fail(err, PIO_ECORRUPT, "orders of the agent: node %d is told no master", spec->node);
	return 0;
}

int pio_agent_spec_parse(pio_agent_spec *spec, const char *text, size_t size_bytes, json_t *more,
                         pio_err *err)
{
	memset(spec, 0, sizeof *spec);
	int rc = pio_json_parse(&spec->json, text, size_bytes, "orders of the agent", err);
	if (!rc && !json_is_object(spec->json))
		rc = pio_fail(err, PIO_ECORRUPT, "orders of the agent: expected a JSON object");
	if (!rc && more && json_object_update(spec->json, more) != 0)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the orders of the agent");
	json_decref(more);
	if (!rc)
		rc = parse_members(spec, err);
	if (!rc)
		rc = get_slots(spec, err);
	if (!rc)
		rc = check_env(spec, err);
	if (!rc)
		rc = build_command(spec, err);
	if (!rc) {
		gethostname(spec->host_name, sizeof spec->host_name - 1);
		spec->host = pio_json_string_or(spec->json, "host", spec->host_name);
	} else {
		pio_agent_spec_fini(spec);
	}
	return rc;
}

void pio_agent_spec_fini(pio_agent_spec *spec)
{
	pio_free(spec->command);
	json_decref(spec->json);
	memset(spec, 0, sizeof *spec);
}
