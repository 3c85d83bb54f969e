/* Before its agents are started: which of the nodes shall work (gate.h). */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/gate.h"
#include "launch/gate_round.h"
#include "launch/head_parts.h"
#include "launch/hostlist.h"

/* Of all places; NULL where one is unknown, and so cannot be asked for. */
static json_t *list_hosts(const pio_head *head)
{
	const json_t *told = json_object_get(head->spec.json, "hosts");
	json_t *hosts = json_array();
	for (int i = 0; i < head->place_count; i++) {
		pio_str name = PIO_STR_INIT;
		const char *host = json_string_value(json_array_get(told, (size_t)i));
		if (host || pio_hostlist_nth(&name, getenv("SLURM_JOB_NODELIST"), i))
			json_array_append_new(hosts, json_string(host ? host : name.data));
		pio_str_fini(&name);
	}
	if (json_array_size(hosts) == (size_t)head->place_count)
		return hosts;
	json_decref(hosts);
	return NULL;
}

/* ---- what is told ------------------------------------------------------------------------ */

/* The spare that works instead: of those left out that were to work, and of the spares
 * that now are, the same one in order. NULL: none. */
static const char *replacement(const pio_gate *gate, size_t index)
{
	size_t before = 0, i;
	json_t *host;
	for (i = 0; i < index; i++)
		before += json_is_string(json_object_get(json_array_get(gate->nodes, i), "why"));
	if (index >= (size_t)gate->needed)
		return NULL;
	/* The fit ones keep their order: the last that work are the spares. */
	for (i = (size_t)gate->needed; i < json_array_size(gate->nodes); i++) {
		host = json_array_get(gate->nodes, i);
		if (!json_is_string(json_object_get(host, "why")) && before-- == 0)
			return pio_json_string_or(host, "host", NULL);
	}
	return NULL;
}

static void tell(pio_head *head, const pio_gate *gate)
{
	pio_str text = PIO_STR_INIT;
	size_t i;
	json_t *node;
	json_array_foreach(gate->nodes, i, node) {
		const char *why = pio_json_string_or(node, "why", NULL);
		const char *other = why && !gate->verdict ? replacement(gate, i) : NULL;
		if (!why)
			continue;
		pio_str_clear(&text);
		pio_str_printf(&text, "preflight: %s is left out: %s", pio_json_string_or(node, "host", ""), why);
		if (other)
			pio_str_printf(&text, "; %s takes its place", other);
		pio_head_note(head, "preflight", text.data);
	}
	if (!gate->verdict) {
		size_t fit = json_array_size(gate->fit);
		pio_str_clear(&text);
		pio_str_printf(&text, "preflight: %zu node%s fit, %.3g GB/s of bus bandwidth (%s), %.1f s", fit,
		               fit == 1 ? "" : "s", gate->busbw / 1e9, gate->by, (double)gate->took_ns / 1e9);
		pio_head_note(head, "preflight", text.data);
	}
	pio_str_fini(&text);
}

/* ---- what follows ---------------------------------------------------------------------------- */

static int choose(pio_head *head, const pio_gate *gate, pio_err *err)
{
	json_t *start = pio_gate_start(json_object_get(head->spec.json, "start_on"), gate->fit);
	if (!start || json_object_set_new(head->spec.json, "start", start) != 0 ||
	    json_object_set(head->spec.json, "hosts", gate->fit) != 0)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the nodes of an attempt");
	head->place_count = (int)json_array_size(gate->fit);
	/* They have just been looked at. */
	json_object_del(head->spec.json, "preflight");
	return 0;
}

/* The exit record then names the first of the unfit nodes, as one that failed. */
static void blame(pio_head *head, const pio_gate *gate)
{
	size_t fit = json_array_size(gate->fit);
	for (int i = 0; i < head->place_count; i++) {
		const json_t *node = json_array_get(gate->nodes, (size_t)i);
		const char *why = pio_json_string_or(node, "why", NULL);
		pio_place *place = &head->places[i];
		pio_str text = PIO_STR_INIT;
		snprintf(place->host, sizeof place->host, "%s", pio_json_string_or(node, "host", ""));
		place->state = why ? PIO_PLACE_ENDED : PIO_PLACE_JOINED;
		/* The words by which a machine is known to be at fault (nodes.lua), where it is. */
		bool is_node = strcmp(pio_json_string_or(node, "result", ""), "node_fail") == 0;
		pio_str_printf(&text, "%s%s; %zu node%s left of the %d that it needs", is_node ? "preflight: " : "",
		               why ? why : "", fit, fit == 1 ? " is" : "s are", head->spec.nodes);
		if (why)
			place->record = json_pack("{s:s, s:s, s:I}", "result", is_node ? "node_fail" : "failed",
			                          "message", text.data, "clock_ns", (json_int_t)pio_clock_mono_ns());
		pio_str_fini(&text);
	}
	head->has_failed = true;
	head->stage = PIO_HEAD_ENDING;
}

int pio_head_gate(pio_head *head, pio_err *err)
{
	pio_gate gate;
	bool is_asked = head->spec.preflight && head->place_count > 1 &&
	                json_array_size(json_object_get(head->spec.json, "start_on")) > 0;
	json_t *hosts = is_asked ? list_hosts(head) : NULL;
	if (is_asked && !hosts)
		pio_head_note(head, "preflight",
		              "preflight: each node looks at itself alone, as their names are unknown");
	if (!hosts)
		return 0;
	int rc = pio_gate_init(&gate, head->dir, head->spec.json, head->spec.nodes, hosts, err);
	if (!rc)
		rc = pio_gate_run(&gate, err);
	if (!rc)
		tell(head, &gate);
	if (!rc && !gate.verdict)
		rc = choose(head, &gate, err);
	else if (!rc && strcmp(gate.verdict, "node_fail") == 0)
		blame(head, &gate);
	else if (!rc)
		pio_head_conclude(head, gate.verdict, "stop", gate.why);
	pio_gate_fini(&gate);
	return rc;
}
