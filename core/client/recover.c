#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/drain.h"
#include "client/ring_layout.h"
#include "sys/fs.h"

#define ROOM_BYTES (1 << 20)   /* beside twice a backlog */

typedef struct seen_frame {
	uint64_t hash, end; /* end: side ring index after the frame */
	size_t order;
	bool in_journal;
} seen_frame;

typedef struct seen_frames {
	seen_frame *frames; /* sorted by hash while the journal is read */
	size_t count, capacity;
} seen_frames;

int pio_ring_path(pio_str *path, const char *ulid, int attempt, int rank, pio_err *err)
{
	pio_str_printf(path, "%s/pioche-%s-%d-%d.ring", pio_shm_dir(), ulid, attempt, rank);
	return pio_str_check(path, err);
}

/* Records carry rank, number or time to the nanosecond, so that equal bytes are
 * the same record. */
static uint64_t hash_record(uint8_t type, const uint8_t *payload, size_t size_bytes)
{
	uint64_t h = 0xcbf29ce484222325u ^ type;
	for (size_t i = 0; i < size_bytes; i++)
		h = (h ^ payload[i]) * 0x100000001b3u;
	return h;
}

static int list_frames(seen_frames *list, pio_ring *ring, pio_err *err)
{
	uint64_t at = ring->side_tail, head = atomic_load(&ring->header->side_head);
	uint8_t type;
	uint32_t size;
	if (head - at > ring->side_bytes)
		return 0;
	while (at != head && ring_side_next(ring, &at, head, &type, &size)) {
		int rc = pio_grow(&list->frames, &list->capacity, list->count, "records", err);
		if (rc)
			return rc;
		list->frames[list->count] = (seen_frame){
			.hash = hash_record(type, ring->frame, size), .end = at, .order = list->count,
		};
		list->count++;
	}
	return 0;
}

static int by_hash(const void *a, const void *b)
{
	const seen_frame *x = a, *y = b;
	return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static int by_order(const void *a, const void *b)
{
	const seen_frame *x = a, *y = b;
	return x->order < y->order ? -1 : x->order > y->order;
}

static void sort_frames(seen_frames *list, int (*order)(const void *, const void *))
{
	if (list->count)
		qsort(list->frames, list->count, sizeof list->frames[0], order);
}

static void mark_frame(seen_frames *list, const pio_record *record)
{
	seen_frame key = { .hash = hash_record((uint8_t)record->type, record->payload,
	                                       record->size_bytes) };
	seen_frame *found = list->count ? bsearch(&key, list->frames, list->count,
	                                          sizeof key, by_hash) : NULL;
	if (found)
		found->in_journal = true;
}

typedef struct newest_point {
	uint32_t seq;
	bool any;
} newest_point;

/* Of POINTS of the ring's rank the last, if it came from there: what the agent
 * measured itself did not. */
static void note_newest(newest_point *newest, const pio_ring *ring, const pio_record *record)
{
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	pio_journal_point last;
	if (pio_cursor_u32(&cursor) != ring->rank || record->size_bytes < 8 + sizeof last)
		return;
	memcpy(&last, record->payload + record->size_bytes - sizeof last, sizeof last);
	if ((last.key & ~PIO_POINT_INTEGER) < PIO_KEYS_OF_AGENT)
		*newest = (newest_point){ last.seq, true };
}

static int read_segment(newest_point *newest, seen_frames *list, const pio_ring *ring,
                        pio_ring_open_segment *open, const char *path, pio_err *err)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	pio_err why = PIO_ERR_INIT;
	int rc = open(&reader, &header, path, &why);
	if (rc == -PIO_ENOTFOUND)
		return 0;
	if (rc) {
		if (err)
			*err = why;
		return rc;
	}
	while ((rc = pio_journal_next(reader, &record, err)) == 1) {
		if (record.type == PIO_RECORD_POINTS)
			note_newest(newest, ring, &record);
		else
			mark_frame(list, &record);
	}
	pio_journal_reader_close(reader);
	return rc;
}

/* All segments in order. While the attempt goes on, one that is archived was left
 * behind long before the drainer died, and what is in it has left the ring. */
