#include "launch/gate.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "launch/gate_round.h"
#include "sys/fs.h"

#define NS_PER_S INT64_C(1000000000)
#define JOIN_S 300

/* ---- nodes ------------------------------------------------------------------------------ */

static json_t *find_node(const pio_gate *gate, const char *host)
{
	size_t i;
	json_t *node;
	json_array_foreach(gate->nodes, i, node)
		if (strcmp(pio_json_string_or(node, "host", ""), host) == 0)
			return node;
	return NULL;
}

const char *pio_gate_why(const pio_gate *gate, const char *host)
{
	return pio_json_string_or(find_node(gate, host), "why", NULL);
}

static void add_check(pio_gate *gate, const char *host, const char *name, const char *state, const char *message)
{
	json_array_append_new(json_object_get(find_node(gate, host), "checks"),
	                      json_pack("{s:s, s:s, s:s, s:I}", "name", name, "state", state, "message", message,
	                                "time_ns", (json_int_t)pio_clock_wall_ns()));
}

/* False: it is no node of this attempt, or left out already. `result`: what that makes of
 * an attempt that has not enough others. */
static bool leave_out(pio_gate *gate, const char *host, const char *result, const pio_str *why)
{
	size_t i;
	json_t *name;
	json_array_foreach(gate->fit, i, name)
		if (strcmp(json_string_value(name), host) == 0) {
			json_object_set_new(find_node(gate, host), "why", json_stringn(why->data, why->len));
			json_object_set_new(find_node(gate, host), "result", json_string(result));
			json_array_remove(gate->fit, i);
			return true;
		}
	return false;
}

/* ---- what a round says ------------------------------------------------------------------- */

static void conclude(pio_gate *gate, const char *verdict, const char *why)
{
	gate->verdict = verdict;
	snprintf(gate->why, sizeof gate->why, "%s", why);
}

/* Who fails a check; how many they are. The newest of each node are kept. */
static int leave_out_unfit(pio_gate *gate, const pio_gate_round *round)
{
	const char *host;
	json_t *checks, *check;
	size_t i;
	int count = 0;
	json_object_foreach(round->checks, host, checks) {
		pio_str why = PIO_STR_INIT;
		json_array_foreach(checks, i, check)
			if (strcmp(pio_json_string_or(check, "state", ""), "failed") == 0)
				pio_str_printf(&why, "%s%s", why.len ? "; " : "",
				               pio_json_string_or(check, "message", ""));
		if (find_node(gate, host))
			json_object_set(find_node(gate, host), "checks", checks);
		count += why.len > 0 && leave_out(gate, host, "node_fail", &why);
		pio_str_fini(&why);
	}
	return count;
}

/* Not all came, but some did: where none does, that is no node's fault. */
static bool has_come(const pio_gate_round *round)
{
	size_t i, came = 0;
	json_t *node;
	json_array_foreach(json_object_get(round->record, "nodes"), i, node)
		came += strcmp(pio_json_string_or(node, "result", ""), "node_fail") != 0;
	return came > 0 && strcmp(pio_json_string_or(round->record, "result", ""), "node_fail") == 0;
}

/* What happened there is a check that failed, as what is looked at is. */
static int leave_out_silent(pio_gate *gate, const char *host, const pio_str *why)
{
	if (!leave_out(gate, host, "node_fail", why))
		return 0;
	add_check(gate, host, "probe", "failed", why->data);
	return 1;
}

/* A probe that gives up by itself may well have been set up wrongly, and that is no node's
 * fault: the others may try without it, once, and nothing is held against it. */
static int leave_out_exited(pio_gate *gate, const char *host, const pio_str *what)
{
	pio_str why = PIO_STR_INIT;
	pio_str_printf(&why, "its probe failed: %s", what->data);
	int count = gate->exits == 0 && leave_out(gate, host, "failed", &why);
	if (count)
		add_check(gate, host, "probe", "warning", why.data);
	gate->exits += count;
	pio_str_fini(&why);
	return count;
}

