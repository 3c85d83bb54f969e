#include <string.h>

#include "base/mem.h"
#include "store/encoder.h"
#include "store/fold_batch.h"
#include "store/sql.h"

#define TIME_UNIT_NS 1000          /* times are kept to the microsecond */
#define KEYS_AT_ONCE 16384

/* ---- names, series, slots -------------------------------------------------------------------- */

static size_t hash(uint64_t number, size_t size)
{
	return (number * 0x9e3779b97f4a7c15u >> 32) & (size - 1);
}

static size_t name_place(const fold_batch *batch, uint32_t rank, uint32_t key)
{
	const fold_name *names = batch->index.names;
	size_t at = hash((uint64_t)rank << 32 | key, batch->index.names_size);
	while (names[at].slot && (names[at].key != key || names[at].rank != rank))
		at = (at + 1) & (batch->index.names_size - 1);
	return at;
}

static size_t series_place(const fold_batch *batch, int64_t series_id)
{
	size_t at = hash((uint64_t)series_id, batch->index.by_series_size);
	while (batch->index.by_series[at] && batch->index.slots[batch->index.by_series[at] - 1].series_id != series_id)
		at = (at + 1) & (batch->index.by_series_size - 1);
	return at;
}

static int grow_names(fold_batch *batch, pio_err *err)
{
	size_t old_size = batch->index.names_size, size = old_size ? old_size * 2 : 128;
	fold_name *old = batch->index.names;
	fold_name *fresh = pio_calloc(size, sizeof *fresh);
	if (!fresh)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu names of a fold", size);
	batch->index.names = fresh;
	batch->index.names_size = size;
	for (size_t i = 0; i < old_size; i++)
		if (old[i].slot)
			fresh[name_place(batch, old[i].rank, old[i].key)] = old[i];
	pio_free(old);
	batch->held_bytes += (size - old_size) * sizeof *fresh;
	return 0;
}

static int grow_slots(fold_batch *batch, pio_err *err)
{
	size_t more = batch->index.slots_capacity ? batch->index.slots_capacity * 2 : 64;
	fold_slot *slots = pio_realloc(batch->index.slots, more * sizeof *slots);
	if (slots)
		batch->index.slots = slots;
	uint32_t *fresh = slots ? pio_calloc(more * 2, sizeof *fresh) : NULL;
	if (!fresh)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu series of a fold", more);
	batch->held_bytes += (more - batch->index.slots_capacity) * sizeof *slots +
	                     (more * 2 - batch->index.by_series_size) * sizeof *fresh;
	pio_free(batch->index.by_series);
	batch->index.slots_capacity = more;
	batch->index.by_series = fresh;
	batch->index.by_series_size = more * 2;
	for (size_t i = 0; i < batch->index.slots_count; i++)
		fresh[series_place(batch, batch->index.slots[i].series_id)] = (uint32_t)i + 1;
	return 0;
}

/* One slot a series, also where a journal gives one name two numbers. */
static int slot_get(uint32_t *slot, fold_batch *batch, uint32_t rank, int64_t series_id, bool is_new,
                    pio_err *err)
{
	int rc = batch->index.slots_count == batch->index.slots_capacity ? grow_slots(batch, err) : 0;
	if (rc)
		return rc;
	size_t at = series_place(batch, series_id);
	if (!batch->index.by_series[at]) {
		batch->index.slots[batch->index.slots_count++] = (fold_slot){ .series_id = series_id, .rank = rank,
		                                                  .is_new = is_new };
		batch->index.by_series[at] = (uint32_t)batch->index.slots_count;
	}
	*slot = batch->index.by_series[at];
	return 0;
}

static int name_set(fold_batch *batch, uint32_t rank, uint32_t key, uint32_t slot, pio_err *err)
{
	int rc = batch->index.names_count * 2 >= batch->index.names_size ? grow_names(batch, err) : 0;
	if (rc)
		return rc;
	fold_name *name = &batch->index.names[name_place(batch, rank, key)];
	batch->index.names_count += name->slot == 0;
	*name = (fold_name){ rank, key, slot };
	return 0;
}

