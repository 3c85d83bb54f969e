/* Any bytes as a database of trackio or MLflow: the importer never crashes and ends.
 * What begins as SQLite's files do is taken as a whole file, damaged anywhere. Else the
 * first byte says whose database it is (odd: MLflow's), and rows follow: the number of
 * a table, then a value a column, of any type; whatever is in rows is no failure. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exchange/database.h"
#include "exchange/exchange.h"
#include "sys/fs.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Columns have no types, so that a value stays what it is. */
static const char *const mlflow[] = {
	"experiments (experiment_id, name)",
	"runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id)",
	"metrics (\"key\", value, timestamp, run_uuid, step, is_nan)",
	"params (\"key\", value, run_uuid)",
	"tags (\"key\", value, run_uuid)",
};
static const char *const trackio[] = {
	"metrics (id INTEGER PRIMARY KEY, run_id, timestamp, run_name, step, metrics)",
	"configs (id INTEGER PRIMARY KEY, run_id, run_name, config, created_at)",
	"system_metrics (id INTEGER PRIMARY KEY, run_id, timestamp, run_name, metrics)",
	"alerts (id INTEGER PRIMARY KEY, run_id, timestamp, run_name, title, text, level, step)",
	"metrics_of_nobody (id)",
};
enum { TABLES = 5 };

static int columns_of(const char *table)
{
	int count = 1;
	for (; *table; table++)
		count += *table == ',';
	return count;
}

/* A value: 0 NULL, 1 a whole number, 2 a real, 3 a text, 4 a blob, and its bytes; of the
 * last two first how many. Past the end all is NULL. */
static void bind_value(sqlite3_stmt *row, int column, const uint8_t **data, size_t *size)
{
	int kind = *size ? (*data)[0] % 5 : 0;
	size_t n = 0, head = 1 + (kind >= 3);
	uint8_t bytes[8] = { 0 };
	if (*size < head)
		kind = 0;
	else
		n = kind >= 3 ? (*data)[1] : kind ? 8 : 0;
	head = head < *size ? head : *size;
	*data += head, *size -= head;
	n = n < *size ? n : *size;
	memcpy(bytes, *data, n < 8 ? n : 8);
	if (kind == 1) {
		int64_t whole;
		memcpy(&whole, bytes, 8);
		sqlite3_bind_int64(row, column, whole);
	} else if (kind == 2) {
		double real;
		memcpy(&real, bytes, 8);
		sqlite3_bind_double(row, column, real);
	} else if (kind == 3) {
		sqlite3_bind_text(row, column, (const char *)*data, (int)n, SQLITE_TRANSIENT);
	} else if (kind == 4) {
		sqlite3_bind_blob(row, column, *data, (int)n, SQLITE_TRANSIENT);
	}
	*data += n, *size -= n;
}

static void put_row(sqlite3 *db, const char *table, const uint8_t **data, size_t *size)
{
	char sql[200];
	sqlite3_stmt *row = NULL;
	int columns = columns_of(table);
	int n = snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO %.*s VALUES (?", (int)strcspn(table, " "), table);
	for (int i = 1; i < columns; i++)
		n += snprintf(sql + n, sizeof sql - (size_t)n, ", ?");
	snprintf(sql + n, sizeof sql - (size_t)n, ")");
	CHECK(sqlite3_prepare_v2(db, sql, -1, &row, NULL) == SQLITE_OK);
	for (int i = 1; i <= columns; i++)
		bind_value(row, i, data, size);
	(void)sqlite3_step(row); /* an id that is a text is refused */
	sqlite3_finalize(row);
}

static void make_database(const char *path, bool is_mlflow, const uint8_t *data, size_t size)
{
	const char *const *tables = is_mlflow ? mlflow : trackio;
	char sql[200];
	sqlite3 *db = NULL;
	CHECK(sqlite3_open(path, &db) == SQLITE_OK);
	CHECK(sqlite3_exec(db, "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; BEGIN", NULL, NULL, NULL) ==
	      SQLITE_OK);
	for (int i = 0; i < TABLES; i++) {
		snprintf(sql, sizeof sql, "CREATE TABLE %s", tables[i]);
		CHECK(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
	}
	while (size) {
		const char *table = tables[data[0] % TABLES];
		data++, size--;
		put_row(db, table, &data, &size);
	}
	CHECK(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
}

static int import(const char *format, const char *path)
{
	pio_import_report report = PIO_IMPORT_REPORT_INIT;
	pio_import_options options = { .dry = true };
	pio_err err = PIO_ERR_INIT;
	int rc = pio_import(&report, NULL, format, path, &options, &err);
	CHECK(!rc || err.message[0]);
	pio_import_report_fini(&report);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *scratch = getenv("TMPDIR");
	char dir[256], path[300];
	int fd = -1;
	snprintf(dir, sizeof dir, "%s/fuzz-database-XXXXXX", scratch ? scratch : "/tmp");
	CHECK(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/x.db", dir);
	if (size > 6 && memcmp(data, "SQLite", 6) == 0) {
		CHECK(pio_fs_open(&fd, path, O_WRONLY | O_CREAT, 0600, NULL) == 0);
		CHECK(pio_fs_write_all(fd, data, size, path, NULL) == 0);
		(void)pio_fs_close(&fd, path, NULL);
		(void)pio_database_format(path);
		(void)import("mlflow", path);
		(void)import("trackio", path);
	} else if (size) {
		bool is_mlflow = data[0] & 1;
		make_database(path, is_mlflow, data + 1, size - 1);
		const char *format = pio_database_format(path);
		CHECK(format && strcmp(format, is_mlflow ? "mlflow" : "trackio") == 0);
		CHECK(import(format, path) == 0);
	}
	(void)pio_fs_remove_tree(dir, NULL);
	return 0;
}