/* Who failed first, or did not come; how many they are. */
static int leave_out_failed(pio_gate *gate, const pio_gate_round *round)
{
	const json_t *first = json_object_get(round->record, "first");
	const char *host = pio_json_string_or(first, "host", "");
	pio_str why = PIO_STR_INIT;
	size_t i;
	json_t *node;
	int count = 0;
	if (json_is_object(first)) {
		pio_str_puts(&why, pio_json_string_or(first, "what", pio_json_string_or(first, "message", "failed")));
		count = json_is_integer(json_object_get(first, "exit_code")) ? leave_out_exited(gate, host, &why)
		                                                             : leave_out_silent(gate, host, &why);
	} else if (has_come(round)) {
		pio_str_printf(&why, "its agent did not come within %lld s", (long long)round->join_s);
		json_array_foreach(json_object_get(round->record, "nodes"), i, node)
			if (strcmp(pio_json_string_or(node, "result", ""), "node_fail") == 0)
				count += leave_out_silent(gate, pio_json_string_or(node, "host", ""), &why);
	}
	pio_str_fini(&why);
	return count;
}

/* The name of a node by its number in the round. */
static const char *host_of(const pio_gate_round *round, size_t number)
{
	size_t i;
	json_t *node;
	json_array_foreach(json_object_get(round->record, "nodes"), i, node)
		if (pio_json_int_or(node, "node", -1) == (json_int_t)number)
			return pio_json_string_or(node, "host", "");
	return "";
}

/* 0 where it is none. */
static double number_of(const json_t *object, const char *name)
{
	return json_number_value(json_object_get(object, name));
}

/* All have measured: who is slow, and is it as fast as was asked for? */
static void judge_bandwidth(pio_gate *gate, const pio_gate_round *round)
{
	double expected = number_of(gate->orders, "bandwidth");
	const char *by = pio_json_string_or(round->probe, "by", "");
	size_t i;
	json_t *node;
	gate->by = strcmp(by, "nccl") == 0 ? "nccl" : "tcp";
	gate->busbw = number_of(round->probe, "best");
	json_array_foreach(json_object_get(round->probe, "nodes"), i, node) {
		const char *state = pio_json_string_or(node, "state", "");
		bool is_slow = strcmp(state, "slow") == 0;
		pio_str text = PIO_STR_INIT;
		if (!is_slow && strcmp(state, "good") != 0)
			continue; /* the search ended before it was looked at */
		pio_str_printf(&text, "%.3g GB/s of bus bandwidth", number_of(node, "busbw") / 1e9);
		if (is_slow)
			pio_str_printf(&text, " where others have %.3g GB/s", number_of(node, "control") / 1e9);
		pio_str_printf(&text, " (%s)", gate->by);
		add_check(gate, host_of(round, i), "bandwidth", is_slow ? "failed" : "ok", text.data);
		if (is_slow)
			(void)leave_out(gate, host_of(round, i), "node_fail", &text);
		pio_str_fini(&text);
	}
	if (gate->busbw < expected) {
		pio_str why = PIO_STR_INIT;
		pio_str_printf(&why, "preflight: %.3g GB/s of bus bandwidth (%s) where it is best, %.3g GB/s expected",
		               gate->busbw / 1e9, gate->by, expected / 1e9);
		conclude(gate, "failed", why.data);
		pio_str_fini(&why);
	}
}

static int64_t join_s(const pio_gate *gate)
{
	return pio_json_int_or(gate->orders, "join_s", JOIN_S);
}

static void conclude_told(pio_gate *gate, const pio_gate_round *round)
{
	pio_str why = PIO_STR_INIT;
	if (strcmp(round->verdict, "failed") == 0)
		pio_str_printf(&why, "preflight: not done within %lld s", (long long)(PIO_GATE_S + join_s(gate)));
	else if (strcmp(round->verdict, "timeout") == 0)
		pio_str_puts(&why, "stopped because the time limit of the job was near");
	else
		pio_str_puts(&why, "stopped on request");
	conclude(gate, round->verdict, why.data);
	pio_str_fini(&why);
}

/* A round that failed, and no node is to blame. */
static void conclude_failed(pio_gate *gate, const pio_gate_round *round)
{
	pio_str why = PIO_STR_INIT;
	pio_str_printf(&why, "preflight: %s", pio_json_string_or(round->record, "message",
	               round->record ? "nobody said what was measured" : "its head left no record"));
	conclude(gate, "failed", why.data);
	pio_str_fini(&why);
}

