/* The virtual table point: see sql_extend.h.
 *
 * The plan of a scan is a text that EXPLAIN QUERY PLAN shows and xFilter reads:
 * the constraints that are pushed down, in the order of their arguments, such
 * as "run =, key GLOB, step >=, by step". What is pushed down selects series
 * in SQL and chunks by their steps. SQLite checks all but equalities again, so
 * pushing is allowed to let too much through, never too little. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/cursor.h"
#include "store/reader_table.h"
#include "store/sql_extend.h"

enum column { RUN, KEY, RANK, ATTEMPT, STEP, TIME_NS, VALUE, BITS };

/* value has no type, so that no conversion touches it. */
static char declaration[] =
	"CREATE TABLE point (run TEXT, key TEXT, rank INTEGER, attempt INTEGER,"
	" step INTEGER, time_ns INTEGER, value, bits INTEGER HIDDEN)";

#define IN 0 /* all values of an IN at once; no operator of SQLite's has this number */

/* What can be pushed down, and what share of the rows it is guessed to leave. */
static const struct push {
	const char *text;
	int column, operator;
	double share;
} pushes[] = {
	{ "run =", RUN, SQLITE_INDEX_CONSTRAINT_EQ, 0.0001 },
	{ "run IN", RUN, IN, 0.005 },
	{ "run GLOB", RUN, SQLITE_INDEX_CONSTRAINT_GLOB, 0.1 },
	{ "run LIKE", RUN, SQLITE_INDEX_CONSTRAINT_LIKE, 0.1 },
	{ "key =", KEY, SQLITE_INDEX_CONSTRAINT_EQ, 0.02 },
	{ "key IN", KEY, IN, 0.05 },
	{ "key GLOB", KEY, SQLITE_INDEX_CONSTRAINT_GLOB, 0.1 },
	{ "key LIKE", KEY, SQLITE_INDEX_CONSTRAINT_LIKE, 0.1 },
	{ "rank =", RANK, SQLITE_INDEX_CONSTRAINT_EQ, 0.05 },
	{ "rank IN", RANK, IN, 0.5 },
	{ "attempt =", ATTEMPT, SQLITE_INDEX_CONSTRAINT_EQ, 0.5 },
	{ "step =", STEP, SQLITE_INDEX_CONSTRAINT_EQ, 0.0001 },
	{ "step >=", STEP, SQLITE_INDEX_CONSTRAINT_GE, 0.5 },
	{ "step >", STEP, SQLITE_INDEX_CONSTRAINT_GT, 0.5 },
	{ "step <=", STEP, SQLITE_INDEX_CONSTRAINT_LE, 0.5 },
	{ "step <", STEP, SQLITE_INDEX_CONSTRAINT_LT, 0.5 },
};
#define PUSHES ((int)(sizeof pushes / sizeof *pushes))
#define PUSHED_MAX 16 /* constraints of one scan; SQLite checks the others */

enum order { BY_RUN = 1, BY_STEP_DOWN = 2 }; /* idxNum: bits */

typedef struct point_cursor {
	sqlite3_vtab_cursor base;
	pio_reader *reader;
	sqlite3_stmt *series;       /* that match, in order: id, run, key, rank */
	pio_str sql;                /* its text */
	pio_series_cursor points;
	const pio_point *point;     /* NULL at the end */
	int64_t step_min, step_max, rowid;
	int attempt;
	bool down;
} point_cursor;

/* ---- planning ----------------------------------------------------------------------------- */

/* True where constraint `at` can be pushed down as `push`. */
static bool is_push_of(const struct push *push, sqlite3_index_info *info, int at)
{
	const struct sqlite3_index_constraint *c = &info->aConstraint[at];
	bool equal = c->op == SQLITE_INDEX_CONSTRAINT_EQ;
	if (!c->usable || c->iColumn != push->column ||
	    c->op != (push->operator == IN ? SQLITE_INDEX_CONSTRAINT_EQ : push->operator))
		return false;
	if (equal && c->iColumn <= RANK && (push->operator == IN) != sqlite3_vtab_in(info, at, -1))
		return false;
	/* The series are compared byte by byte. */
	return !equal || (c->iColumn != RUN && c->iColumn != KEY) ||
	       sqlite3_stricmp(sqlite3_vtab_collation(info, at), "BINARY") == 0;
}

