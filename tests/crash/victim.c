#include "victim.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "code.h"
#include "launch/agent.h"
#include "launch/supervise.h"
#include "ranks.h"
#include "store/lease.h"
#include "story.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define LOGGED 3000
#define FOLDED 6000
#define MERGES 40
#define MERGED 120
#define WAITS 60
#define WAITED 24
#define WRITTEN 12
#define IMPORTED 1500
#define PARTS 5
#define ENCODED 3

static char self[PATH_MAX];

/* ---- a rank that logs alone ------------------------------------------------------------- */

static bool prepare_nothing(scene *s)
{
	(void)s;
	return true;
}

static void log_alone(scene *s)
{
	story_log(s, LOGGED, random_below(&s->random, 4) != 0);
}

static bool check_alone(scene *s, pio_store *store)
{
	if (!story_adopt(s, store) || !story_logged(s, store, true))
		return false;
	/* Again: it is all there, and must not come a second time. */
	return story_adopt(s, store) && story_logged(s, store, true);
}

/* ---- the next command after such a rank ---------------------------------------------------- */

static void log_and_die(scene *s)
{
	story_log(s, LOGGED, false);
	kill(getpid(), SIGKILL);
}

static bool prepare_dead(scene *s)
{
	child_wait(child_start(log_and_die, s));
	return s->page->opened || found(s, "the rank could not log");
}

static void adopt(scene *s)
{
	pio_store *store = store_open(s);
	scene_mark(s);
	if (store)
		story_adopt(s, store);
	pio_store_close(&store);
}

/* ---- an agent, and a rank of it --------------------------------------------------------------- */

static void agent_orders(scene *s, int fd)
{
	char dir[500], staging[500];
	snprintf(dir, sizeof dir, "%s/runs/" STORY_ULID "/1", s->store);
	snprintf(staging, sizeof staging, "%s/staging/" STORY_ULID ".1", s->store);
	json_t *orders = json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:[s,s], s:i}",
		"version", 1, "run", STORY_ULID, "attempt", 1, "node", 0, "nodes", 1, "ranks_per_node", 1,
		"dir", dir, "cwd", dir, "store", s->store, "staging", staging, "lib_dir", s->root,
		"token", "0123456789abcdef0123456789abcdef", "command", self, "rank", "grace_s", 1);
	if (json_dumpfd(orders, fd, JSON_COMPACT) != 0 || write(fd, "\n", 1) != 1)
		abort();
	json_decref(orders);
}

static bool prepare_agent(scene *s)
{
	char number[80], dir[500];
	pio_err err = PIO_ERR_INIT;
	snprintf(number, sizeof number, "/proc/%d/fd/%d", (int)getpid(), s->page_fd);
	setenv("CRASH_PAGE", number, 1);
	if (!story_begin(s))
		return false;
	snprintf(dir, sizeof dir, "%s/runs/" STORY_ULID "/1", s->store);
	int rc = pio_fs_mkdirs(dir, 0777, &err);
	snprintf(dir, sizeof dir, "%s/staging/" STORY_ULID ".1", s->store);
	if (!rc)
		rc = pio_fs_mkdirs(dir, 0777, &err);
	return !rc || found(s, "%s", err.message);
}

/* The pipe's other end stays open: the supervisor lives. */
static void be_agent(scene *s)
{
	int orders[2], nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (nowhere < 0 || pipe2(orders, O_CLOEXEC) != 0)
		abort();
	agent_orders(s, orders[1]);
	dup2(orders[0], STDIN_FILENO);
	dup2(nowhere, STDOUT_FILENO);
	dup2(nowhere, STDERR_FILENO);
	pio_agent_main_alone();
}

/* The rank is killed by the kernel when its agent dies, soon. */
static void reap_rank(scene *s)
{
	char mark[600];
	int64_t deadline_ns = pio_clock_mono_ns() + 5000000000;
	snprintf(mark, sizeof mark, "PIOCHE_DIR=%s/runs/" STORY_ULID "/1", s->store);
	while (s->page->pid && kill(s->page->pid, 0) == 0 && pio_proc_signal_marked(mark, 0) &&
	       pio_clock_mono_ns() < deadline_ns)
		usleep(200);
}

static int settle(scene *s, pio_store *store, pio_err *err)
{
	pio_supervisor *supervisor = NULL;
	int rc = pio_store_lease_take(store, err);
	if (!rc)
		rc = pio_supervisor_new(&supervisor, store, self, s->root, err);
	if (!rc)
		rc = pio_supervisor_recover(supervisor, err);
	if (supervisor)
		pio_supervisor_free(supervisor);
	pio_store_lease_drop(store);
	return rc;
}

static bool check_agent(scene *s, pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	for (int again = 0; again < 2; again++)
		if (settle(s, store, &err) != 0)
			return found(s, "settling failed: %s", err.message);
		else if (!story_logged(s, store, false))
			return false;
	return true;
}

static void end_of_rank(int signal_number)
{
	(void)signal_number;
	kill(getpid(), SIGKILL);
}

int victim_rank_main(void)
{
	scene s = { .random = 7 };
	int fd = open(getenv("CRASH_PAGE"), O_RDWR | O_CLOEXEC);
	s.page = mmap(NULL, sizeof *s.page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || s.page == MAP_FAILED)
		return 99;
	int64_t aim_us = s.page->aim_us, begun_ns = pio_clock_mono_ns();
	struct itimerval timer = { .it_value = { .tv_sec = aim_us / 1000000, .tv_usec = aim_us % 1000000 } };
	s.page->pid = (int)getpid();
	signal(SIGALRM, end_of_rank);
	setitimer(ITIMER_REAL, &timer, NULL);
	bool ok = story_log(&s, LOGGED, true);
	s.page->took_us = (pio_clock_mono_ns() - begun_ns) / 1000;
	s.page->finished = 1;
	return ok ? 0 : 98;
}

