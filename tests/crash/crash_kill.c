/* SIGKILL at random moments, then the next command. KILLS processes are killed,
 * spread over the victims below by their shares; JOBS work at once. Case i has
 * the seed SEED + i; VICTIM=name SEED=n KILLS=1 repeats one.
 *
 * A process is killed before, amid or after its n-th operation on files, n
 * thrown; or stopped there, led on for some single machine instructions and
 * then killed; or killed after a random time. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "disk.h"
#include "scene.h"
#include "story.h"
#include "victim.h"

#define LIMIT_S 60

enum way { BEFORE, AMID, AFTER, BY_INSTRUCTION, BY_TIME, WAYS };
static const char *const way_names[WAYS] = { "before operation", "amid operation",
	"after operation", "some instructions after operation", "after microseconds" };

typedef struct aim {
	enum way way;
	bool late;                 /* counted from the mark */
	uint64_t n, instructions;
} aim;

/* What a victim does when nobody kills it. */
typedef struct whole {
	int64_t operations, late_operations, us;
} whole;

/* Of one victim, over all workers: in shared memory. */
typedef struct tally {
	atomic_uint_fast64_t killed, survived, failures;
	atomic_uint_fast64_t by_way[WAYS];
	atomic_uint_fast64_t ns;
} tally;

static tally *tallies;
static const victim *current;
static aim current_aim;

/* ---- one case ------------------------------------------------------------------------ */

static void set_trap(scene *s)
{
	static const enum disk_trap traps[WAYS] = { DISK_KILL, DISK_KILL_AMID, DISK_KILL_AFTER, DISK_STOP };
	const aim *a = &current_aim;
	s->page->early_operations = (int64_t)disk_trap_at(a->way == BY_TIME ? 0 : a->n, traps[a->way], 0);
}

static void work(scene *s)
{
	if (current_aim.way == BY_INSTRUCTION)
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	else
		alarm(LIMIT_S);
	disk_trap_at(0, DISK_KILL, 0);
	if (current_aim.late)
		s->at_mark = set_trap;
	else
		set_trap(s);
	current->work(s);
	s->page->operations = (int64_t)disk_trap_at(0, DISK_KILL, 0);
	if (!current->by_itself)
		s->page->finished = 1;
}

/* The next stop of the traced main thread, or the end of the process. False:
 * nothing for so long; it waits for another thread, which is stopped. */
static bool next_stop(pid_t pid, int *status, int64_t limit_ms)
{
	int64_t deadline_ns = pio_clock_mono_ns() + limit_ms * 1000000;
	pid_t rc;
	for (int spins = 0; (rc = waitpid(pid, status, WNOHANG)) == 0; spins++)
		if (pio_clock_mono_ns() > deadline_ns)
			return false;
		else if (spins > 200)
			usleep(50);
	return rc == pid;
}

static void step_then_kill(scene *s, pid_t pid, uint64_t instructions)
{
	int status = 0;
	do
		if (!next_stop(pid, &status, LIMIT_S * 1000))
			found(s, "it hangs");
		else if (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP)
			ptrace(PTRACE_CONT, pid, NULL, WSTOPSIG(status));
	while (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP);
	for (uint64_t i = 0; i < instructions && WIFSTOPPED(status); i++)
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || !next_stop(pid, &status, 20))
			break;
	if (WIFEXITED(status) || WIFSIGNALED(status))
		return;
	kill(pid, SIGKILL);
	child_wait(pid);
}

static void sleep_ns(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	nanosleep(&t, NULL);
}

static void check(scene *s)
{
	alarm(LIMIT_S);
	pio_store *store = store_open(s);
	if (store && current->check(s, store))
		store_is_sound(s, store);
	if (store)
		pio_store_close(&store);
}

/* True if it was killed, false if it had ended before. */
static bool kill_one(scene *s, const aim *a)
{
	current_aim = *a;
	int status = 0;
	pid_t pid = child_start(work, s);
	if (a->way == BY_TIME && !current->by_itself) {
		sleep_ns((int64_t)a->n * 1000);
		kill(pid, SIGKILL);
	}
	if (a->way == BY_INSTRUCTION)
		step_then_kill(s, pid, a->instructions);
	else
		status = child_wait(pid);
	if (status == 128 + SIGABRT || status == 128 + SIGSEGV || status == 128 + SIGALRM)
		found(s, "the process %s", status == 128 + SIGALRM ? "hangs" : "crashed");
	if (current->reap)
		current->reap(s);
	return !s->page->finished;
}

