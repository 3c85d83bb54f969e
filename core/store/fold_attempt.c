/* What a fold is of, and the files of that. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/archive.h"
#include "store/fold_batch.h"
#include "store/sql.h"

int pio_fold_attempt_load(fold_attempt *attempt, pio_store *store, int64_t attempt_id, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT a.run_id, a.number, r.ulid, a.dir FROM"
	                                  " attempt a JOIN run r ON r.id = a.run_id WHERE a.id = ?1", "i",
	                                  attempt_id);
	*attempt = (fold_attempt){ .id = attempt_id };
	int rc = pio_sql_row(store, row, err);
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no attempt with id %lld", (long long)attempt_id);
	if (rc < 0)
		return rc;
	attempt->run_id = sqlite3_column_int64(row, 0);
	attempt->number = sqlite3_column_int(row, 1);
	snprintf(attempt->ulid, sizeof attempt->ulid, "%s", (const char *)sqlite3_column_text(row, 2));
	attempt->dir = pio_sql_text_copy(row, 3);
	pio_sql_reset(row);
	return attempt->dir ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory");
}

int pio_fold_segment_path(pio_str *path, pio_store *store, const fold_attempt *attempt, uint32_t node,
                          uint32_t segment, pio_err *err)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s/%s/journal.%u", pio_store_path(store), attempt->dir, node);
	if (segment)
		pio_str_printf(path, ".%u", segment);
	return pio_str_check(path, err);
}

/* A file too short for a header reads as zeros, and holds nothing. */
static bool is_ours(const fold_attempt *attempt, const pio_journal_header *header)
{
	static const pio_ulid zero;
	if (memcmp(&header->run, &zero, sizeof zero) == 0 && header->attempt == 0)
		return true;
	char ulid[PIO_ULID_CHARS + 1];
	pio_ulid_format(&header->run, ulid);
	return strcmp(ulid, attempt->ulid) == 0 && header->attempt == (uint32_t)attempt->number;
}

int pio_fold_segment_open(pio_journal_reader **reader, pio_journal_header *header, pio_store *store,
                          const fold_attempt *attempt, uint32_t node, uint32_t segment, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	*reader = NULL;
	int rc = pio_fold_segment_path(&path, store, attempt, node, segment, err);
	if (!rc)
		rc = pio_archive_open(reader, header, path.data, err);
	if (!rc && !is_ours(attempt, header))
		rc = pio_fail(err, PIO_ECORRUPT, "it is not of this attempt");
	pio_str_fini(&path);
	return rc;
}
