/* decimal.h: doubles as text, and fast: the shortest of 15, 16 or 17 digits that
 * reads back as the same double, each correctly rounded.
 *
 * Where `long double` has 64 bits of mantissa or more, most values need no help
 * of printf: scaling by a power of ten below 10^28 is one rounding, and where
 * that rounding could have decided, printf is asked after all. No allocation. */
#ifndef PIO_BASE_DECIMAL_H
#define PIO_BASE_DECIMAL_H

#include <stddef.h>

#define PIO_DECIMAL_BYTES 32

/* Write a finite value as JSON has it: with a point or an exponent ("1.0",
 * "0.001", "1e-7", "2.5e20"). Returns the length, without the final NUL. */
size_t pio_decimal(char text[PIO_DECIMAL_BYTES], double value);

#endif