static int read_segments(newest_point *newest, seen_frames *list, const pio_ring *ring,
                         pio_ring_open_segment *open, const char *journal_path, pio_err *err)
{
	uint32_t count;
	pio_str path = PIO_STR_INIT;
	int rc = pio_journal_segments(&count, journal_path, err);
	for (uint32_t segment = 0; !rc && segment < count; segment++) {
		pio_str_clear(&path);
		rc = pio_journal_segment_path(&path, journal_path, segment, err);
		if (!rc)
			rc = read_segment(newest, list, ring, open, path.data, err);
	}
	pio_str_fini(&path);
	return rc;
}

/* Only what was published in order can be there. */
static int skip_journaled(pio_ring *ring, pio_ring_open_segment *open, const char *journal_path, pio_err *err)
{
	seen_frames list = { NULL, 0, 0 };
	newest_point newest = { 0, false };
	int rc = ring_drain_prepare(ring, err);
	if (!rc)
		rc = list_frames(&list, ring, err);
	sort_frames(&list, by_hash);
	if (!rc)
		rc = read_segments(&newest, &list, ring, open, journal_path, err);
	if (rc)
		goto out;
	sort_frames(&list, by_order);
	for (size_t i = 0; i < list.count && list.frames[i].in_journal; i++)
		ring->side_tail = list.frames[i].end;
	uint32_t ahead = newest.seq + 1 - (uint32_t)ring->tail;
	if (newest.any && ahead <= ring->slot_count)
		ring->tail += ahead;
out:
	pio_free(list.frames);
	return rc;
}

int pio_ring_skip_journaled(pio_ring *ring, const char *journal_path, pio_err *err)
{
	return skip_journaled(ring, pio_journal_reader_open, journal_path, err);
}

/* RING.spill is a backlog that was left; while it is being moved, RING.taken.
 * One that is found taken belongs to a recovery that died: how much of it is in
 * the journal cannot be known, so it counts as lost, and nothing comes twice. */
static int spill_path(pio_str *path, const char *ring_path, const char *suffix, pio_err *err)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s.%s", ring_path, suffix);
	return pio_str_check(path, err);
}

int pio_ring_leave_backlog(const char *ring_path, const pio_str *backlog, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = spill_path(&path, ring_path, "spill", err);
	if (!rc && backlog->len)
		rc = pio_fs_write(path.data, backlog->data, backlog->len, 0600, err);
	pio_str_fini(&path);
	return rc;
}

/* A disk that is still full leaves everything as it is. */
static int check_room(const pio_str *backlog, const char *journal_path, pio_err *err)
{
	pio_str dir = PIO_STR_INIT;
	pio_str_append(&dir, journal_path, (size_t)(strrchr(journal_path, '/') - journal_path));
	int rc = pio_str_check(&dir, err);
	if (!rc)
		rc = pio_fs_check_room(dir.data, ROOM_BYTES + 2 * (int64_t)backlog->len, err);
	if (rc == -PIO_ENOSPC)
		pio_err_context(err, "%zu bytes of its log wait in memory", backlog->len);
	pio_str_fini(&dir);
	return rc;
}

static int move_backlog(pio_ring *ring, pio_journal_writer *journal, const char *from, const char *taken,
                        const char *journal_path, pio_err *err)
{
	pio_str backlog = PIO_STR_INIT;
	int rc = pio_fs_read(&backlog, from, err);
	if (!rc && journal)
		rc = check_room(&backlog, journal_path, err);
	if (!rc && journal)
		rc = pio_fs_rename(from, taken, err);
	if (!rc)
		rc = pio_ring_unspill(ring, &backlog, journal, err);
	if (!rc)
		rc = pio_fs_unlink(taken, err);
	pio_str_fini(&backlog);
	return rc;
}

static int recover_backlog(pio_ring *ring, pio_journal_writer *journal, const char *ring_path,
                           const char *journal_path, pio_err *err)
{
	pio_str spill = PIO_STR_INIT, taken = PIO_STR_INIT;
	int rc = spill_path(&spill, ring_path, "spill", err);
	if (!rc)
		rc = spill_path(&taken, ring_path, "taken", err);
	if (!rc && pio_fs_type(taken.data) == PIO_FS_FILE)
		rc = move_backlog(ring, NULL, taken.data, taken.data, journal_path, err);
	if (!rc && pio_fs_type(spill.data) == PIO_FS_FILE)
		rc = move_backlog(ring, journal, spill.data, taken.data, journal_path, err);
	pio_str_fini(&spill);
	pio_str_fini(&taken);
	return rc;
}

