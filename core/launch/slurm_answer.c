#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "launch/slurm.h"
#include "sys/proc.h"

/* ---- states --------------------------------------------------------------------------- */

static const struct state {
	const char *word;
	enum pio_slurm_phase phase;
	const char *result;           /* where it is over */
} states[] = {
	{ "PENDING", PIO_SLURM_WAITING, NULL }, { "CONFIGURING", PIO_SLURM_RUNNING, NULL },
	{ "REQUEUED", PIO_SLURM_WAITING, NULL }, { "REQUEUE_FED", PIO_SLURM_WAITING, NULL },
	{ "REQUEUE_HOLD", PIO_SLURM_WAITING, NULL }, { "RESV_DEL_HOLD", PIO_SLURM_WAITING, NULL },
	{ "SPECIAL_EXIT", PIO_SLURM_WAITING, NULL },
	{ "RUNNING", PIO_SLURM_RUNNING, NULL }, { "COMPLETING", PIO_SLURM_RUNNING, NULL },
	{ "SUSPENDED", PIO_SLURM_RUNNING, NULL }, { "STOPPED", PIO_SLURM_RUNNING, NULL },
	{ "RESIZING", PIO_SLURM_RUNNING, NULL }, { "SIGNALING", PIO_SLURM_RUNNING, NULL },
	{ "STAGE_OUT", PIO_SLURM_RUNNING, NULL },
	{ "COMPLETED", PIO_SLURM_OVER, "lost" }, { "FAILED", PIO_SLURM_OVER, "failed" },
	{ "TIMEOUT", PIO_SLURM_OVER, "timeout" }, { "DEADLINE", PIO_SLURM_OVER, "timeout" },
	{ "NODE_FAIL", PIO_SLURM_OVER, "node_fail" }, { "BOOT_FAIL", PIO_SLURM_OVER, "node_fail" },
	{ "PREEMPTED", PIO_SLURM_OVER, "preempted" }, { "OUT_OF_MEMORY", PIO_SLURM_OVER, "oom" },
	{ "CANCELLED", PIO_SLURM_OVER, "cancelled" }, { "REVOKED", PIO_SLURM_OVER, "cancelled" },
};

static const struct state *find_state(const char *word)
{
	for (size_t i = 0; i < sizeof states / sizeof *states; i++)
		if (strcmp(states[i].word, word) == 0)
			return &states[i];
	return NULL;
}

