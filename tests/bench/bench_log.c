/* bench_log.c: what one pio_log costs its caller, through a live drainer.
 *
 * Each sample is the time of 16 calls, by the processor's counter (two reads of
 * the clock would cost more than one call); p99.9 is of single calls. Between
 * bursts the thread rests, as a training step does, so that the ring is not
 * measured full. The limit is what cannot be avoided: a read of the counter
 * and an atomic add, measured in the same run as their parts and what a clock
 * costs that is no counter. Prints one JSON object a line. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/pioche.h"
#include "client/ring_layout.h"
#include "sys/fs.h"

enum { BURSTS = 400, BURST = 64, GROUP = 16, THREADS_MAX = 8 };

typedef struct sampler {
	pio_run *run;
	uint64_t groups[BURSTS * BURST / GROUP], singles[BURSTS * BURST];
} sampler;

static double ns_per_tick;

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static double quantile_ns(uint64_t *ticks, size_t n, double q)
{
	qsort(ticks, n, sizeof *ticks, by_value);
	return (double)ticks[(size_t)((double)(n - 1) * q)] * ns_per_tick;
}

static void calibrate(void)
{
	int64_t ns = pio_clock_mono_ns();
	uint64_t ticks = ring_ticks(RING_CLOCK_COUNTER);
	pio_clock_sleep_ms(50);
	ns = pio_clock_mono_ns() - ns;
	ns_per_tick = (double)ns / (double)(ring_ticks(RING_CLOCK_COUNTER) - ticks);
}

enum limit { LIMIT_COUNTER = 1, LIMIT_ADD = 2, LIMIT_CLOCK = 4 };

/* What these cost together, by the median. */
static double limit_ns(int what)
{
	static _Atomic uint64_t counter;
	static uint64_t samples[20000];
	volatile uint64_t sink = 0;
	for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
		uint64_t start = ring_ticks(RING_CLOCK_COUNTER);
		for (int j = 0; j < GROUP; j++) {
			if (what & LIMIT_ADD)
				atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed);
			if (what & LIMIT_COUNTER)
				sink = ring_ticks(RING_CLOCK_COUNTER);
			if (what & LIMIT_CLOCK)
				sink = (uint64_t)pio_clock_wall_ns();
		}
		samples[i] = ring_ticks(RING_CLOCK_COUNTER) - start;
	}
	(void)sink;
	return quantile_ns(samples, sizeof samples / sizeof samples[0], 0.5) / GROUP;
}

static double report_limits(void)
{
	static const struct { const char *name; int what; } limits[] = {
		{ "limit: time stamp counter", LIMIT_COUNTER }, { "limit: atomic add", LIMIT_ADD },
		{ "limit: clock_gettime", LIMIT_CLOCK },
	};
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
		printf("{\"name\": \"%s\", \"value\": %.1f, \"unit\": \"ns\", \"goal\": null, "
		       "\"limit\": null, \"peer\": null}\n", limits[i].name, limit_ns(limits[i].what));
	return limit_ns(LIMIT_COUNTER | LIMIT_ADD);
}

static void *sample(void *argument)
{
	sampler *s = argument;
	pio_key key = pio_key_get(s->run, "train/loss");
	size_t group = 0, single = 0;
	for (int burst = 0; burst < BURSTS; burst++) {
		for (int i = 0; i < BURST / GROUP; i++) {
			uint64_t start = ring_ticks(RING_CLOCK_COUNTER);
			for (int j = 0; j < GROUP; j++)
				pio_log(s->run, key, j, 1.0);
			s->groups[group++] = ring_ticks(RING_CLOCK_COUNTER) - start;
		}
		for (int i = 0; i < BURST; i++) {
			uint64_t start = ring_ticks(RING_CLOCK_COUNTER);
			pio_log(s->run, key, i, 1.0);
			s->singles[single++] = ring_ticks(RING_CLOCK_COUNTER) - start;
		}
		pio_clock_sleep_ms(1);
	}
	return NULL;
}

static void report(const char *name, double value, double goal, double limit)
{
	printf("{\"name\": \"%s\", \"value\": %.1f, \"unit\": \"ns\", \"goal\": %.0f, \"limit\": %.1f, "
	       "\"peer\": null}\n", name, value, goal, limit);
}

static int measure(pio_run *run, int threads, double limit)
{
	pthread_t ids[THREADS_MAX];
	sampler *samplers = calloc((size_t)threads, sizeof *samplers);
	size_t each = BURSTS * BURST, total = each * (size_t)threads;
	uint64_t *groups = malloc(total / GROUP * sizeof *groups), *singles = malloc(total * sizeof *singles);
	if (!samplers || !groups || !singles)
		return 1;
	for (int i = 0; i < threads; i++) {
		samplers[i].run = run;
		if (pthread_create(&ids[i], NULL, sample, &samplers[i]) != 0)
			return 1;
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		memcpy(groups + (size_t)i * each / GROUP, samplers[i].groups, sizeof samplers[i].groups);
		memcpy(singles + (size_t)i * each, samplers[i].singles, sizeof samplers[i].singles);
	}
	char name[64];
	snprintf(name, sizeof name, "pio_log p50, %d thread%s", threads, threads > 1 ? "s" : "");
	report(name, quantile_ns(groups, total / GROUP, 0.5) / GROUP, 30, limit);
	snprintf(name, sizeof name, "pio_log p99.9, %d thread%s", threads, threads > 1 ? "s" : "");
	report(name, quantile_ns(singles, total, 0.999), 1000, limit);
	free(samplers);
	free(groups);
	free(singles);
	return 0;
}

int main(void)
{
	pio_run *run;
	char dir[] = "/tmp/pioche-bench-XXXXXX";
	if (!mkdtemp(dir) || setenv("PIOCHE_STORE", dir, 1) != 0 || unsetenv("PIOCHE_RING") != 0)
		return 3;
	if (pio_open(&run, "bench") != 0) {
		fprintf(stderr, "%s\n", pio_error());
		return 3;
	}
	calibrate();
	double limit = report_limits();
	int rc = measure(run, 1, limit);
	if (!rc)
		rc = measure(run, THREADS_MAX, limit);
	if (pio_close(&run, 0) != 0)
		rc = 3;
	pio_err err = PIO_ERR_INIT;
	if (pio_fs_remove_tree(dir, &err) != 0)
		fprintf(stderr, "%s\n", err.message);
	return rc;
}