int pio_fold_key(fold_batch *batch, uint32_t rank, uint32_t key, int64_t series_id, bool is_new,
                 pio_err *err)
{
	uint32_t slot;
	int rc = slot_get(&slot, batch, rank, series_id, is_new, err);
	return rc ? rc : name_set(batch, rank, key, slot, err);
}

int pio_fold_load_keys(fold_batch *batch, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(batch->store, err, "SELECT rank, key, series_id FROM journal_key"
	                                  " WHERE journal_id = ?1 LIMIT ?2", "ii", batch->journal_id,
	                                  (int64_t)KEYS_AT_ONCE);
	int rc = pio_sql_row(batch->store, row, err);
	while (rc == 1) {
		int bad = pio_fold_key(batch, (uint32_t)sqlite3_column_int64(row, 0),
		                       (uint32_t)sqlite3_column_int64(row, 1), sqlite3_column_int64(row, 2),
		                       false, err);
		rc = bad ? bad : pio_sql_row(batch->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

/* A name that this batch has not met: the journal may have given it earlier. */
static int ask(uint32_t *slot, fold_batch *batch, uint32_t rank, uint32_t key, pio_err *err)
{
	int64_t series_id = 0;
	int rc = pio_sql_int(&series_id, batch->store, err, "SELECT series_id FROM journal_key WHERE"
	                     " journal_id = ?1 AND rank = ?2 AND key = ?3", "iii", batch->journal_id,
	                     (int64_t)rank, (int64_t)key);
	*slot = FOLD_STRANGER;
	if (!rc && series_id)
		rc = slot_get(slot, batch, rank, series_id, false, err);
	return rc ? rc : name_set(batch, rank, key, *slot, err);
}

/* ---- points ---------------------------------------------------------------------------------- */

static int slot_load(fold_batch *batch, fold_slot *slot, pio_err *err)
{
	slot->tail = pio_alloc(sizeof *slot->tail);
	if (!slot->tail)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a series of a fold");
	batch->held_bytes += sizeof *slot->tail;
	int rc = pio_tail_load(slot->tail, batch->store, slot->series_id, batch->attempt, slot->is_new,
	                       err);
	slot->tail->encoder = batch->encoder;
	slot->limit = (uint32_t)pio_tail_room(slot->tail);
	return rc;
}

static int slot_write(fold_batch *batch, fold_slot *slot, pio_err *err)
{
	int rc = slot->tail ? 0 : slot_load(batch, slot, err);
	batch->may_wait = false;
	for (uint32_t done = 0; !rc && done < slot->count;) {
		size_t room = pio_tail_room(slot->tail), left = slot->count - done;
		size_t n = left < room ? left : room;
		rc = pio_tail_append(slot->tail, batch->store, slot->points + done, n, err);
		done += (uint32_t)n;
	}
	slot->count = 0;
	slot->limit = rc ? 0 : (uint32_t)pio_tail_room(slot->tail);
	return rc;
}

/* Called when a slot is at its capacity or limit. Few points need no tail yet:
 * of very many series each has but a few. */
static int slot_room(fold_batch *batch, fold_slot *slot, pio_err *err)
{
	int rc = 0;
	if (!batch->waits && !slot->limit && slot->capacity)
		rc = slot_load(batch, slot, err);
	if (!rc && slot->limit && slot->count >= slot->limit)
		rc = slot_write(batch, slot, err);
	if (rc || slot->count < slot->capacity)
		return rc;
	uint32_t capacity = slot->capacity ? slot->capacity * 4 : 4;
	if (!batch->waits && capacity > PIO_CHUNK_POINTS_MAX)
		capacity = PIO_CHUNK_POINTS_MAX;
	pio_chunk_point *points = pio_realloc(slot->points, capacity * sizeof *points);
	if (!points)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %u points of a fold", capacity);
	batch->held_bytes += (capacity - slot->capacity) * sizeof *points;
	slot->points = points;
	slot->capacity = capacity;
	return 0;
}

static int slot_put(fold_batch *batch, fold_slot *slot, const pio_chunk_point *point, pio_err *err)
{
	int rc = slot->count >= slot->capacity || slot->count == slot->limit ? slot_room(batch, slot, err) : 0;
	if (!rc)
		slot->points[slot->count++] = *point;
	return rc;
}

int pio_fold_add(fold_batch *batch, uint32_t rank, int64_t series_id, const pio_chunk_point *points,
                 size_t count, pio_err *err)
{
	uint32_t at;
	int rc = slot_get(&at, batch, rank, series_id, false, err);
	for (size_t i = 0; !rc && i < count; i++)
		rc = slot_put(batch, &batch->index.slots[at - 1], &points[i], err);
	return rc;
}

int pio_fold_points(fold_batch *batch, const pio_record *record, pio_err *err)
{
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	uint32_t rank = pio_cursor_u32(&cursor), count = pio_cursor_u32(&cursor);
	if (cursor.bad || count > (size_t)(cursor.end - cursor.at) / sizeof(pio_journal_point))
		return pio_fold_complain(batch, err, "a record of points is too short");
	int64_t newest = batch->result->last_step;
	uint32_t strangers = 0;
	for (uint32_t i = 0; i < count; i++) {
		pio_journal_point point;
		memcpy(&point, cursor.at + i * sizeof point, sizeof point);
		uint32_t key = point.key & ~PIO_POINT_INTEGER;
		uint32_t at = batch->index.names_size ? batch->index.names[name_place(batch, rank, key)].slot : 0;
		int rc = at ? 0 : ask(&at, batch, rank, key, err);
		if (rc)
			return rc;
		if (at == FOLD_STRANGER) {
			strangers++;
			continue;
		}
		const pio_chunk_point kept = { point.step, point.time_ns - point.time_ns % TIME_UNIT_NS,
		                               point.value_bits, key != point.key };
		rc = slot_put(batch, &batch->index.slots[at - 1], &kept, err);
		if (rc)
			return rc;
		/* What the agent measures is no step of the run's. */
		newest = point.step > newest && key < PIO_KEYS_OF_AGENT ? point.step : newest;
	}
	batch->result->points += count - strangers;
	batch->result->last_step = newest;
	if (!strangers)
		return 0;
	return pio_fold_complain(batch, err, "%u points of rank %u have a key that was never named",
	                         strangers, rank);
}

static void slot_empty(fold_slot *slot)
{
	pio_free(slot->points);
	pio_free(slot->tail);
	*slot = (fold_slot){ .series_id = slot->series_id, .rank = slot->rank };
}

int pio_fold_write(fold_batch *batch, pio_err *err)
{
	if (batch->waits || (batch->may_wait && pio_fold_is_wide(batch)))
		return pio_fold_put_recent(batch, err);
	for (size_t i = 0; i < batch->index.slots_count; i++) {
		fold_slot *slot = &batch->index.slots[i];
		*batch->direct += slot->count > 0;
		int rc = slot->count ? slot_write(batch, slot, err) : 0;
		if (!rc && slot->tail)
			rc = pio_tail_save(slot->tail, batch->store, err);
		if (rc)
			return rc;
		slot_empty(slot); /* the tails of very many series would be more than their points */
	}
	return pio_encoder_flush(batch->encoder, err);
}

size_t pio_fold_index_empty(fold_index *index)
{
	for (size_t i = 0; i < index->slots_count; i++)
		slot_empty(&index->slots[i]);
	return index->slots_capacity * sizeof *index->slots +
	       index->by_series_size * sizeof *index->by_series +
	       index->names_size * sizeof *index->names;
}

void pio_fold_index_fini(fold_index *index)
{
	pio_fold_index_empty(index);
	pio_free(index->slots);
	pio_free(index->names);
	pio_free(index->by_series);
	*index = (fold_index){ 0 };
}

void pio_fold_batch_fini(fold_batch *batch)
{
	pio_fold_index_fini(&batch->index);
}
