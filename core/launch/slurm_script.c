#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "launch/agent_spec.h"
#include "launch/slurm.h"

#define DAY_S 86400

#define WARN_S 120
#define WARN_S_MAX 65535

int64_t pio_slurm_warn_s(int64_t grace_s)
{
	return grace_s < WARN_S_MAX - WARN_S ? WARN_S + grace_s : WARN_S_MAX;
}

/* ---- a launch's options ----------------------------------------------------------- */

static int read_count(int64_t *value, const json_t *launch, const char *name, int64_t low, int64_t high,
                      pio_err *err)
{
	const json_t *member = json_object_get(launch, name);
	if (!member || json_is_null(member))
		return 0;
	*value = json_integer_value(member);
	if (!json_is_integer(member) || *value < low || *value > high)
		return pio_fail(err, PIO_EINVAL, "launch: %s must be an integer from %lld to %lld", name,
		                (long long)low, (long long)high);
	return 0;
}

static int read_word(const char **value, const json_t *launch, const char *name, pio_err *err)
{
	const json_t *member = json_object_get(launch, name);
	if (!member || json_is_null(member))
		return 0;
	*value = json_string_value(member);
	if (!*value || !**value || strpbrk(*value, "\r\n"))
		return pio_fail(err, PIO_EINVAL, "launch: %s must be a string of one line", name);
	return 0;
}

static int read_flags(const json_t **flags, const json_t *launch, pio_err *err)
{
	const json_t *list = json_object_get(launch, "flags");
	size_t i;
	json_t *flag;
	if (!list || json_is_null(list) || (json_is_object(list) && json_object_size(list) == 0))
		return 0; /* an empty table of Lua may come as an object */
	if (!json_is_array(list))
		return pio_fail(err, PIO_EINVAL, "launch: flags must be a list of options of sbatch");
	json_array_foreach(list, i, flag) {
		const char *text = json_string_value(flag);
		if (!text || text[0] != '-' || strpbrk(text, "\r\n"))
			return pio_fail(err, PIO_EINVAL, "launch: flags[%zu] is %s%s%s, expected an option of sbatch,"
			                " as \"--mem=0\"", i + 1, text ? "\"" : "", text ? text : "no string",
			                text ? "\"" : "");
	}
	*flags = list;
	return 0;
}

int pio_slurm_job_read(pio_slurm_job *job, const json_t *launch, pio_err *err)
{
	int64_t nodes = 1, ranks = 1;
	int rc;
	if ((rc = read_count(&nodes, launch, "nodes", 1, 65536, err)) ||
	    (rc = read_count(&ranks, launch, "ranks_per_node", 1, PIO_RANKS_PER_NODE_MAX, err)) ||
	    (rc = read_count(&job->spares, launch, "spares", 0, 65536, err)) ||
	    (rc = read_count(&job->time_s, launch, "time_s", 1, INT32_MAX, err)) ||
	    (rc = read_count(&job->warn_s, launch, "warn_s", 1, WARN_S_MAX, err)) ||
	    (rc = read_count(&job->gpus_per_node, launch, "gpus_per_node", 1, 1024, err)) ||
	    (rc = read_count(&job->cpus_per_rank, launch, "cpus_per_rank", 1, 65536, err)) ||
	    (rc = read_word(&job->partition, launch, "partition", err)) ||
	    (rc = read_word(&job->account, launch, "account", err)) ||
	    (rc = read_word(&job->qos, launch, "qos", err)) ||
	    (rc = read_word(&job->gres, launch, "gres", err)) ||
	    (rc = read_word(&job->constraint, launch, "constraint", err)) ||
	    (rc = read_word(&job->exclude, launch, "exclude", err)) ||
	    (rc = read_word(&job->reservation, launch, "reservation", err)))
		return rc;
	job->nodes = (int)nodes;
	job->ranks_per_node = (int)ranks;
	return read_flags(&job->flags, launch, err);
}

/* ---- words ------------------------------------------------------------------------- */

/* "--name=value"; a NULL value adds nothing. */
static void add(json_t *list, const char *name, const char *value)
{
	if (value)
		json_array_append_new(list, json_sprintf("--%s=%s", name, value));
}

static void add_count(json_t *list, const char *name, int64_t value)
{
	if (value > 0)
		json_array_append_new(list, json_sprintf("--%s=%lld", name, (long long)value));
}

