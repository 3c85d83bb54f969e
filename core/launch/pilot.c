#include "launch/pilot.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "launch/agent_spec.h"
#include "launch/hostlist.h"
#include "launch/supervise_parts.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define NS_PER_S INT64_C(1000000000)
#define TURN_NS INT64_C(200000000)
#define BEAT_NS (5 * NS_PER_S)
#define IDLE_S 300
#define NODES_MAX 65536
/* A head that was told to kill gives its agents a minute; one that takes longer hangs. */
#define KILL_NS (90 * NS_PER_S)
/* Without their head agents stop in the grace of their ranks, and write their record. */
#define ORPHANS_NS (15 * NS_PER_S)

enum phase { OPEN, CLOSING, CLOSED };
enum order { ORDER_RUN, ORDER_STOP, ORDER_KILL };

typedef struct member {
	struct member *next;
	char *dir;
	json_t *orders;               /* of its head; NULL: they cannot be read */
	pid_t pid;                    /* of its head; 0: it is dead, or never lived */
	int status;                   /* wait status once it is dead */
	int64_t started_ns, died_ns;  /* wall, monotonic */
	enum order order;             /* passed on so far */
	int64_t kill_ns;              /* monotonic; when patience ends, 0: never */
	bool is_over;
} member;

typedef struct pilot {
	const char *dir;
	const char *executable;
	json_t *pool, *nodes;
	enum phase phase;
	char told[32];                /* by which signal it was closed; "": by none */
	bool is_last;                 /* no more will come */
	int64_t idle_ns;              /* monotonic; since when nothing runs */
	int64_t idle_s, began_ns, until_ns, beat_ns;
	int64_t beat;
	bool has_news;
	member *members;
	char said[PIO_ERR_MESSAGE_BYTES];   /* the trouble that was told last */
} pilot;

static int in_dir(pio_str *path, const char *dir, const char *name, pio_err *err)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s/%s", dir, name);
	return pio_str_check(path, err);
}

static json_t *read_json(const char *dir, const char *name)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	json_t *value = NULL;
	if (in_dir(&path, dir, name, NULL) == 0 && pio_fs_read(&text, path.data, NULL) == 0)
		(void)pio_json_parse(&value, text.data, text.len, path.data, NULL);
	pio_str_fini(&path);
	pio_str_fini(&text);
	return value;
}

static int write_json(const char *dir, const char *name, json_t *value, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	char *text = value ? pio_json_canonical(value) : NULL;
	int rc = text ? in_dir(&path, dir, name, err) : pio_fail(err, PIO_ENOMEM, "out of memory for %s", name);
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), 0666, err);
	json_decref(value);
	free(text);
	pio_str_fini(&path);
	return rc;
}

static bool exists(const char *dir, const char *name)
{
	pio_str path = PIO_STR_INIT;
	bool there = in_dir(&path, dir, name, NULL) == 0 && pio_fs_type(path.data) != PIO_FS_NONE;
	pio_str_fini(&path);
	return there;
}

/* ---- attempts ------------------------------------------------------------------------------ */

/* As a job script does for an attempt of its own: one is started once. */
static int claim(const member *m, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = in_dir(&path, m->dir, "claim", err);
	if (!rc && pio_fs_type(path.data) != PIO_FS_NONE)
		rc = pio_fail(err, PIO_EEXIST, "it was started before");
	if (!rc)
		rc = pio_fs_mkdirs(path.data, 0777, err);
	pio_str_fini(&path);
	return rc;
}

static int start_head(const pilot *p, member *m, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	const char *argv[] = { p->executable, "agent", "--head", m->dir, NULL };
	int fd = -1;
	int rc = claim(m, err);
	if (!rc)
		rc = in_dir(&path, m->dir, "head.err", err);
	if (!rc)
		rc = pio_fs_open(&fd, path.data, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	if (!rc) {
		pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ, .cwd = m->dir,
		                       .stdin_fd = -1, .stdout_fd = fd, .stderr_fd = fd };
		rc = pio_proc_spawn(&m->pid, &spec, err);
		if (rc)
			m->pid = 0;
	}
	if (fd >= 0)
		(void)pio_fs_close(&fd, path.data, NULL);
	pio_str_fini(&path);
	return rc;
}

