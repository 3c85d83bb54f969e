#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/agent_parts.h"
#include "launch/blame.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define TAIL_BYTES 16384         /* of each rank and stream, */
#define FIRST_TAIL_BYTES 65536   /* and of what the first that failed wrote to its standard error */
#define TAIL_LINES_MAX 64
#define QUOTE_HEAD_BYTES 120   /* of a long last line: its beginning, */
#define QUOTE_TAIL_BYTES 200   /* and its end, where the reason stands */

json_t *pio_agent_json_text(const char *bytes, size_t size_bytes)
{
	pio_str quoted = PIO_STR_INIT;
	pio_str_put_json(&quoted, bytes, size_bytes);
	json_t *value = NULL;
	if (!quoted.failed)
		(void)pio_json_parse(&value, quoted.data, quoted.len, "a text", NULL);
	pio_str_fini(&quoted);
	return value;
}

/* The last lines of what a rank wrote; empty where nothing can be read: a lost
 * tail must not lose the exit record. */
static json_t *tail(const pio_agent *agent, int rank, const char *suffix, off_t bytes_max)
{
	static char bytes[FIRST_TAIL_BYTES];
	pio_str path = PIO_STR_INIT;
	struct stat st;
	int fd = -1, lines = 0;
	size_t n = 0, at = 0;

	pio_str_printf(&path, "%s/rank-%d.%s", agent->spec.dir, rank, suffix);
	if (!path.failed && pio_fs_open(&fd, path.data, O_RDONLY, 0, NULL) == 0 && fstat(fd, &st) == 0) {
		n = (size_t)(st.st_size < bytes_max ? st.st_size : bytes_max);
		if (pio_fs_pread_all(fd, bytes, n, st.st_size - (int64_t)n, path.data, NULL) != 0)
			n = 0;
	}
	if (fd >= 0)
		(void)pio_fs_close(&fd, path.data, NULL);
	pio_str_fini(&path);
	for (at = n; at > 0; at--)
		if (bytes[at - 1] == '\n' && at < n && ++lines == TAIL_LINES_MAX)
			break;
	while (at < n && ((unsigned char)bytes[at] & 0xc0) == 0x80)
		at++; /* the cut fell into a character */
	for (size_t i = at; i < n; i++)
		if (bytes[i] == 0)
			bytes[i] = (char)0xff; /* shown as U+FFFD */
	return pio_agent_json_text(bytes + at, n - at);
}

/* " (gpu 3)": the local rank's entry of CUDA_VISIBLE_DEVICES, where that is set. */
static void put_gpu(pio_str *text, int local_rank)
{
	const char *at = getenv("CUDA_VISIBLE_DEVICES");
	for (int i = 0; at && i < local_rank; i++) {
		at = strchr(at, ',');
		at = at ? at + 1 : NULL;
	}
	if (at && *at && *at != ',')
		pio_str_printf(text, " (gpu %.*s)", (int)strcspn(at, ","), at);
}

void pio_agent_describe(pio_str *text, const pio_agent *agent, const pio_agent_rank *rank)
{
	pio_str_printf(text, "rank %d", rank->rank);
	put_gpu(text, rank->rank - agent->spec.first_rank);
	if (rank->signal > 0)
		pio_str_printf(text, " died: %s", pio_proc_signal_name(rank->signal));
	else
		pio_str_printf(text, " exited with %d", rank->exit_code);
}

static json_t *json_step(const pio_agent_rank *rank)
{
	return rank->last_step == INT64_MIN ? json_null() : json_integer(rank->last_step);
}

static void put_ending(json_t *object, const pio_agent_rank *rank)
{
	if (rank->signal > 0)
		json_object_set_new(object, "signal", json_integer(rank->signal));
	else if (rank->exit_code >= 0)
		json_object_set_new(object, "exit_code", json_integer(rank->exit_code));
}

