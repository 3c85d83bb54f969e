#include "launch/pace.h"

#include <stdlib.h>

#define SECOND_NS INT64_C(1000000000)
#define BUCKET_MIN_NS INT64_C(1000000)
#define WINDOW_STEPS 20
/* An agent looks every 250 ms: a window shorter than this would tell a step's
 * time badly. */
#define WINDOW_NS (5 * SECOND_NS)

#define FIRST_NS (1800 * SECOND_NS)  /* a large model compiles that long */
#define BUSY_FLOORS 10
#define FACTOR 5
#define SLOW 1.3                   /* times the median */
#define SLOW_NO_MORE 1.15

/* Upper ends of the four quarters of an octave, in 1/1024: 2^(1/4) to 2. */
static const int64_t quarters[4] = { 1218, 1448, 1722, 2048 };

static int64_t bucket_end_ns(int bucket)
{
	return (BUCKET_MIN_NS << (bucket / 4)) / 1024 * quarters[bucket % 4];
}

static void learn(pio_pace_book *book, int64_t took_ns)
{
	int bucket = 0;
	while (bucket + 1 < PIO_PACE_BUCKETS && bucket_end_ns(bucket) < took_ns)
		bucket++;
	book->counts[bucket]++;
	book->count++;
	if (took_ns > book->longest_ns)
		book->longest_ns = took_ns;
}

/* Windows follow each other without a gap. */
static bool close_window(pio_pace *pace, int64_t now_ns)
{
	if (pace->window_step == INT64_MIN) {
		pace->window_step = pace->step;
		pace->window_ns = now_ns;
		return false;
	}
	uint64_t steps = (uint64_t)pace->step - (uint64_t)pace->window_step;
	if (steps < WINDOW_STEPS || now_ns - pace->window_ns < WINDOW_NS)
		return false;
	pace->step_ns = (int64_t)((uint64_t)(now_ns - pace->window_ns) / steps);
	pace->window_step = pace->step;
	pace->window_ns = now_ns;
	return true;
}

bool pio_pace_see(pio_pace *pace, pio_pace_book *book, int64_t step, uint64_t taken, int64_t now_ns)
{
	if (taken != pace->taken) {
		pace->taken = taken;
		pace->alive_ns = now_ns;
	}
	if (step == INT64_MIN || step <= pace->step)
		return false;
	if (pace->rises++ > 0)
		learn(book, now_ns - pace->rose_ns);
	pace->step = step;
	pace->rose_ns = now_ns;
	return close_window(pace, now_ns);
}

void pio_pace_forgive(pio_pace *pace, int64_t gap_ns)
{
	pace->rose_ns += gap_ns;
	pace->alive_ns += gap_ns;
	pace->window_ns += gap_ns;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

int64_t pio_pace_median_ns(int64_t *steps_ns, size_t *count)
{
	size_t logging = *count, unknown = 0;
	qsort(steps_ns, logging, sizeof *steps_ns, by_value);
	while (unknown < logging && steps_ns[unknown] <= 0)
		unknown++;
	*count = logging - unknown;
	if (*count < 2 || 2 * *count < logging)
		return 0;
	return steps_ns[unknown + (*count - 1) / 2];
}

bool pio_pace_falls_behind(pio_pace *pace, int64_t median_ns)
{
	double ratio = (double)pace->step_ns / (double)median_ns;
	bool begins = ratio > SLOW && !pace->is_slow;
	if (begins)
		pace->is_slow = true;
	else if (ratio < SLOW_NO_MORE)
		pace->is_slow = false;
	return begins;
}

int64_t pio_pace_p99_ns(const pio_pace_book *book)
{
	uint64_t above = 0;
	for (int bucket = PIO_PACE_BUCKETS - 1; bucket >= 0; bucket--) {
		above += book->counts[bucket];
		if (above * 100 > book->count)
			return bucket_end_ns(bucket) < book->longest_ns ? bucket_end_ns(bucket) : book->longest_ns;
	}
	return 0;
}

int64_t pio_pace_limit_ns(const pio_pace_book *book, enum pio_pace_phase phase, int64_t floor_ns)
{
	if (phase != PIO_PACE_IDLE)
		floor_ns = phase == PIO_PACE_FIRST ? FIRST_NS : BUSY_FLOORS * floor_ns;
	int64_t learned_ns = phase == PIO_PACE_IDLE ? pio_pace_p99_ns(book) : book->longest_ns;
	return learned_ns > floor_ns / FACTOR ? FACTOR * learned_ns : floor_ns;
}