/* True where rows come in the order asked for. They come by run, key, rank and
 * step; `pinned` has a bit a column that is the same in all rows. */
static bool plan_order(int *order, const sqlite3_index_info *info, unsigned pinned)
{
	static const int columns[] = { RUN, KEY, RANK, STEP };
	size_t next = 0;
	*order = 0;
	for (int i = 0; i < info->nOrderBy; i++) {
		int column = info->aOrderBy[i].iColumn;
		bool down = info->aOrderBy[i].desc;
		if (column >= 0 && pinned >> column & 1)
			continue;
		while (next < 4 && pinned >> columns[next] & 1)
			next++;
		if (next == 4 || columns[next] != column || (down && column != STEP))
			return false;
		next++;
		*order |= column == RUN ? BY_RUN : column == STEP && down ? BY_STEP_DOWN : 0;
	}
	return info->nOrderBy > 0;
}

static int point_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
	(void)table;
	pio_str plan = PIO_STR_INIT;
	double rows = 1e11;
	unsigned pinned = 0;
	int used = 0, order;
	for (int k = 0; k < PUSHES * info->nConstraint && used < PUSHED_MAX; k++) {
		const struct push *push = &pushes[k / info->nConstraint];
		int i = k % info->nConstraint;
		bool equal = push->operator == SQLITE_INDEX_CONSTRAINT_EQ;
		/* A second equality of a column is left to SQLite. */
		if (!is_push_of(push, info, i) || (equal && pinned >> push->column & 1))
			continue;
		if (push->operator == IN)
			sqlite3_vtab_in(info, i, 1);
		info->aConstraintUsage[i].argvIndex = ++used;
		info->aConstraintUsage[i].omit = equal && push->column <= RANK;
		pinned |= equal ? 1u << push->column : 0;
		rows *= push->share;
		pio_str_printf(&plan, "%s%s", plan.len ? ", " : "", push->text);
	}
	info->orderByConsumed = plan_order(&order, info, pinned);
	info->idxNum = info->orderByConsumed ? order : 0;
	if (info->orderByConsumed)
		pio_str_printf(&plan, "%sby %s", plan.len ? ", " : "", order & BY_RUN ? "run, key, rank, step" :
		               order & BY_STEP_DOWN ? "step DESC" : "step");
	info->idxStr = plan.failed ? NULL : sqlite3_mprintf("%s", plan.data);
	info->needToFreeIdxStr = 1;
	info->estimatedRows = rows > 1 ? (sqlite3_int64)rows : 1;
	info->estimatedCost = 10 + rows;
	pio_str_fini(&plan);
	return info->idxStr ? SQLITE_OK : SQLITE_NOMEM;
}

/* ---- which series --------------------------------------------------------------------------- */

/* The values of one argument: that of an equality, or those of an IN in turn. */
typedef struct values {
	sqlite3_value *list;
	bool in, begun;
} values;

/* 1: a value, borrowed until the next call; 0: the end; -1: memory is out. */
static int values_next(sqlite3_value **value, values *v)
{
	bool first = !v->begun;
	v->begun = true;
	*value = v->list;
	if (!v->in)
		return first;
	int rc = first ? sqlite3_vtab_in_first(v->list, value) : sqlite3_vtab_in_next(v->list, value);
	return rc == SQLITE_OK ? *value != NULL : rc == SQLITE_DONE ? 0 : -1;
}

/* A push is a condition on the series unless it is about its points. */
static bool is_of_series(const struct push *push)
{
	return push->column <= RANK;
}

