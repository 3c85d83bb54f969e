#include "store/sql.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"

static int bind_bytes(sqlite3_stmt *statement, int at, char type, const void *bytes, size_t size)
{
	if (!bytes && type != 'b')
		return sqlite3_bind_null(statement, at);
	if (type == 'b')
		return sqlite3_bind_blob64(statement, at, size ? bytes : "", size, SQLITE_STATIC);
	return sqlite3_bind_text64(statement, at, bytes, size, SQLITE_STATIC, SQLITE_UTF8);
}

static int bind_int(sqlite3_stmt *statement, int at, char type, int64_t value)
{
	bool none = (type == 'o' && value == INT64_MIN) || (type == 'z' && value == 0) ||
	            (type == 'm' && value < 0);
	return none ? sqlite3_bind_null(statement, at) : sqlite3_bind_int64(statement, at, value);
}

static int bind_one(sqlite3_stmt *statement, int at, char type, va_list *args)
{
	const char *text;
	const void *bytes;
	switch (type) {
	case 'i':
	case 'o':
	case 'z':
		return bind_int(statement, at, type, va_arg(*args, int64_t));
	case 'm':
		return bind_int(statement, at, type, va_arg(*args, int));
	case 't':
		text = va_arg(*args, const char *);
		return bind_bytes(statement, at, type, text, text ? strlen(text) : 0);
	case 's':
	case 'b':
		bytes = va_arg(*args, const void *);
		return bind_bytes(statement, at, type, bytes, va_arg(*args, size_t));
	case 'd':
		return sqlite3_bind_double(statement, at, va_arg(*args, double));
	default:
		return SQLITE_MISUSE;
	}
}

static sqlite3_stmt *query(pio_store *store, pio_err *err, const char *sql, const char *types,
                           va_list *args)
{
	sqlite3_stmt *statement = pio_store_statement(store, sql, err);
	if (!statement)
		return NULL;
	for (int i = 0; types[i]; i++) {
		if (bind_one(statement, i + 1, types[i], args) != SQLITE_OK) {
			pio_store_fail(store, err, "binding a value");
			pio_sql_reset(statement);
			return NULL;
		}
	}
	return statement;
}

sqlite3_stmt *pio_sql_query(pio_store *store, pio_err *err, const char *sql,
                            const char *types, ...)
{
	va_list args;
	va_start(args, types);
	sqlite3_stmt *statement = query(store, err, sql, types, &args);
	va_end(args);
	return statement;
}

void pio_sql_reset(sqlite3_stmt *statement)
{
	if (!statement)
		return;
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
}

int pio_sql_row(pio_store *store, sqlite3_stmt *statement, pio_err *err)
{
	if (!statement)
		return pio_err_code(err);
	int rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		return 1;
	int result = rc == SQLITE_DONE ? 0 : pio_store_fail(store, err, sqlite3_sql(statement));
	pio_sql_reset(statement);
	return result;
}

int pio_sql_exec(pio_store *store, pio_err *err, const char *sql, const char *types, ...)
{
	pio_err own = PIO_ERR_INIT;
	pio_err *e = err ? err : &own;
	va_list args;
	va_start(args, types);
	sqlite3_stmt *statement = query(store, e, sql, types, &args);
	va_end(args);
	if (!statement)
		return -e->code;
	/* Who holds the lease writes in no transaction that has not looked for it. */
	bool alone = *pio_store_lease_slot(store) && sqlite3_get_autocommit(pio_store_db(store)) &&
	             !sqlite3_stmt_readonly(statement);
	int rc = alone ? pio_store_begin(store, e) : 0;
	if (rc) {
		pio_sql_reset(statement);
		return rc;
	}
	rc = pio_store_step_done(store, statement, e);
	if (alone && !rc)
		rc = pio_store_commit(store, e);
	else if (alone)
		pio_store_rollback(store);
	return rc;
}

int pio_sql_int(int64_t *value, pio_store *store, pio_err *err, const char *sql,
                const char *types, ...)
{
	pio_err own = PIO_ERR_INIT;
	pio_err *e = err ? err : &own;
	*value = 0;
	va_list args;
	va_start(args, types);
	sqlite3_stmt *statement = query(store, e, sql, types, &args);
	va_end(args);
	if (!statement)
		return -e->code;
	int rc = pio_sql_row(store, statement, e);
	if (rc == 1)
		*value = sqlite3_column_int64(statement, 0);
	pio_sql_reset(statement);
	return rc < 0 ? rc : 0;
}

char *pio_sql_text_copy(sqlite3_stmt *statement, int column)
{
	const char *text = (const char *)sqlite3_column_text(statement, column);
	return text ? pio_strdup(text) : NULL;
}