static void one_case(scene *s, const victim *v, tally *t, uint64_t seed, const whole *w)
{
	int64_t begun_ns = pio_clock_mono_ns();
	scene_clear(s, seed);
	setenv("PIOCHE_FS", random_below(&s->random, 3) ? "local" : "network", 1);
	aim a = { .way = (enum way)random_below(&s->random, WAYS) };
	if (v->by_itself)
		a.way = BY_TIME;
	a.late = a.way != BY_TIME && w->late_operations && random_below(&s->random, 2);
	a.n = 1 + random_below(&s->random, (uint64_t)(a.way == BY_TIME ? w->us : a.late
	                                               ? w->late_operations : w->operations));
	a.instructions = random_below(&s->random, 1 + (1u << random_below(&s->random, 9)));
	s->page->aim_us = (int64_t)a.n;
	current = v;
	if (v->prepare(s)) {
		bool killed = kill_one(s, &a);
		int status = child_wait(child_start(check, s));
		if (status)
			found(s, "the next command ended with %d", status);
		atomic_fetch_add(killed ? &t->killed : &t->survived, 1);
		atomic_fetch_add(&t->by_way[a.way], killed);
	}
	if (s->page->message[0]) {
		atomic_fetch_add(&t->failures, 1);
		printf("# VICTIM=\"%s\" SEED=%" PRIu64 " KILLS=1: %s, killed %s %" PRIu64 "%s (+%" PRIu64
		       "): %s\n", v->name, seed, getenv("PIOCHE_FS"), way_names[a.way], a.n,
		       a.late ? " after the mark" : "", a.instructions, s->page->message);
		fflush(stdout);
	}
	atomic_fetch_add(&t->ns, (uint64_t)(pio_clock_mono_ns() - begun_ns));
}

/* ---- all cases ------------------------------------------------------------------------- */

/* Operations and microseconds of the whole work, undisturbed. */
static bool measure(scene *s, const victim *v, whole *w)
{
	scene_clear(s, 1);
	setenv("PIOCHE_FS", "local", 1);
	current = v;
	if (!v->prepare(s))
		return false;
	int64_t begun_ns = pio_clock_mono_ns();
	kill_one(s, &(aim){ .way = BEFORE, .late = true });
	w->late_operations = s->page->early_operations ? s->page->operations : 0;
	w->operations = s->page->early_operations + s->page->operations;
	w->us = v->by_itself ? s->page->took_us : (pio_clock_mono_ns() - begun_ns) / 1000;
	child_wait(child_start(check, s));
	return s->page->finished && !s->page->message[0];
}

static bool is_wanted(const victim *v)
{
	const char *only = getenv("VICTIM");
	return !only || !*only || strcmp(only, v->name) == 0;
}

static void worker(scene *unused, uint64_t job, uint64_t jobs, uint64_t seed, uint64_t kills)
{
	(void)unused;
	scene s = { .page = NULL };
	scene_up(&s, seed);
	unsigned shares = 0;
	for (size_t i = 0; i < victims_count; i++)
		shares += is_wanted(&victims[i]) ? victims[i].share : 0;
	for (size_t i = 0; i < victims_count; i++) {
		const victim *v = &victims[i];
		whole w = { 0, 0, 0 };
		if (!is_wanted(v))
			continue;
		uint64_t quota = (kills * v->share + shares - 1) / shares;
		if (!measure(&s, v, &w)) {
			printf("# %s, undisturbed: %s\n", v->name, s.page->message);
			atomic_fetch_add(&tallies[i].failures, 1);
		}
		/* Some end before they are killed: throw again. */
		for (uint64_t n = job; tallies[i].killed < quota && n < 4 * quota + jobs; n += jobs)
			one_case(&s, v, &tallies[i], seed + n, &w);
	}
	scene_down(&s);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "rank") == 0)
		return victim_rank_main();
	uint64_t seed = seed_of_test(), kills = number_from("KILLS", 300);
	uint64_t jobs = number_from("JOBS", 1);
	int64_t begun_ns = pio_clock_mono_ns();
	tallies = mmap(NULL, victims_count * sizeof *tallies, PROT_READ | PROT_WRITE,
	               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tallies == MAP_FAILED)
		return 1;
	victims_init(argv[0]);
	fflush(NULL);
	for (uint64_t job = 0; job < jobs; job++) {
		pid_t pid = fork();
		if (pid == 0) {
			worker(NULL, job, jobs, seed, kills);
			fflush(NULL);
			_exit(0);
		}
	}
	int status;
	bool all_well = true;
	while (wait(&status) > 0)
		all_well &= status == 0;
	uint64_t killed = 0;
	for (size_t i = 0; i < victims_count; i++) {
		const tally *t = &tallies[i];
		if (!is_wanted(&victims[i]))
			continue;
		killed += t->killed;
		tell(!t->failures && t->killed, "%s: %" PRIuFAST64 " killed (%" PRIuFAST64 " before, %" PRIuFAST64
		     " amid, %" PRIuFAST64 " after an operation, %" PRIuFAST64 " by instruction, %" PRIuFAST64
		     " by time), %" PRIuFAST64 " findings, %.1f ms each", victims[i].name, t->killed,
		     t->by_way[BEFORE], t->by_way[AMID], t->by_way[AFTER], t->by_way[BY_INSTRUCTION],
		     t->by_way[BY_TIME], t->failures,
		     1e-6 * (double)t->ns / (double)(t->killed + t->survived + !t->killed));
	}
	tell(all_well, "%" PRIu64 " killed in %.1f s; each time the next command found all that was acknowledged, once",
	     killed, 1e-9 * (double)(pio_clock_mono_ns() - begun_ns));
	return tell_end();
}
