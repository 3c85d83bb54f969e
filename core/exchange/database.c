#include "exchange/database.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "sys/fs.h"

#define BUSY_MS 10000

static int fail(const pio_database *database, pio_err *err)
{
	int code = sqlite3_errcode(database->db) & 0xff;
	int word = code == SQLITE_BUSY || code == SQLITE_LOCKED ? PIO_EBUSY
	         : code == SQLITE_NOMEM ? PIO_ENOMEM
	         : code == SQLITE_IOERR ? PIO_EIO : PIO_ECORRUPT;
	if (code == SQLITE_READONLY || code == SQLITE_CANTOPEN)
		return pio_fail(err, PIO_EIO, "%s: its program died while it wrote, and reading would have to write; "
		                "open it once with that program, or copy it with its -wal and -journal files "
		                "to where you may write (%s)", database->path, sqlite3_errmsg(database->db));
	return pio_fail(err, word, "%s: %s", database->path, sqlite3_errmsg(database->db));
}

static bool has_wal(const char *path)
{
	struct stat st;
	pio_str wal = PIO_STR_INIT;
	pio_str_printf(&wal, "%s-wal", path);
	bool found = wal.failed || (stat(wal.data, &st) == 0 && st.st_size > 0);
	pio_str_fini(&wal);
	return found;
}

/* Bytes 18 and 19 of the head are 2 in a WAL database. */
static bool is_wal(const char *path)
{
	char head[20] = "";
	int fd = -1;
	ssize_t n = 0;
	if (pio_fs_open(&fd, path, O_RDONLY, 0, NULL))
		return false;
	(void)pio_fs_read_some(&n, fd, head, sizeof head, path, NULL);
	(void)pio_fs_close(&fd, path, NULL);
	return n == sizeof head && head[18] == 2;
}

/* In a URI '%', '?' and '#' of a path must be written as escapes. */
static void put_uri(pio_str *uri, const char *path, bool immutable)
{
	pio_str_puts(uri, "file:");
	for (; *path; path++) {
		if (strchr("%?#", *path))
			pio_str_printf(uri, "%%%02x", (unsigned char)*path);
		else
			pio_str_putc(uri, *path);
	}
	pio_str_puts(uri, immutable ? "?mode=ro&immutable=1" : "?mode=ro");
}