/* ---- the fold, also of many small parts ---------------------------------------------------------- */

static bool prepare_fold(scene *s)
{
	return story_begin(s) && story_journal(s, 0, FOLDED, true);
}

static void fold_whole(scene *s)
{
	pio_store *store = store_open(s);
	scene_mark(s);
	if (store)
		story_fold(s, store, true, FOLDED);
	pio_store_close(&store);
}

static bool check_fold(scene *s, pio_store *store)
{
	return story_folded(s, store, FOLDED, true) && story_fold(s, store, true, FOLDED) &&
	       story_folded(s, store, FOLDED, true) && story_fold(s, store, true, FOLDED) &&
	       story_archived(s) && story_mend(s, store) && story_folded(s, store, FOLDED, true);
}

static bool prepare_merge(scene *s)
{
	return story_begin(s);
}

static void fold_parts(scene *s)
{
	pio_store *store = store_open(s);
	scene_mark(s);
	for (int64_t n = 0; store && n < MERGES * MERGED; n += MERGED) {
		s->page->sent = n + MERGED;
		if (!story_journal(s, n, n + MERGED, false) || !story_fold(s, store, false, n + MERGED))
			break;
	}
	pio_store_close(&store);
}

/* Parts so small that their points wait, as those of a large run do, and become
 * chunks now and then. */
static void fold_waiting(scene *s)
{
	pio_store *store = store_open(s);
	setenv("PIOCHE_FOLD_DIRECT", "0", 1);
	scene_mark(s);
	for (int64_t part = 0; store && part < WAITS; part++) {
		int64_t n = part * WAITED;
		s->page->sent = n + WAITED;
		if (part % 7 == 6 && !story_age(s, store))
			break;
		if (!story_journal(s, n, n + WAITED, false) || !story_fold(s, store, false, n + WAITED))
			break;
	}
	pio_store_close(&store);
}

/* The part that was being written may be torn; the rest is appended again. */
static bool check_merge(scene *s, pio_store *store)
{
	if (!story_folded(s, store, s->page->sent, false) || !story_fold(s, store, false, s->page->acked))
		return false;
	int64_t there = int_of(store, "SELECT count(*) FROM point");
	s->page->acked = there;
	if (there % 64 == 0 && there != int_of(store, "SELECT 64 * count(*) FROM event WHERE kind = 'text'"))
		return true; /* torn between the points and the text behind them */
	return story_journal(s, there, there + MERGED, false) &&
	       story_fold(s, store, true, there + MERGED) && story_mend(s, store) &&
	       story_folded(s, store, there + MERGED, false);
}

/* ---- an importer that follows a growing file ------------------------------------------------------- */

static bool prepare_import(scene *s)
{
	return story_source(s, IMPORTED);
}

static void import(scene *s)
{
	pio_store *store = store_open(s);
	scene_mark(s);
	for (int part = 1; store && part <= PARTS; part++)
		if (!story_import(s, store, part, PARTS))
			break;
	pio_store_close(&store);
}

static bool check_import(scene *s, pio_store *store)
{
	return story_imported(s, store, IMPORTED);
}

/* ---- a writer with the lease ------------------------------------------------------------------------ */

static void write_runs(scene *s)
{
	story_write(s, WRITTEN);
}

static bool check_write(scene *s, pio_store *store)
{
	int64_t runs = int_of(store, "SELECT count(*) FROM run");
	if (!story_written(s, store))
		return false;
	s->page->runs = runs;
	return story_write(s, 2) && s->page->runs == runs + 2 && story_written(s, store);
}

/* ---- checkpoints of one, two and eight ranks ----------------------------------------------------------- */

#define OF_RANKS(n) \
	static void work_of_##n(scene *s) { ranks_work(s, n, NULL); } \
	static bool check_of_##n(scene *s, pio_store *store) { return ranks_check(s, store, n); }
OF_RANKS(1)
OF_RANKS(2)
OF_RANKS(8)

/* ---- objects that are encoded and decoded ---------------------------------------------------------------- */

static void work_code(scene *s)
{
	code_work(s, ENCODED, NULL);
}

/* ---- the table ------------------------------------------------------------------------------------------ */

const victim victims[] = {
	{ "rank alone", 26, false, prepare_nothing, log_alone, NULL, check_alone },
	{ "rank of an agent", 10, true, prepare_agent, be_agent, reap_rank, check_agent },
	{ "agent", 14, false, prepare_agent, be_agent, reap_rank, check_agent },
	{ "adoption", 12, false, prepare_dead, adopt, NULL, check_alone },
	{ "fold", 14, false, prepare_fold, fold_whole, NULL, check_fold },
	{ "merge", 14, false, prepare_merge, fold_parts, NULL, check_merge },
	{ "waiting", 14, false, prepare_merge, fold_waiting, NULL, check_merge },
	{ "importer", 10, false, prepare_import, import, NULL, check_import },
	{ "writer with the lease", 10, false, prepare_nothing, write_runs, NULL, check_write },
	{ "checkpoints of 1 rank", 12, false, ranks_prepare, work_of_1, NULL, check_of_1 },
	{ "checkpoints of 2 ranks", 12, false, ranks_prepare, work_of_2, NULL, check_of_2 },
	{ "checkpoints of 8 ranks", 12, false, ranks_prepare, work_of_8, NULL, check_of_8 },
	{ "encoder", 10, false, code_prepare, work_code, NULL, code_check },
};
const size_t victims_count = sizeof victims / sizeof *victims;

void victims_init(const char *program)
{
	if (!realpath(program, self))
		abort();
}
