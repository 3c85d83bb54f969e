/* axis.h: a parameter as the models of this room see it: one coordinate.
 *
 *   PIO_AXIS_REAL    low..high, of a logarithmic domain the logarithms
 *   PIO_AXIS_WHOLE   whole numbers first..last, or their logarithms: each owns the
 *                    cell half a number to either side of it
 *   PIO_AXIS_CHOICE  0..count-1 without an order
 *
 * Coordinates of whole numbers are those of the middle of the cell's number. */
#ifndef PIO_SWEEP_AXIS_H
#define PIO_SWEEP_AXIS_H

#include <stdbool.h>
#include <stdint.h>

enum pio_axis_kind { PIO_AXIS_REAL, PIO_AXIS_WHOLE, PIO_AXIS_CHOICE };

typedef struct pio_axis {
	enum pio_axis_kind kind;
	bool log;
	double low, high;          /* of coordinates; set by pio_axis_init */
	double first, last;        /* as the domain says; of a choice 0 and count - 1 */
} pio_axis;

/* From kind, log, first and last; low and high are worked out. */
pio_axis pio_axis_init(enum pio_axis_kind kind, bool log, double first, double last);
/* The coordinate of a value inside of the domain. */
double pio_axis_of_value(const pio_axis *axis, double value);
/* The value nearest to a coordinate, inside of the domain. */
double pio_axis_value(const pio_axis *axis, double coordinate);
/* The nearest coordinate that is one of a value. */
double pio_axis_snap(const pio_axis *axis, double coordinate);
/* Ends of the cell of a coordinate of PIO_AXIS_WHOLE. */
void pio_axis_cell(double *from, double *to, const pio_axis *axis, double coordinate);

#endif
