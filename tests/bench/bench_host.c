/* What an agent spends on measuring its node every 10 s (core/launch/agent_meter.c), and
 * its process that asks NVML of 8 GPUs: of one core. NVML is the stand-in's, so that what
 * the driver itself takes is not in it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "gpu/meter.h"
#include "sys/host.h"
#include "sys/proc.h"

enum { LOOKS = 2000, READINGS = 8 * 200, PERIOD_S = 10 };

static double used_s(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void print(const char *what, double seconds_each_period)
{
	printf("{\"name\":\"%s\",\"value\":%.4f,\"unit\":\"%%\",\"goal\":0.5,\"limit\":null,\"peer\":null}\n",
	       what, 100 * seconds_each_period / PERIOD_S);
}

static double gpus_s(void)
{
	pio_proc_feed feed;
	pio_gpu_reading reading;
	clockid_t clock;
	pio_err err = PIO_ERR_INIT;
	int taken = 0;
	double begin_s = 0;
	setenv("NVML_GPUS", "8", 1);
	if (pio_gpu_meter_open(&feed, 1, &err) != 0 || clock_getcpuclockid(feed.pid, &clock) != 0) {
		fprintf(stderr, "bench_host: %s\n", err.message);
		exit(3);
	}
	for (int rc; taken < READINGS + 8; taken += rc) {
		rc = pio_proc_feed_take(&feed, &reading);
		if (rc < 0) {
			fprintf(stderr, "bench_host: nobody measures GPUs\n");
			exit(3);
		}
		if (taken + rc == 8 && rc) /* NVML is open */
			begin_s = used_s(clock);
		if (rc == 0)
			pio_clock_sleep_ms(1);
	}
	double seconds = (used_s(clock) - begin_s) / READINGS;
	pio_proc_feed_close(&feed);
	return seconds;
}

int main(void)
{
	pio_host_look look;
	double begin_s = used_s(CLOCK_PROCESS_CPUTIME_ID);
	for (int i = 0; i < LOOKS; i++)
		pio_host_look_at(&look, "");
	print("telemetry of a node, every 10 s: of a core", (used_s(CLOCK_PROCESS_CPUTIME_ID) - begin_s) / LOOKS);
	print("telemetry of its 8 GPUs, without what NVML takes: of a core", 8 * gpus_s());
	return 0;
}
