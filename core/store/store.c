#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/chunk.h"
#include "store/param.h"
#include "store/reader.h"
#include "store/sql_extend.h"
#include "sys/fs.h"

#define BUSY_MS 10000
#define STATEMENTS 256 /* slots of the statement cache, a power of two */

extern const char pio_schema_sql[], pio_migrate_2_sql[];

/* migrations[v] brings a store of version v to v + 1; a new store is made at once. */
static const char *const migrations[PIO_STORE_VERSION] = { [1] = pio_migrate_2_sql };

struct pio_store {
	char *path, *db_path;
	sqlite3 *db;
	bool writable;
	int depth;          /* of begin */
	int lease_fd;
	pio_chunk_codec *codec;
	pio_reader reader;
	struct {
		const char *sql;
		sqlite3_stmt *statement;
	} cache[STATEMENTS];
	int cached;
};

const char *pio_store_path(const pio_store *store)
{
	return store->path;
}

sqlite3 *pio_store_db(pio_store *store)
{
	return store->db;
}

bool pio_store_is_writable(const pio_store *store)
{
	return store->writable;
}

pio_chunk_codec *pio_store_codec(pio_store *store, pio_err *err)
{
	if (!store->codec)
		pio_chunk_codec_new(&store->codec, err);
	return store->codec;
}

pio_reader *pio_store_reader(pio_store *store)
{
	store->reader.db = store->db;
	return &store->reader;
}

/* ---- errors ---------------------------------------------------------------------- */

int pio_store_fail(pio_store *store, pio_err *err, const char *what)
{
	return pio_sqlite_fail(store->db, store->path, err, what);
}

static int run_sql(pio_store *store, const char *sql, pio_err *err)
{
	int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : pio_store_fail(store, err, sql);
}

/* ---- statements ------------------------------------------------------------------- */

sqlite3_stmt *pio_store_statement(pio_store *store, const char *sql, pio_err *err)
{
	size_t at = ((uintptr_t)sql * 0x9e3779b97f4a7c15u) >> 56;
	while (store->cache[at].sql && store->cache[at].sql != sql)
		at = (at + 1) % STATEMENTS;
	if (store->cache[at].sql)
		return store->cache[at].statement;
	if (store->cached >= STATEMENTS - 1) {
		pio_fail(err, PIO_EIO, "more than %d kinds of statements", STATEMENTS - 1);
		return NULL;
	}
	sqlite3_stmt *statement = NULL;
	if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL)) {
		pio_store_fail(store, err, sql);
		return NULL;
	}
	store->cache[at].sql = sql;
	store->cache[at].statement = statement;
	store->cached++;
	return statement;
}

int pio_store_step_done(pio_store *store, sqlite3_stmt *statement, pio_err *err)
{
	int rc = sqlite3_step(statement);
	int result = rc == SQLITE_DONE || rc == SQLITE_ROW
		? 0 : pio_store_fail(store, err, sqlite3_sql(statement));
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return result;
}

/* ---- transactions ------------------------------------------------------------------ */

int pio_store_begin(pio_store *store, pio_err *err)
{
	if (!store->writable)
		return pio_fail(err, PIO_EINVAL, "store %s is open for reading only", store->path);
	if (store->depth && sqlite3_get_autocommit(store->db))
		return pio_fail(err, PIO_EIO, "store %s: the transaction was undone after an earlier error",
		                store->path);
	int rc = run_sql(store, store->depth ? "SAVEPOINT pio" : "BEGIN IMMEDIATE", err);
	if (!rc)
		store->depth++;
	return rc;
}

int pio_store_commit(pio_store *store, pio_err *err)
{
	/* SQLite undoes the whole transaction by itself after some errors; what
	 * was done since must not be taken for committed. */
	if (sqlite3_get_autocommit(store->db)) {
		store->depth--;
		return pio_fail(err, PIO_EIO, "store %s: the transaction was undone after an earlier error",
		                store->path);
	}
	int rc = run_sql(store, store->depth > 1 ? "RELEASE pio" : "COMMIT", err);
	if (rc)
		pio_store_rollback(store);
	else
		store->depth--;
	return rc;
}

void pio_store_rollback(pio_store *store)
{
	store->depth--;
	if (!sqlite3_get_autocommit(store->db))
		sqlite3_exec(store->db, store->depth ? "ROLLBACK TO pio; RELEASE pio" : "ROLLBACK", NULL,
		             NULL, NULL);
}

