/* sobol.h: a scrambled Sobol sequence: points that fill the unit cube more evenly than
 * chance does, however many of them are taken.
 *
 * Digital nets in base 2 by primitive polynomials (Sobol, 1967), with first direction
 * numbers of our own: chosen at random, of many the ones whose pairs of dimensions are
 * most even at 16 to 4,096 points. Each dimension is scrambled by itself, which keeps its
 * evenness and makes the points of two seeds independent: Owen's nested uniform scrambling
 * by a hash (Laine and Karras, 2011; Burley, JCGT 9(4), 2020). */
#ifndef PIO_SWEEP_SOBOL_H
#define PIO_SWEEP_SOBOL_H

#include <stdint.h>

#define PIO_SOBOL_DIMENSIONS 64

/* Coordinate `dimension`, 0 to PIO_SOBOL_DIMENSIONS - 1, of point `index` = 0, 1, ...: in
 * [0, 1), a multiple of 2^-32. `scramble` is a random number of the dimension's own;
 * 0 scrambles nothing. */
double pio_sobol(uint32_t index, int dimension, uint32_t scramble);

#endif
