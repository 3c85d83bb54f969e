/* The table-valued function series_lod: see sql_extend.h. */
#include <string.h>

#include "base/mem.h"
#include "store/bucket.h"
#include "store/reader_table.h"
#include "store/sql_extend.h"

enum column { FIRST_STEP, LAST_STEP, COUNT, MIN, MAX, MEAN, RUN, KEY, BUCKETS, RANK };
#define ARGUMENTS 4
static const char *const names[ARGUMENTS] = { "run", "key", "buckets", "rank" };

static char declaration[] =
	"CREATE TABLE series_lod (first_step INTEGER, last_step INTEGER, count INTEGER,"
	" min REAL, max REAL, mean REAL, run HIDDEN, key HIDDEN, buckets HIDDEN, rank HIDDEN)";

typedef struct lod_cursor {
	sqlite3_vtab_cursor base;
	pio_bucket *buckets;
	size_t count, at;
	sqlite3_value *arguments[ARGUMENTS];
} lod_cursor;

static int lod_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
	int places[ARGUMENTS] = { -1, -1, -1, -1 };
	for (int i = 0; i < info->nConstraint; i++) {
		const struct sqlite3_index_constraint *c = &info->aConstraint[i];
		if (c->iColumn < RUN || c->op != SQLITE_INDEX_CONSTRAINT_EQ)
			continue;
		if (!c->usable)
			return SQLITE_CONSTRAINT; /* an argument of a table that is joined later */
		places[c->iColumn - RUN] = i;
	}
	int used = 0;
	for (int i = 0; i < ARGUMENTS; i++) {
		if (places[i] < 0 && i + RUN != RANK) {
			sqlite3_free(table->zErrMsg);
			table->zErrMsg = sqlite3_mprintf("series_lod: %s is missing, expected series_lod(run, key,"
			                                 " buckets [, rank])", names[i]);
			return SQLITE_ERROR;
		}
		if (places[i] < 0)
			continue;
		info->aConstraintUsage[places[i]].argvIndex = ++used;
		info->aConstraintUsage[places[i]].omit = 1;
	}
	info->orderByConsumed = info->nOrderBy == 1 && info->aOrderBy[0].iColumn == FIRST_STEP &&
	                        !info->aOrderBy[0].desc;
	info->estimatedCost = 1000;
	info->estimatedRows = 200;
	return SQLITE_OK;
}

static int fail(lod_cursor *cursor, int code, const char *message)
{
	sqlite3_vtab *table = cursor->base.pVtab;
	sqlite3_free(table->zErrMsg);
	table->zErrMsg = sqlite3_mprintf("%s", message);
	return code;
}

/* An integer from `low` to `high`, or an error that names the argument. */
static int check_integer(lod_cursor *cursor, int column, int64_t low, int64_t high)
{
	sqlite3_value *value = cursor->arguments[column - RUN];
	if (!value || (sqlite3_value_numeric_type(value) == SQLITE_INTEGER &&
	               sqlite3_value_int64(value) >= low && sqlite3_value_int64(value) <= high))
		return SQLITE_OK;
	const unsigned char *text = sqlite3_value_text(value);
	pio_err err = PIO_ERR_INIT;
	pio_fail(&err, PIO_EINVAL, "series_lod: %s is %.40s, expected an integer from %lld to %lld",
	         names[column - RUN], text ? (const char *)text : "NULL", (long long)low, (long long)high);
	return fail(cursor, SQLITE_ERROR, err.message);
}

/* *id 0: there is no such series. */
static int find_series(int64_t *id, pio_reader *reader, lod_cursor *cursor, pio_err *err)
{
	int64_t run;
	int rc = pio_reader_run(&run, reader, (const char *)sqlite3_value_text(cursor->arguments[0]), err);
	*id = 0;
	if (rc || !run)
		return rc;
	sqlite3_stmt *row = pio_reader_statement(reader, PIO_READER_SERIES, err);
	if (!row)
		return pio_err_code(err);
	sqlite3_bind_int64(row, 1, run);
	sqlite3_bind_value(row, 2, cursor->arguments[KEY - RUN]);
	sqlite3_value *rank = cursor->arguments[RANK - RUN];
	sqlite3_bind_int64(row, 3, rank ? sqlite3_value_int64(rank) : 0);
	int step = sqlite3_step(row);
	if (step == SQLITE_ROW)
		*id = sqlite3_column_int64(row, 0);
	else if (step != SQLITE_DONE)
		rc = pio_reader_fail(reader, err, "finding a series");
	sqlite3_reset(row);
	sqlite3_clear_bindings(row);
	return rc;
}

