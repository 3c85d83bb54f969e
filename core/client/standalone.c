#include "client/standalone.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/drain.h"
#include "client/drainer.h"
#include "client/env.h"
#include "client/facts.h"
#include "client/name.h"
#include "client/ring_layout.h"
#include "sys/fs.h"
#include "sys/shm.h"

typedef struct pio_standalone {
	struct pio_standalone *next;   /* of the process's open runs */
	pio_run *run;
	char *store;
	pio_drainer drainer;
	bool finished;
	atomic_flag rescuing;          /* by one thread of a forked child */
	int lock_fd;
} standalone;

/* Runs to close at exit, and to let go of in a forked child. */
static standalone *open_runs;
static pthread_mutex_t open_runs_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

/* ---- the store -------------------------------------------------------------- */

/* Append the nearest directory upwards from `from` that contains `name`. */
static bool find_upwards(pio_str *found, const char *from, const char *name)
{
	pio_str path = PIO_STR_INIT;
	size_t len = strlen(from);
	bool hit = false;
	while (!hit) {
		pio_str_clear(&path);
		pio_str_append(&path, from, len);
		pio_str_printf(&path, "/%s", name);
		hit = !path.failed && pio_fs_type(path.data) != PIO_FS_NONE;
		if (hit)
			pio_str_append(found, from, len);
		if (len == 0)
			break;
		while (len && from[len - 1] != '/')
			len--;
		if (len)
			len--;
	}
	pio_str_fini(&path);
	return hit;
}

static int make_store(const char *path, pio_err *err)
{
	pio_str ignore = PIO_STR_INIT;
	int rc = pio_fs_mkdirs_durable(path, 0777, err);
	pio_str_printf(&ignore, "%s/.gitignore", path);
	if (!rc)
		rc = pio_str_check(&ignore, err);
	if (!rc)
		rc = pio_fs_ensure(ignore.data, "*\n", 2, 0666, err);
	pio_str_fini(&ignore);
	return rc;
}

int pio_standalone_store(pio_str *path, pio_err *err)
{
	char here[PATH_MAX] = "";
	const char *given = getenv(PIO_ENV_STORE);
	/* A store that is named in full needs no working directory. */
	if (!(given && *given == '/') && !getcwd(here, sizeof here))
		return pio_fail_errno(err, errno, "cannot tell the working directory");
	if (given && *given) {
		if (*given != '/')
			pio_str_printf(path, "%s/", here);
		pio_str_puts(path, given);
	} else {
		if (!find_upwards(path, here, ".pioche") && !find_upwards(path, here, ".git"))
			pio_str_puts(path, here);
		pio_str_puts(path, "/.pioche");
	}
	int rc = pio_str_check(path, err);
	return rc ? rc : make_store(path->data, err);
}

/* ---- who runs --------------------------------------------------------------- */

/* Start time of this process in ticks since boot: field 22 of its stat. */
static uint64_t own_start_ticks(void)
{
	pio_str text = PIO_STR_INIT;
	unsigned long long ticks = 0;
	if (pio_fs_read(&text, "/proc/self/stat", NULL) == 0) {
		const char *at = strrchr(text.data, ')');
		for (int field = 2; at && field < 22; field++)
			at = strchr(at + 1, ' ');
		if (at)
			ticks = strtoull(at, NULL, 10);
	}
	pio_str_fini(&text);
	return ticks;
}

static void put_command(pio_str *json, const pio_str *words)
{
	pio_str_putc(json, '[');
	for (size_t i = 0; i < words->len;) {
		size_t n = strnlen(words->data + i, words->len - i);
		if (i)
			pio_str_putc(json, ',');
		pio_str_put_json(json, words->data + i, n);
		i += n + 1;
	}
	pio_str_putc(json, ']');
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash && slash[1] ? slash + 1 : path;
}

static int describe(pio_str *json, const char *experiment, pio_err *err)
{
	pio_str words = PIO_STR_INIT;
	char host[256] = "", cwd[PATH_MAX] = "", uid[24];
	const char *user = getenv("USER");
	(void)pio_fs_read(&words, "/proc/self/cmdline", NULL);
	if (!experiment || !*experiment)
		experiment = words.data[0] ? base_name(words.data) : "run";
	int rc = pio_name_check("experiment", experiment, strlen(experiment), err);
	if (rc)
		goto out;
	if (gethostname(host, sizeof host - 1) != 0)
		host[0] = 0;
	if (!getcwd(cwd, sizeof cwd))
		cwd[0] = 0;
	snprintf(uid, sizeof uid, "%u", (unsigned)getuid());
	user = user && *user ? user : uid;
	pio_str_puts(json, "{\"experiment\":");
	pio_str_put_json(json, experiment, strlen(experiment));
	pio_str_puts(json, ",\"command\":");
	put_command(json, &words);
	pio_str_puts(json, ",\"cwd\":");
	pio_str_put_json(json, cwd, strlen(cwd));
	pio_str_puts(json, ",\"host\":");
	pio_str_put_json(json, host, strlen(host));
	pio_str_printf(json, ",\"pid\":%ld,\"start_ticks\":%llu,\"user\":", (long)getpid(),
	               (unsigned long long)own_start_ticks());
	pio_str_put_json(json, user, strlen(user));
	pio_str_putc(json, '}');
	rc = pio_str_check(json, err);
out:
	pio_str_fini(&words);
	return rc;
}