/* ---- the lease ------------------------------------------------------------------------ */

static void holder_text(pio_str *text)
{
	char host[256] = "?";
	gethostname(host, sizeof host - 1);
	pio_str command = PIO_STR_INIT;
	if (pio_fs_read(&command, "/proc/self/cmdline", NULL) == 0)
		for (size_t i = 0; i < command.len; i++)
			if ((unsigned char)command.data[i] < ' ')
				command.data[i] = ' ';
	while (command.len && command.data[command.len - 1] == ' ')
		command.data[--command.len] = 0;
	pio_str_printf(text, "%s, pid %ld, %.200s\n", host, (long)getpid(), command.data);
	pio_str_fini(&command);
}

static int lease_write(pio_store *store, const char *path, pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	holder_text(&text);
	int rc = pio_str_check(&text, err);
	if (!rc && ftruncate(store->lease_fd, 0) != 0)
		rc = pio_fail_errno(err, errno, "%s", path);
	if (!rc)
		rc = pio_fs_write_all(store->lease_fd, text.data, text.len, path, err);
	pio_str_fini(&text);
	return rc;
}

static int lease_busy(const pio_store *store, const char *path, pio_err *err)
{
	pio_str holder = PIO_STR_INIT;
	pio_fs_read(&holder, path, NULL);
	size_t n = strcspn(holder.data, "\n");
	int rc = pio_fail(err, PIO_EBUSY, "store %s is in use by another pioche (%.*s)", store->path,
	                  n ? (int)n : 7, n ? holder.data : "unknown");
	pio_str_fini(&holder);
	return rc;
}

int pio_store_lease_take(pio_store *store, pio_err *err)
{
	if (store->lease_fd >= 0)
		return 0;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/lease", store->path);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_lock(&store->lease_fd, path.data, err);
	if (rc == -PIO_EBUSY)
		rc = lease_busy(store, path.data, err);
	else if (!rc)
		rc = lease_write(store, path.data, err);
	if (rc)
		pio_store_lease_drop(store);
	pio_str_fini(&path);
	return rc;
}

void pio_store_lease_drop(pio_store *store)
{
	if (store->lease_fd >= 0)
		close(store->lease_fd);
	store->lease_fd = -1;
}

/* ---- opening ---------------------------------------------------------------------------- */

static int pragma_int(pio_store *store, const char *sql, int64_t *value, pio_err *err)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		*value = sqlite3_column_int64(statement, 0);
	int result = rc == SQLITE_ROW ? 0 : pio_store_fail(store, err, sql);
	sqlite3_finalize(statement);
	return result;
}