int pio_database_open(pio_database *database, const char *path, pio_err *err)
{
	pio_str uri = PIO_STR_INIT;
	*database = (pio_database){ .path = path };
	if (stat(path, &database->before) != 0)
		return pio_fail_errno(err, errno, "%s", path);
	database->immutable = is_wal(path) && !has_wal(path);
	put_uri(&uri, path, database->immutable);
	int rc = pio_str_check(&uri, err);
	if (!rc && sqlite3_open_v2(uri.data, &database->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL))
		rc = database->db ? fail(database, err) : pio_fail(err, PIO_ENOMEM, "out of memory");
	if (!rc) {
		sqlite3_busy_timeout(database->db, BUSY_MS);
		sqlite3_db_config(database->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
		sqlite3_db_config(database->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
		/* It may lie in a directory that cannot be written, beside a journal to be
		 * rolled back or a log to be read: that shows with the first read. */
		if (sqlite3_exec(database->db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL))
			rc = fail(database, err);
	}
	pio_str_fini(&uri);
	if (rc)
		pio_database_close(database);
	return rc;
}

int pio_database_check(const pio_database *database, pio_err *err)
{
	struct stat now;
	if (!database->immutable)
		return 0;
	if (stat(database->path, &now) != 0)
		return pio_fail_errno(err, errno, "%s", database->path);
	bool same = now.st_size == database->before.st_size && now.st_ino == database->before.st_ino &&
	            now.st_mtim.tv_sec == database->before.st_mtim.tv_sec &&
	            now.st_mtim.tv_nsec == database->before.st_mtim.tv_nsec;
	if (same && !has_wal(database->path))
		return 0;
	return pio_fail(err, PIO_EBUSY, "%s: somebody began to write to it; try again", database->path);
}

void pio_database_close(pio_database *database)
{
	sqlite3_close_v2(database->db);
	database->db = NULL;
}

int pio_database_query(sqlite3_stmt **row, const pio_database *database, pio_err *err,
                       const char *sql, ...)
{
	va_list args;
	const char *text;
	int at = 0, code = sqlite3_prepare_v2(database->db, sql, -1, row, NULL);
	va_start(args, sql);
	while (code == SQLITE_OK && (text = va_arg(args, const char *)) != NULL)
		code = sqlite3_bind_text(*row, ++at, text, -1, SQLITE_TRANSIENT);
	va_end(args);
	return code == SQLITE_OK ? 0 : fail(database, err);
}

int pio_database_list(int64_t *count, const pio_database *database, pio_err *err, const char *sql)
{
	pio_str copy = PIO_STR_INIT;
	sqlite3_stmt *row = NULL;
	pio_str_printf(&copy, "PRAGMA temp_store = MEMORY; DROP TABLE IF EXISTS temp.pioche_list;"
	               "CREATE TEMP TABLE pioche_list AS %s", sql);
	int rc = pio_str_check(&copy, err);
	if (!rc && sqlite3_exec(database->db, copy.data, NULL, NULL, NULL) != SQLITE_OK)
		rc = fail(database, err);
	pio_str_fini(&copy);
	if (!rc)
		rc = pio_database_query(&row, database, err, "SELECT count(*) FROM temp.pioche_list", NULL);
	if (!rc && (rc = pio_database_row(database, row, err)) == 1) {
		*count = sqlite3_column_int64(row, 0);
		rc = 0;
	}
	sqlite3_finalize(row);
	return rc;
}

int pio_database_listed(sqlite3_stmt **row, const pio_database *database, int64_t number,
                        pio_err *err)
{
	char text[32];
	snprintf(text, sizeof text, "%" PRId64, number);
	int rc = pio_database_query(row, database, err, "SELECT * FROM temp.pioche_list WHERE"
	                            " rowid = CAST(?1 AS INTEGER)", text, NULL);
	if (!rc)
		rc = pio_database_row(database, *row, err);
	return rc == 1 ? 0 : rc ? rc : pio_fail(err, PIO_EIO, "%s: row %s of a list is gone",
	                                        database->path, text);
}

int pio_database_row(const pio_database *database, sqlite3_stmt *row, pio_err *err)
{
	int code = sqlite3_step(row);
	return code == SQLITE_ROW ? 1 : code == SQLITE_DONE ? 0 : fail(database, err);
}

bool pio_database_has(const pio_database *database, const char *table, const char *column)
{
	sqlite3_stmt *row = NULL;
	bool found = pio_database_query(&row, database, NULL, "SELECT 1 FROM pragma_table_info(?1) WHERE"
	                                " name = ?2", table, column, NULL) == 0 &&
	             pio_database_row(database, row, NULL) == 1;
	sqlite3_finalize(row);
	return found;
}

const char *pio_database_text(sqlite3_stmt *row, int column, size_t *size_bytes)
{
	const char *text = (const char *)sqlite3_column_text(row, column);
	*size_bytes = text ? (size_t)sqlite3_column_bytes(row, column) : 0;
	return text ? text : "";
}

const char *pio_database_format(const char *path)
{
	pio_database database;
	const char *format = NULL;
	if (pio_database_open(&database, path, NULL))
		return NULL;
	if (pio_database_has(&database, "runs", "run_uuid") &&
	    pio_database_has(&database, "metrics", "is_nan"))
		format = "mlflow";
	else if (pio_database_has(&database, "metrics", "run_name") &&
	         pio_database_has(&database, "metrics", "metrics"))
		format = "trackio";
	pio_database_close(&database);
	return format;
}
