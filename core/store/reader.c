#include "store/reader.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"

static const char *const queries[PIO_READER_QUERIES] = {
	/* From the index alone: the rows hold the blobs. */
	[PIO_READER_CHUNKS] = "SELECT id, attempt, first_step, last_step, count, finite, nans, min, max, sum"
		" FROM chunk WHERE series_id = ?1 AND (?2 = 0 OR attempt = ?2)"
		" ORDER BY attempt DESC, first_step, id",
	[PIO_READER_DATA] = "SELECT data FROM chunk WHERE id = ?1",
	[PIO_READER_RECENT] = "SELECT f.id, f.attempt, f.data FROM series s JOIN recent f ON"
		" f.run_id = s.run_id AND f.rank = s.rank WHERE s.id = ?1 ORDER BY f.id",
	[PIO_READER_RUN] = "SELECT r.id FROM experiment e JOIN run r ON r.experiment_id = e.id"
		" WHERE e.name = ?1 AND r.number = ?2",
	[PIO_READER_ULID] = "SELECT id FROM run WHERE ulid = ?1",
	[PIO_READER_SERIES] = "SELECT id FROM series WHERE run_id = ?1 AND key = ?2 AND rank = ?3",
	[PIO_READER_RANKS] = "SELECT id, rank FROM series WHERE run_id = ?1 AND key = ?2 ORDER BY rank",
	[PIO_READER_HOLD] = "SELECT 1 FROM series",
};

static _Atomic int64_t chunks_read;

int64_t pio_reader_chunks_read(void)
{
	return atomic_load_explicit(&chunks_read, memory_order_relaxed);
}

void pio_reader_init(pio_reader *reader, sqlite3 *db)
{
	*reader = (pio_reader){ .db = db };
}

void pio_reader_fini(pio_reader *reader)
{
	for (int i = 0; i < PIO_READER_QUERIES; i++)
		sqlite3_finalize(reader->statements[i]);
	pio_chunk_decoder_free(reader->decoder);
	pio_free(reader->recent);
	*reader = (pio_reader){ 0 };
}

sqlite3_stmt *pio_reader_statement(pio_reader *reader, enum pio_reader_query query, pio_err *err)
{
	sqlite3_stmt **slot = &reader->statements[query];
	if (!*slot && sqlite3_prepare_v3(reader->db, queries[query], -1, SQLITE_PREPARE_PERSISTENT, slot,
	                                 NULL) != SQLITE_OK)
		pio_reader_fail(reader, err, queries[query]);
	return *slot;
}

/* A statement amid its rows keeps its connection's read transaction open. */
int pio_reader_hold(pio_reader *reader, pio_err *err)
{
	sqlite3_stmt *row = pio_reader_statement(reader, PIO_READER_HOLD, err);
	if (!row)
		return pio_err_code(err);
	int step = reader->holds ? SQLITE_ROW : sqlite3_step(row);
	if (step != SQLITE_ROW && step != SQLITE_DONE) {
		pio_reader_fail(reader, err, "reading");
		sqlite3_reset(row);
		return pio_err_code(err);
	}
	reader->holds++;
	return 0;
}

void pio_reader_release(pio_reader *reader)
{
	if (--reader->holds == 0)
		sqlite3_reset(reader->statements[PIO_READER_HOLD]);
}

int pio_reader_data(const uint8_t **data, size_t *size_bytes, sqlite3_stmt **row, pio_reader *reader,
                    int64_t chunk_id, pio_err *err)
{
	*row = pio_reader_statement(reader, PIO_READER_DATA, err);
	if (!*row)
		return pio_err_code(err);
	atomic_fetch_add_explicit(&chunks_read, 1, memory_order_relaxed);
	sqlite3_bind_int64(*row, 1, chunk_id);
	int step = sqlite3_step(*row), rc = 0;
	*data = step == SQLITE_ROW ? sqlite3_column_blob(*row, 0) : NULL;
	*size_bytes = *data ? (size_t)sqlite3_column_bytes(*row, 0) : 0;
	if (step == SQLITE_DONE)
		rc = pio_fail(err, PIO_ECORRUPT, "%s, chunk %lld: it is gone", sqlite3_db_filename(reader->db, "main"),
		              (long long)chunk_id);
	else if (step != SQLITE_ROW)
		rc = pio_reader_fail(reader, err, "reading a chunk");
	if (rc)
		sqlite3_reset(*row);
	return rc;
}

/* Where a chunk is from, before what is wrong with it. */
static int finish_chunk(pio_reader *reader, sqlite3_stmt *row, int64_t chunk_id, int rc, pio_err *err)
{
	if (pio_chunk_is_damaged(rc))
		pio_err_context(err, "%s, chunk %lld", sqlite3_db_filename(reader->db, "main"),
		                (long long)chunk_id);
	sqlite3_reset(row);
	return rc;
}

int pio_reader_chunk(pio_chunk_point *points, size_t *count, pio_reader *reader, int64_t chunk_id,
                     bool with_times, pio_err *err)
{
	const uint8_t *data;
	size_t size_bytes;
	sqlite3_stmt *row;
	*count = 0;
	int rc = reader->decoder ? 0 : pio_chunk_decoder_new(&reader->decoder, err);
	rc = rc ? rc : pio_reader_data(&data, &size_bytes, &row, reader, chunk_id, err);
	if (rc)
		return rc;
	rc = pio_chunk_decode_some(points, count, reader->decoder, data, size_bytes, with_times, err);
	return finish_chunk(reader, row, chunk_id, rc, err);
}