/* *version is -1 for an empty database. */
static int read_version(pio_store *store, int64_t *version, pio_err *err)
{
	int64_t application = 0, tables = 0;
	int rc = pragma_int(store, "PRAGMA application_id", &application, err);
	if (!rc)
		rc = pragma_int(store, "PRAGMA user_version", version, err);
	if (!rc)
		rc = pragma_int(store, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (rc)
		return rc;
	if (application == 0 && *version == 0 && tables == 0) {
		*version = -1;
		return 0;
	}
	if (application != PIO_STORE_APPLICATION_ID)
		return pio_fail(err, PIO_EINVAL, "%s is an SQLite file, but not a store of pioche "
		                "(application_id 0x%08llx)", store->db_path, (unsigned long long)application);
	if (*version > PIO_STORE_VERSION)
		return pio_fail(err, PIO_EVERSION, "store %s was written by a newer pioche (schema %lld, "
		                "this one knows %d)", store->path, (long long)*version, PIO_STORE_VERSION);
	if (*version < 1)
		return pio_fail(err, PIO_ECORRUPT, "store %s has schema %lld, expected 1 to %d", store->path,
		                (long long)*version, PIO_STORE_VERSION);
	return 0;
}

/* Under the write lock, because two processes may find the same old version. */
static int migrate(pio_store *store, bool may_create, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	int64_t version = 0;
	rc = read_version(store, &version, err);
	if (!rc && version < 0 && !may_create)
		rc = pio_fail(err, PIO_ECORRUPT, "%s is empty, not a store", store->db_path);
	if (!rc && version < 0)
		rc = run_sql(store, pio_schema_sql, err);
	for (int64_t v = version; !rc && v > 0 && v < PIO_STORE_VERSION; v++)
		rc = run_sql(store, migrations[v], err);
	if (!rc && version != PIO_STORE_VERSION) {
		char sql[96];
		snprintf(sql, sizeof sql, "PRAGMA user_version = %d; PRAGMA application_id = %d",
		         PIO_STORE_VERSION, PIO_STORE_APPLICATION_ID);
		rc = run_sql(store, sql, err);
	}
	if (rc) {
		pio_store_rollback(store);
		return rc;
	}
	return pio_store_commit(store, err);
}

/* Changing the mode needs the file alone, and SQLite does not wait for that. */
static int set_journal_mode(pio_store *store, const char *mode, pio_err *err)
{
	char sql[64];
	snprintf(sql, sizeof sql, "PRAGMA journal_mode = %s", mode);
	int64_t deadline_ns = pio_clock_mono_ns() + (int64_t)BUSY_MS * 1000000;
	for (;;) {
		int rc = run_sql(store, sql, err);
		if (rc != -PIO_EBUSY || pio_clock_mono_ns() > deadline_ns)
			return rc;
		pio_clock_sleep_ms(20);
	}
}

static int configure(pio_store *store, pio_err *err)
{
	sqlite3_extended_result_codes(store->db, 1);
	sqlite3_busy_timeout(store->db, BUSY_MS);
	/* A chunk fills a few pages and part of another: small pages waste less. */
	int rc = run_sql(store, "PRAGMA page_size = 2048; PRAGMA foreign_keys = ON;"
	                 "PRAGMA synchronous = FULL;"
	                 "PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;"
	                 "PRAGMA journal_size_limit = 67108864", err);
	if (!rc)
		rc = pio_sql_extend(store->db) == SQLITE_OK ? 0 : pio_store_fail(store, err, "extending SQL");
	return rc ? rc : pio_store_param_register(store, err);
}

static int make_directories(pio_store *store, pio_err *err)
{
	static const char *const names[] = { "objects", "runs", "staging", "cache" };
	pio_str path = PIO_STR_INIT;
	int rc = pio_fs_mkdirs(store->path, 0777, err);
	for (size_t i = 0; !rc && i < sizeof names / sizeof names[0]; i++) {
		pio_str_clear(&path);
		pio_str_printf(&path, "%s/%s", store->path, names[i]);
		rc = pio_str_check(&path, err);
		if (!rc)
			rc = pio_fs_mkdirs(path.data, 0777, err);
	}
	pio_str_clear(&path);
	pio_str_printf(&path, "%s/.gitignore", store->path);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_ensure(path.data, "*\n", 2, 0666, err);
	pio_str_fini(&path);
	return rc;
}

static int open_write(pio_store *store, bool create, pio_err *err)
{
	if (create) {
		int rc = make_directories(store, err);
		if (rc)
			return rc;
	}
	if (access(store->path, W_OK) != 0 ||
	    (access(store->db_path, F_OK) == 0 && access(store->db_path, W_OK) != 0))
		return pio_fail(err, PIO_EINVAL, "store %s cannot be written: %s", store->path,
		                strerror(errno));
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
	if (sqlite3_open_v2(store->db_path, &store->db, flags, NULL) != SQLITE_OK)
		return store->db ? pio_store_fail(store, err, "opening")
		                 : pio_fail(err, PIO_ENOMEM, "store %s: out of memory", store->path);
	store->writable = true;
	int rc = configure(store, err);
	/* A store of a newer version must stay as it is: look before any change. */
	int64_t version = 0;
	if (!rc)
		rc = read_version(store, &version, err);
	if (!rc)
		rc = set_journal_mode(store, pio_fs_is_network(store->path) ? "TRUNCATE" : "WAL", err);
	if (!rc && version != PIO_STORE_VERSION)
		rc = migrate(store, create, err);
	if (!rc && create)
		rc = pio_fs_sync_dir(store->path, err);
	return rc;
}

/* A WAL needs its shared-memory file, which cannot be made in a directory that
 * one cannot write; without unfolded WAL content the file alone is the truth. */
static int open_immutable(pio_store *store, pio_err *err)
{
	struct stat wal;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s-wal", store->db_path);
	int rc = pio_str_check(&path, err);
	if (!rc && stat(path.data, &wal) == 0 && wal.st_size > 0)
		rc = pio_fail(err, PIO_EIO, "store %s cannot be read: its last changes are still in %s, and "
		              "merging them needs write permission", store->path, path.data);
	pio_str_clear(&path);
	pio_str_puts(&path, "file:");
	for (const char *p = store->db_path; *p; p++)
		if (strchr("%?# ", *p))
			pio_str_printf(&path, "%%%02x", (unsigned char)*p);
		else
			pio_str_putc(&path, *p);
	pio_str_puts(&path, "?mode=ro&immutable=1");
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc) {
		sqlite3_close_v2(store->db);
		store->db = NULL;
		int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
		if (sqlite3_open_v2(path.data, &store->db, flags, NULL) != SQLITE_OK)
			rc = pio_store_fail(store, err, "opening");
	}
	pio_str_fini(&path);
	return rc;
}

