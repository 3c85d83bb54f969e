#include "store/ingest_slots.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/sql.h"

static uint64_t hash_key(const char *key, size_t bytes)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ (uint8_t)key[i]) * 0x100000001b3u;
	return hash ^ hash >> 32;
}

static bool can_be_stored(const char *key, size_t bytes)
{
	size_t i = 0, n = 1;
	while (i < bytes && key[i] && (n = pio_utf8_length(key + i, bytes - i)) != 0)
		i += n;
	return bytes >= 1 && bytes <= PIO_SLOTS_KEY_BYTES_MAX && i == bytes;
}

static bool is_key(const pio_slot *slot, const char *key, size_t bytes)
{
	return slot->key_bytes == bytes && memcmp(slot->key, key, bytes) == 0;
}

static size_t place_of(const pio_slots *slots, const char *key, size_t bytes, uint64_t hash)
{
	size_t mask = slots->places_size - 1, at = (size_t)hash & mask;
	while (slots->places[at] && !is_key(&slots->all[slots->places[at] - 1], key, bytes))
		at = (at + 1) & mask;
	return at;
}

static int grow(pio_slots *slots, pio_err *err)
{
	size_t capacity = slots->capacity ? slots->capacity * 2 : 32;
	pio_slot *all = pio_realloc(slots->all, capacity * sizeof *all);
	if (!all)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu series", capacity);
	slots->all = all;
	uint32_t *places = pio_calloc(2 * capacity, sizeof *places);
	if (!places)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu series", capacity);
	pio_free(slots->places);
	slots->places = places;
	slots->places_size = 2 * capacity;
	slots->capacity = capacity;
	for (size_t i = 0; i < slots->count; i++)
		places[place_of(slots, all[i].key, all[i].key_bytes, all[i].hash)] = (uint32_t)i + 1;
	return 0;
}

/* Programs log the same keys in the same order again and again: the slot that
 * followed last time is tried before the hash. */
/* 1: the key cannot be stored. */
static int find(uint32_t *index, pio_slots *slots, const char *key, size_t bytes, pio_err *err)
{
	if (slots->last < slots->count) {
		uint32_t next = slots->all[slots->last].next;
		if (next < slots->count && is_key(&slots->all[next], key, bytes)) {
			*index = slots->last = next;
			return 0;
		}
	}
	int rc = slots->count == slots->capacity ? grow(slots, err) : 0;
	if (rc)
		return rc;
	uint64_t hash = hash_key(key, bytes);
	size_t place = place_of(slots, key, bytes, hash);
	if (!slots->places[place]) {
		if (!can_be_stored(key, bytes))
			return 1;
		char *copy = pio_alloc(bytes);
		if (!copy)
			return pio_fail(err, PIO_ENOMEM, "out of memory for the name of a series");
		memcpy(copy, key, bytes);
		slots->all[slots->count++] = (pio_slot){ .key = copy, .key_bytes = bytes, .hash = hash };
		slots->places[place] = (uint32_t)slots->count;
		slots->held_bytes += sizeof(pio_slot) + bytes;
	}
	*index = slots->places[place] - 1;
	if (slots->last < slots->count)
		slots->all[slots->last].next = *index;
	slots->last = *index;
	return 0;
}

static int find_series(pio_slot *slot, const pio_slots_owner *owner, pio_err *err)
{
	int rc = pio_sql_exec(owner->store, err, "INSERT INTO main.series (run_id, key, rank) VALUES (?1, ?2, 0)"
	                      " ON CONFLICT (run_id, key, rank) DO NOTHING", "is", owner->run_id,
	                      slot->key, slot->key_bytes);
	slot->is_new = !rc && sqlite3_changes(pio_store_db(owner->store)) > 0;
	if (!rc && slot->is_new)
		slot->series_id = sqlite3_last_insert_rowid(pio_store_db(owner->store));
	else if (!rc)
		rc = pio_sql_int(&slot->series_id, owner->store, err, "SELECT id FROM series WHERE run_id = ?1"
		                 " AND key = ?2 AND rank = 0", "is", owner->run_id, slot->key,
		                 slot->key_bytes);
	return rc;
}

static int load(pio_slot *slot, const pio_slots_owner *owner, pio_err *err)
{
	if (slot->tail.loaded)
		return 0;
	int rc = slot->series_id ? 0 : find_series(slot, owner, err);
	if (!rc)
		rc = pio_tail_load(&slot->tail, owner->store, slot->series_id, owner->attempt, slot->is_new,
		                   err);
	slot->limit = (uint32_t)pio_tail_room(&slot->tail);
	return rc;
}

static int write_out(pio_slot *slot, const pio_slots_owner *owner, pio_err *err)
{
	int rc = load(slot, owner, err);
	for (uint32_t done = 0; !rc && done < slot->count;) {
		size_t room = pio_tail_room(&slot->tail), left = slot->count - done;
		size_t n = left < room ? left : room;
		rc = pio_tail_append(&slot->tail, owner->store, slot->points + done, n, err);
		done += (uint32_t)n;
	}
	slot->count = 0;
	slot->limit = (uint32_t)pio_tail_room(&slot->tail);
	return rc;
}

/* Called when a slot is at its capacity or limit. */
static int make_room(pio_slots *slots, pio_slot *slot, const pio_slots_owner *owner, pio_err *err)
{
	int rc = load(slot, owner, err);
	if (!rc && slot->count >= slot->limit)
		rc = write_out(slot, owner, err);
	if (rc || slot->count < slot->capacity)
		return rc;
	uint32_t capacity = slot->capacity ? slot->capacity * 4 : 16;
	capacity = capacity < PIO_CHUNK_POINTS_MAX ? capacity : PIO_CHUNK_POINTS_MAX;
	pio_chunk_point *points = pio_realloc(slot->points, capacity * sizeof *points);
	if (!points)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %u points", capacity);
	slots->held_bytes += (capacity - slot->capacity) * sizeof *points;
	slot->points = points;
	slot->capacity = capacity;
	return 0;
}

int pio_slots_add(pio_slots *slots, const pio_slots_owner *owner, const char *key,
                  size_t key_bytes, const pio_chunk_point *point, pio_err *err)
{
	uint32_t index = 0;
	int rc = find(&index, slots, key, key_bytes, err);
	if (rc)
		return rc;
	pio_slot *slot = &slots->all[index];
	if (slot->count >= slot->capacity || slot->count >= slot->limit)
		rc = make_room(slots, slot, owner, err);
	if (!rc)
		slot->points[slot->count++] = *point;
	return rc;
}

int pio_slots_flush(pio_slots *slots, const pio_slots_owner *owner, pio_err *err)
{
	for (size_t i = 0; i < slots->count; i++) {
		pio_slot *slot = &slots->all[i];
		int rc = slot->count ? write_out(slot, owner, err) : 0;
		if (!rc)
			rc = pio_tail_save(&slot->tail, owner->store, err);
		if (rc)
			return rc;
		slot->tail.loaded = false;
		slot->is_new = false;
		slot->limit = 0;
	}
	return 0;
}

void pio_slots_fini(pio_slots *slots)
{
	for (size_t i = 0; i < slots->count; i++) {
		pio_free(slots->all[i].key);
		pio_free(slots->all[i].points);
	}
	pio_free(slots->all);
	pio_free(slots->places);
	*slots = (pio_slots)PIO_SLOTS_INIT;
}