static int recover_ring(pio_ring *ring, pio_journal_writer *journal, pio_err *err)
{
	uint64_t moved;
	do {
		int rc = pio_ring_drain(ring, journal, true, &moved, err);
		if (rc)
			return rc;
	} while (moved);
	return 0;
}

/* A ring whose header was overwritten is evidence, but nothing can be read
 * from it: the journal says so, and the rest of the attempt is kept. */
static int note_unreadable(pio_journal_writer *journal, int rank, const char *why, pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, (uint32_t)rank);
	pio_record_put_i64(&payload, pio_clock_wall_ns());
	pio_record_put_str(&payload, "ring.corrupt", 12);
	pio_record_put_str(&payload, why, strlen(why));
	int rc = pio_str_check(&payload, err);
	if (!rc)
		rc = pio_journal_append(journal, PIO_RECORD_EVENT, payload.data, payload.len, NULL, 0, err);
	pio_str_fini(&payload);
	return rc;
}

static int recover_path(const char *ring_path, const char *journal_path, const pio_journal_header *header,
                        const pio_ring_node *node, int i, pio_err *err)
{
	pio_ring *ring = NULL;
	pio_journal_writer *journal = NULL;
	pio_err why = PIO_ERR_INIT;
	int64_t *last_step = node->last_steps ? &node->last_steps[i] : NULL;
	/* Opened first: it cuts a torn tail, so that skip_journaled sees whole records. */
	int rc = pio_journal_open(&journal, journal_path, header, err);
	if (rc)
		return rc;
	rc = pio_ring_attach(&ring, ring_path, &why);
	if (rc == -PIO_ECORRUPT || rc == -PIO_EVERSION) {
		rc = note_unreadable(journal, node->first + i, why.message, err);
	} else if (rc) {
		if (err)
			*err = why;
	} else {
		rc = skip_journaled(ring, node->open ? node->open : pio_journal_reader_open, journal_path, err);
		if (!rc)
			rc = recover_backlog(ring, journal, ring_path, journal_path, err);
		if (!rc)
			rc = recover_ring(ring, journal, err);
		/* A child of the dead rank may live on: from here it waits for nobody. */
		pio_ring_shut(ring);
		if (!rc)
			rc = recover_ring(ring, journal, err);
	}
	if (ring && last_step && pio_ring_last_step(ring) > *last_step)
		*last_step = pio_ring_last_step(ring);
	pio_ring_close(&ring);
	int closed = pio_journal_close(&journal, rc ? NULL : err);
	rc = rc ? rc : closed;
	return rc ? rc : pio_fs_unlink(ring_path, err);
}

int pio_ring_recover_node(const pio_ring_node *node, pio_err *err)
{
	pio_journal_header header = { .attempt = (uint32_t)node->attempt, .node = (uint32_t)node->node,
	                              .created_ns = pio_clock_wall_ns() };
	pio_str ring_path = PIO_STR_INIT, journal_path = PIO_STR_INIT;
	int rc = 0;
	if (!pio_ulid_parse(&header.run, node->ulid))
		return pio_fail(err, PIO_EINVAL, "\"%s\" is no ULID: 26 characters expected", node->ulid);
	pio_str_printf(&journal_path, "%s/journal.%d", node->dir, node->node);
	rc = pio_str_check(&journal_path, err);
	for (int i = 0; !rc && i < node->count; i++) {
		pio_str_clear(&ring_path);
		rc = pio_ring_path(&ring_path, node->ulid, node->attempt, node->first + i, err);
		if (!rc && pio_fs_type(ring_path.data) == PIO_FS_FILE)
			rc = recover_path(ring_path.data, journal_path.data, &header, node, i, err);
	}
	pio_str_fini(&ring_path);
	pio_str_fini(&journal_path);
	return rc;
}

int pio_ring_recover(const char *dir, const char *ulid, int attempt, int world, pio_err *err)
{
	const pio_ring_node node = { .dir = dir, .ulid = ulid, .attempt = attempt, .count = world };
	return pio_ring_recover_node(&node, err);
}

bool pio_ring_is_left(const pio_ring_node *node)
{
	bool is_left = false;
	for (int i = 0; !is_left && i < node->count; i++) {
		pio_str path = PIO_STR_INIT;
		is_left = pio_ring_path(&path, node->ulid, node->attempt, node->first + i, NULL) == 0 &&
		          pio_fs_type(path.data) == PIO_FS_FILE;
		pio_str_fini(&path);
	}
	return is_left;
}