enum pio_slurm_phase pio_slurm_phase(const char *word)
{
	const struct state *state = find_state(word);
	return state ? state->phase : PIO_SLURM_UNREADABLE;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* Copy what is there up to `end`; false where it does not fit or is nothing. */
static bool copy(char *out, size_t size, const char *text, const char *end)
{
	size_t n = (size_t)(end - text);
	if (n == 0 || n >= size || memchr(text, '\0', n))
		return false;
	memcpy(out, text, n);
	out[n] = '\0';
	return true;
}

static bool is_id(const char *text, const char *end)
{
	const char *c = text;
	while (c < end && isdigit((unsigned char)*c))
		c++;
	return c == end && end > text && end - text < PIO_SLURM_ID_BYTES && *text != '0';
}

bool pio_slurm_id(char id[PIO_SLURM_ID_BYTES], const char *text)
{
	size_t n = strcspn(text, ";\n"), line = strcspn(text, "\n");
	const char *rest = text + line + (text[line] == '\n');
	for (size_t i = n + 1; i < line; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("_-.", text[i]))
			return false;
	return *rest == '\0' && is_id(text, text + n) && copy(id, PIO_SLURM_ID_BYTES, text, text + n);
}

static bool read_line(pio_slurm_line *line, const char *text, const char *end)
{
	const char *field[5], *stop[5];
	memset(line, 0, sizeof *line);
	for (int i = 0; i < 5; i++) {
		field[i] = text;
		/* The comment is the last, and may hold anything. */
		const char *bar = i < 4 ? memchr(text, '|', (size_t)(end - text)) : end;
		if (!bar)
			return false;
		stop[i] = bar;
		text = bar < end ? bar + 1 : end;
	}
	line->nodes = atoi(field[2]);
	if (!copy(line->key, sizeof line->key, field[4], stop[4]))
		line->key[0] = '\0'; /* too long to be ours */
	/* Its beginning says what it is; names of nodes without end may follow. */
	const char *last = field[3] + sizeof line->reason - 1;
	if (!copy(line->reason, sizeof line->reason, field[3], stop[3] < last ? stop[3] : last) ||
	    strcmp(line->reason, "None") == 0)
		line->reason[0] = '\0';
	return is_id(field[0], stop[0]) && copy(line->id, sizeof line->id, field[0], stop[0]) &&
	       copy(line->state, sizeof line->state, field[1], stop[1]);
}

bool pio_slurm_line_next(pio_slurm_line *line, const char **at)
{
	while (**at) {
		const char *text = *at, *end = text + strcspn(text, "\n");
		*at = *end ? end + 1 : end;
		if (read_line(line, text, end))
			return true;
	}
	return false;
}

/* "0:15": how it ended, as status and signal. */
static void read_exit_code(pio_slurm_end *end, const char *text)
{
	char *colon, *rest;
	long code = strtol(text, &colon, 10), signal = 0;
	if (colon == text || *colon != ':')
		return;
	signal = strtol(colon + 1, &rest, 10);
	if (rest == colon + 1 || code < 0 || code > 255 || signal < 0 || signal > 127)
		return;
	end->exit_code = signal ? -1 : (int)code;
	end->signal = signal ? (int)signal : -1;
}

bool pio_slurm_end_scontrol(pio_slurm_end *end, const char *text)
{
	*end = (pio_slurm_end){ .exit_code = -1, .signal = -1 };
	if (strncmp(text, "JobId=", 6) != 0)
		return false;
	const char *state = strstr(text, " JobState="), *code = strstr(text, " ExitCode=");
	if (!state)
		return false;
	state += sizeof " JobState=" - 1;
	if (code)
		read_exit_code(end, code + sizeof " ExitCode=" - 1);
	return copy(end->state, sizeof end->state, state, state + strcspn(state, " \n")) &&
	       pio_slurm_phase(end->state) != PIO_SLURM_UNREADABLE;
}

bool pio_slurm_end_sacct(pio_slurm_end *end, const char *text)
{
	*end = (pio_slurm_end){ .exit_code = -1, .signal = -1 };
	const char *bar = text + strcspn(text, "|\n"), *word = text + strcspn(text, " |\n");
	if (*bar != '|')
		return false;
	if (strncmp(word, " by ", 4) == 0 && strcspn(word + 4, " \t\r|") == (size_t)(bar - word) - 4)
		(void)copy(end->by, sizeof end->by, word + 4, bar);
	read_exit_code(end, bar + 1);
	return copy(end->state, sizeof end->state, text, word) &&
	       pio_slurm_phase(end->state) != PIO_SLURM_UNREADABLE;
}

/* ---- what it means ------------------------------------------------------------------------ */

const char *pio_slurm_result(pio_str *message, const pio_slurm_end *end, const char *id)
{
	const struct state *state = find_state(end->state);
	if (!state || state->phase != PIO_SLURM_OVER) {
		pio_str_printf(message, "Slurm no longer knows job %s, and it left no exit record", id);
		return "lost";
	}
	if (strcmp(state->word, "COMPLETED") == 0) {
		pio_str_printf(message, "job %s ended without an exit record", id);
	} else if (strcmp(state->word, "CANCELLED") == 0) {
		pio_str_printf(message, "job %s was cancelled, not by pioche", id);
		if (end->by[0]) {
			char *rest;
			unsigned long uid = strtoul(end->by, &rest, 10);
			const struct passwd *user = *rest ? NULL : getpwuid((uid_t)uid);
			pio_str_printf(message, " but by %s", user ? user->pw_name : end->by);
		}
	} else {
		pio_str_printf(message, "job %s: %s", id, state->word);
		if (end->signal > 0)
			pio_str_printf(message, " (%s)", pio_proc_signal_name(end->signal));
		else if (end->exit_code > 0)
			pio_str_printf(message, " (exit status %d)", end->exit_code);
	}
	return state->result;
}

/* ---- trouble -------------------------------------------------------------------------------- */

enum pio_slurm_trouble pio_slurm_trouble(const char *text)
{
	static const char *const absent[] = {
		"Unable to contact slurm controller", "Socket timed out", "timed out on send/recv",
		"Connection refused", "Connection reset", "Connection timed out", "Zero Bytes were transmitted",
		"Unexpected message received", "Resource temporarily unavailable",
		"Slurm temporarily unable to accept job", "in standby mode", "controller not responding",
		"Slurm backup controller", "Munge", "Transport endpoint is not connected",
		"Communication connection failure", "Unable to establish", "Job credential expired",
		/* Too many jobs at once: there will be fewer. */
		"MaxSubmitJob", "job submit limit",
	};
	if (strstr(text, "Invalid job id specified"))
		return PIO_SLURM_NO_SUCH_JOB;
	if (strstr(text, "accounting storage is disabled"))
		return PIO_SLURM_NO_ACCOUNTING;
	for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
		if (strstr(text, absent[i]))
			return PIO_SLURM_ABSENT;
	return PIO_SLURM_REFUSED;
}

bool pio_slurm_dead_node(pio_str *node, const char *text)
{
	static const char *const before[] = { "error: Node failure on ", " failed on node " };
	for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
		const char *at = strstr(text, before[i]);
		size_t n = at ? strcspn(at + strlen(before[i]), ": ,\n") : 0;
		if (n == 0)
			continue;
		pio_str_append(node, at + strlen(before[i]), n);
		return !node->failed;
	}
	return false;
}

void pio_slurm_words(pio_str *out, const char *text)
{
	static const char *const prefixes[] = { "sbatch: ", "srun: ", "squeue: ", "scontrol: ", "scancel: ",
	                                       "error: " };
	bool first = true;
	while (*text) {
		size_t n = strcspn(text, "\n");
		const char *line = text;
		text += n + (text[n] == '\n');
		for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
			if (strncmp(line, prefixes[i], strlen(prefixes[i])) == 0) {
				n -= strlen(prefixes[i]);
				line += strlen(prefixes[i]);
			}
		while (n && isspace((unsigned char)line[n - 1]))
			n--;
		if (!n)
			continue;
		pio_str_puts(out, first ? "" : "; ");
		pio_str_put_text(out, line, n);
		first = false;
	}
}
