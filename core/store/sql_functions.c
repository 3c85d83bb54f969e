/* The aggregates area_under, quantile and smooth: see sql_extend.h. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/sql_extend.h"

static void fail(sqlite3_context *context, const char *function, const char *argument,
                 sqlite3_value *value, const char *expected)
{
	static const char *const types[] = { "", "an integer", "a real", "text", "a blob", "NULL" };
	int type = sqlite3_value_type(value);
	bool number = type == SQLITE_INTEGER || type == SQLITE_FLOAT;
	char *message = sqlite3_mprintf("%s: %s is %s, expected %s", function, argument,
	                                number ? (const char *)sqlite3_value_text(value) : types[type], expected);
	if (message)
		sqlite3_result_error(context, message, -1);
	else
		sqlite3_result_error_nomem(context);
	sqlite3_free(message);
}

/* 1: *number is set; 0: the value is NULL; -1: the query has failed. */
static int get_number(double *number, sqlite3_context *context, const char *function,
                      const char *argument, sqlite3_value *value)
{
	int type = sqlite3_value_type(value);
	if (type == SQLITE_NULL)
		return 0;
	if (type != SQLITE_INTEGER && type != SQLITE_FLOAT) {
		fail(context, function, argument, value, "a number");
		return -1;
	}
	*number = sqlite3_value_double(value);
	return 1;
}

/* ---- values that are gathered ------------------------------------------------------------- */

typedef struct pair {
	double x, y;
} pair;

typedef struct gathered {
	double q;
	void *all;                 /* pairs, or doubles */
	size_t count, capacity;
} gathered;

/* Room for one more of `bytes`; NULL: the query has failed. */
static void *grow(gathered *g, sqlite3_context *context, size_t bytes)
{
	if (g && pio_grow_items(&g->all, bytes, &g->capacity, g->count, "values", NULL) == 0)
		return g->all;
	sqlite3_result_error_nomem(context);
	return NULL;
}

static void area_step(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	gathered *g = sqlite3_aggregate_context(context, sizeof *g);
	pair p;
	int x = get_number(&p.x, context, "area_under", "x", argv[0]);
	int y = x < 0 ? x : get_number(&p.y, context, "area_under", "y", argv[1]);
	if (x != 1 || y != 1)
		return;
	pair *all = grow(g, context, sizeof *all);
	if (all)
		all[g->count++] = p;
}

static int compare_pairs(const void *a, const void *b)
{
	const pair *p = a, *q = b;
	return (p->x > q->x) - (p->x < q->x);
}

static void area_final(sqlite3_context *context)
{
	gathered *g = sqlite3_aggregate_context(context, 0);
	if (!g || !g->count)
		return; /* NULL */
	pair *p = g->all;
	size_t sorted = 1;
	while (sorted < g->count && p[sorted - 1].x <= p[sorted].x)
		sorted++;
	if (sorted < g->count)
		qsort(p, g->count, sizeof *p, compare_pairs);
	double sum = 0, low = 0;
	for (size_t i = 1; i < g->count; i++) {
		double width = p[i].x - p[i - 1].x;
		double part = width > 0 ? width * (p[i].y / 2 + p[i - 1].y / 2) : 0;
		double next = sum + part, back = next - sum;
		low += (sum - (next - back)) + (part - back); /* Knuth's two-sum */
		sum = next;
	}
	sqlite3_result_double(context, isfinite(sum) ? sum + low : sum);
	pio_free(g->all);
}

static void quantile_step(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	gathered *g = sqlite3_aggregate_context(context, sizeof *g);
	double value, q;
	int has_q = get_number(&q, context, "quantile", "q", argv[1]);
	if (has_q < 0)
		return;
	if (!has_q || !(q >= 0 && q <= 1) || (g && g->count && q != g->q)) {
		fail(context, "quantile", "q", argv[1], g && g->count ? "one number from 0 to 1 in all rows"
		                                                       : "a number from 0 to 1");
		return;
	}
	if (get_number(&value, context, "quantile", "value", argv[0]) != 1)
		return;
	double *all = grow(g, context, sizeof *all);
	if (all) {
		g->q = q;
		all[g->count++] = value;
	}
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void quantile_final(sqlite3_context *context)
{
	gathered *g = sqlite3_aggregate_context(context, 0);
	if (!g || !g->count)
		return; /* NULL */
	double *v = g->all, h = g->q * (double)(g->count - 1);
	qsort(v, g->count, sizeof *v, compare_doubles);
	size_t i = (size_t)h;
	double part = h - (double)i;
	/* An exact hit must not touch its neighbour, which may be infinite. */
	sqlite3_result_double(context, part > 0 ? v[i] + part * (v[i + 1] - v[i]) : v[i]);
	pio_free(g->all);
}

/* ---- smooth ------------------------------------------------------------------------------------ */

/* Their ratio is m / (1 - alpha^n), both divided by 1 - alpha. */
typedef struct average {
	double sum, weight;
} average;

static void smooth_step(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	average *a = sqlite3_aggregate_context(context, sizeof *a);
	double value, alpha;
	int has_alpha = get_number(&alpha, context, "smooth", "alpha", argv[1]);
	if (has_alpha < 0)
		return;
	if (!has_alpha || !(alpha >= 0 && alpha < 1)) {
		fail(context, "smooth", "alpha", argv[1], "a number of at least 0 and less than 1");
		return;
	}
	if (!a) {
		sqlite3_result_error_nomem(context);
		return;
	}
	if (get_number(&value, context, "smooth", "value", argv[0]) != 1 || !isfinite(value))
		return;
	a->sum = alpha * a->sum + value;
	a->weight = alpha * a->weight + 1;
}

static void smooth_value(sqlite3_context *context)
{
	average *a = sqlite3_aggregate_context(context, 0);
	if (a && a->weight > 0)
		sqlite3_result_double(context, a->sum / a->weight);
}

static void smooth_inverse(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	(void)argv;
	sqlite3_result_error(context, "smooth: the window must begin at UNBOUNDED PRECEDING", -1);
}

int pio_sql_functions_register(sqlite3 *db)
{
	const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
	int rc = sqlite3_create_function_v2(db, "area_under", 2, flags, NULL, NULL, area_step, area_final,
	                                    NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_function_v2(db, "quantile", 2, flags, NULL, NULL, quantile_step,
		                                quantile_final, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_window_function(db, "smooth", 2, flags, NULL, smooth_step, smooth_value,
		                                    smooth_value, smooth_inverse, NULL);
	return rc;
}

int pio_sql_extend(sqlite3 *db)
{
	int rc = pio_point_table_register(db);
	if (rc == SQLITE_OK)
		rc = pio_lod_table_register(db);
	return rc == SQLITE_OK ? pio_sql_functions_register(db) : rc;
}