/* Nobody else will say how it ended. */
static int write_end(member *m, const char *result, const char *why, pio_err *err)
{
	const char *job = getenv("SLURM_JOB_ID");
	pio_str text = PIO_STR_INIT;
	pio_str_put_text(&text, why, strlen(why));
	json_t *record = json_pack("{s:i, s:s?, s:I, s:s?, s:s, s:s, s:n, s:[], s:I, s:I}", "version", 1,
		"run", pio_json_string_or(m->orders, "run", NULL),
		"attempt", (json_int_t)pio_json_int_or(m->orders, "attempt", 0), "job", job, "result", result,
		"message", text.data, "first", "nodes", "started_ns", (json_int_t)m->started_ns,
		"ended_ns", (json_int_t)pio_clock_wall_ns());
	pio_str_fini(&text);
	return write_json(m->dir, "exit.json", record, err);
}

static int add_member(pilot *p, const char *dir, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	member *m = pio_calloc(1, sizeof *m);
	if (!m || !(m->dir = pio_strdup(dir))) {
		pio_free(m);
		return pio_fail(err, PIO_ENOMEM, "out of memory for an attempt");
	}
	m->next = p->members;
	p->members = m;
	m->started_ns = pio_clock_wall_ns();
	m->orders = read_json(dir, "orders.json");
	int rc = start_head(p, m, &why);
	p->has_news = true;
	if (!rc)
		return 0;
	fprintf(stderr, "pioche pilot: %s: %s\n", dir, why.message);
	m->is_over = true;
	/* Who claimed it before has a record to write, or has died with its job. */
	return rc == -PIO_EEXIST ? 0 : write_end(m, "lost", why.message, err);
}

static bool has_all_records(const member *m)
{
	int64_t nodes = pio_json_int_or(m->orders, "nodes", 1);
	for (int64_t node = 0; node < nodes; node++) {
		char name[40];
		snprintf(name, sizeof name, "exit.%lld.json", (long long)node);
		if (!exists(m->dir, name))
			return false;
	}
	return true;
}

/* It was ended by what was passed on to it, before it could hear that: it had
 * started nobody yet. */
static bool was_deaf(const member *m)
{
	int n = WIFSIGNALED(m->status) ? WTERMSIG(m->status) : 0;
	return n == SIGTERM || n == SIGINT || n == SIGUSR2;
}

/* Its head is dead. True: so is all of it, and how it ended is on record. */
static bool settle(member *m, pio_err *err)
{
	pio_str why = PIO_STR_INIT;
	pio_attempt_ref ref = { .dir = m->dir };
	int64_t grace_ns = pio_json_int_or(m->orders, "grace_s", PIO_GRACE_S_DEFAULT) * NS_PER_S;
	bool is_cancelled = was_deaf(m) && m->order != ORDER_RUN;
	if (exists(m->dir, "exit.json"))
		return true;
	if (!was_deaf(m) && pio_clock_mono_ns() - m->died_ns < grace_ns + ORPHANS_NS && !has_all_records(m))
		return false;
	if (is_cancelled)
		pio_str_puts(&why, "stopped before it began");
	else if (WIFSIGNALED(m->status))
		pio_str_printf(&why, "its head died: %s", pio_proc_signal_name(WTERMSIG(m->status)));
	else
		pio_str_printf(&why, "its head ended with %d", WEXITSTATUS(m->status));
	if (!was_deaf(m))
		pio_attempt_last_words(&why, &ref, "head.err");
	int rc = pio_str_check(&why, err);
	if (!rc)
		rc = write_end(m, is_cancelled ? "cancelled" : "lost", why.data, err);
	pio_str_fini(&why);
	return rc == 0; /* a full disk may get room again */
}

static void pass_on(member *m, int signal_number)
{
	if (m->pid > 0)
		kill(m->pid, signal_number);
}

static enum order read_order(const member *m)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	enum order order = ORDER_RUN;
	if (in_dir(&path, m->dir, "order", NULL) == 0 && pio_fs_read(&text, path.data, NULL) == 0) {
		if (strncmp(text.data, "stop", 4) == 0)
			order = ORDER_STOP;
		else if (strncmp(text.data, "kill", 4) == 0)
			order = ORDER_KILL;
	}
	pio_str_fini(&path);
	pio_str_fini(&text);
	return order;
}

