#include "store/fold.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/fold_batch.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"

#define HELD_BYTES_MAX (64u << 20)
#define RECORDS_MAX 200000         /* of one transaction */
#define RANKS_OF_NODE_MAX 16384
#define COMPLAINTS_MAX 8
#define TIME_UNIT_NS 1000          /* times are kept to the microsecond */

/* ---- ranks, keys, slots ------------------------------------------------------------------- */

/* Make room for one more of `count` entries. */
static int grow(void **array, size_t count, size_t *capacity, size_t entry_bytes, pio_err *err)
{
	if (count < *capacity)
		return 0;
	size_t more = *capacity ? *capacity * 2 : 16;
	void *grown = pio_realloc(*array, more * entry_bytes);
	if (!grown)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu series of a fold", more);
	*array = grown;
	*capacity = more;
	return 0;
}

/* The table of a rank. Without `make`, *rank is NULL where there is none. */
static int find_rank(fold_rank **rank, fold_batch *batch, uint32_t number, bool make, pio_err *err)
{
	*rank = NULL;
	if (batch->last_rank < batch->ranks_count && batch->ranks[batch->last_rank].rank == number) {
		*rank = &batch->ranks[batch->last_rank];
		return 0;
	}
	/* Sorted by number: a node has few ranks, and they come in runs. */
	size_t low = 0, high = batch->ranks_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (batch->ranks[middle].rank < number)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == batch->ranks_count || batch->ranks[low].rank != number) {
		if (!make)
			return 0;
		if (batch->ranks_count >= RANKS_OF_NODE_MAX)
			return pio_fold_complain(batch, err, "more than %d ranks on one node", RANKS_OF_NODE_MAX);
		void *ranks = batch->ranks;
		int rc = grow(&ranks, batch->ranks_count, &batch->ranks_capacity, sizeof *batch->ranks, err);
		batch->ranks = ranks;
		if (rc)
			return rc;
		memmove(batch->ranks + low + 1, batch->ranks + low,
		        (batch->ranks_count - low) * sizeof *batch->ranks);
		batch->ranks[low] = (fold_rank){ .rank = number };
		batch->ranks_count++;
	}
	batch->last_rank = low;
	*rank = &batch->ranks[low];
	return 0;
}

static size_t series_place(const fold_batch *batch, int64_t series_id)
{
	size_t mask = batch->by_series_size - 1;
	size_t at = ((uint64_t)series_id * 0x9e3779b97f4a7c15u >> 32) & mask;
	while (batch->by_series[at] && batch->slots[batch->by_series[at] - 1].series_id != series_id)
		at = (at + 1) & mask;
	return at;
}

static int grow_by_series(fold_batch *batch, pio_err *err)
{
	size_t size = batch->by_series_size ? batch->by_series_size * 2 : 64;
	uint32_t *fresh = pio_calloc(size, sizeof *fresh);
	if (!fresh)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu series of a fold", size);
	pio_free(batch->by_series);
	batch->by_series = fresh;
	batch->by_series_size = size;
	for (size_t i = 0; i < batch->slots_count; i++)
		fresh[series_place(batch, batch->slots[i].series_id)] = (uint32_t)i + 1;
	return 0;
}

/* One slot a series, also where a journal gives one name two numbers. */
static int slot_get(uint32_t *slot, fold_batch *batch, int64_t series_id, bool is_new, pio_err *err)
{
	void *slots = batch->slots;
	int rc = grow(&slots, batch->slots_count, &batch->slots_capacity, sizeof *batch->slots, err);
	batch->slots = slots;
	if (!rc && batch->slots_count * 2 >= batch->by_series_size)
		rc = grow_by_series(batch, err);
	if (rc)
		return rc;
	size_t at = series_place(batch, series_id);
	if (!batch->by_series[at]) {
		batch->slots[batch->slots_count++] = (fold_slot){ .series_id = series_id,
		                                                  .is_new = is_new };
		batch->by_series[at] = (uint32_t)batch->slots_count;
	}
	*slot = batch->by_series[at];
	return 0;
}

