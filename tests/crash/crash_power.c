/* Power failures. A story is told once and all it does to files is recorded;
 * then, for moments of the record, the files are made as a failing disk may
 * have left them, and the next command must find the old state or the new one:
 * all that was acknowledged as durable, no part of anything.
 *
 * In `make test` each sync is such a moment, with a loss by chance; where there are
 * many, some of them. ALL=1: each operation (of eight ranks, a quarter of them), with
 * all kinds of losses, ROUNDS times (default 2). STORY=name: this one alone. A finding
 * prints how to repeat it. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "code.h"
#include "disk.h"
#include "ranks.h"
#include "scene.h"
#include "store/fold.h"
#include "story.h"
#include "sys/fs.h"

#define MARKS 64
#define PARTS 5
#define BEAT_US 1300000         /* what was logged is synced each second */

static const char *const loss_names[DISK_LOSSES] = { "all that was not synced", "nothing",
	"the latest of each file", "any sector and name" };

/* What was acknowledged at a moment. */
typedef struct mark {
	size_t moment;
	page told;
} mark;

typedef struct power_story {
	const char *name;
	void (*act)(scene *s);
	bool (*check)(scene *s, pio_store *store);
	unsigned apart;         /* one of so many moments, in a sample; ALL=1: of a third as many */
} power_story;

typedef struct sums {
	atomic_uint_fast64_t images, findings;
	atomic_uint_fast64_t moments;
} sums;

static mark marks[MARKS];
static size_t marks_count;
static sums *total;

static void acknowledged(scene *s)
{
	if (marks_count == MARKS)
		abort();
	marks[marks_count++] = (mark){ disk_moment(), *s->page };
}

/* ---- stories --------------------------------------------------------------------------- */

static void log_alone(scene *s)
{
	pio_run *run;
	if (!story_open(s, &run))
		return;
	acknowledged(s);
	for (int64_t n = 0; n < 600; n += 300) {
		story_say(s, run, n, n + 300);
		story_save(s, run, n);
		usleep(BEAT_US);
		acknowledged(s);
	}
	story_close(s, &run);
	acknowledged(s);
}

static bool check_alone(scene *s, pio_store *store)
{
	return story_adopt(s, store) && story_logged(s, store, true);
}

/* With a checkpoint in the third part; the last fold is the final one, after which the
 * journal is compressed. */
static void fold_parts_of(scene *s, int64_t points, bool wait)
{
	if (!story_begin(s))
		return;
	acknowledged(s);
	pio_store *store = store_open(s);
	for (int64_t part = 0; store && part < PARTS; part++) {
		int64_t end = (part + 1) * points;
		bool final = part == PARTS - 1;
		s->page->sent = end;
		if (!story_journal(s, end - points, end, part == 2))
			break;
		acknowledged(s);
		if ((part == 3 && !story_age(s, store)) || !story_fold(s, store, final, end))
			break;
		s->page->checkpoints = part >= 2;
		acknowledged(s);
		if ((int_of(store, "SELECT count(*) FROM recent") > 0) != (wait && !final))
			found(s, "points %s", wait && !final ? "do not wait" : "wait still");
	}
	pio_store_close(&store);
	story_archived(s);
}

static void fold_parts(scene *s)
{
	fold_parts_of(s, 240, false);
}

static void fold_waiting(scene *s)
{
	setenv("PIOCHE_FOLD_DIRECT", "0", 1);
	fold_parts_of(s, 30, true);
}

static bool check_fold(scene *s, pio_store *store)
{
	const page *told = s->page;
	int64_t runs = int_of(store, "SELECT count(*) FROM run");
	if (!runs)
		return !told->runs || found(s, "the run is gone");
	/* The attempt is of the same transaction series: it may not be there yet. */
	if (!int_of(store, "SELECT count(*) FROM attempt"))
		return !told->runs || found(s, "the attempt is gone");
	if (!points_are_whole(s, store, "loss", told->acked, told->sent) ||
	    !story_fold(s, store, true, told->acked) ||
	    !points_are_whole(s, store, "loss", told->synced, told->sent))
		return false;
	int64_t checkpoints = int_of(store, "SELECT count(*) FROM checkpoint WHERE state = 'sealed'");
	int64_t points = int_of(store, "SELECT count(*) FROM point");
	int64_t texts = int_of(store, "SELECT count(*) FROM event WHERE kind = 'text'");
	if (checkpoints < told->checkpoints || checkpoints > 1)
		return found(s, "%" PRId64 " checkpoints, %" PRIdFAST64 " were published", checkpoints,
		             told->checkpoints);
	if (texts != points / 64 && !(points % 64 == 0 && texts == points / 64 - 1))
		return found(s, "%" PRId64 " texts beside %" PRId64 " points", texts, points);
	return story_mend(s, store);
}