static void obey(member *m)
{
	enum order order = read_order(m);
	if (order > m->order) {
		m->order = order;
		pass_on(m, order == ORDER_KILL ? SIGINT : SIGTERM);
		if (order == ORDER_KILL)
			m->kill_ns = pio_clock_mono_ns() + KILL_NS;
	}
	if (m->kill_ns && pio_clock_mono_ns() > m->kill_ns)
		pio_proc_signal_tree(m->pid, SIGKILL);
}

/* ---- the allocation -------------------------------------------------------------------------- */

static int write_state(pilot *p, pio_err *err)
{
	static const char *const phases[] = { [OPEN] = "open", [CLOSING] = "closing", [CLOSED] = "closed" };
	json_t *running = json_array();
	for (const member *m = p->members; m && running; m = m->next)
		if (!m->is_over)
			json_array_append_new(running, json_string(m->dir));
	p->beat_ns = pio_clock_mono_ns() + BEAT_NS;
	p->has_news = false;
	return write_json(p->dir, "state.json", json_pack("{s:i, s:s?, s:s, s:s?, s:O, s:I, s:I, s:o, s:I}",
		"version", 1, "job", getenv("SLURM_JOB_ID"), "phase", phases[p->phase],
		"told", p->told[0] ? p->told : NULL, "nodes", p->nodes,
		"began_ns", (json_int_t)p->began_ns, "until_ns", (json_int_t)p->until_ns,
		"running", running, "beat", (json_int_t)++p->beat), err);
}

static void close_pool(pilot *p, const char *told)
{
	if (p->phase == OPEN) {
		p->phase = CLOSING;
		p->has_news = true;
	}
	if (told && !p->told[0])
		snprintf(p->told, sizeof p->told, "%s", told);
}

static void take_signal(pilot *p, int signal_number)
{
	member *m;
	if (signal_number == SIGCHLD)
		return; /* it woke us */
	close_pool(p, pio_proc_signal_name(signal_number));
	for (m = p->members; m; m = m->next)
		pass_on(m, signal_number);
}

static void reap(pilot *p)
{
	pid_t pid;
	int status;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (member *m = p->members; m; m = m->next)
			if (m->pid == pid) {
				m->pid = 0;
				m->status = status;
				m->died_ns = pio_clock_mono_ns();
			}
}

static const member *find(const pilot *p, const char *dir)
{
	const member *m = p->members;
	while (m && strcmp(m->dir, dir) != 0)
		m = m->next;
	return m;
}

static bool is_listed(const json_t *attempts, const char *dir)
{
	size_t i;
	json_t *item;
	json_array_foreach(attempts, i, item)
		if (strcmp(json_string_value(item) ? json_string_value(item) : "", dir) == 0)
			return true;
	return false;
}

/* Those that have ended, and that nobody may ask for again. */
static void forget(pilot *p, const json_t *attempts)
{
	for (member **at = &p->members; *at;) {
		member *m = *at;
		if (!m->is_over || is_listed(attempts, m->dir)) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		json_decref(m->orders);
		pio_free(m->dir);
		pio_free(m);
	}
}

static int take_orders(pilot *p, pio_err *err)
{
	json_t *orders = read_json(p->dir, "orders.json"), *item;
	const json_t *attempts = json_object_get(orders, "attempts");
	size_t i;
	int rc = 0;
	/* What cannot be read now says nothing. */
	if (json_is_array(attempts)) {
		json_array_foreach(attempts, i, item)
			if (!rc && json_is_string(item) && !find(p, json_string_value(item)))
				rc = add_member(p, json_string_value(item), err);
		forget(p, attempts);
		p->is_last = json_is_true(json_object_get(orders, "end"));
	}
	json_decref(orders);
	return rc;
}

/* What runs, and whether anything does. */
static bool tend_members(pilot *p, pio_err *err)
{
	bool works = false;
	for (member *m = p->members; m; m = m->next) {
		if (m->is_over)
			continue;
		if (m->pid > 0)
			obey(m);
		else if (settle(m, err))
			m->is_over = p->has_news = true;
		works |= !m->is_over;
	}
	return works;
}

