/* rank: a small program of many ranks, for the tests of many nodes: logs METRICS
 * metrics at each of STEPS steps, with a barrier before the first and after the
 * last, and a pause of PAUSE_MS between steps. When they are told to stop, rank 0
 * saves the step that all have done; from there they go on. With SAVE, each saves so
 * many elements of one tensor behind the last step, and waits for a pause again. With
 * --asks=1 they add up at each step, and ask whether it is the last.
 *
 *   rank --steps=STEPS --metrics=METRICS --pause_ms=PAUSE_MS --save=SAVE --asks=0|1 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/pioche.h"

#define BARRIER_MS 300000

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

static int option(int argc, char **argv, const char *name, int otherwise)
{
	size_t n = strlen(name);
	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, n) == 0 && argv[i][n + 2] == '=')
			return atoi(argv[i] + n + 3);
	return otherwise;
}

static int fail(const char *what)
{
	fprintf(stderr, "rank: %s: %s\n", what, pio_error());
	return 1;
}

/* The step before which every rank has logged. */
static int agree(pio_comm *comm, const pio_info *info, int64_t *step)
{
	float *steps = calloc((size_t)info->world, sizeof *steps);
	if (!steps)
		return 1;
	steps[info->rank] = (float)*step;
	int rc = pio_comm_allreduce(comm, steps, (size_t)info->world);
	for (int i = 0; i < info->world && !rc; i++)
		if ((int64_t)steps[i] < *step)
			*step = (int64_t)steps[i];
	free(steps);
	return rc;
}

static int save(pio_run *run, pio_comm *comm, int64_t step)
{
	const pio_info *info = pio_info_get(run);
	pio_checkpoint *checkpoint;
	int64_t one = 1;
	if (agree(comm, info, &step))
		return fail("agree on a step");
	if (info->rank > 0)
		return 0;
	if (pio_checkpoint_begin(&checkpoint, run, step, 1) ||
	    pio_checkpoint_add(checkpoint, "model", "step", PIO_I64, 1, &one, NULL, &step) ||
	    pio_checkpoint_commit(&checkpoint, 0))
		return fail("checkpoint");
	return 0;
}

/* As an optimizer's state that is sharded over all ranks. */
static int save_share(pio_run *run, int64_t step, int count)
{
	const pio_info *info = pio_info_get(run);
	pio_checkpoint *checkpoint;
	int64_t share = count, whole = share * info->world, first = share * info->rank;
	pio_part part = { 1, &whole, &first, 1 };
	int64_t *values = calloc((size_t)count, sizeof *values);
	if (!values)
		return 1;
	for (int i = 0; i < count; i++)
		values[i] = first + i;
	int rc = pio_checkpoint_begin(&checkpoint, run, step, info->world) ||
	         pio_checkpoint_add(checkpoint, "optim.m", "w", PIO_I64, 1, &share, &part, values) ||
	         pio_checkpoint_commit(&checkpoint, 0);
	free(values);
	return rc ? fail("checkpoint") : 0;
}

int main(int argc, char **argv)
{
	int steps = option(argc, argv, "steps", 10), metrics = option(argc, argv, "metrics", 50);
	int pause_ms = option(argc, argv, "pause_ms", 0), shares = option(argc, argv, "save", 0);
	int asks = option(argc, argv, "asks", 0), is_last = 0;
	struct timespec pause = { pause_ms / 1000, pause_ms % 1000 * 1000000L };
	pio_run *run;
	pio_comm *comm;
	pio_key *keys = calloc((size_t)metrics, sizeof *keys);
	signal(SIGTERM, stop);
	if (!keys || pio_open(&run, NULL) || pio_comm_init(&comm, run, BARRIER_MS) || pio_comm_barrier(comm))
		return fail("start");
	const pio_info *info = pio_info_get(run);
	int64_t step = info->resume_step >= 0 ? info->resume_step : 0;
	for (int i = 0; i < metrics; i++) {
		char name[32];
		snprintf(name, sizeof name, "metric/%02d", i);
		keys[i] = pio_key_get(run, name);
	}
	for (; step < steps && !stopped && !is_last; step++) {
		for (int i = 0; i < metrics; i++)
			if (pio_log(run, keys[i], step, (double)step * 1000 + i + info->rank / 4096.0))
				return fail("log");
		nanosleep(&pause, NULL);
		float sum = 1;
		if (asks && (pio_comm_allreduce(comm, &sum, 1) || (int)sum != info->world))
			return fail("a step of all");
		is_last = asks && pio_should_stop(run, step);
	}
	free(keys);
	if (is_last && printf("end %lld\n", (long long)step) > 0)
		fflush(stdout);
	if (shares && !stopped) {
		if (pio_comm_barrier(comm) || save_share(run, step, shares) || pio_comm_barrier(comm))
			return 1;
		nanosleep(&pause, NULL);
	}
	int status = stopped || is_last ? save(run, comm, step) : pio_comm_barrier(comm) ? fail("the last barrier") : 0;
	pio_comm_close(&comm, NULL);
	return pio_close(&run, status) ? fail("close") : status;
}