/* The last line with something in it, as "...: line". */
static void quote_last_line(pio_str *text, const json_t *stderr_tail)
{
	const char *all = json_string_value(stderr_tail);
	size_t end = all ? strlen(all) : 0, start;
	while (end && strchr(" \t\r\n", all[end - 1]))
		end--;
	for (start = end; start && all[start - 1] != '\n'; start--)
		continue;
	if (start == end)
		return;
	pio_str_puts(text, ": ");
	if (end - start > QUOTE_HEAD_BYTES + QUOTE_TAIL_BYTES) {
		size_t head = QUOTE_HEAD_BYTES;
		while (head && ((unsigned char)all[start + head] & 0xc0) == 0x80)
			head--;
		pio_str_append(text, all + start, head);
		pio_str_puts(text, " ... ");
		start = end - QUOTE_TAIL_BYTES;
		while (start < end && ((unsigned char)all[start] & 0xc0) == 0x80)
			start++;
	}
	pio_str_append(text, all + start, end - start);
}

/* "rank 1 died: SIGKILL at step 812" */
static void put_what(pio_str *text, const pio_agent *agent, const pio_agent_rank *first,
                     const json_t *stderr_tail)
{
	pio_agent_describe(text, agent, first);
	if (first->last_step != INT64_MIN)
		pio_str_printf(text, " at step %lld", (long long)first->last_step);
	if (first->signal <= 0)
		quote_last_line(text, stderr_tail);
	pio_agent_watch_put_oom(text, agent, first);
	pio_agent_xids_put(text, agent, (int)(first - agent->ranks), first->ended_mono_ns);
}

/* All but those that had ended well before. */
static void put_waited(pio_str *text, const pio_agent *agent, const pio_agent_rank *first)
{
	int waited = 0;
	int64_t last_ns = first->ended_mono_ns;
	for (int i = 0; i < agent->spec.ranks_per_node; i++) {
		const pio_agent_rank *rank = &agent->ranks[i];
		waited += rank != first && rank->pid &&
		          (rank->exit_code != 0 || rank->ended_mono_ns > first->ended_mono_ns);
		if (rank->ended_mono_ns > last_ns)
			last_ns = rank->ended_mono_ns;
	}
	pio_blame_waited(text, waited, last_ns - first->ended_mono_ns);
}

static json_t *ranks_record(const pio_agent *agent)
{
	json_t *list = json_array();
	for (int i = 0; agent->ranks && i < agent->spec.ranks_per_node; i++) {
		const pio_agent_rank *rank = &agent->ranks[i];
		json_t *entry = json_object();
		json_object_set_new(entry, "rank", json_integer(rank->rank));
		json_object_set_new(entry, "pid", rank->pid ? json_integer(rank->pid) : json_null());
		put_ending(entry, rank);
		json_object_set_new(entry, "started_ns", json_integer(rank->started_ns));
		json_object_set_new(entry, "ended_ns", json_integer(rank->ended_ns));
		json_object_set_new(entry, "ended_clock_ns",
		                    json_integer(pio_agent_head_clock_ns(agent, rank->ended_mono_ns)));
		json_object_set_new(entry, "last_step", json_step(rank));
		json_object_set_new(entry, "bind", pio_binding_json(&agent->binding, i));
		json_object_set_new(entry, "stdout_tail", tail(agent, rank->rank, "out", TAIL_BYTES));
		json_object_set_new(entry, "stderr_tail", tail(agent, rank->rank, "err", TAIL_BYTES));
		json_array_append_new(list, entry);
	}
	return list;
}

/* A rank that could not be started. */
static json_t *trouble_record(const pio_agent *agent)
{
	if (agent->trouble_rank < 0)
		return json_null();
	json_t *message = pio_agent_json_text(agent->trouble.message, strlen(agent->trouble.message));
	return json_pack("{s:i, s:n, s:i, s:I, s:I, s:b, s:n, s:O, s:o}", "rank", agent->trouble_rank, "pid",
	                 "exit_code", 127, "time_ns", (json_int_t)agent->ended_ns, "clock_ns",
	                 (json_int_t)pio_agent_head_clock_ns(agent, agent->trouble_mono_ns), "victim", 0,
	                 "step", "what", message, "message", message);
}