static int open_read(pio_store *store, pio_err *err)
{
	int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX;
	if (sqlite3_open_v2(store->db_path, &store->db, flags, NULL) != SQLITE_OK)
		return store->db ? pio_store_fail(store, err, "opening")
		                 : pio_fail(err, PIO_ENOMEM, "store %s: out of memory", store->path);
	int64_t version = 0;
	int rc = configure(store, err);
	if (!rc)
		rc = read_version(store, &version, err);
	int primary = sqlite3_errcode(store->db) & 0xff;
	if (rc && (primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY)) {
		rc = open_immutable(store, err);
		if (!rc)
			rc = configure(store, err);
		if (!rc)
			rc = read_version(store, &version, err);
	}
	if (!rc && version < 0)
		rc = pio_fail(err, PIO_ECORRUPT, "%s is empty, not a store", store->db_path);
	if (!rc && version < PIO_STORE_VERSION)
		rc = pio_fail(err, PIO_EVERSION, "store %s is of schema %lld, this pioche reads %d: open it "
		              "once for writing to bring it up", store->path, (long long)version,
		              PIO_STORE_VERSION);
	return rc;
}

static int set_paths(pio_store *store, const char *path, pio_err *err)
{
	pio_str absolute = PIO_STR_INIT;
	if (path[0] != '/') {
		char *cwd = getcwd(NULL, 0);
		if (!cwd)
			return pio_fail_errno(err, errno, "the working directory");
		pio_str_printf(&absolute, "%s/", strcmp(cwd, "/") ? cwd : "");
		free(cwd);
		while (path[0] == '.' && path[1] == '/')
			path += 2;
	}
	pio_str_puts(&absolute, path);
	while (absolute.len > 1 && absolute.data[absolute.len - 1] == '/')
		absolute.data[--absolute.len] = 0;
	pio_str db = PIO_STR_INIT;
	pio_str_printf(&db, "%s/pioche.db", absolute.data);
	int rc = pio_str_check(&absolute, err);
	if (!rc)
		rc = pio_str_check(&db, err);
	if (!rc && (!(store->path = pio_str_take(&absolute)) || !(store->db_path = pio_str_take(&db))))
		rc = pio_fail(err, PIO_ENOMEM, "store %s: out of memory", path);
	pio_str_fini(&absolute);
	pio_str_fini(&db);
	return rc;
}

int pio_store_open(pio_store **out, const char *path, enum pio_store_mode mode, pio_err *err)
{
	*out = NULL;
	if (!path[0])
		return pio_fail(err, PIO_EINVAL, "the store's path is empty, expected a directory");
	pio_store *store = pio_calloc(1, sizeof *store);
	if (!store)
		return pio_fail(err, PIO_ENOMEM, "store %s: out of memory", path);
	store->lease_fd = -1;
	int rc = set_paths(store, path, err);
	if (!rc && mode != PIO_STORE_CREATE && access(store->db_path, F_OK) != 0)
		rc = errno == ENOENT || errno == ENOTDIR
			? pio_fail(err, PIO_ENOTFOUND, "no store at %s (there is no %s)", path, store->db_path)
			: pio_fail_errno(err, errno, "store %s", path);
	if (!rc)
		rc = mode == PIO_STORE_READ ? open_read(store, err)
		                            : open_write(store, mode == PIO_STORE_CREATE, err);
	if (rc)
		pio_store_close(&store);
	*out = store;
	return rc;
}

void pio_store_close(pio_store **out)
{
	pio_store *store = *out;
	*out = NULL;
	if (!store)
		return;
	for (size_t i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(store->cache[i].statement);
	pio_reader_fini(&store->reader);
	sqlite3_close_v2(store->db);
	pio_chunk_codec_free(store->codec);
	pio_store_lease_drop(store);
	pio_free(store->path);
	pio_free(store->db_path);
	pio_free(store);
}
