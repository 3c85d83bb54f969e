/* How a store begins and ends. A database is made whole under another name and
 * linked to its own, so that nobody ever opens one without tables, whoever dies
 * when. Who may only read never changes a byte: with the WAL of a writer beside
 * it SQLite can do so from its files alone, which is why they are left there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "store/archiver.h"
#include "store/chunk.h"
#include "store/fold_names.h"
#include "store/param.h"
#include "store/run_json.h"
#include "store/run_set.h"
#include "store/series_now.h"
#include "store/sql_extend.h"
#include "store/store_parts.h"
#include "sys/fs.h"

#define BUSY_MS 30000          /* of waiting for another process's transaction */

extern const char pio_schema_sql[];

/* ---- versions ---------------------------------------------------------------------------- */

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

static int refuse_empty(const pio_store *store, pio_err *err)
{
	return pio_fail(err, PIO_ECORRUPT, "%s is empty, not a store", store->db_path);
}

static int stamp(pio_store *store, pio_err *err)
{
	char sql[96];
	snprintf(sql, sizeof sql, "PRAGMA user_version = %d; PRAGMA application_id = %d",
	         PIO_STORE_VERSION, PIO_STORE_APPLICATION_ID);
	return pio_store_run_sql(store, sql, err);
}

/* Under the write lock, because two processes may find the same old version. */
static int migrate(pio_store *store, bool may_fill, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	int64_t version = 0;
	rc = read_version(store, &version, err);
	if (!rc && version < 0)
		rc = may_fill ? pio_store_run_sql(store, pio_schema_sql, err) : refuse_empty(store, err);
	if (!rc && version > 0)
		rc = pio_store_migrate(store, version, err);
	if (!rc && version != PIO_STORE_VERSION)
		rc = stamp(store, err);
	if (rc) {
		pio_store_rollback(store);
		return rc;
	}
	return pio_store_commit(store, err);
}

/* ---- the connection -------------------------------------------------------------------------- */

/* Changing the mode needs the file alone, and SQLite does not wait for that. */
static int set_journal_mode(pio_store *store, const char *mode, pio_err *err)
{
	char sql[64];
	snprintf(sql, sizeof sql, "PRAGMA journal_mode = %s", mode);
	int64_t deadline_ns = pio_clock_mono_ns() + (int64_t)BUSY_MS * 1000000;
	for (;;) {
		int rc = pio_store_run_sql(store, sql, err);
		if (rc != -PIO_EBUSY || pio_clock_mono_ns() > deadline_ns)
			return rc;
		pio_clock_sleep_ms(20);
	}
}

/* Waits for another process's transaction. SQLite's own handler looks ever more seldom: a
 * process that leaves the store for a few milliseconds at a time would keep all others out. */
static int when_busy(void *context, int times)
{
	(void)context;
	const int eager = 1000, patient_ms = 20;   /* looks, a millisecond apart */
	if (times >= eager + (BUSY_MS - eager) / patient_ms)
		return 0;
	pio_clock_sleep_ms(times < eager ? 1 : patient_ms);
	return 1;
}