/* A file name in which Slurm replaces `%` words and, it is said, none of ours. */
static void add_file(json_t *list, const char *name, const char *dir, const char *file)
{
	pio_str path = PIO_STR_INIT;
	for (const char *c = dir; *c; c++)
		pio_str_puts(&path, *c == '%' ? "%%" : (char[]){ *c, '\0' });
	pio_str_printf(&path, "/%s", file);
	if (!path.failed)
		add(list, name, path.data);
	pio_str_fini(&path);
}

static void add_time(json_t *list, int64_t time_s)
{
	char text[40];
	int64_t minutes = (time_s + 59) / 60 % (DAY_S / 60);
	if (time_s <= 0)
		return;
	snprintf(text, sizeof text, "%lld-%02d:%02d:00", (long long)((time_s + 59) / 60 / (DAY_S / 60)),
	         (int)(minutes / 60), (int)(minutes % 60));
	add(list, "time", text);
}

/* Every word is there, and none of them breaks a line. */
static int check_words(json_t **words, size_t at_least, pio_err *err)
{
	size_t i;
	json_t *word;
	int rc = 0;
	json_array_foreach(*words, i, word)
		if (strpbrk(json_string_value(word), "\r\n"))
			rc = pio_fail(err, PIO_EINVAL, "launch: \"%.200s\" has a line break, which a job script"
			              " cannot say", json_string_value(word));
	if (!rc && json_array_size(*words) < at_least)
		rc = pio_fail(err, PIO_EINVAL, "launch: paths and options must be UTF-8");
	if (rc) {
		json_decref(*words);
		*words = NULL;
	}
	return rc;
}

int pio_slurm_options(json_t **options, const pio_slurm_job *job, bool whole, pio_err *err)
{
	json_t *list = *options = json_array();
	size_t i;
	json_t *flag;
	if (!list)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the options of a job");
	if (whole) {
		add(list, "job-name", job->name);
		add(list, "comment", job->key);
		add(list, "chdir", job->dir);
		add_file(list, "output", job->dir, job->is_pool ? "pilot.err" : "head.err");
		add(list, "open-mode", "append");
		add(list, "export", "ALL");
		json_array_append_new(list, json_string("--no-requeue"));
		if (job->is_pool)
			json_array_append_new(list, json_string("--no-kill"));
		/* Half of a short job's time must be left to work. */
		int64_t warn_s = job->time_s > 0 && job->warn_s > job->time_s / 2 ? job->time_s / 2 : job->warn_s;
		if (warn_s > 0)
			json_array_append_new(list, json_sprintf("--signal=B:USR2@%lld", (long long)warn_s));
	}
	add_count(list, "nodes", job->nodes + job->spares);
	add_count(list, "ntasks-per-node", job->ranks_per_node);
	add_count(list, "cpus-per-task", job->cpus_per_rank);
	add_count(list, "gpus-per-node", job->gpus_per_node);
	add(list, "gres", job->gres);
	add_time(list, job->time_s);
	add(list, "partition", job->partition);
	add(list, "account", job->account);
	add(list, "qos", job->qos);
	add(list, "constraint", job->constraint);
	add(list, "exclude", job->exclude);
	add(list, "reservation", job->reservation);
	json_array_foreach(job->flags, i, flag)
		json_array_append(list, flag);
	return check_words(options, whole ? 10 : 2, err);
}

int pio_slurm_start(json_t **argv, const pio_slurm_job *job, bool on_some, pio_err *err)
{
	json_t *list = *argv = json_array();
	char count[24];
	if (!list)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the command that starts agents");
	snprintf(count, sizeof count, "%lld", (long long)(job->nodes + job->spares));
	json_array_append_new(list, json_string("srun"));
	add(list, "nodes", on_some ? "{count}" : count);
	add(list, "ntasks", on_some ? "{count}" : count);
	add_count(list, "ntasks-per-node", 1);
	if (on_some || job->hosts) {
		add(list, "nodelist", on_some ? "{hosts}" : job->hosts);
		json_array_append_new(list, json_string("--overlap")); /* the last step may not quite be gone */
	}
	/* One agent's end is no reason to end the others: the head decides. */
	json_array_append_new(list, json_string("--kill-on-bad-exit=0"));
	json_array_append_new(list, json_string("--wait=0"));
	/* Agents bind their ranks themselves, and speak no MPI. */
	add(list, "cpu-bind", "none");
	add(list, "mpi", "none");
	add(list, "input", "none");
	add_file(list, "output", job->dir, "agent.%n.err");
	add(list, "open-mode", "append");
	json_array_append_new(list, json_string(job->executable));
	json_array_append_new(list, json_string("agent"));
	json_array_append_new(list, json_string("--join"));
	return check_words(argv, 14, err);
}