int pio_fold_key(fold_batch *batch, uint32_t number, uint32_t key, int64_t series_id, bool is_new,
                 pio_err *err)
{
	fold_rank *rank;
	int rc = find_rank(&rank, batch, number, true, err);
	if (rc || !rank)
		return rc;
	if (key >= rank->keys) {
		uint32_t keys = rank->keys ? rank->keys : 64;
		while (keys <= key)
			keys *= 2;
		uint32_t *slots = pio_realloc(rank->slots, keys * sizeof *slots);
		if (!slots)
			return pio_fail(err, PIO_ENOMEM, "out of memory for %u keys of rank %u", keys, number);
		memset(slots + rank->keys, 0, (keys - rank->keys) * sizeof *slots);
		rank->slots = slots;
		rank->keys = keys;
	}
	return slot_get(&rank->slots[key], batch, series_id, is_new, err);
}

int pio_fold_complain(fold_batch *batch, pio_err *err, const char *format, ...)
{
	char text[300];
	va_list args;
	if (batch->complaints++ >= COMPLAINTS_MAX)
		return 0;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	pio_str message = PIO_STR_INIT;
	pio_str_printf(&message, "%s: %s; passed over", batch->path, text);
	int rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_store_event_add(batch->store, batch->run_id, batch->attempt_id, -1, INT64_MIN,
		                         pio_clock_wall_ns(), "journal", NULL, message.data, err);
	pio_str_fini(&message);
	return rc;
}

/* ---- points ---------------------------------------------------------------------------------- */

static int slot_write(fold_batch *batch, fold_slot *slot, pio_err *err)
{
	int rc = 0;
	if (!slot->tail.loaded)
		rc = pio_tail_load(&slot->tail, batch->store, slot->series_id, batch->attempt, slot->is_new,
		                   err);
	for (uint32_t done = 0; !rc && done < slot->count;) {
		size_t room = pio_tail_room(&slot->tail), left = slot->count - done;
		size_t n = left < room ? left : room;
		rc = pio_tail_append(&slot->tail, batch->store, slot->points + done, n, err);
		done += (uint32_t)n;
	}
	slot->count = 0;
	slot->limit = (uint32_t)pio_tail_room(&slot->tail);
	return rc;
}

/* Called when a slot is at its capacity or limit. */
static int slot_room(fold_batch *batch, fold_slot *slot, pio_err *err)
{
	if (!slot->tail.loaded) {
		int rc = pio_tail_load(&slot->tail, batch->store, slot->series_id, batch->attempt,
		                       slot->is_new, err);
		if (rc)
			return rc;
		slot->limit = (uint32_t)pio_tail_room(&slot->tail);
	}
	if (slot->count >= slot->limit) {
		int rc = slot_write(batch, slot, err);
		if (rc)
			return rc;
	}
	if (slot->count < slot->capacity)
		return 0;
	uint32_t capacity = slot->capacity ? slot->capacity * 4 : 16;
	if (capacity > PIO_CHUNK_POINTS_MAX)
		capacity = PIO_CHUNK_POINTS_MAX;
	pio_chunk_point *points = pio_realloc(slot->points, capacity * sizeof *points);
	if (!points)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %u points of a fold", capacity);
	batch->held_bytes += (capacity - slot->capacity) * sizeof *points;
	slot->points = points;
	slot->capacity = capacity;
	return 0;
}

