#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define NS_PER_S 1000000000LL

static int64_t read_clock(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t pio_clock_wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t pio_clock_mono_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t pio_clock_thread_ns(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

void pio_clock_sleep_ms(int64_t ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L };
	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

void pio_clock_format(int64_t wall_ns, char text[PIO_CLOCK_TEXT_BYTES])
{
	int64_t seconds = wall_ns / NS_PER_S, rest = wall_ns % NS_PER_S;
	if (rest < 0) {
		rest += NS_PER_S;
		seconds--;
	}
	time_t t = (time_t)seconds;
	struct tm tm;
	if (!gmtime_r(&t, &tm)) {
		snprintf(text, PIO_CLOCK_TEXT_BYTES, "(out of range)");
		return;
	}
	snprintf(text, PIO_CLOCK_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
	         tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(rest / 1000000));
}