static json_t *rank_record(const pio_agent *agent, const pio_agent_rank *first)
{
	json_t *record = json_object(), *stderr_tail = tail(agent, first->rank, "err", FIRST_TAIL_BYTES);
	pio_str text = PIO_STR_INIT;
	json_object_set_new(record, "rank", json_integer(first->rank));
	json_object_set_new(record, "pid", json_integer(first->pid));
	put_ending(record, first);
	json_object_set_new(record, "time_ns", json_integer(first->ended_ns));
	json_object_set_new(record, "clock_ns",
	                    json_integer(pio_agent_head_clock_ns(agent, first->ended_mono_ns)));
	json_object_set_new(record, "victim", json_boolean(pio_agent_is_victim(first)));
	json_object_set_new(record, "step", json_step(first));
	json_object_set_new(record, "stderr_tail", stderr_tail);
	put_what(&text, agent, first, stderr_tail);
	json_object_set_new(record, "what", pio_agent_json_text(text.data, text.len));
	put_waited(&text, agent, first);
	json_object_set_new(record, "message", pio_agent_json_text(text.data, text.len));
	pio_str_fini(&text);
	return record;
}

/* The `first` member, and the result word. */
static json_t *first_record(const pio_agent *agent, const char **result)
{
	bool is_moot = pio_agent_vote_is_moot(agent);
	*result = is_moot ? "ok" : agent->verdict;
	if (agent->verdict)
		return is_moot ? json_null() : pio_agent_watch_first(agent);
	*result = agent->is_unfit ? "node_fail" : "failed";
	if (agent->trouble.code)
		return agent->is_unfit ? pio_agent_unfit_record(agent) : trouble_record(agent);
	const pio_agent_rank *first = pio_agent_first(agent);
	if (!first) {
		*result = agent->failed_elsewhere ? "cancelled" : "ok";
		return json_null();
	}
	*result = pio_agent_watch_is_oom(agent, first) ? "oom" : first->signal > 0 ? "signal" : "failed";
	return rank_record(agent, first);
}

/* Why, where it is not the failure of a rank. */
static json_t *verdict_message(const pio_agent *agent)
{
	pio_str text = PIO_STR_INIT;
	if (agent->trouble.code)
		pio_str_puts(&text, agent->trouble.message);
	else if (agent->failed_elsewhere && !agent->verdict)
		pio_str_puts(&text, "stopped because of a failure on another node");
	else if (!agent->verdict || pio_agent_vote_is_moot(agent))
		return json_null();
	else if (strcmp(agent->verdict, "timeout") == 0 && agent->spec.timeout_s)
		pio_str_printf(&text, "stopped after the time limit of %lld s", (long long)agent->spec.timeout_s);
	else if (strcmp(agent->verdict, "timeout") == 0)
		pio_str_puts(&text, "stopped because the time limit of the job was near");
	else if (strcmp(agent->verdict, "lost") == 0)
		pio_str_printf(&text, "stopped because %s was gone",
		               agent->has_lost_keeper ? "its keeper" : agent->joined ? "the head" : "the supervisor");
	else
		pio_str_puts(&text, "stopped on request");
	const pio_agent_rank *first = pio_agent_first(agent);
	if (first && !agent->trouble.code) { /* while all were to end in good order */
		pio_str_puts(&text, "; ");
		pio_agent_describe(&text, agent, first);
	}
	json_t *value = pio_agent_json_text(text.data, text.len);
	pio_str_fini(&text);
	return value;
}

static json_t *core_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return json_null();
	return json_integer((json_int_t)limit.rlim_cur);
}

json_t *pio_agent_exit_record(pio_agent *agent)
{
	const char *result;
	json_t *first = first_record(agent, &result);
	json_t *message = json_is_object(first) ? json_incref(json_object_get(first, "message"))
	                                        : verdict_message(agent);
	json_t *clock = agent->trouble.code
	                ? json_integer(pio_agent_head_clock_ns(agent, agent->trouble_mono_ns)) : json_null();
	return json_pack("{s:i, s:s, s:i, s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:O?, s:s, s:o, s:I, s:I}",
	                 "version", 1, "run", agent->spec.run, "attempt", agent->spec.attempt,
	                 "node", agent->spec.node, "host", agent->spec.host, "result", result,
	                 "message", message, "first", first, "clock_ns", clock, "ranks", ranks_record(agent),
	                 "checks", agent->checks,
	                 "cwd", agent->spec.cwd, "core_limit", core_limit(),
	                 "started_ns", (json_int_t)agent->started_ns, "ended_ns", (json_int_t)agent->ended_ns);
}