/* ---- the process's hooks ---------------------------------------------------- */

static int lock_attempt(standalone *alone, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/agent.lock", alone->run->dir);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_lock(&alone->lock_fd, path.data, err);
	pio_str_fini(&path);
	return rc;
}

static void before_fork(void)
{
	pthread_mutex_lock(&open_runs_mutex);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&open_runs_mutex);
}

/* A child's log is drained by its parent. Where the parent has died, the first
 * child that waits for room takes its place, and keeps the lock while it lives:
 * the run is going on. */
static void take_over(void *context)
{
	standalone *alone = context;
	if (atomic_flag_test_and_set(&alone->rescuing))
		return;
	bool taken = false;
	if (lock_attempt(alone, NULL) == 0) {
		taken = pio_drainer_resume(&alone->drainer, NULL) == 0;
		if (!taken)
			pio_fs_unlock(&alone->lock_fd);
	}
	if (!taken)
		atomic_flag_clear(&alone->rescuing);
}

/* The run is the parent's: a child that outlives it must not keep its lock. */
static void after_fork_child(void)
{
	for (standalone *alone = open_runs; alone; alone = alone->next) {
		if (alone->lock_fd >= 0)
			close(alone->lock_fd);
		alone->lock_fd = -1;
		pio_drainer_forget(&alone->drainer);
		atomic_flag_clear(&alone->rescuing);
		alone->run->ring->rescue = take_over;
		alone->run->ring->rescue_context = alone;
	}
	open_runs = NULL;
	pthread_mutex_unlock(&open_runs_mutex);
}

static int finish(standalone *alone, int status, pio_err *err);

static void at_exit(int status, void *unused)
{
	(void)unused;
	pthread_mutex_lock(&open_runs_mutex);
	for (standalone *alone = open_runs; alone; alone = alone->next) {
		pio_err err = PIO_ERR_INIT;
		if (alone->run->pid == getpid() && finish(alone, status, &err) != 0)
			fprintf(stderr, "pioche: run %s: %s\n", alone->run->id, err.message);
	}
	pthread_mutex_unlock(&open_runs_mutex);
}

static void install_hooks(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
	on_exit(at_exit, NULL);
}

static void list_add(standalone *alone)
{
	pthread_once(&hooks_once, install_hooks);
	pthread_mutex_lock(&open_runs_mutex);
	alone->next = open_runs;
	open_runs = alone;
	pthread_mutex_unlock(&open_runs_mutex);
}

static void list_remove(standalone *alone)
{
	pthread_mutex_lock(&open_runs_mutex);
	standalone **at = &open_runs;
	while (*at && *at != alone)
		at = &(*at)->next;
	if (*at)
		*at = alone->next;
	pthread_mutex_unlock(&open_runs_mutex);
}

/* ---- life ------------------------------------------------------------------- */

static int tell_facts(standalone *alone, pio_err *err)
{
	pio_str json = PIO_STR_INIT, payload = PIO_STR_INIT;
	pio_str_putc(&json, '{');
	pio_facts_put(&json, environ);
	pio_str_putc(&json, '}');
	int rc = pio_str_check(&json, err);
	if (!rc) {
		pio_facts_payload(&payload, 0, "machine", NULL, NULL, json.data, json.len);
		rc = pio_str_check(&payload, err);
	}
	if (!rc)
		rc = pio_journal_append(alone->drainer.journal, PIO_RECORD_ENVIRONMENT, payload.data, payload.len,
		                        NULL, 0, err);
	pio_str_fini(&json);
	pio_str_fini(&payload);
	return rc;
}

static int open_journal(standalone *alone, const char *experiment, pio_err *err)
{
	pio_str json = PIO_STR_INIT;
	int rc = pio_drainer_open(&alone->drainer, alone->run->ring, alone->run->dir, alone->run->id, err);
	if (!rc)
		rc = describe(&json, experiment, err);
	if (!rc)
		rc = pio_drainer_json(&alone->drainer, PIO_RECORD_RUN, json.data, json.len, err);
	if (!rc)
		rc = tell_facts(alone, err);
	if (!rc)
		rc = pio_journal_flush(alone->drainer.journal, 1, err);
	pio_str_fini(&json);
	return rc;
}