/* True: no other round. */
static bool judge(pio_gate *gate, const pio_gate_round *round)
{
	int left_out = leave_out_unfit(gate, round);
	bool is_done = false, is_ok = strcmp(pio_json_string_or(round->record, "result", ""), "ok") == 0;
	if (round->verdict) {
		conclude_told(gate, round);
	} else if (left_out == 0 && is_ok && round->probe) {
		judge_bandwidth(gate, round);
		is_done = true;
	} else if (left_out == 0 && leave_out_failed(gate, round) == 0) {
		conclude_failed(gate, round);
	}
	if (!gate->verdict && json_array_size(gate->fit) < (size_t)gate->needed)
		conclude(gate, "node_fail", "preflight: too few nodes are fit");
	return is_done || gate->verdict;
}

/* ---- life -------------------------------------------------------------------------------- */

int pio_gate_init(pio_gate *gate, const char *dir, const json_t *orders, int needed, json_t *hosts,
                  pio_err *err)
{
	size_t i;
	json_t *host;
	*gate = (pio_gate){ .dir = dir, .orders = orders, .needed = needed, .fit = hosts,
	                    .nodes = json_array() };
	json_array_foreach(hosts, i, host)
		json_array_append_new(gate->nodes, json_pack("{s:O, s:n, s:n, s:[]}", "host", host, "why", "result",
		                                             "checks"));
	if (!hosts || json_array_size(gate->nodes) != json_array_size(hosts))
		return pio_fail(err, PIO_ENOMEM, "out of memory for a preflight");
	return 0;
}

void pio_gate_fini(pio_gate *gate)
{
	json_decref(gate->fit);
	json_decref(gate->nodes);
	gate->fit = gate->nodes = NULL;
}

static int run_rounds(pio_gate *gate, int64_t deadline_ns, pio_err *err)
{
	bool is_done = false;
	int rc = 0;
	while (!rc && !is_done) {
		int spares = (int)json_array_size(gate->fit) - gate->needed;
		pio_str dir = PIO_STR_INIT;
		pio_str_printf(&dir, "%s/gate.%d", gate->dir, gate->rounds);
		rc = pio_str_check(&dir, err);
		/* Where there are spares, one that does not come is not waited for long (head.h). */
		pio_gate_round round = { .dir = dir.data, .orders = gate->orders, .hosts = gate->fit,
		                         .most = spares, .join_s = spares > 0 ? (join_s(gate) + 9) / 10 : join_s(gate),
		                         .deadline_ns = deadline_ns };
		if (!rc)
			rc = pio_gate_round_run(&round, err);
		if (!rc) {
			gate->rounds++;
			is_done = judge(gate, &round);
		}
		pio_gate_round_fini(&round);
		pio_str_fini(&dir);
	}
	return rc;
}

static int write_report(const pio_gate *gate, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	json_t *report = json_pack("{s:i, s:s, s:s?, s:s?, s:o, s:i, s:O, s:O, s:I}", "version", 1, "result",
		gate->verdict ? gate->verdict : "ok", "message", gate->verdict ? gate->why : NULL,
		"by", gate->by, "busbw", gate->by ? json_real(gate->busbw) : json_null(), "rounds", gate->rounds,
		"fit", gate->fit, "nodes", gate->nodes, "took_ns", (json_int_t)gate->took_ns);
	char *text = report ? pio_json_canonical(report) : NULL;
	int rc = text ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for the report of a preflight");
	pio_str_printf(&path, "%s/gate.json", gate->dir);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), 0666, err);
	free(text);
	json_decref(report);
	pio_str_fini(&path);
	return rc;
}

static void remove_rounds(const pio_gate *gate)
{
	for (int i = 0; i < gate->rounds; i++) {
		pio_str path = PIO_STR_INIT;
		pio_str_printf(&path, "%s/gate.%d", gate->dir, i);
		if (!path.failed)
			(void)pio_fs_remove_tree(path.data, NULL);
		pio_str_fini(&path);
	}
}

int pio_gate_run(pio_gate *gate, pio_err *err)
{
	sigset_t ours, before;
	int64_t begin_ns = pio_clock_mono_ns();
	pio_gate_signals(&ours);
	sigprocmask(SIG_BLOCK, &ours, &before);
	int rc = run_rounds(gate, begin_ns + (PIO_GATE_S + join_s(gate)) * NS_PER_S, err);
	gate->took_ns = pio_clock_mono_ns() - begin_ns;
	if (!rc)
		rc = write_report(gate, err);
	if (!rc && !gate->verdict && json_array_size(gate->fit) == json_array_size(gate->nodes))
		remove_rounds(gate);
	sigprocmask(SIG_SETMASK, &before, NULL); /* what came since is for the head's loop */
	return rc;
}
