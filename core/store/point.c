/* The virtual table point(run, key, rank, attempt, step, time_ns, value), with
 * the hidden column bits (of the value: a NaN shows as NULL).
 *
 * A row of constraints is pushed down: run, key, rank, attempt by equality,
 * step by bounds. SQLite checks every constraint again, so pushing down is
 * only speed; except that an attempt asked for shows all of its points. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/cursor.h"
#include "store/series.h"

enum column { RUN, KEY, RANK, ATTEMPT, STEP, TIME_NS, VALUE, BITS };

#define DECLARATION "CREATE TABLE point (run TEXT, key TEXT, rank INTEGER, attempt INTEGER," \
	" step INTEGER, time_ns INTEGER, value REAL, bits INTEGER HIDDEN)"

typedef struct point_table {
	sqlite3_vtab base;
	pio_store *store;
} point_table;

typedef struct point_cursor {
	sqlite3_vtab_cursor base;
	pio_store *store;
	sqlite3_stmt *series;       /* that match, in order: id, run, key, rank */
	pio_series_cursor points;
	const pio_point *point;     /* NULL at the end */
	int64_t step_min, step_max, rowid;
	int attempt;
} point_cursor;

static int point_connect(sqlite3 *db, void *store, int argc, const char *const *argv,
                         sqlite3_vtab **out, char **message)
{
	(void)argc;
	(void)argv;
	(void)message;
	int rc = sqlite3_declare_vtab(db, DECLARATION);
	point_table *table = rc == SQLITE_OK ? sqlite3_malloc(sizeof *table) : NULL;
	if (!table)
		return rc == SQLITE_OK ? SQLITE_NOMEM : rc;
	*table = (point_table){ .store = store };
	sqlite3_vtab_config(db, SQLITE_VTAB_INNOCUOUS);
	*out = &table->base;
	return SQLITE_OK;
}

static int point_disconnect(sqlite3_vtab *table)
{
	sqlite3_free(table);
	return SQLITE_OK;
}

/* One character a pushed-down constraint: r k n a (equal), l g (step bounds,
 * L G exclusive), e (step equal). */
static char constraint_code(int column, int operator)
{
	if (operator == SQLITE_INDEX_CONSTRAINT_EQ)
		return column >= RUN && column <= STEP ? "rknae"[column] : 0;
	if (column != STEP)
		return 0;
	switch (operator) {
	case SQLITE_INDEX_CONSTRAINT_LE: return 'l';
	case SQLITE_INDEX_CONSTRAINT_LT: return 'L';
	case SQLITE_INDEX_CONSTRAINT_GE: return 'g';
	case SQLITE_INDEX_CONSTRAINT_GT: return 'G';
	default: return 0;
	}
}

static int point_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
	(void)table;
	char codes[32];
	int used = 0;
	double cost = 1e9;
	bool run = false, key = false, rank = false;
	for (int i = 0; i < info->nConstraint && used < 31; i++) {
		if (!info->aConstraint[i].usable)
			continue;
		char code = constraint_code(info->aConstraint[i].iColumn, info->aConstraint[i].op);
		if (!code || ((code == 'r' || code == 'k' || code == 'n' || code == 'a') &&
		              memchr(codes, code, (size_t)used)))
			continue;
		codes[used++] = code;
		info->aConstraintUsage[i].argvIndex = used;
		run |= code == 'r';
		key |= code == 'k';
		rank |= code == 'n';
		cost /= code == 'r' || code == 'k' ? 1000 : 4;
	}
	codes[used] = 0;
	info->idxStr = sqlite3_mprintf("%s", codes);
	if (!info->idxStr)
		return SQLITE_NOMEM;
	info->needToFreeIdxStr = 1;
	info->estimatedCost = cost;
	info->estimatedRows = cost > 1 ? (sqlite3_int64)cost : 1;
	/* Points of one series come by step. */
	info->orderByConsumed = run && key && rank && info->nOrderBy == 1 &&
	                        info->aOrderBy[0].iColumn == STEP && !info->aOrderBy[0].desc;
	return SQLITE_OK;
}

static int point_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
	point_cursor *cursor = sqlite3_malloc(sizeof *cursor);
	if (!cursor)
		return SQLITE_NOMEM;
	memset(cursor, 0, sizeof *cursor);
	cursor->store = ((point_table *)base)->store;
	*out = &cursor->base;
	return SQLITE_OK;
}

static void leave(point_cursor *cursor)
{
	sqlite3_finalize(cursor->series);
	cursor->series = NULL;
	pio_series_cursor_close(&cursor->points);
	cursor->point = NULL;
}

static int point_close(sqlite3_vtab_cursor *base)
{
	leave((point_cursor *)base);
	sqlite3_free(base);
	return SQLITE_OK;
}

static int report(point_cursor *cursor, int rc, const pio_err *err)
{
	sqlite3_vtab *table = cursor->base.pVtab;
	sqlite3_free(table->zErrMsg);
	table->zErrMsg = sqlite3_mprintf("%s", err->message);
	return rc == -PIO_ENOMEM ? SQLITE_NOMEM : rc == -PIO_ECORRUPT ? SQLITE_CORRUPT_VTAB : SQLITE_ERROR;
}

