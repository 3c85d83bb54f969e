/* A disk that fails. In each of the victims' works (victim.h) the n-th operation
 * on files fails, once or for good: the work must end in good order and name the
 * cause, and with the fault gone the next command must find all that was
 * acknowledged, once.
 *
 * In `make test` CASES (120) of all n, by chance; ALL=1: each n, or by chance
 * AT_MOST (3000) of them where there are more. SEED and VICTIM as for crash_kill. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "disk.h"
#include "victim.h"

#define LIMIT_S 30

typedef struct fault {
	const char *name;
	enum disk_trap trap;
	int error;
} fault;

static const fault faults[] = {
	{ "EIO, once", DISK_FAIL, EIO },
	{ "ENOSPC, once", DISK_FAIL, ENOSPC },
	{ "ENOSPC from then on", DISK_FAIL_STAYS, ENOSPC },
	{ "ENOSPC in the middle of a write", DISK_FAIL_AMID, ENOSPC },
	{ "EDQUOT from then on", DISK_FAIL_STAYS, EDQUOT },
};
#define FAULTS (sizeof faults / sizeof *faults)

typedef struct tally {
	atomic_uint_fast64_t cases, felt, findings, operations;
} tally;

static tally *tallies;
static const victim *current;
static const fault *current_fault;
static uint64_t current_n;

static void work(scene *s)
{
	alarm(LIMIT_S);
	disk_trap_at(current_n, current_fault->trap, current_fault->error);
	current->work(s);
	s->page->synced_again = disk_was_synced_again();
	s->page->finished = disk_was_trapped();
	s->page->operations = (int64_t)disk_trap_at(0, DISK_KILL, 0);
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

/* What was told to the user must be the truth. SQLite opens for reading what it
 * could not open for writing, and tells of that; and it has closed its rollback
 * journal before one can ask what was wrong. */
static bool names_cause(const char *message, int error)
{
	return strstr(message, strerror(error)) || strstr(message, "no space left") ||
	       strstr(message, "readonly database") || strstr(message, "unable to open database file") ||
	       (strstr(message, "disk I/O error") &&
	        (error == EIO || strcmp(getenv("PIOCHE_FS"), "network") == 0 ||
	         strstr(message, "cannot be opened")));
}

static void one_case(scene *s, size_t which, const fault *f, uint64_t n, uint64_t seed)
{
	tally *t = &tallies[which];
	scene_clear(s, seed);
	setenv("PIOCHE_FS", random_below(&s->random, 3) ? "local" : "network", 1);
	current = &victims[which];
	current_fault = f;
	current_n = n;
	if (current->prepare(s)) {
		int status = child_wait(child_start(work, s));
		char said[sizeof s->page->message];
		memcpy(said, s->page->message, sizeof said);
		s->page->message[0] = 0;
		/* Where the memory that holds the log cannot be written either, it says so. */
		if (strstr(said, "a part of the log is lost"))
			s->page->acked = s->page->texts = s->page->checkpoints = s->page->files = 0;
		if (current->reap)
			current->reap(s);
		if (s->page->synced_again)
			found(s, "a file whose sync had failed was synced again");
		if (status)
			found(s, "the work ended with %d%s", status, status == 128 + SIGALRM ? ": it hangs" : "");
		else if (said[0] && !(s->page->finished && names_cause(said, f->error)))
			found(s, "it says not the cause, but: %s", said);
		status = child_wait(child_start(check, s));
		if (status)
			found(s, "the next command ended with %d", status);
	}
	atomic_fetch_add(&t->cases, 1);
	atomic_fetch_add(&t->felt, (uint64_t)s->page->finished);
	if (!s->page->message[0])
		return;
	atomic_fetch_add(&t->findings, 1);
	printf("# VICTIM=\"%s\" SEED=%" PRIu64 " N=%" PRIu64 " FAULT=%zu: %s, operation %" PRIu64 ", %s: %s\n",
	       current->name, seed, n, (size_t)(f - faults), getenv("PIOCHE_FS"), n, f->name,
	       s->page->message);
	fflush(stdout);
}

static bool is_wanted(const victim *v)
{
	const char *only = getenv("VICTIM");
	return !v->by_itself && (!only || !*only || strcmp(only, v->name) == 0);
}

static uint64_t operations_of(scene *s, size_t which)
{
	static const fault none = { "none", DISK_FAIL, EIO };
	one_case(s, which, &none, 0, 1);
	tallies[which].cases = 0;
	return (uint64_t)s->page->operations;
}

static void worker(uint64_t job, uint64_t jobs, uint64_t seed)
{
	scene s = { .page = NULL };
	uint64_t cases = number_from("CASES", 120), at_most = number_from("AT_MOST", 3000);
	uint64_t wanted = 0, only_n = number_from("N", 0);
	scene_up(&s, seed);
	for (size_t i = 0; i < victims_count; i++)
		wanted += is_wanted(&victims[i]);
	for (size_t i = 0; i < victims_count; i++) {
		uint64_t random = seed + i;
		if (!is_wanted(&victims[i]))
			continue;
		uint64_t all = FAULTS * (operations_of(&s, i) + 1);
		tallies[i].operations = all / FAULTS - 1;
		bool each = getenv("ALL") && all <= at_most;
		uint64_t count = each ? all : getenv("ALL") ? at_most : cases / wanted;
		for (uint64_t c = 0; c < count; c++) {
			uint64_t at = each ? c : random_below(&random, all);
			if (only_n)
				one_case(&s, i, &faults[number_from("FAULT", 0)], only_n, seed), c = count;
			else if (c % jobs == job)
				one_case(&s, i, &faults[at % FAULTS], 1 + at / FAULTS, seed + c);
		}
	}
	scene_down(&s);
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "rank") == 0)
		return victim_rank_main();
	uint64_t seed = seed_of_test(), jobs = number_from("JOBS", 1);
	int64_t begun_ns = pio_clock_mono_ns();
	tallies = mmap(NULL, victims_count * sizeof *tallies, PROT_READ | PROT_WRITE,
	               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tallies == MAP_FAILED)
		return 1;
	victims_init(argv[0]);
	fflush(NULL);
	for (uint64_t job = 0; job < jobs; job++)
		if (fork() == 0)
			worker(job, jobs, seed);
	int status;
	bool well = true;
	while (wait(&status) > 0)
		well &= status == 0;
	uint64_t cases = 0;
	for (size_t i = 0; i < victims_count; i++) {
		const tally *t = &tallies[i];
		cases += t->cases;
		if (is_wanted(&victims[i]))
			tell(!t->findings && t->cases, "%s: %" PRIuFAST64 " faults in %" PRIuFAST64
			     " operations, %" PRIuFAST64 " felt, %" PRIuFAST64 " findings", victims[i].name, t->cases,
			     t->operations, t->felt, t->findings);
	}
	tell(well, "%" PRIu64 " faults in %.1f s", cases, 1e-9 * (double)(pio_clock_mono_ns() - begun_ns));
	return tell_end();
}