static int fold_points(fold_batch *batch, const pio_record *record, pio_err *err)
{
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	uint32_t number = pio_cursor_u32(&cursor), count = pio_cursor_u32(&cursor);
	if (cursor.bad || count > (size_t)(cursor.end - cursor.at) / sizeof(pio_journal_point))
		return pio_fold_complain(batch, err, "a record of points is too short");
	fold_rank *rank;
	int rc = find_rank(&rank, batch, number, false, err);
	int64_t newest = batch->result->last_step;
	uint32_t strangers = 0;
	for (uint32_t i = 0; !rc && i < count; i++) {
		pio_journal_point point;
		memcpy(&point, cursor.at + i * sizeof point, sizeof point);
		uint32_t key = point.key & ~PIO_POINT_INTEGER;
		uint32_t at = rank && key < rank->keys ? rank->slots[key] : 0;
		if (!at) {
			strangers++;
			continue;
		}
		fold_slot *slot = &batch->slots[at - 1];
		if (slot->count >= slot->capacity || slot->count >= slot->limit) {
			rc = slot_room(batch, slot, err);
			if (rc)
				return rc;
		}
		slot->points[slot->count++] = (pio_chunk_point){
			point.step, point.time_ns - point.time_ns % TIME_UNIT_NS, point.value_bits,
			key != point.key
		};
		newest = point.step > newest ? point.step : newest;
	}
	batch->result->points += count - strangers;
	batch->result->last_step = newest;
	if (!rc && strangers)
		rc = pio_fold_complain(batch, err, "%u points of rank %u have a key that was never named",
		                       strangers, number);
	return rc;
}

/* ---- one transaction ---------------------------------------------------------------------------- */