/* The next point, of this series or the next one that has any. */
static int point_next(sqlite3_vtab_cursor *base)
{
	point_cursor *cursor = (point_cursor *)base;
	pio_err err = PIO_ERR_INIT;
	cursor->rowid++;
	for (;;) {
		int rc = cursor->points.store ? pio_series_cursor_next(&cursor->point, &cursor->points, &err)
		                              : 0;
		if (rc == 1)
			return SQLITE_OK;
		if (rc < 0)
			return report(cursor, rc, &err);
		pio_series_cursor_close(&cursor->points);
		cursor->point = NULL;
		int step = sqlite3_step(cursor->series);
		if (step != SQLITE_ROW)
			return step == SQLITE_DONE ? SQLITE_OK : step;
		rc = pio_series_cursor_open(&cursor->points, cursor->store,
		                            sqlite3_column_int64(cursor->series, 0), cursor->step_min,
		                            cursor->step_max, cursor->attempt, &err);
		if (rc)
			return report(cursor, rc, &err);
	}
}

/* "gpt-17" into the experiment's name and the number; false: no such run can be. */
static bool split_run(const char *text, int *name_bytes, int64_t *number)
{
	const char *dash = text ? strrchr(text, '-') : NULL;
	if (!dash || dash == text || dash[1] < '1' || dash[1] > '9' || strlen(dash + 1) > 18 ||
	    strspn(dash + 1, "0123456789") != strlen(dash + 1))
		return false;
	*name_bytes = (int)(dash - text);
	*number = strtoll(dash + 1, NULL, 10);
	return true;
}

static void bound_step(point_cursor *cursor, char code, sqlite3_value *value)
{
	if (sqlite3_value_type(value) != SQLITE_INTEGER)
		return; /* SQLite compares reals and texts itself */
	int64_t step = sqlite3_value_int64(value);
	bool low = code == 'g' || code == 'G' || code == 'e';
	bool high = code == 'l' || code == 'L' || code == 'e';
	if (low && step > cursor->step_min)
		cursor->step_min = step;
	if (high && step < cursor->step_max)
		cursor->step_max = step;
}

static int filter_series(point_cursor *cursor, const char *codes, sqlite3_value **argv, pio_str *sql)
{
	pio_str_puts(sql, "SELECT s.id, e.name || '-' || r.number, s.key, s.rank FROM experiment e JOIN run r"
	             " ON r.experiment_id = e.id JOIN series s ON s.run_id = r.id WHERE 1");
	int name_bytes = 0;
	int64_t number = 0;
	const char *run = NULL;
	for (int i = 0; codes[i]; i++) {
		if (codes[i] == 'r') {
			run = (const char *)sqlite3_value_text(argv[i]);
			if (!split_run(run, &name_bytes, &number))
				run = "", name_bytes = 0;
			pio_str_puts(sql, " AND e.name = ?1 AND r.number = ?2");
		} else if (codes[i] == 'k') {
			pio_str_puts(sql, " AND s.key = ?3");
		} else if (codes[i] == 'n') {
			pio_str_puts(sql, " AND s.rank = ?4");
		} else if (codes[i] == 'a') {
			cursor->attempt = sqlite3_value_int(argv[i]);
		} else {
			bound_step(cursor, codes[i], argv[i]);
		}
	}
	pio_str_puts(sql, " ORDER BY e.name, r.number, s.key, s.rank");
	if (sql->failed)
		return SQLITE_NOMEM;
	int rc = sqlite3_prepare_v2(pio_store_db(cursor->store), sql->data, -1, &cursor->series, NULL);
	for (int i = 0; rc == SQLITE_OK && codes[i]; i++) {
		if (codes[i] == 'r') {
			sqlite3_bind_text(cursor->series, 1, run, name_bytes, SQLITE_TRANSIENT);
			sqlite3_bind_int64(cursor->series, 2, number);
		} else if (codes[i] == 'k' || codes[i] == 'n') {
			sqlite3_bind_value(cursor->series, codes[i] == 'k' ? 3 : 4, argv[i]);
		}
	}
	return rc;
}

static int point_filter(sqlite3_vtab_cursor *base, int number, const char *codes, int argc,
                        sqlite3_value **argv)
{
	(void)number;
	(void)argc;
	point_cursor *cursor = (point_cursor *)base;
	pio_str sql = PIO_STR_INIT;
	leave(cursor);
	cursor->step_min = INT64_MIN;
	cursor->step_max = INT64_MAX;
	cursor->attempt = 0;
	cursor->rowid = 0;
	int rc = filter_series(cursor, codes, argv, &sql);
	pio_str_fini(&sql);
	return rc == SQLITE_OK ? point_next(base) : rc;
}

static int point_eof(sqlite3_vtab_cursor *base)
{
	return ((point_cursor *)base)->point == NULL;
}

static int point_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
	point_cursor *cursor = (point_cursor *)base;
	const pio_point *p = cursor->point;
	int64_t bits;
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
		memcpy(&bits, &p->value, 8);
		sqlite3_result_int64(context, bits);
	}
	return SQLITE_OK;
}

static int point_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
	*rowid = ((point_cursor *)base)->rowid;
	return SQLITE_OK;
}

/* Without xCreate the table is eponymous: it is there under its own name. */
static const sqlite3_module module = {
	.iVersion = 0,
	.xConnect = point_connect,
	.xBestIndex = point_best_index,
	.xDisconnect = point_disconnect,
	.xOpen = point_open,
	.xClose = point_close,
	.xFilter = point_filter,
	.xNext = point_next,
	.xEof = point_eof,
	.xColumn = point_column,
	.xRowid = point_rowid,
};

int pio_store_point_register(pio_store *store, pio_err *err)
{
	if (sqlite3_create_module(pio_store_db(store), "point", &module, store) != SQLITE_OK)
		return pio_store_fail(store, err, "registering the table point");
	return 0;
}