/* Put the condition; false where it has too many values, SQLite checks it then. */
static bool put_condition(pio_str *sql, const struct push *push, sqlite3_value *argument, int most)
{
	static const char *const columns[] = { "s.run_id", "s.key", "s.rank" };
	if (push->operator != SQLITE_INDEX_CONSTRAINT_EQ && push->operator != IN) {
		pio_str_printf(sql, " AND %s %s ?", push->column == RUN ? "e.name || '-' || r.number" : "s.key",
		               push->text + 4);
		return true;
	}
	values v = { .list = argument, .in = push->operator == IN };
	sqlite3_value *value;
	int count = 0;
	while (count <= most && values_next(&value, &v) > 0)
		count++;
	if (count > most)
		return false;
	pio_str_printf(sql, " AND %s %s(", columns[push->column], v.in ? "IN " : "= ");
	for (int i = 0; i < count; i++)
		pio_str_puts(sql, i ? ", ?" : "?");
	pio_str_putc(sql, ')');
	return true;
}

/* Narrow [step_min, step_max] by a bound. Reals are compared exactly, texts
 * are left to SQLite. */
static void bound_step(point_cursor *cursor, int operator, sqlite3_value *value)
{
	bool is_real = sqlite3_value_type(value) == SQLITE_FLOAT;
	double real = sqlite3_value_double(value);
	bool low = operator != SQLITE_INDEX_CONSTRAINT_LE && operator != SQLITE_INDEX_CONSTRAINT_LT;
	bool high = operator != SQLITE_INDEX_CONSTRAINT_GE && operator != SQLITE_INDEX_CONSTRAINT_GT;
	if ((!is_real && sqlite3_value_type(value) != SQLITE_INTEGER) ||
	    (is_real && !(fabs(real) < 9223372036854775808.0)))
		return;
	int64_t at_least = is_real ? (int64_t)ceil(real) : sqlite3_value_int64(value);
	int64_t at_most = is_real ? (int64_t)floor(real) : at_least;
	if (operator == SQLITE_INDEX_CONSTRAINT_GT && at_least == at_most && at_least < INT64_MAX)
		at_least++;
	if (operator == SQLITE_INDEX_CONSTRAINT_LT && at_least == at_most && at_most > INT64_MIN)
		at_most--;
	if (low && at_least > cursor->step_min)
		cursor->step_min = at_least;
	if (high && at_most < cursor->step_max)
		cursor->step_max = at_most;
}

/* Read "run =, key IN, by step" into the pushes that the arguments belong to. */
static void read_plan(const struct push **plan, const char *text, int argc)
{
	for (int i = 0; i < argc; i++) {
		size_t length = strcspn(text, ",");
		plan[i] = NULL;
		for (int k = 0; k < PUSHES; k++)
			if (strlen(pushes[k].text) == length && memcmp(pushes[k].text, text, length) == 0)
				plan[i] = &pushes[k];
		text += length;
		text += strspn(text, ", ");
	}
}

static int bind_values(point_cursor *cursor, const struct push *push, sqlite3_value *argument,
                       int *at, pio_err *err)
{
	values v = { .list = argument, .in = push->operator == IN };
	sqlite3_value *value;
	bool is_name = push->column == RUN && (v.in || push->operator == SQLITE_INDEX_CONSTRAINT_EQ);
	int more;
	while ((more = values_next(&value, &v)) > 0) {
		int64_t id = 0;
		int rc = is_name && sqlite3_value_type(value) == SQLITE_TEXT
			? pio_reader_run(&id, cursor->reader, (const char *)sqlite3_value_text(value), err) : 0;
		if (rc)
			return rc;
		int bound = is_name ? sqlite3_bind_int64(cursor->series, ++*at, id)
		                    : sqlite3_bind_value(cursor->series, ++*at, value);
		if (bound != SQLITE_OK)
			return pio_reader_fail(cursor->reader, err, "binding a constraint");
	}
	return more ? pio_fail(err, PIO_ENOMEM, "no memory for the values of an IN") : 0;
}