static int open_file(pio_store *store, const char *path, int flags, pio_err *err)
{
	if (sqlite3_open_v2(path, &store->db, flags | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK) {
		sqlite3_extended_result_codes(store->db, 1);
		sqlite3_busy_handler(store->db, when_busy, NULL);
		return 0;
	}
	return store->db ? pio_store_fail(store, err, "opening")
	                 : pio_fail(err, PIO_ENOMEM, "store %s: out of memory", store->path);
}

static int configure(pio_store *store, pio_err *err)
{
	/* A chunk fills a few pages and part of another: small pages waste less. They are
	 * not mapped: an index grows run by run, its pages lie far apart, and the kernel
	 * would map 64 KiB around each, which takes longer than reading it. Few of them stay
	 * in memory (pio_store_begin asks for more): who goes through an index once would pay
	 * more for new memory than for the pages that are read again. */
	int rc = pio_store_run_sql(store, "PRAGMA page_size = 2048; PRAGMA foreign_keys = ON;"
	                           "PRAGMA synchronous = FULL; PRAGMA mmap_size = 0;"
	                           "PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;"
	                           "PRAGMA journal_size_limit = 67108864", err);
	if (!rc)
		rc = pio_sql_extend(store->db) == SQLITE_OK ? 0 : pio_store_fail(store, err, "extending SQL");
	rc = rc ? rc : pio_store_param_register(store, err);
	rc = rc ? rc : pio_store_run_set_register(store, err);
	rc = rc ? rc : pio_store_series_now_register(store, err);
	return rc ? rc : pio_store_run_json_register(store, err);
}

/* Bytes 18 and 19 of the header, read without a lock and without a descriptor of
 * our own: closing that would drop the locks that SQLite has on the file. */
static bool header_says_wal(pio_store *store)
{
	sqlite3_file *file = NULL;
	unsigned char header[20] = { 0 };
	return sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK &&
	       file && file->pMethods && file->pMethods->xRead(file, header, sizeof header, 0) == SQLITE_OK &&
	       header[18] == 2;
}

/* The files of a WAL stay when the last writer closes it: who cannot write the
 * directory cannot make them, and needs them to read. */
static int use_wal(pio_store *store, pio_err *err)
{
	int keep = 1;
	sqlite3_file_control(store->db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
	return set_journal_mode(store, "WAL", err);
}

/* A WAL from a time when the store stood on a local disk is merged by a process
 * that has the file alone, and so needs no memory shared with others. */
static int use_truncate(pio_store *store, bool was_wal, pio_err *err)
{
	pio_str index = PIO_STR_INIT;
	int rc = set_journal_mode(store, "TRUNCATE", err);
	pio_str_printf(&index, "%s-shm", store->db_path);
	if (!rc && was_wal) /* not needed any more, and nobody else has the file open */
		rc = pio_fs_unlink(index.data, err);
	pio_str_fini(&index);
	if (!rc && was_wal)
		rc = pio_store_run_sql(store, "PRAGMA locking_mode = NORMAL; SELECT 1 FROM sqlite_schema", err);
	return rc;
}

/* ---- making ------------------------------------------------------------------------------------ */

static int fill_database(pio_store *store, const char *path, pio_err *err)
{
	int fd;
	int rc = pio_fs_open(&fd, path, O_RDWR | O_CREAT | O_EXCL, 0666, err);
	if (rc)
		return rc;
	close(fd);
	rc = open_file(store, path, SQLITE_OPEN_READWRITE, err);
	if (!rc)
		rc = pio_store_run_sql(store, "PRAGMA page_size = 2048; PRAGMA journal_mode = OFF;"
		                       "PRAGMA synchronous = OFF; BEGIN", err);
	if (!rc)
		rc = pio_store_run_sql(store, pio_schema_sql, err);
	if (!rc)
		rc = stamp(store, err);
	if (!rc)
		rc = pio_store_run_sql(store, "COMMIT", err);
	sqlite3_close(store->db);
	store->db = NULL;
	if (!rc)
		rc = pio_fs_open(&fd, path, O_RDWR, 0, err);
	if (rc)
		return rc;
	rc = pio_fs_datasync(fd, path, err);
	int closed = pio_fs_close(&fd, path, rc ? NULL : err);
	return rc ? rc : closed;
}

/* Where there are no links, a rename, which replaces: but only for an instant is
 * there something that it could. */
static int publish_database(const pio_store *store, const char *part, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	int rc = pio_fs_link(part, store->db_path, &why);
	if (rc == -PIO_EEXIST)
		return 0; /* made by another process meanwhile: as good */
	bool no_links = why.sys_errno == EPERM || why.sys_errno == EOPNOTSUPP || why.sys_errno == ENOSYS;
	if (rc && no_links && access(store->db_path, F_OK) != 0)
		return pio_fs_rename(part, store->db_path, err);
	if (rc && err)
		*err = why;
	return rc;
}

static int make_database(pio_store *store, pio_err *err)
{
	char unique[PIO_ULID_CHARS + 1];
	pio_ulid ulid;
	pio_str part = PIO_STR_INIT;
	pio_ulid_new(&ulid);
	pio_ulid_format(&ulid, unique);
	pio_str_printf(&part, "%s.part.%s", store->db_path, unique);
	int rc = pio_str_check(&part, err);
	if (!rc)
		rc = fill_database(store, part.data, err);
	if (!rc)
		rc = publish_database(store, part.data, err);
	/* Whoever has one by now may have swept ours. */
	if (rc && part.data && access(part.data, F_OK) != 0 && access(store->db_path, F_OK) == 0)
		rc = 0;
	(void)pio_fs_unlink(part.data, NULL);
	if (!rc)
		rc = pio_fs_sync_dir(store->path, err);
	pio_str_fini(&part);
	return rc;
}

static int make_directories(pio_store *store, pio_err *err)
{
	static const char *const names[] = { "objects", "runs", "staging", "cache" };
	pio_str path = PIO_STR_INIT;
	int rc = pio_fs_mkdirs_durable(store->path, 0777, err);
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

/* ---- opening --------------------------------------------------------------------------------- */

static int refuse_unwritable(const pio_store *store, int why, pio_err *err)
{
	return pio_fail(err, PIO_EINVAL, "store %s cannot be written: %s", store->path, strerror(why));
}

static int open_write(pio_store *store, bool create, pio_err *err)
{
	int64_t version = 0;
	int rc = create ? make_directories(store, err) : 0;
	if (!rc && access(store->path, W_OK) != 0)
		rc = refuse_unwritable(store, errno, err);
	store->network = pio_fs_is_network(store->path);
	if (!rc && create && access(store->db_path, F_OK) != 0)
		rc = make_database(store, err);
	if (!rc && access(store->db_path, W_OK) != 0)
		rc = refuse_unwritable(store, errno, err);
	if (!rc)
		rc = open_file(store, store->db_path, SQLITE_OPEN_READWRITE, err);
	if (rc)
		return rc;
	store->writable = true;
	bool was_wal = store->network && header_says_wal(store);
	if (was_wal)
		rc = pio_store_run_sql(store, "PRAGMA locking_mode = EXCLUSIVE", err);
	if (!rc)
		rc = configure(store, err);
	/* A store of a newer version must stay as it is: look before any change. */
	if (!rc)
		rc = read_version(store, &version, err);
	if (!rc && version < 0 && !create) /* others make an empty file by looking: sqlite3 does */
		rc = refuse_empty(store, err);
	if (!rc)
		rc = store->network ? use_truncate(store, was_wal, err) : use_wal(store, err);
	return !rc && version != PIO_STORE_VERSION ? migrate(store, create, err) : rc;
}

static bool has_bytes(const pio_store *store, const char *suffix)
{
	struct stat st;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s%s", store->db_path, suffix);
	bool has = !path.failed && stat(path.data, &st) == 0 && st.st_size > 0;
	pio_str_fini(&path);
	return has;
}

/* Without a WAL that holds anything, and without a writer who left one or is
 * about to, the file alone is the truth. */
static int open_immutable(pio_store *store, pio_err *err)
{
	pio_str uri = PIO_STR_INIT;
	if (has_bytes(store, "-wal"))
		return pio_fail(err, PIO_EINVAL, "store %s: its newest changes are in %s-wal, and to read that"
		                " takes a writer's help: somebody who may write the store runs `pioche ls` once",
		                store->path, store->db_path);
	pio_str_puts(&uri, "file:");
	for (const char *p = store->db_path; *p; p++)
		if (strchr("%?# ", *p))
			pio_str_printf(&uri, "%%%02x", (unsigned char)*p);
		else
			pio_str_putc(&uri, *p);
	pio_str_puts(&uri, "?mode=ro&immutable=1");
	int rc = pio_str_check(&uri, err);
	sqlite3_close_v2(store->db);
	store->db = NULL;
	if (!rc)
		rc = open_file(store, uri.data, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, err);
	pio_str_fini(&uri);
	return rc;
}

static int read_header(pio_store *store, int64_t *version, pio_err *err)
{
	int rc = configure(store, err);
	return rc ? rc : read_version(store, version, err);
}

static int open_read(pio_store *store, pio_err *err)
{
	int64_t version = 0;
	store->network = pio_fs_is_network(store->path);
	int rc = open_file(store, store->db_path, SQLITE_OPEN_READONLY, err);
	if (rc)
		return rc;
	bool alone = store->network && header_says_wal(store);
	rc = alone ? 0 : read_header(store, &version, err);
	int failure = sqlite3_extended_errcode(store->db);
	if (rc && failure == SQLITE_READONLY_ROLLBACK)
		return pio_fail(err, PIO_EINVAL, "store %s: a writer died in the middle of a change; somebody who"
		                " may write the store runs `pioche ls` once, which undoes it", store->path);
	if (alone || (rc && ((failure & 0xff) == SQLITE_CANTOPEN || (failure & 0xff) == SQLITE_READONLY))) {
		rc = open_immutable(store, err);
		if (!rc)
			rc = read_header(store, &version, err);
	}
	if (!rc && version < 0)
		rc = refuse_empty(store, err);
	if (!rc && version < PIO_STORE_VERSION)
		rc = pio_fail(err, PIO_EVERSION, "store %s is of schema %lld, and this pioche reads %d: somebody"
		              " who may write the store runs `pioche ls` once, which brings it up", store->path,
		              (long long)version, PIO_STORE_VERSION);
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
	return pio_store_open_heard(out, path, mode, NULL, NULL, err);
}

int pio_store_open_heard(pio_store **out, const char *path, enum pio_store_mode mode,
                         pio_store_progress *progress, void *context, pio_err *err)
{
	*out = NULL;
	if (!path[0])
		return pio_fail(err, PIO_EINVAL, "the store's path is empty, expected a directory");
	pio_store *store = pio_calloc(1, sizeof *store);
	if (!store)
		return pio_fail(err, PIO_ENOMEM, "store %s: out of memory", path);
	store->progress = progress;
	store->progress_context = context;
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
	else
		store->progress = NULL;
	*out = store;
	return rc;
}

void pio_store_close(pio_store **out)
{
	pio_store *store = *out;
	*out = NULL;
	if (!store)
		return;
	for (size_t i = 0; i < PIO_STORE_STATEMENTS; i++)
		sqlite3_finalize(store->cache[i].statement);
	pio_reader_fini(&store->reader);
	sqlite3_close_v2(store->db);
	pio_chunk_codec_free(store->codec);
	pio_store_lease_drop(store);
	pio_archiver_free(store->archiver);
	pio_fold_names_free(store->fold_names);
	pio_free(store->path);
	pio_free(store->db_path);
	pio_free(store);
}
