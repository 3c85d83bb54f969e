/* clock.h: time, and its one textual form.
 *
 * Wall time is nanoseconds since 1970-01-01 UTC, for records; monotonic time
 * is nanoseconds since boot, for durations and deadlines. */
#ifndef PIO_BASE_CLOCK_H
#define PIO_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t pio_clock_wall_ns(void);
int64_t pio_clock_mono_ns(void);
/* Processor time of the calling thread. */
int64_t pio_clock_thread_ns(void);
void pio_clock_sleep_ms(int64_t ms);

/* RFC 3339 in UTC with milliseconds, "2026-11-23T03:24:00.125Z". */
#define PIO_CLOCK_TEXT_BYTES 32
void pio_clock_format(int64_t wall_ns, char text[PIO_CLOCK_TEXT_BYTES]);

#endif