/* Prepare the query of the series unless it is the last one again. */
static int prepare_series(point_cursor *cursor, pio_str *sql, pio_err *err)
{
	int rc = pio_str_check(sql, err);
	if (rc || (cursor->series && strcmp(sql->data, cursor->sql.data) == 0))
		return rc;
	sqlite3_finalize(cursor->series);
	cursor->series = NULL;
	if (sqlite3_prepare_v2(cursor->reader->db, sql->data, -1, &cursor->series, NULL) != SQLITE_OK)
		return pio_reader_fail(cursor->reader, err, "reading the table point");
	pio_str swap = cursor->sql;
	cursor->sql = *sql;
	*sql = swap;
	return 0;
}

static int select_series(point_cursor *cursor, const struct push **plan, int order,
                         sqlite3_value **argv, int argc, pio_err *err)
{
	pio_str sql = PIO_STR_INIT;
	int most = sqlite3_limit(cursor->reader->db, SQLITE_LIMIT_VARIABLE_NUMBER, -1) / PUSHED_MAX;
	pio_str_puts(&sql, "SELECT s.id, e.name || '-' || r.number, s.key, s.rank FROM series s"
	             " JOIN run r ON r.id = s.run_id JOIN experiment e ON e.id = r.experiment_id WHERE 1");
	for (int i = 0; i < argc; i++)
		if (is_of_series(plan[i]) && !put_condition(&sql, plan[i], argv[i], most))
			plan[i] = NULL;
	bool bounded = !cursor->attempt && (cursor->step_min > INT64_MIN || cursor->step_max < INT64_MAX);
	if (bounded)
		pio_str_puts(&sql, " AND (s.last_step >= ? AND s.first_step <= ? OR EXISTS (SELECT 1 FROM recent f"
		             " WHERE f.run_id = s.run_id AND f.rank = s.rank))");
	pio_str_printf(&sql, " ORDER BY %s, s.key, s.rank", order & BY_RUN ? "2" : "s.run_id");
	int rc = prepare_series(cursor, &sql, err), at = 0;
	for (int i = 0; !rc && i < argc; i++)
		if (plan[i] && is_of_series(plan[i]))
			rc = bind_values(cursor, plan[i], argv[i], &at, err);
	if (!rc && bounded) {
		sqlite3_bind_int64(cursor->series, ++at, cursor->step_min);
		sqlite3_bind_int64(cursor->series, ++at, cursor->step_max);
	}
	pio_str_fini(&sql);
	return rc;
}

/* ---- their points ------------------------------------------------------------------------------ */

static int report(point_cursor *cursor, int rc, const pio_err *err)
{
	sqlite3_vtab *table = cursor->base.pVtab;
	sqlite3_free(table->zErrMsg);
	table->zErrMsg = sqlite3_mprintf("%s", err->message);
	switch (-rc) {
	case PIO_ENOMEM: return SQLITE_NOMEM;
	case PIO_ECORRUPT: return SQLITE_CORRUPT_VTAB;
	case PIO_EBUSY: return SQLITE_BUSY;
	case PIO_ECANCELLED: return SQLITE_INTERRUPT;
	default: return SQLITE_ERROR;
	}
}

static void leave(point_cursor *cursor)
{
	pio_series_cursor_close(&cursor->points);
	sqlite3_reset(cursor->series);
	cursor->point = NULL;
}

