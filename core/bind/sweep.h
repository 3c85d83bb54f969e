/* sweep.h: what the files that bind the room `sweep` share: sweep.c (draws and real
 * functions), sweep_tpe.c (points, and the Parzen estimator), sweep_gp.c and
 * sweep_gp_search.c, sweep_cma.c, sweep_front.c (points with several goals),
 * sweep_importance.c, sweep_logistic.c, sweep_fit.c (what is fitted to results). */
#ifndef PIO_BIND_SWEEP_H
#define PIO_BIND_SWEEP_H

#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "sweep/axis.h"

typedef struct pio_bind_axes {
	int count;
	pio_axis all[];
} pio_bind_axes;

/* The axes of the list at `index`, in a userdata that is pushed. */
pio_bind_axes *pio_bind_axes_get(lua_State *L, int index);
/* The values at `index` as coordinates; one outside of its domain raises. */
void pio_bind_point_get(double *point, lua_State *L, int index, const pio_axis *axes, int count);
/* The same, NAN where a value is false: it is not there. */
void pio_bind_partial_get(double *point, lua_State *L, int index, const pio_axis *axes, int count);
/* Push coordinates as a table of values. */
void pio_bind_point_push(lua_State *L, const double *point, const pio_axis *axes, int count);

void pio_bind_value_push(lua_State *L, double coordinate, const pio_axis *axis);

int pio_bind_logistic(lua_State *L);

/* Constructors, and the types that they need. */
int pio_bind_tpe_new(lua_State *L);
void pio_bind_tpe_type(lua_State *L);
int pio_bind_gp_new(lua_State *L);
void pio_bind_gp_type(lua_State *L);
int pio_bind_cma_new(lua_State *L);
void pio_bind_cma_type(lua_State *L);

/* Functions of points with several goals (sweep/front.h). */
int pio_bind_front_ranks(lua_State *L);
int pio_bind_front_crowding(lua_State *L);
int pio_bind_front_hypervolume(lua_State *L);
int pio_bind_front_subset(lua_State *L);

/* Functions of what parameters matter (sweep/pedanova.h, sweep/forest.h). */
int pio_bind_divergence(lua_State *L);
int pio_bind_forest(lua_State *L);

/* Functions of sweep_fit.c, an empty one last. */
extern const luaL_Reg pio_bind_fit_functions[];

#endif