static void write_runs(scene *s)
{
	char dir[400];
	pio_err err = PIO_ERR_INIT;
	for (int i = 0; i < 4; i++) {
		story_write(s, 1);
		acknowledged(s);
	}
	/* An object of the same prefix as a later one, a file replaced: what else is published. */
	snprintf(dir, sizeof dir, "%s/kept", s->store);
	for (int i = 0; i < 3; i++) {
		char text[20];
		int n = snprintf(text, sizeof text, "version %d", i);
		if (pio_fs_write(dir, text, (size_t)n, 0644, &err) != 0)
			found(s, "%s", err.message);
		s->page->synced = i + 1;
		acknowledged(s);
	}
}

static bool check_write(scene *s, pio_store *store)
{
	char path[400];
	int version = -1;
	pio_str text = PIO_STR_INIT;
	int64_t runs = int_of(store, "SELECT count(*) FROM run");
	snprintf(path, sizeof path, "%s/kept", s->store);
	if (pio_fs_read(&text, path, NULL) == 0 && sscanf(text.data, "version %d", &version) != 1)
		found(s, "a file that is replaced whole holds \"%.40s\"", text.data);
	pio_str_fini(&text);
	if (version + 1 < s->page->synced)
		return found(s, "a file has version %d, %" PRIdFAST64 " was written", version, s->page->synced - 1);
	s->page->runs = runs < s->page->runs ? s->page->runs : runs;
	return story_written(s, store);
}

static void tell_of_ranks(scene *s, int ranks)
{
	if (!ranks_prepare(s))
		return;
	acknowledged(s);
	ranks_work(s, ranks, acknowledged);
}

#define OF_RANKS(n) \
	static void work_of_##n(scene *s) { tell_of_ranks(s, n); } \
	static bool check_of_##n(scene *s, pio_store *store) { return ranks_check(s, store, n); }
OF_RANKS(1)
OF_RANKS(2)
OF_RANKS(8)

static void work_code(scene *s)
{
	if (!code_prepare(s))
		return;
	acknowledged(s);
	code_work(s, 2, acknowledged);
}

static const power_story stories[] = {
	{ "a rank alone", log_alone, check_alone, 1 },
	{ "journal, fold and publish", fold_parts, check_fold, 1 },
	{ "points that wait", fold_waiting, check_fold, 1 },
	{ "a writer with the lease", write_runs, check_write, 1 },
	{ "checkpoints of 1 rank", work_of_1, check_of_1, 3 },
	{ "checkpoints of 2 ranks", work_of_2, check_of_2, 6 },
	{ "checkpoints of 8 ranks", work_of_8, check_of_8, 12 },
	{ "objects that are encoded and decoded", work_code, code_check, 2 },
};

/* ---- images -------------------------------------------------------------------------------- */

static const power_story *current;

static void check(scene *s)
{
	char shm[400];
	snprintf(shm, sizeof shm, "%s/image-shm", s->root); /* memory does not survive */
	setenv("PIOCHE_SHM", shm, 1);
	if (pio_fs_mkdirs(shm, 0777, NULL) != 0)
		abort();
	snprintf(s->store, sizeof s->store, "%s/image/.pioche", s->root);
	setenv("PIOCHE_STORE", s->store, 1);
	pio_store *store = store_open(s);
	if (store && current->check(s, store))
		store_is_sound(s, store);
	if (store)
		pio_store_close(&store);
}

