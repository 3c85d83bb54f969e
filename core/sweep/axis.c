#include "sweep/axis.h"

#include <math.h>

#include "sweep/real.h"

static double coordinate_of(const pio_axis *axis, double value)
{
	return axis->log ? pio_real_log(value) : value;
}

pio_axis pio_axis_init(enum pio_axis_kind kind, bool log, double first, double last)
{
	pio_axis axis = { .kind = kind, .log = log && kind != PIO_AXIS_CHOICE, .first = first, .last = last };
	double half = kind == PIO_AXIS_WHOLE ? 0.5 : 0;
	axis.low = coordinate_of(&axis, first - half);
	axis.high = coordinate_of(&axis, last + half);
	return axis;
}

double pio_axis_of_value(const pio_axis *axis, double value)
{
	return coordinate_of(axis, value);
}

double pio_axis_value(const pio_axis *axis, double coordinate)
{
	double value = axis->log ? pio_real_exp(coordinate) : coordinate;
	if (axis->kind != PIO_AXIS_REAL)
		value = floor(value + 0.5);
	return value < axis->first ? axis->first : value > axis->last ? axis->last : value;
}

double pio_axis_snap(const pio_axis *axis, double coordinate)
{
	if (axis->kind == PIO_AXIS_REAL)
		return coordinate < axis->low ? axis->low : coordinate > axis->high ? axis->high : coordinate;
	return coordinate_of(axis, pio_axis_value(axis, coordinate));
}

void pio_axis_cell(double *from, double *to, const pio_axis *axis, double coordinate)
{
	double value = pio_axis_value(axis, coordinate);
	*from = coordinate_of(axis, value - 0.5);
	*to = coordinate_of(axis, value + 0.5);
}