/* ---- the script -------------------------------------------------------------------- */

/* As sbatch reads its own lines: quoted by '"', with '\' before what would end that. */
static void put_option(pio_str *script, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=.,:/@%+*[]&|!";
	if (word[strspn(word, plain)] == '\0') {
		pio_str_printf(script, "#SBATCH %s\n", word);
		return;
	}
	const char *value = strchr(word, '=');
	size_t head = value ? (size_t)(value - word) + 1 : 0;
	pio_str_puts(script, "#SBATCH ");
	pio_str_append(script, word, head);
	pio_str_putc(script, '"');
	for (const char *c = word + head; *c; c++) {
		if (*c == '"' || *c == '\\')
			pio_str_putc(script, '\\');
		pio_str_putc(script, *c);
	}
	pio_str_puts(script, "\"\n");
}

/* As a POSIX shell reads it. */
static void put_quoted(pio_str *script, const char *word)
{
	pio_str_putc(script, '\'');
	for (const char *c = word; *c; c++)
		pio_str_puts(script, *c == '\'' ? "'\\''" : (char[]){ *c, '\0' });
	pio_str_putc(script, '\'');
}

int pio_slurm_script(pio_str *script, const pio_slurm_job *job, pio_err *err)
{
	json_t *options = NULL, *start = NULL, *word;
	size_t i;
	int rc = pio_slurm_options(&options, job, true, err);
	if (!rc)
		rc = pio_slurm_start(&start, job, false, err);
	if (!rc) {
		pio_str_puts(script, "#!/bin/sh\n");
		json_array_foreach(options, i, word)
			put_option(script, json_string_value(word));
		const char *what = job->is_pool ? "pool" : "attempt";
		pio_str_printf(script, "\n# One %s is started once, whoever requeues or submits this again.\n"
		               "if ! mkdir ", what);
		put_quoted(script, job->dir);
		pio_str_printf(script, "/claim; then\n\techo \"job $SLURM_JOB_ID: this %s was started before\"\n"
		               "\texit 0\nfi\n", what);
		if (job->is_pool) {
			pio_str_puts(script, "# The pilot: it starts the heads of the runs that it is given, and"
			             " these their agents.");
		} else {
			pio_str_puts(script, "# The head: it starts one agent on each node, by\n#");
			json_array_foreach(start, i, word)
				pio_str_printf(script, " %s", json_string_value(word));
		}
		pio_str_puts(script, "\nexec ");
		put_quoted(script, job->executable);
		pio_str_puts(script, job->is_pool ? " agent --pilot " : " agent --head ");
		put_quoted(script, job->dir);
		pio_str_putc(script, '\n');
		rc = pio_str_check(script, err);
	}
	json_decref(options);
	json_decref(start);
	return rc;
}

/* ---- the environment ----------------------------------------------------------------- */

static bool is_variable(const char *variable, const char *name)
{
	size_t n = strlen(name);
	return strncmp(variable, name, n) == 0 && variable[n] == '=';
}

bool pio_slurm_passes(const pio_slurm_job *job, const char *variable)
{
	static const char *const where[] = { "SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT" };
	const struct { const char *name, *ours; } defaults[] = {
		{ "SBATCH_PARTITION", job->partition }, { "SBATCH_ACCOUNT", job->account },
		{ "SBATCH_QOS", job->qos }, { "SBATCH_CONSTRAINT", job->constraint },
		{ "SBATCH_RESERVATION", job->reservation },
		{ "SBATCH_TIMELIMIT", job->time_s > 0 ? "" : NULL },
	};
	if (strncmp(variable, "SLURM", 5) != 0 && strncmp(variable, "SBATCH_", 7) != 0 &&
	    strncmp(variable, "SRUN_", 5) != 0 && strncmp(variable, "SQUEUE_", 7) != 0 &&
	    strncmp(variable, "SCANCEL_", 8) != 0 && strncmp(variable, "SACCT_", 6) != 0 &&
	    strncmp(variable, "SCONTROL_", 9) != 0)
		return true;
	for (size_t i = 0; i < sizeof where / sizeof *where; i++)
		if (is_variable(variable, where[i]))
			return true;
	for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
		if (is_variable(variable, defaults[i].name))
			return !defaults[i].ours;
	return false;
}