/* Once, however long it lasts. */
static void tell(pilot *p, const pio_err *err)
{
	if (err->message[0] && strcmp(err->message, p->said) != 0)
		fprintf(stderr, "pioche pilot: %s\n", err->message);
	memcpy(p->said, err->message, sizeof p->said);
}

/* What fails here may go better at the next turn: attempts run meanwhile. */
static void turn(pilot *p)
{
	pio_err err = PIO_ERR_INIT;
	int64_t now_ns = pio_clock_mono_ns();
	reap(p);
	if (p->phase == OPEN)
		(void)take_orders(p, &err);
	bool works = tend_members(p, &err);
	if (works)
		p->idle_ns = now_ns;
	else if (p->is_last || now_ns - p->idle_ns > p->idle_s * NS_PER_S)
		close_pool(p, NULL);
	if (p->phase == CLOSING && !works) {
		p->phase = CLOSED;
		p->has_news = true;
	}
	if (p->has_news || now_ns > p->beat_ns)
		(void)write_state(p, &err);
	tell(p, &err);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static int read_nodes(pilot *p, pio_err *err)
{
	const char *list = getenv("SLURM_JOB_NODELIST");
	pio_str name = PIO_STR_INIT;
	p->nodes = json_array();
	for (int i = 0; i < NODES_MAX && p->nodes && pio_hostlist_nth(&name, list, i); i++) {
		json_array_append_new(p->nodes, json_string(name.data));
		pio_str_clear(&name);
	}
	pio_str_fini(&name);
	return json_array_size(p->nodes) > 0 ? 0 : pio_fail(err, PIO_EINVAL, "SLURM_JOB_NODELIST=\"%s\" in the"
		" environment: names of nodes expected", list ? list : "");
}

/* Newer versions of Slurm tell when the allocation began, and ends. */
static int64_t time_of(const char *name, int64_t otherwise_ns)
{
	const char *text = getenv(name);
	char *end;
	long long seconds = text ? strtoll(text, &end, 10) : 0;
	return text && *text && !*end && seconds > 0 && seconds < INT64_MAX / NS_PER_S ? seconds * NS_PER_S
	                                                                               : otherwise_ns;
}

static int prepare(pilot *p, pio_err *err)
{
	p->pool = read_json(p->dir, "pool.json");
	p->executable = pio_json_string_or(p->pool, "executable", NULL);
	int64_t time_s = pio_json_int_or(p->pool, "time_s", 0);
	if (!p->executable || time_s <= 0 || time_s > INT32_MAX)
		return pio_fail(err, PIO_EINVAL, "%s/pool.json cannot be read, or has no \"executable\" and \"time_s\"",
		                p->dir);
	p->idle_s = pio_json_int_or(p->pool, "idle_s", IDLE_S);
	p->began_ns = time_of("SLURM_JOB_START_TIME", pio_clock_wall_ns());
	p->until_ns = time_of("SLURM_JOB_END_TIME", p->began_ns + time_s * NS_PER_S);
	p->idle_ns = pio_clock_mono_ns();
	int rc = read_nodes(p, err);
	return rc ? rc : write_state(p, err);
}

static void work(pilot *p)
{
	static const int heard[] = { SIGCHLD, SIGTERM, SIGINT, SIGUSR2 };
	const struct timespec wait = { .tv_nsec = TURN_NS };
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof heard / sizeof *heard; i++)
		sigaddset(&set, heard[i]);
	sigprocmask(SIG_BLOCK, &set, NULL); /* children start with none blocked (proc.h) */
	while (p->phase != CLOSED) {
		int signal_number;
		turn(p);
		if (p->phase != CLOSED && (signal_number = sigtimedwait(&set, NULL, &wait)) > 0)
			take_signal(p, signal_number);
	}
}

int pio_pilot_main(const char *dir)
{
	char absolute[PATH_MAX];
	pilot p = { .dir = absolute };
	pio_err err = PIO_ERR_INIT;
	int rc = realpath(dir, absolute) ? 0 : pio_fail_errno(&err, errno, "pool \"%s\"", dir);
	if (!rc)
		rc = prepare(&p, &err);
	if (!rc)
		work(&p);
	else
		fprintf(stderr, "pioche pilot: %s\n", err.message);
	forget(&p, NULL);
	json_decref(p.pool);
	json_decref(p.nodes);
	return rc ? 3 : 0;
}