/* The next point, of this series or the next one that has any. */
static int point_next(sqlite3_vtab_cursor *base)
{
	point_cursor *cursor = (point_cursor *)base;
	pio_err err = PIO_ERR_INIT;
	cursor->rowid++;
	for (;;) {
		int rc = cursor->points.reader ? pio_series_cursor_next(&cursor->point, &cursor->points, &err)
		                               : 0;
		if (rc == 1)
			return SQLITE_OK;
		if (rc < 0)
			return report(cursor, rc, &err);
		pio_series_cursor_close(&cursor->points);
		cursor->point = NULL;
		int step = sqlite3_step(cursor->series);
		if (step == SQLITE_DONE)
			return SQLITE_OK;
		rc = step == SQLITE_ROW
			? pio_series_cursor_open(&cursor->points, cursor->reader,
			                         sqlite3_column_int64(cursor->series, 0), cursor->step_min,
			                         cursor->step_max, cursor->attempt, &err)
			: pio_reader_fail(cursor->reader, &err, "listing series");
		if (rc)
			return report(cursor, rc, &err);
		cursor->points.backwards = cursor->down;
	}
}

static int point_filter(sqlite3_vtab_cursor *base, int order, const char *text, int argc,
                        sqlite3_value **argv)
{
	point_cursor *cursor = (point_cursor *)base;
	const struct push *plan[PUSHED_MAX];
	pio_err err = PIO_ERR_INIT;
	leave(cursor);
	cursor->step_min = INT64_MIN;
	cursor->step_max = INT64_MAX;
	cursor->attempt = 0;
	cursor->rowid = 0;
	cursor->down = order & BY_STEP_DOWN;
	read_plan(plan, text, argc);
	for (int i = 0; i < argc; i++) {
		if (plan[i]->column == ATTEMPT)
			cursor->attempt = sqlite3_value_int(argv[i]);
		else if (plan[i]->column == STEP)
			bound_step(cursor, plan[i]->operator, argv[i]);
	}
	int rc = select_series(cursor, plan, order, argv, argc, &err);
	return rc ? report(cursor, rc, &err) : point_next(base);
}

static int point_eof(sqlite3_vtab_cursor *base)
{
	return ((point_cursor *)base)->point == NULL;
}

static int point_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
	point_cursor *cursor = (point_cursor *)base;
	const pio_point *p = cursor->point;
	switch (column) {
	case RUN:
	case KEY:
	case RANK:
		sqlite3_result_value(context, sqlite3_column_value(cursor->series, column + 1));
		break;
	case ATTEMPT:
		sqlite3_result_int(context, p->attempt);
		break;
	case STEP:
		sqlite3_result_int64(context, p->step);
		break;
	case TIME_NS:
		sqlite3_result_int64(context, p->time_ns);
		break;
	case VALUE:
		if (p->integer)
			sqlite3_result_int64(context, p->whole);
		else
			sqlite3_result_double(context, p->value);
		break;
	default:
		if (!p->integer)
			sqlite3_result_int64(context, p->whole); /* the same eight bytes */
	}
	return SQLITE_OK;
}

static int point_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
	*rowid = ((point_cursor *)base)->rowid;
	return SQLITE_OK;
}

/* ---- the life of table and cursor --------------------------------------------------------------- */

static int point_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
	point_cursor *cursor = sqlite3_malloc(sizeof *cursor);
	if (!cursor)
		return SQLITE_NOMEM;
	*cursor = (point_cursor){ .reader = &((pio_reader_table *)base)->reader, .sql = PIO_STR_INIT };
	*out = &cursor->base;
	return SQLITE_OK;
}

static int point_close(sqlite3_vtab_cursor *base)
{
	point_cursor *cursor = (point_cursor *)base;
	leave(cursor);
	sqlite3_finalize(cursor->series);
	pio_str_fini(&cursor->sql);
	sqlite3_free(base);
	return SQLITE_OK;
}

/* Without xCreate the table is eponymous: it is there under its own name. */
static const sqlite3_module module = {
	.xConnect = pio_reader_table_connect,
	.xBestIndex = point_best_index,
	.xDisconnect = pio_reader_table_disconnect,
	.xOpen = point_open,
	.xClose = point_close,
	.xFilter = point_filter,
	.xNext = point_next,
	.xEof = point_eof,
	.xColumn = point_column,
	.xRowid = point_rowid,
};

int pio_point_table_register(sqlite3 *db)
{
	return sqlite3_create_module(db, "point", &module, declaration);
}