/* Last, when everything it announces is there and durable. */
static int announce(standalone *alone, pio_err *err)
{
	int rc = pio_fs_sync_dir(alone->run->dir, err);
	return rc ? rc : pio_fs_mkdirs_durable(alone->run->staging, 0777, err);
}

/* PIOCHE_SHM or TMPDIR may be relative, and the program may go elsewhere. */
static int make_ring_path(standalone *alone, pio_err *err)
{
	char here[PATH_MAX];
	pio_str path = PIO_STR_INIT, whole = PIO_STR_INIT;
	int rc = pio_ring_path(&path, alone->run->id, 1, 0, err);
	if (!rc && path.data[0] != '/') {
		if (!getcwd(here, sizeof here))
			rc = pio_fail_errno(err, errno, "cannot tell the working directory");
		else
			pio_str_printf(&whole, "%s/", here);
	}
	pio_str_append(&whole, path.data, path.len);
	pio_str_fini(&path);
	alone->run->ring_path = pio_str_take(&whole);
	return rc;
}

static int make_paths(standalone *alone, pio_err *err)
{
	pio_run *run = alone->run;
	pio_str store = PIO_STR_INIT, path = PIO_STR_INIT;
	int rc = pio_standalone_store(&store, err);
	if (!rc) {
		pio_str_printf(&path, "%s/runs/%s/1", store.data, run->id);
		run->dir = pio_str_take(&path);
		pio_str_printf(&path, "%s/staging/%s", store.data, run->id);
		run->staging = pio_str_take(&path);
		rc = make_ring_path(alone, err);
		alone->store = pio_str_take(&store);
		if (!rc && (!run->dir || !run->staging || !alone->run->ring_path || !alone->store))
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for the paths of a run");
	}
	pio_str_fini(&store);
	pio_str_fini(&path);
	return rc ? rc : pio_fs_mkdirs_durable(run->dir, 0777, err);
}

int pio_standalone_open(pio_run *run, const char *experiment, pio_err *err)
{
	pio_ulid ulid;
	standalone *alone = run->alone = pio_calloc(1, sizeof *alone);
	if (!alone)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a run");
	*alone = (standalone){ .run = run, .lock_fd = -1, .drainer = PIO_DRAINER_INIT,
	                       .rescuing = ATOMIC_FLAG_INIT };
	pio_ulid_new(&ulid);
	pio_ulid_format(&ulid, run->id);
	int rc = make_paths(alone, err);
	if (!rc)
		rc = lock_attempt(alone, err);
	if (!rc)
		rc = pio_ring_create(&run->ring, alone->run->ring_path, 0, 0, 0, err);
	if (!rc)
		rc = open_journal(alone, experiment, err);
	if (!rc)
		rc = announce(alone, err);
	if (!rc)
		rc = pio_drainer_start(&alone->drainer, err);
	if (!rc)
		list_add(alone);
	else
		pio_err_context(err, "cannot open a run of its own");
	return rc;
}

/* With the list's mutex held: a thread may close the run while another ends
 * the process. */
static int finish(standalone *alone, int status, pio_err *err)
{
	if (alone->finished)
		return 0;
	alone->finished = true;
	pio_drainer_stop(&alone->drainer);
	const char *json = status == 0 ? "{\"result\":\"ok\"}" : "{\"result\":\"failed\"}";
	int rc = pio_drainer_finish(&alone->drainer, json, alone->run->ring_path, err);
	/* A ring that could not be drained stays for whoever adopts the run. */
	if (!rc)
		rc = pio_fs_unlink(alone->run->ring_path, err);
	pio_fs_unlock(&alone->lock_fd);
	return rc;
}

int pio_standalone_finish(pio_run *run, int status, pio_err *err)
{
	pthread_mutex_lock(&open_runs_mutex);
	int rc = finish(run->alone, status, err);
	pthread_mutex_unlock(&open_runs_mutex);
	return rc;
}

/* runs/<ulid>, above the attempt's directory. */
static void remove_run_dir(pio_run *run)
{
	char *slash = run->dir ? strrchr(run->dir, '/') : NULL;
	if (!slash)
		return;
	*slash = 0;
	(void)pio_fs_remove_tree(run->dir, NULL);
}

void pio_standalone_free(pio_run *run)
{
	standalone *alone = run->alone;
	run->alone = NULL;
	if (!alone)
		return;
	list_remove(alone);
	if (!alone->finished) { /* the opening failed: leave nothing behind */
		pio_drainer_stop(&alone->drainer);
		if (run->ring)
			(void)pio_fs_unlink(alone->run->ring_path, NULL);
		pio_fs_unlock(&alone->lock_fd);
		if (run->staging)
			(void)pio_fs_remove_tree(run->staging, NULL);
		remove_run_dir(run);
	}
	pio_drainer_fini(&alone->drainer);
	pio_free(alone->store);
	pio_free(alone);
}
