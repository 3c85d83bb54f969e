#include "sweep/tpe_cells.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/real.h"
#include "sweep/tpe_side.h"

#define FAR 8.0                    /* in widths: there a cell's mass is as good as its density */
#define BLOCK 128                  /* classes whose masses are worked out together */
#define KEPT_MAX 64                /* cells that are kept from one proposal to another */

void pio_tpe_cells_fini(pio_tpe_cells *cells)
{
	pio_free(cells->all);
	pio_free(cells->logs);
	pio_free(cells->places);
	*cells = (pio_tpe_cells){ .all = NULL };
}

void pio_tpe_cells_forget(pio_tpe_cells *cells)
{
	for (size_t i = 0; i < cells->count; i++)
		cells->all[i].known = 0;
}

static bool resize(void *array, size_t count, size_t item_bytes)
{
	void *grown = pio_realloc(*(void **)array, count * item_bytes);
	if (grown)
		*(void **)array = grown;
	return grown != NULL;
}

static void empty(pio_tpe_cells *cells)
{
	cells->count = 0;
	if (cells->places_count > 0)
		memset(cells->places, 0, cells->places_count * sizeof *cells->places);
}

int pio_tpe_cells_reserve(pio_tpe_cells *cells, size_t asked, size_t classes_count, pio_err *err)
{
	size_t capacity = KEPT_MAX + asked, places = 2;
	if (cells->count > KEPT_MAX)
		empty(cells);
	if (capacity <= cells->capacity && classes_count <= cells->classes_max)
		return 0;
	while (places < 2 * capacity)
		places *= 2;
	size_t classes = classes_count + classes_count / 2 + 16;
	empty(cells);
	cells->capacity = 0;
	if (!resize(&cells->all, capacity, sizeof *cells->all) ||
	    !resize(&cells->logs, capacity * classes, sizeof *cells->logs) ||
	    !resize(&cells->places, places, sizeof *cells->places))
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu masses", capacity * classes);
	cells->capacity = capacity;
	cells->classes_max = classes;
	cells->places_count = places;
	empty(cells);
	return 0;
}

/* ---- masses ---------------------------------------------------------------------------------- */

/* log of sigma times the mass that kernels have in a cell, before the bounds cut; `at` says which. */
static void near_logs(double *logs, const pio_tpe_class *classes, const uint32_t *at, size_t n,
                      const pio_tpe_cell *c)
{
	double sign[BLOCK], sigma[BLOCK], ends[2 * BLOCK], *a = ends, *b = ends + n;
	for (size_t i = 0; i < n; i++) {
		double mu = classes[at[i]].mu;
		sigma[i] = classes[at[i]].sigma;
		/* both ends far up: their tails, which have digits left */
		a[i] = (c->from - mu) / sigma[i];
		sign[i] = a[i] > 0 ? -1 : 1;
		a[i] *= sign[i];
		b[i] = sign[i] * ((c->to - mu) / sigma[i]);
	}
	pio_real_ndtrs(ends, ends, 2 * n);
	for (size_t i = 0; i < n; i++)
		a[i] = sign[i] * (b[i] - a[i]) * sigma[i];
	pio_real_logs(a, a, n);
	for (size_t i = 0; i < n; i++)
		logs[at[i]] = a[i];
}

/* Square distances from a cell, in widths. */
PIO_WIDER static void distances(double *restrict squares, const pio_tpe_class *restrict classes, size_t n,
                                double x)
{
	for (size_t i = 0; i < n; i++) {
		double z = (x - classes[i].mu) / classes[i].sigma;
		squares[i] = z * z;
	}
}

static void cell_logs(double *logs, const pio_tpe_class *classes, size_t n, const pio_tpe_cell *c)
{
	uint32_t near[BLOCK];
	size_t count = 0;
	double far_log = c->log_width - PIO_REAL_HALF_LOG_2PI;
	distances(logs, classes, n, c->x);
	for (size_t i = 0; i < n; i++) {
		near[count] = (uint32_t)i;
		count += logs[i] <= FAR * FAR;
		logs[i] = far_log - 0.5 * logs[i];
		if (count == BLOCK || i + 1 == n) {
			near_logs(logs, classes, near, count, c);
			count = 0;
		}
	}
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* Where the number of the cell of x is, or is to be. */
static uint32_t *place_of(const pio_tpe_cells *cells, double x)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	size_t place = (size_t)((bits * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
	for (;; place++) {
		uint32_t *number = &cells->places[place & (cells->places_count - 1)];
		if (*number == 0 || cells->all[*number - 1].x == x)
			return number;
	}
}

const double *pio_tpe_cells_logs(pio_tpe_cells *cells, const pio_axis *axis, double x,
                                 const pio_tpe_class *classes, size_t classes_count)
{
	uint32_t *number = place_of(cells, x);
	if (*number == 0) {
		pio_tpe_cell new = { .x = x };
		pio_axis_cell(&new.from, &new.to, axis, x);
		if (new.to - new.from <= 0.5 * (axis->high - axis->low) / PIO_TPE_FINEST)
			return NULL;
		assert(cells->count < cells->capacity && classes_count <= cells->classes_max);
		new.log_width = pio_real_log(new.to - new.from);
		cells->all[cells->count++] = new;
		*number = (uint32_t)cells->count;
	}
	pio_tpe_cell *cell = &cells->all[*number - 1];
	double *logs = cells->logs + (*number - 1) * cells->classes_max;
	if (cell->known < classes_count)
		cell_logs(logs + cell->known, classes + cell->known, classes_count - cell->known, cell);
	cell->known = classes_count;
	return logs;
}
