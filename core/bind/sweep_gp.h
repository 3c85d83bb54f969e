/* sweep_gp.h: what sweep_gp.c (what a Gaussian process knows and tells) and
 * sweep_gp_search.c (where it is searched, and what was found) share. */
#ifndef PIO_BIND_SWEEP_GP_H
#define PIO_BIND_SWEEP_GP_H

#include <stddef.h>

#include "bind/sweep.h"
#include "sweep/gp.h"

typedef struct pio_bind_gp {
	pio_gp *gp;
	double *points;            /* of all slots, row by row */
	size_t count, capacity;
	double *found;             /* of the newest search */
	size_t found_count, found_capacity;
	int axes_count;
	pio_gp_axis axes[];
} pio_bind_gp;

/* The first argument, or the one at `index`, an open one. */
pio_bind_gp *pio_bind_gp_get(lua_State *L);
pio_bind_gp *pio_bind_gp_check(lua_State *L, int index);

/* Methods. */
int pio_bind_gp_distance(lua_State *L);
int pio_bind_gp_probe(lua_State *L);
int pio_bind_gp_search(lua_State *L);
int pio_bind_gp_candidate(lua_State *L);
int pio_bind_gp_gain(lua_State *L);

#endif
