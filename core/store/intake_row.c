#include "store/intake_parts.h"

#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "store/sql.h"

/* ---- columns --------------------------------------------------------------------- */

/* What a row of another store says of itself and means nothing here. */
static bool is_ours(const char *name)
{
	static const char *const names[] = { "id", "run_id", "attempt_id", "experiment_id", "sweep_id",
		"snapshot_id", "pool_id", "agent_pid", "dir", "data", "inline" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

/* "attempt": its number stands for its id here. */
static int put_attempt(json_t *values, const pio_intake *intake, const json_t *number, pio_err *err)
{
	int64_t id = 0;
	if (!json_is_integer(number))
		return pio_fail(err, PIO_ECORRUPT, "the attempt of a row is no number");
	int rc = pio_intake_attempt(&id, intake, json_integer_value(number), err);
	if (!rc && json_object_set_new(values, "attempt_id", json_integer(id)) != 0)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a row");
	return rc;
}

/* Only names of columns get into SQL. */
static int is_column(bool *is, pio_store *store, const char *table, const char *name, pio_err *err)
{
	int64_t there = 0;
	int rc = pio_sql_int(&there, store, err, "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE"
	                     " name = ?2)", "tt", table, name);
	*is = there != 0;
	return rc;
}

/* The members that become columns, without null: NULL is what nothing is said of. */
static int gather(json_t **values, pio_intake *intake, const char *table, const json_t *row, json_t *fixed,
                  const char *what, pio_err *err)
{
	const char *name;
	json_t *value;
	*values = json_object();
	int rc = *values ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a row of %s", table);
	json_object_foreach((json_t *)(uintptr_t)row, name, value) {
		bool is = false;
		if (rc || is_ours(name) || json_is_null(value) || json_is_array(value) ||
		    json_object_get(fixed, name))
			continue;
		if (!strcmp(name, "attempt")) {
			rc = put_attempt(*values, intake, value, err);
			continue;
		}
		rc = is_column(&is, intake->store, table, name, err);
		if (!rc && !is)
			rc = pio_fail(err, PIO_ECORRUPT, "%s: no %s has a \"%.100s\"", what, table, name);
		if (!rc && json_object_set(*values, name, value) != 0)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for a row of %s", table);
	}
	json_object_foreach(fixed, name, value)
		if (!rc && !json_is_null(value) && json_object_set(*values, name, value) != 0)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for a row of %s", table);
	return rc;
}

/* ---- values -------------------------------------------------------------------------- */

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* { "hex": "ff00" }: a text that is no UTF-8; { "blob": "ff00" }: bytes. */
static int bind_hex(sqlite3_stmt *statement, int at, const json_t *value)
{
	const char *blob = json_string_value(json_object_get(value, "blob"));
	const char *hex = blob ? blob : json_string_value(json_object_get(value, "hex"));
	size_t n = hex ? strlen(hex) : 1;
	char *bytes = n % 2 || json_object_size(value) != 1 ? NULL : pio_alloc(n / 2);
	if (!bytes)
		return n % 2 || json_object_size(value) != 1 ? SQLITE_MISMATCH : SQLITE_NOMEM;
	for (size_t i = 0; i < n / 2; i++) {
		int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
		if (high < 0 || low < 0) {
			pio_free(bytes);
			return SQLITE_MISMATCH;
		}
		bytes[i] = (char)(high << 4 | low);
	}
	int rc = blob ? sqlite3_bind_blob64(statement, at, bytes, n / 2, SQLITE_TRANSIENT)
	              : sqlite3_bind_text64(statement, at, bytes, n / 2, SQLITE_TRANSIENT, SQLITE_UTF8);
	pio_free(bytes);
	return rc;
}

static int bind(sqlite3_stmt *statement, int at, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_INTEGER:
		return sqlite3_bind_int64(statement, at, json_integer_value(value));
	case JSON_REAL:
		return sqlite3_bind_double(statement, at, json_real_value(value));
	case JSON_STRING:
		return sqlite3_bind_text64(statement, at, json_string_value(value), json_string_length(value),
		                           SQLITE_STATIC, SQLITE_UTF8);
	case JSON_OBJECT:
		return bind_hex(statement, at, value);
	default:
		return SQLITE_MISMATCH;
	}
}

/* ---- the statement --------------------------------------------------------------------- */

static int prepare(pio_intake *intake, const char *table, json_t *values, pio_err *err)
{
	pio_str sql = PIO_STR_INIT;
	const char *name;
	json_t *value;
	int n = 0;
	pio_str_printf(&sql, "INSERT INTO main.%s (", table);
	json_object_foreach(values, name, value)
		pio_str_printf(&sql, "%s\"%s\"", n++ ? ", " : "", name);
	pio_str_puts(&sql, ") VALUES (");
	for (int i = 0; i < n; i++)
		pio_str_puts(&sql, i ? ", ?" : "?");
	pio_str_putc(&sql, ')');
	int rc = pio_str_check(&sql, err);
	if (!rc && intake->statement && !strcmp(intake->sql.data, sql.data)) {
		pio_str_fini(&sql);
		return 0;
	}
	sqlite3_finalize(intake->statement);
	intake->statement = NULL;
	pio_str_fini(&intake->sql);
	intake->sql = sql;
	if (!rc && sqlite3_prepare_v2(pio_store_db(intake->store), sql.data, -1, &intake->statement, NULL) !=
	    SQLITE_OK)
		rc = pio_store_fail(intake->store, err, "a row that is taken in");
	return rc;
}

/* The words and types of the columns are in the schema; what it does not take is the
 * fault of who wrote it. */
static int run_statement(pio_intake *intake, const char *table, json_t *values, const char *what, pio_err *err)
{
	sqlite3 *db = pio_store_db(intake->store);
	const char *name;
	json_t *value;
	int at = 0, status = SQLITE_OK;
	json_object_foreach(values, name, value) {
		status = bind(intake->statement, ++at, value);
		if (status == SQLITE_MISMATCH)
			return pio_fail(err, PIO_ECORRUPT, "%s: the \"%.100s\" of a %s is no value of a column", what,
			                name, table);
		if (status != SQLITE_OK)
			return pio_store_fail(intake->store, err, "binding a value");
	}
	status = sqlite3_step(intake->statement) & 0xff;
	if (status == SQLITE_DONE)
		return 0;
	if (status == SQLITE_CONSTRAINT || status == SQLITE_MISMATCH)
		return pio_fail(err, PIO_ECORRUPT, "%s: a %s that cannot be: %s", what, table, sqlite3_errmsg(db));
	return pio_store_fail(intake->store, err, "a row that is taken in");
}

void pio_intake_put(json_t **fixed, const char *name, json_t *value)
{
	if (*fixed && json_object_set_new(*fixed, name, value) == 0)
		return;
	if (!*fixed)
		json_decref(value);
	json_decref(*fixed);
	*fixed = NULL;
}

int pio_intake_row(pio_intake *intake, const char *table, const json_t *row, json_t *fixed,
                   const char *what, pio_err *err)
{
	json_t *values = NULL;
	int rc = fixed && row ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a row of %s", table);
	if (!rc && !json_is_object(row))
		rc = pio_fail(err, PIO_ECORRUPT, "%s: a %s that is no object", what, table);
	if (!rc)
		rc = gather(&values, intake, table, row, fixed, what, err);
	if (!rc)
		rc = prepare(intake, table, values, err);
	if (!rc)
		rc = run_statement(intake, table, values, what, err);
	if (intake->statement) {
		sqlite3_reset(intake->statement);
		sqlite3_clear_bindings(intake->statement);
	}
	json_decref(values);
	json_decref(fixed);
	return rc;
}