static void one_image(scene *s, size_t moment, enum disk_loss loss, uint64_t seed)
{
	char path[400];
	pio_err err = PIO_ERR_INIT;
	memset(s->page, 0, sizeof *s->page);
	for (size_t i = 0; i < marks_count && marks[i].moment <= moment; i++)
		*s->page = marks[i].told;
	if (marks_count) {
		s->page->sent = marks[marks_count - 1].told.sent;
		s->page->saves = marks[marks_count - 1].told.saves;
		s->page->begun = marks[marks_count - 1].told.begun;
		s->page->drops = marks[marks_count - 1].told.drops;
	}
	s->page->message[0] = 0;
	snprintf(path, sizeof path, "%s/image", s->root);
	disk_image(path, moment, loss, seed);
	int status = child_wait(child_start(check, s));
	if (status)
		found(s, "the next command ended with %d", status);
	if (pio_fs_remove_tree(path, &err) != 0)
		found(s, "%s", err.message);
	atomic_fetch_add(&total->images, 1);
	if (!s->page->message[0])
		return;
	atomic_fetch_add(&total->findings, 1);
	printf("# %s, %s, after operation %zu, lost %s (SEED=%" PRIu64 "): %s\n", current->name,
	       getenv("PIOCHE_FS"), moment, loss_names[loss], seed, s->page->message);
	fflush(stdout);
}

static void images(scene *s, uint64_t seed, uint64_t job, uint64_t jobs)
{
	bool all = getenv("ALL") != NULL;
	uint64_t rounds = number_from("ROUNDS", all ? 2 : 1);
	size_t end = disk_moment();
	for (size_t moment = job; moment <= end; moment += jobs) {
		uint64_t chance = seed + moment, apart = all ? (current->apart + 2) / 3 : current->apart;
		if ((!all && !disk_is_sync(moment) && !disk_is_sync(moment + 1)) || random_below(&chance, apart) != 0)
			continue;
		atomic_fetch_add(&total->moments, 1);
		for (uint64_t i = 0; i < rounds * DISK_LOSSES; i++) {
			uint64_t random = seed + moment * 1000 + i;
			if (all || i == random_below(&random, DISK_LOSSES))
				one_image(s, moment, (enum disk_loss)(i % DISK_LOSSES), seed + moment * 1000 + i);
		}
	}
}

/* One of the processes that look at the images; the one that told the story is
 * dead then, as after a power failure. */
static void look_at_images(const scene *s, uint64_t seed, uint64_t job, uint64_t jobs, pid_t teller)
{
	scene own = *s;
	own.page = mmap(NULL, sizeof *own.page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(own.root, sizeof own.root, "%.200s/job-%d", s->root, (int)job);
	if (own.page == MAP_FAILED || pio_fs_mkdirs(own.root, 0777, NULL) != 0)
		abort();
	while (kill(teller, 0) == 0)
		usleep(100);
	images(&own, seed, job, jobs);
	fflush(stdout);
	_exit(0);
}

static void tell_story(scene *s)
{
	char place[400];
	uint64_t jobs = number_from("JOBS", 1), seed = s->random;
	pid_t teller = getpid();
	snprintf(place, sizeof place, "%s/place", s->root);
	disk_record(place);
	current->act(s);
	disk_record_stop();
	if (s->page->message[0] || !marks_count) {
		printf("# %s, undisturbed: %s\n", current->name, s->page->message);
		atomic_fetch_add(&total->findings, 1);
	}
	fflush(stdout);
	for (uint64_t job = 0; job < jobs; job++)
		if (fork() == 0)
			look_at_images(s, seed, job, jobs, teller);
}

/* What is left by the teller comes to this process. */
static bool all_end_well(void)
{
	int status;
	bool well = true;
	while (wait(&status) > 0)
		well &= status == 0;
	return well;
}

int main(void)
{
	uint64_t seed = seed_of_test();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setenv("PIOCHE_LEASE_S", "1", 1); /* a torn claim is waited for */
	total = mmap(NULL, sizeof *total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (total == MAP_FAILED)
		return 1;
	const char *only = getenv("STORY");
	for (size_t i = 0; i < sizeof stories / sizeof *stories; i++)
		for (int network = 0; network < 2; network++) {
			int64_t begun_ns = pio_clock_mono_ns();
			if (only && strcmp(only, stories[i].name) != 0)
				continue;
			memset(total, 0, sizeof *total);
			current = &stories[i];
			setenv("PIOCHE_FS", network ? "network" : "local", 1);
			scene s = { .page = NULL };
			scene_up(&s, seed);
			child_start(tell_story, &s);
			bool well = all_end_well();
			scene_down(&s);
			tell(well && !total->findings && total->images, "%s, %s: the power failed at %" PRIuFAST64
			     " moments, %" PRIuFAST64 " disks, %" PRIuFAST64 " findings, %.1f s", current->name,
			     network ? "rollback journal" : "WAL", total->moments, total->images, total->findings,
			     1e-9 * (double)(pio_clock_mono_ns() - begun_ns));
		}
	return tell_end();
}
