/* read.h: all points of one series at once, for programs that are not pioche;
 * what pioche_read.so exports. pioche.py calls it through ctypes.
 *
 * It needs libsqlite3 and libzstd alone. The calls are independent of each
 * other and safe from any thread. */
#ifndef PIO_STORE_READ_H
#define PIO_STORE_READ_H

#include <stddef.h>
#include <stdint.h>

/* What is in pio_points.value. */
enum pio_points_kind {
	PIO_POINTS_REAL = 0,     /* double[] */
	PIO_POINTS_INTEGER = 1,  /* int64_t[]: every value was logged as one */
	PIO_POINTS_MIXED = 2,    /* int64_t where `integer` is 1, double where it is 0 */
};

/* Ordered by step, then by the order logged; bit for bit as logged. */
typedef struct pio_points {
	int64_t count;
	int64_t kind;            /* enum pio_points_kind */
	int64_t *step, *time_ns; /* `count` of each */
	void *value;             /* `count` times eight bytes */
	uint8_t *integer;        /* `count` of them; NULL unless mixed */
} pio_points;

/* The points that reads show of a series of the store at directory `store`,
 * which is opened for reading only. `run` is such as 'gpt-17', or a ULID.
 * Chunks are decoded by `threads` threads, at most 4; 0: one a core.
 *
 * 0, or a negative code and one line in `message`, always ended by a NUL:
 * -1 an argument is wrong, -3 there is no such store, run or series, -5 it is
 * locked, -6 damaged, -7 of another version, -8 not readable, -10 no memory.
 * On failure *points is zeroed. The caller frees by pio_points_free. */
__attribute__((visibility("default")))
int pio_points_read(pio_points *points, const char *store, const char *run, const char *key,
                    int64_t rank, int threads, char *message, size_t message_bytes);

/* Frees the arrays and zeroes the rest; fine on a zeroed one. */
__attribute__((visibility("default")))
void pio_points_free(pio_points *points);

#endif