int pio_reader_columns(const pio_chunk_columns *to, size_t *count, enum pio_chunk_kind *kind,
                       pio_reader *reader, int64_t chunk_id, pio_err *err)
{
	const uint8_t *data;
	size_t size_bytes;
	sqlite3_stmt *row;
	*count = 0;
	*kind = PIO_CHUNK_F64;
	int rc = reader->decoder ? 0 : pio_chunk_decoder_new(&reader->decoder, err);
	rc = rc ? rc : pio_reader_data(&data, &size_bytes, &row, reader, chunk_id, err);
	if (rc)
		return rc;
	rc = pio_chunk_decode_columns(to, count, reader->decoder, data, size_bytes, PIO_CHUNK_POINTS_MAX, err);
	if (!rc)
		*kind = pio_chunk_kind(data);
	return finish_chunk(reader, row, chunk_id, rc, err);
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

int pio_reader_run(int64_t *id, pio_reader *reader, const char *text, pio_err *err)
{
	int name_bytes;
	int64_t number;
	*id = 0;
	if (!split_run(text, &name_bytes, &number))
		return 0;
	sqlite3_stmt *row = pio_reader_statement(reader, PIO_READER_RUN, err);
	if (!row)
		return pio_err_code(err);
	sqlite3_bind_text(row, 1, text, name_bytes, SQLITE_STATIC);
	sqlite3_bind_int64(row, 2, number);
	int step = sqlite3_step(row), rc = 0;
	if (step == SQLITE_ROW)
		*id = sqlite3_column_int64(row, 0);
	else if (step != SQLITE_DONE)
		rc = pio_reader_fail(reader, err, "finding a run");
	sqlite3_reset(row);
	sqlite3_clear_bindings(row);
	return rc;
}

int pio_sqlite_open_immutable(sqlite3 **db, const char *path, pio_err *err)
{
	struct stat wal;
	pio_str name = PIO_STR_INIT;
	pio_str_printf(&name, "%s-wal", path);
	int rc = pio_str_check(&name, err);
	if (!rc && stat(name.data, &wal) == 0 && wal.st_size > 0)
		rc = pio_fail(err, PIO_EIO, "store %s cannot be read: its last changes are still in %s, and "
		              "merging them needs write permission", path, name.data);
	pio_str_clear(&name);
	pio_str_puts(&name, "file:");
	for (const char *p = path; *p; p++)
		if (strchr("%?# ", *p))
			pio_str_printf(&name, "%%%02x", (unsigned char)*p);
		else
			pio_str_putc(&name, *p);
	pio_str_puts(&name, "?mode=ro&immutable=1");
	if (!rc)
		rc = pio_str_check(&name, err);
	if (!rc) {
		sqlite3_close_v2(*db);
		*db = NULL;
		int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
		if (sqlite3_open_v2(name.data, db, flags, NULL) != SQLITE_OK)
			rc = *db ? pio_sqlite_fail(*db, path, err, "opening")
			         : pio_fail(err, PIO_ENOMEM, "store %s: out of memory", path);
	}
	pio_str_fini(&name);
	return rc;
}

int pio_reader_fail(pio_reader *reader, pio_err *err, const char *what)
{
	const char *path = sqlite3_db_filename(reader->db, "main");
	return pio_sqlite_fail(reader->db, path && *path ? path : "in memory", err, what);
}

/* Why an access to a file failed; 0: unknown. Of a failed commit SQLite keeps
 * some errno or other, but the file has it: the journal or WAL, else the
 * database. The shared memory of a WAL has none. */
static int errno_of(sqlite3 *db)
{
	sqlite3_file *journal = NULL;
	int found = 0, code = sqlite3_extended_errcode(db);
	if ((code & 0xff) != SQLITE_IOERR || code == SQLITE_IOERR_SHMOPEN ||
	    code == SQLITE_IOERR_SHMSIZE || code == SQLITE_IOERR_SHMMAP)
		return sqlite3_system_errno(db);
	if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &journal) == SQLITE_OK &&
	    journal && journal->pMethods)
		journal->pMethods->xFileControl(journal, SQLITE_FCNTL_LAST_ERRNO, &found);
	if (!found)
		sqlite3_file_control(db, "main", SQLITE_FCNTL_LAST_ERRNO, &found);
	return found;
}

int pio_sqlite_fail(sqlite3 *db, const char *path, pio_err *err, const char *what)
{
	int system = errno_of(db);
	const char *text = sqlite3_errmsg(db), *file = sqlite3_db_filename(db, "main");
	switch (sqlite3_extended_errcode(db) & 0xff) {
	case SQLITE_FULL:
		return pio_fail(err, PIO_ENOSPC, "store %s: no space left on its disk", path);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return pio_fail(err, PIO_EBUSY, "store %s: another process is writing to it and does not end",
		                path);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return pio_fail(err, PIO_ECORRUPT, "store %s is damaged: %s", file && *file ? file : path,
		                text);
	case SQLITE_NOMEM:
		return pio_fail(err, PIO_ENOMEM, "store %s: out of memory", path);
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return pio_fail(err, PIO_EINVAL, "store %s cannot be written: %s", path, text);
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
		if (system)
			return pio_fail_errno(err, system, "store %s: %s", path, text);
		return pio_fail(err, PIO_EIO, "store %s: %s", path, text);
	case SQLITE_INTERRUPT:
		return pio_fail(err, PIO_ECANCELLED, "store %s: interrupted", path);
	default:
		return pio_fail(err, PIO_EIO, "store %s: %s (%s)", path, text, what);
	}
}