static int load_keys(fold_batch *batch, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(batch->store, err, "SELECT rank, key, series_id FROM journal_key"
	                                  " WHERE journal_id = ?1", "i", batch->journal_id);
	int rc = row ? pio_sql_row(batch->store, row, err) : -PIO_EIO;
	while (rc == 1) {
		int bad = pio_fold_key(batch, (uint32_t)sqlite3_column_int64(row, 0),
		                       (uint32_t)sqlite3_column_int64(row, 1), sqlite3_column_int64(row, 2),
		                       false, err);
		rc = bad ? bad : pio_sql_row(batch->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

static int batch_write(fold_batch *batch, pio_err *err)
{
	for (size_t i = 0; i < batch->slots_count; i++) {
		fold_slot *slot = &batch->slots[i];
		int rc = slot->count ? slot_write(batch, slot, err) : 0;
		if (!rc)
			rc = pio_tail_save(&slot->tail, batch->store, err);
		if (rc)
			return rc;
	}
	return 0;
}

static void batch_fini(fold_batch *batch)
{
	for (size_t i = 0; i < batch->slots_count; i++)
		pio_free(batch->slots[i].points);
	for (size_t i = 0; i < batch->ranks_count; i++)
		pio_free(batch->ranks[i].slots);
	pio_free(batch->slots);
	pio_free(batch->ranks);
	pio_free(batch->by_series);
}

/* Read records until the journal ends (*more false) or the batch is full. */
static int batch_read(fold_batch *batch, pio_journal_reader *reader, int64_t *offset, bool *more,
                      pio_err *err)
{
	int64_t begin = batch->result->records;
	*more = false;
	for (;;) {
		if (batch->held_bytes >= HELD_BYTES_MAX || batch->result->records - begin >= RECORDS_MAX) {
			*more = true;
			return 0;
		}
		pio_record record;
		int rc = pio_journal_next(reader, &record, err);
		if (rc <= 0)
			return rc;
		rc = record.type == PIO_RECORD_POINTS ? fold_points(batch, &record, err)
		                                      : pio_fold_record(batch, &record, err);
		if (rc)
			return rc;
		batch->result->records++;
		*offset = record.end_offset;
	}
}

/* The journal's row as it is now: another process may have folded since. */
static int load_journal(fold_batch *batch, int node, int64_t *offset, bool *done, pio_err *err)
{
	int rc = pio_sql_exec(batch->store, err, "INSERT INTO journal (attempt_id, node, path, offset)"
	                      " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (attempt_id, node) DO NOTHING",
	                      "iiti", batch->attempt_id, (int64_t)node, batch->path,
	                      (int64_t)PIO_JOURNAL_HEADER_BYTES);
	if (rc)
		return rc;
	sqlite3_stmt *row = pio_sql_query(batch->store, err, "SELECT id, offset, done FROM journal WHERE"
	                                  " attempt_id = ?1 AND node = ?2", "ii", batch->attempt_id,
	                                  (int64_t)node);
	rc = row ? pio_sql_row(batch->store, row, err) : -PIO_EIO;
	if (rc < 0)
		return rc;
	batch->journal_id = sqlite3_column_int64(row, 0);
	*offset = sqlite3_column_int64(row, 1);
	*done = sqlite3_column_int(row, 2) != 0;
	pio_sql_reset(row);
	return 0;
}

/* The agent knows when its attempt began; its supervisor hears of it later,
 * sometimes after the end. */
static int set_begin(fold_batch *batch, pio_err *err)
{
	if (batch->begun_ns <= 0)
		return 0;
	return pio_sql_exec(batch->store, err, "UPDATE attempt SET started_ns = ?2 WHERE id = ?1 AND"
	                    " (started_ns IS NULL OR started_ns > ?2)", "ii", batch->attempt_id,
	                    batch->begun_ns);
}

/* Everything up to the new offset, and the offset, in one transaction. */
static int fold_once(fold_batch *batch, pio_journal_reader *reader, int node, bool final,
                     bool *more, pio_err *err)
{
	int64_t offset = 0, begin = 0;
	bool done = false;
	pio_fold_result before = *batch->result;
	*more = false;
	int rc = pio_store_begin(batch->store, err);
	if (rc)
		return rc;
	rc = load_journal(batch, node, &begin, &done, err);
	offset = begin;
	if (!rc)
		rc = set_begin(batch, err);
	if (!rc && !done)
		rc = load_keys(batch, err);
	if (!rc && !done)
		rc = pio_journal_seek(reader, begin, err);
	if (!rc && !done)
		rc = batch_read(batch, reader, &offset, more, err);
	if (!rc)
		rc = batch_write(batch, err);
	bool ends = final && !*more && !done;
	if (!rc && (offset != begin || ends))
		rc = pio_sql_exec(batch->store, err, "UPDATE journal SET offset = ?2, done = ?3 WHERE id = ?1",
		                  "iii", batch->journal_id, offset, (int64_t)ends);
	if (!rc)
		rc = pio_store_commit(batch->store, err);
	else
		pio_store_rollback(batch->store);
	if (rc)
		*batch->result = before;
	return rc;
}

typedef struct fold_job {
	pio_store *store;
	pio_fold_result *result;
	int64_t attempt_id, run_id;
	int attempt;
	char ulid[PIO_ULID_CHARS + 1];
	const char *dir;           /* of the attempt, relative to the store */
	bool final;
} fold_job;

/* A file too short for a header reads as zeros, and holds nothing. */
static bool is_ours(const fold_job *job, const pio_journal_header *header)
{
	static const pio_ulid zero;
	if (memcmp(&header->run, &zero, sizeof zero) == 0 && header->attempt == 0)
		return true;
	char ulid[PIO_ULID_CHARS + 1];
	pio_ulid_format(&header->run, ulid);
	return strcmp(ulid, job->ulid) == 0 && header->attempt == (uint32_t)job->attempt;
}

/* A journal that is none: nothing of it can be used. While its writer may live
 * it is looked at again; then it is done with, and the run says so. */
static int pass_over(const fold_job *job, fold_batch *batch, int node, const char *why, pio_err *err)
{
	int64_t offset;
	bool done;
	if (!job->final)
		return 0;
	int rc = pio_store_begin(job->store, err);
	if (rc)
		return rc;
	rc = load_journal(batch, node, &offset, &done, err);
	if (!rc && !done)
		rc = pio_fold_complain(batch, err, "%s", why);
	if (!rc)
		rc = pio_sql_exec(job->store, err, "UPDATE journal SET done = 1 WHERE id = ?1", "i",
		                  batch->journal_id);
	if (!rc)
		return pio_store_commit(job->store, err);
	pio_store_rollback(job->store);
	return rc;
}

static int fold_journal(const fold_job *job, int node, pio_err *err)
{
	pio_str relative = PIO_STR_INIT, path = PIO_STR_INIT;
	pio_journal_reader *reader = NULL;
	pio_journal_header header;
	pio_err why = PIO_ERR_INIT;
	bool more = true;
	pio_str_printf(&relative, "%s/journal.%d", job->dir, node);
	pio_str_printf(&path, "%s/%s", pio_store_path(job->store), relative.data);
	fold_batch empty = { .store = job->store, .result = job->result, .attempt_id = job->attempt_id,
	                     .run_id = job->run_id, .attempt = job->attempt, .dir = job->dir,
	                     .path = relative.data };
	int rc = pio_str_check(&relative, err);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_journal_reader_open(&reader, &header, path.data, &why);
	if (rc == -PIO_ECORRUPT || rc == -PIO_EVERSION) {
		rc = pass_over(job, &empty, node, why.message, err);
		goto out;
	}
	if (rc && why.code && err)
		*err = why;
	if (!rc && !is_ours(job, &header)) {
		rc = pass_over(job, &empty, node, "it is not of this attempt", err);
		goto out;
	}
	empty.begun_ns = rc ? 0 : header.created_ns;
	while (!rc && more) {
		fold_batch batch = empty;
		rc = fold_once(&batch, reader, node, job->final, &more, err);
		batch_fini(&batch);
	}
out:
	pio_journal_reader_close(reader);
	pio_str_fini(&relative);
	pio_str_fini(&path);
	return rc;
}

/* ---- an attempt ------------------------------------------------------------------------------------ */

static int load_job(fold_job *job, char **dir, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(job->store, err, "SELECT a.run_id, a.number, r.ulid, a.dir FROM"
	                                  " attempt a JOIN run r ON r.id = a.run_id WHERE a.id = ?1", "i",
	                                  job->attempt_id);
	int rc = row ? pio_sql_row(job->store, row, err) : -PIO_EIO;
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no attempt with id %lld",
		                (long long)job->attempt_id);
	if (rc < 0)
		return rc;
	job->run_id = sqlite3_column_int64(row, 0);
	job->attempt = sqlite3_column_int(row, 1);
	snprintf(job->ulid, sizeof job->ulid, "%s", (const char *)sqlite3_column_text(row, 2));
	*dir = pio_sql_text_copy(row, 3);
	pio_sql_reset(row);
	job->dir = *dir;
	return *dir ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory");
}

/* Node of "journal.<node>"; -1 for any other name. */
static int journal_node(const char *name)
{
	char *rest;
	if (strncmp(name, "journal.", 8) != 0 || name[8] < '0' || name[8] > '9')
		return -1;
	long node = strtol(name + 8, &rest, 10);
	return *rest == 0 && node < (1 << 24) ? (int)node : -1;
}

int pio_store_fold_attempt(pio_fold_result *result, pio_store *store, int64_t attempt_id,
                           bool final, pio_err *err)
{
	fold_job job = { .store = store, .result = result, .attempt_id = attempt_id, .final = final };
	pio_str path = PIO_STR_INIT;
	char *dir = NULL, **names = NULL;
	size_t count = 0;
	*result = (pio_fold_result){ .last_step = INT64_MIN };
	int rc = load_job(&job, &dir, err);
	if (!rc) {
		pio_str_printf(&path, "%s/%s", pio_store_path(store), dir);
		rc = pio_str_check(&path, err);
	}
	/* Before the agent has begun there is no directory, and nothing to fold. */
	if (!rc && pio_fs_type(path.data) == PIO_FS_DIR)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; !rc && i < count; i++) {
		int node = journal_node(names[i]);
		if (node >= 0)
			rc = fold_journal(&job, node, err);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	pio_free(dir);
	return rc;
}
