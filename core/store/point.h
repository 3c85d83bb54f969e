/* point.h: a point of a series, as every way of reading gives it. */
#ifndef PIO_STORE_POINT_H
#define PIO_STORE_POINT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pio_point {
	int64_t step, time_ns;
	union {                   /* bit for bit as logged: */
		double value;
		int64_t whole;    /* with `integer` */
	};
	int32_t attempt;
	bool integer;             /* it was logged as an int64 */
} pio_point;

/* The value of a point as a double, the nearest one to an integer. */
static inline double pio_point_real(const pio_point *point)
{
	return point->integer ? (double)point->whole : point->value;
}

#endif