static void forget(lod_cursor *cursor)
{
	pio_free(cursor->buckets);
	cursor->buckets = NULL;
	cursor->count = cursor->at = 0;
	for (int i = 0; i < ARGUMENTS; i++) {
		sqlite3_value_free(cursor->arguments[i]);
		cursor->arguments[i] = NULL;
	}
}

static int lod_filter(sqlite3_vtab_cursor *base, int number, const char *text, int argc,
                      sqlite3_value **argv)
{
	(void)number;
	(void)text;
	lod_cursor *cursor = (lod_cursor *)base;
	pio_reader *reader = &((pio_reader_table *)base->pVtab)->reader;
	pio_err err = PIO_ERR_INIT;
	int64_t id;
	forget(cursor);
	for (int i = 0; i < argc; i++)
		if (!(cursor->arguments[i] = sqlite3_value_dup(argv[i])))
			return SQLITE_NOMEM;
	int code = check_integer(cursor, BUCKETS, 1, PIO_BUCKETS_MAX);
	if (code == SQLITE_OK)
		code = check_integer(cursor, RANK, 0, INT32_MAX);
	if (code != SQLITE_OK)
		return code;
	int rc = find_series(&id, reader, cursor, &err);
	if (!rc && id)
		rc = pio_series_buckets(&cursor->buckets, &cursor->count, reader, id, INT64_MIN, INT64_MAX,
		                        (size_t)sqlite3_value_int64(cursor->arguments[BUCKETS - RUN]), &err);
	return rc ? fail(cursor, rc == -PIO_ENOMEM ? SQLITE_NOMEM : SQLITE_ERROR, err.message) : SQLITE_OK;
}

static int lod_next(sqlite3_vtab_cursor *base)
{
	((lod_cursor *)base)->at++;
	return SQLITE_OK;
}

static int lod_eof(sqlite3_vtab_cursor *base)
{
	lod_cursor *cursor = (lod_cursor *)base;
	return cursor->at >= cursor->count;
}

static int lod_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
	lod_cursor *cursor = (lod_cursor *)base;
	const pio_bucket *b = &cursor->buckets[cursor->at];
	switch (column) {
	case FIRST_STEP: sqlite3_result_int64(context, b->first_step); break;
	case LAST_STEP: sqlite3_result_int64(context, b->last_step); break;
	case COUNT: sqlite3_result_int64(context, b->count); break;
	case MIN: sqlite3_result_double(context, b->min); break;
	case MAX: sqlite3_result_double(context, b->max); break;
	case MEAN: sqlite3_result_double(context, b->mean); break;
	default:
		if (cursor->arguments[column - RUN])
			sqlite3_result_value(context, cursor->arguments[column - RUN]);
		else
			sqlite3_result_int(context, 0); /* the rank left out */
	}
	return SQLITE_OK;
}

static int lod_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
	*rowid = (sqlite3_int64)((lod_cursor *)base)->at;
	return SQLITE_OK;
}

static int lod_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
	(void)base;
	lod_cursor *cursor = sqlite3_malloc(sizeof *cursor);
	if (!cursor)
		return SQLITE_NOMEM;
	*cursor = (lod_cursor){ 0 };
	*out = &cursor->base;
	return SQLITE_OK;
}

static int lod_close(sqlite3_vtab_cursor *base)
{
	forget((lod_cursor *)base);
	sqlite3_free(base);
	return SQLITE_OK;
}

static const sqlite3_module module = {
	.xConnect = pio_reader_table_connect,
	.xBestIndex = lod_best_index,
	.xDisconnect = pio_reader_table_disconnect,
	.xOpen = lod_open,
	.xClose = lod_close,
	.xFilter = lod_filter,
	.xNext = lod_next,
	.xEof = lod_eof,
	.xColumn = lod_column,
	.xRowid = lod_rowid,
};

int pio_lod_table_register(sqlite3 *db)
{
	return sqlite3_create_module(db, "series_lod", &module, declaration);
}
