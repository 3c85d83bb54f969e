#include "client/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/clock.h"
#include "base/mem.h"
#include "client/drain.h"
#include "client/name.h"
#include "client/ring_layout.h"

#define SPINS 256
#define WAIT_NS 100000000LL          /* look again even if nobody wakes us */
#define COMPLAIN_NS 10000000000LL
#define RESCUE_NS 1000000000LL
#define KEY_TABLE_MIN 64u

/* ---- clock and futex -------------------------------------------------------- */

static uint32_t pick_clock(void)
{
#if defined(__x86_64__)
	unsigned a, b, c, d;
	if (__get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8)))
		return RING_CLOCK_COUNTER;
	char source[16] = "";
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
	if (f) {
		size_t n = fread(source, 1, sizeof source - 1, f);
		source[n] = 0;
		fclose(f);
	}
	return strcmp(source, "tsc\n") == 0 ? RING_CLOCK_COUNTER : RING_CLOCK_MONOTONIC;
#elif defined(__aarch64__)
	return RING_CLOCK_COUNTER;
#else
	return RING_CLOCK_MONOTONIC;
#endif
}

ring_anchor ring_anchor_now(uint32_t clock)
{
	ring_anchor best = { 0, 0 };
	uint64_t best_width = UINT64_MAX;
	for (int i = 0; i < 4; i++) {
		uint64_t before = ring_ticks(clock);
		int64_t wall_ns = pio_clock_wall_ns();
		uint64_t width = ring_ticks(clock) - before;
		if (width < best_width) {
			best_width = width;
			best = (ring_anchor){ before + width / 2, wall_ns };
		}
	}
	return best;
}

uint64_t ring_boot_id(void)
{
	char text[40] = "";
	uint64_t id = 0;
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (!f)
		return 0;
	size_t n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	int digits = 0;
	for (size_t i = 0; i < n && digits < 16; i++) {
		const char *hex = "0123456789abcdef", *at = text[i] ? strchr(hex, text[i]) : NULL;
		if (at) {
			id = id << 4 | (uint64_t)(at - hex);
			digits++;
		}
	}
	return id;
}

void ring_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
	int saved = errno;
	struct timespec t = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0);
	errno = saved;
}

void ring_futex_wake(_Atomic uint32_t *word)
{
	int saved = errno;
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	errno = saved;
}

/* ---- life ------------------------------------------------------------------- */

static size_t file_bytes(uint32_t slots, uint32_t side_bytes)
{
	return (size_t)RING_HEADER_BYTES + (size_t)slots * sizeof(ring_slot) + side_bytes;
}

size_t pio_ring_bytes(uint32_t slots, uint32_t side_bytes)
{
	return file_bytes(slots ? slots : PIO_RING_SLOTS, side_bytes ? side_bytes : PIO_RING_SIDE_BYTES);
}

static bool is_power_of_two(uint32_t n)
{
	return n && !(n & (n - 1));
}

static int init_mutex(pthread_mutex_t *mutex, pio_err *err)
{
	pthread_mutexattr_t attr;
	int e = pthread_mutexattr_init(&attr);
	if (e)
		return pio_fail_errno(err, e, "cannot make the lock of a ring");
	e = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (!e)
		e = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (!e)
		e = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return e ? pio_fail_errno(err, e, "cannot make the lock of a ring") : 0;
}

void pio_ring_adopt_tails(pio_ring *ring)
{
	const ring_header *header = ring->header;
	ring->tail = atomic_load(&header->tail);
	ring->side_tail = atomic_load(&header->side_tail);
	ring->anchor = header->anchors[atomic_load(&header->newest) & 1];
}

/* Private copies of what the header says, checked against the file's size. */
static int adopt_header(pio_ring *ring, const char *path, pio_err *err)
{
	if (ring->shm.size_bytes < RING_HEADER_BYTES)
		return pio_fail(err, PIO_ECORRUPT, "%s: %zu bytes are no ring (its header alone is %u)",
		                path, ring->shm.size_bytes, RING_HEADER_BYTES);
	ring_header *header = ring->header = ring->shm.base;
	if (memcmp(header->magic, RING_MAGIC, sizeof header->magic) != 0)
		return pio_fail(err, PIO_ECORRUPT, "%s: not a ring (wrong first bytes)", path);
	if (header->version != RING_VERSION)
		return pio_fail(err, PIO_EVERSION, "%s: ring of version %u, this is version %u", path,
		                header->version, RING_VERSION);
	ring->slot_count = header->slots;
	ring->side_bytes = header->side_bytes;
	ring->rank = header->rank;
	ring->clock = header->clock;
	if (!is_power_of_two(ring->slot_count) || !is_power_of_two(ring->side_bytes) ||
	    ring->slot_count > RING_SLOTS_MAX || ring->side_bytes > RING_SIDE_BYTES_MAX ||
	    file_bytes(ring->slot_count, ring->side_bytes) != ring->shm.size_bytes)
		return pio_fail(err, PIO_ECORRUPT, "%s: %u slots and %u side bytes do not fit a file of %zu",
		                path, ring->slot_count, ring->side_bytes, ring->shm.size_bytes);
	ring->slot_shift = (uint32_t)__builtin_ctz(ring->slot_count);
	ring->slots = (ring_slot *)((uint8_t *)ring->shm.base + RING_HEADER_BYTES);
	ring->side = (uint8_t *)(ring->slots + ring->slot_count);
	ring->last_step = INT64_MIN;
	pio_ring_adopt_tails(ring);
	return 0;
}

int pio_ring_create(pio_ring **ring_out, const char *path, uint32_t rank, uint32_t slots,
                    uint32_t side_bytes, pio_err *err)
{
	int rc;
	slots = slots ? slots : PIO_RING_SLOTS;
	side_bytes = side_bytes ? side_bytes : PIO_RING_SIDE_BYTES;
	*ring_out = NULL;
	if (!is_power_of_two(slots) || !is_power_of_two(side_bytes) || slots > RING_SLOTS_MAX ||
	    side_bytes > RING_SIDE_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "ring of %u slots and %u side bytes: powers of two expected",
		                slots, side_bytes);
	pio_ring *ring = pio_calloc(1, sizeof *ring);
	if (!ring)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a ring");
	rc = pio_shm_create(&ring->shm, path, file_bytes(slots, side_bytes), err);
	if (rc)
		goto out;
	ring_header *header = ring->shm.base;
	header->version = RING_VERSION;
	header->slots = slots;
	header->side_bytes = side_bytes;
	header->rank = rank;
	header->clock = pick_clock();
	header->boot = ring_boot_id();
	header->anchors[0] = ring_anchor_now(header->clock);
	atomic_store(&header->next_key, 1);
	atomic_store(&header->asked, INT64_MIN);
	rc = init_mutex(&header->side_mutex, err);
	if (rc)
		goto out;
	memcpy(header->magic, RING_MAGIC, sizeof header->magic);
	rc = adopt_header(ring, path, err);
out:
	if (rc)
		pio_ring_close(&ring);
	*ring_out = ring;
	return rc;
}

int pio_ring_attach(pio_ring **ring_out, const char *path, pio_err *err)
{
	*ring_out = NULL;
	pio_ring *ring = pio_calloc(1, sizeof *ring);
	if (!ring)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a ring");
	int rc = pio_shm_open(&ring->shm, path, err);
	if (!rc)
		rc = adopt_header(ring, path, err);
	if (rc)
		pio_ring_close(&ring);
	*ring_out = ring;
	return rc;
}

void pio_ring_close(pio_ring **ring_in)
{
	pio_ring *ring = *ring_in;
	*ring_in = NULL;
	if (!ring)
		return;
	key_table *table = atomic_load(&ring->keys);
	for (size_t i = 0; table && i <= table->mask; i++)
		pio_free(atomic_load(&table->entries[i]));
	while (table) {
		key_table *retired = table->retired;
		pio_free(table);
		table = retired;
	}
	pio_free(ring->batch);
	pio_free(ring->frame);
	pio_shm_close(&ring->shm);
	pio_free(ring);
}

uint32_t pio_ring_rank(const pio_ring *ring)
{
	return ring->rank;
}

/* ---- waiting for the drainer ------------------------------------------------ */

static bool has_room(pio_ring *ring, const _Atomic uint64_t *tail, uint64_t end, uint64_t size)
{
	return end - atomic_load_explicit(tail, memory_order_acquire) <= size ||
	       atomic_load_explicit(&ring->header->closed, memory_order_relaxed);
}

/* Whose drainer is gone: nothing can be kept any more, and that is told once. */
static void tell_closed(const pio_ring *ring)
{
	static _Atomic bool told;
	if (!atomic_exchange(&told, true))
		fprintf(stderr, "pioche: rank %u logs on a run that is closed; it is lost\n", ring->rank);
}

/* Until everything before `end` fits. The wait has no deadline (a point that
 * was accepted is not dropped), but it is counted, and a drainer that is gone
 * is replaced or complained about. */
static void wait_room(pio_ring *ring, const _Atomic uint64_t *tail, uint64_t end, uint64_t size)
{
	ring_header *header = ring->header;
	int64_t start_ns = pio_clock_mono_ns(), rescue_ns = start_ns + RESCUE_NS;
	bool complained = false;
	for (int i = 0; i < SPINS && !has_room(ring, tail, end, size); i++)
#if defined(__x86_64__)
		_mm_pause();
#else
		;
#endif
	while (!has_room(ring, tail, end, size)) {
		atomic_fetch_add(&header->waiters, 1);
		uint32_t seen = atomic_load(&header->drained);
		atomic_fetch_add(&header->hurry, 1);
		ring_futex_wake(&header->hurry);
		if (!has_room(ring, tail, end, size))
			ring_futex_wait(&header->drained, seen, WAIT_NS);
		atomic_fetch_sub(&header->waiters, 1);
		int64_t now_ns = pio_clock_mono_ns();
		if (ring->rescue && now_ns >= rescue_ns) {
			rescue_ns = now_ns + RESCUE_NS;
			ring->rescue(ring->rescue_context);
		}
		if (!complained && now_ns - start_ns > COMPLAIN_NS) {
			complained = true;
			fprintf(stderr, "pioche: rank %u waits to log: its buffer is full and nobody has "
			        "drained it for 10 s (is its agent gone?)\n", ring->rank);
		}
	}
	if (atomic_load_explicit(&header->closed, memory_order_relaxed))
		tell_closed(ring);
	atomic_fetch_add(&header->stalls, 1);
	atomic_fetch_add(&header->stalled_ns, (uint64_t)(pio_clock_mono_ns() - start_ns));
}

void ring_wait_slot(pio_ring *ring, uint64_t index)
{
	int saved = errno;
	wait_room(ring, &ring->header->tail, index + 1, ring->slot_count);
	errno = saved;
}

void pio_ring_log(pio_ring *ring, uint32_t key, int64_t step, double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof bits);
	ring_log(ring, key, step, bits);
}

/* ---- the side ring ---------------------------------------------------------- */

static int side_lock(pio_ring *ring, pio_err *err)
{
	int e = pthread_mutex_lock(&ring->header->side_mutex);
	/* The holder died: it had not yet moved side_head, so the ring is whole. */
	if (e == EOWNERDEAD)
		e = pthread_mutex_consistent(&ring->header->side_mutex);
	return e ? pio_fail_errno(err, e, "cannot lock the ring of rank %u", ring->rank) : 0;
}

static void side_unlock(pio_ring *ring)
{
	pthread_mutex_unlock(&ring->header->side_mutex);
}

static uint64_t side_put(pio_ring *ring, uint64_t at, const void *bytes, size_t size_bytes)
{
	size_t start = (size_t)at & (ring->side_bytes - 1), first = ring->side_bytes - start;
	if (first > size_bytes)
		first = size_bytes;
	if (first)
		memcpy(ring->side + start, bytes, first);
	if (size_bytes > first)
		memcpy(ring->side, (const uint8_t *)bytes + first, size_bytes - first);
	return at + size_bytes;
}

/* With the lock held: true if a frame of this payload fits now. */
static bool side_fits(pio_ring *ring, size_t payload_bytes, uint64_t *end)
{
	*end = atomic_load_explicit(&ring->header->side_head, memory_order_relaxed) +
	       RING_FRAME_BYTES + payload_bytes;
	return has_room(ring, &ring->header->side_tail, *end, ring->side_bytes);
}

static void side_publish(pio_ring *ring, enum pio_record_type type, const void *payload,
                         size_t size_bytes)
{
	uint64_t at = atomic_load_explicit(&ring->header->side_head, memory_order_relaxed);
	uint32_t size = (uint32_t)size_bytes;
	uint8_t type_byte = (uint8_t)type;
	at = side_put(ring, at, &size, sizeof size);
	at = side_put(ring, at, &type_byte, 1);
	at = side_put(ring, at, payload, size_bytes);
	atomic_store_explicit(&ring->header->side_head, at, memory_order_release);
}

/* Returns with the lock held and room for the payload. */
static int side_lock_room(pio_ring *ring, size_t payload_bytes, pio_err *err)
{
	for (;;) {
		uint64_t end;
		int rc = side_lock(ring, err);
		if (rc)
			return rc;
		if (side_fits(ring, payload_bytes, &end))
			return 0;
		side_unlock(ring);
		wait_room(ring, &ring->header->side_tail, end, ring->side_bytes);
	}
}

int pio_ring_record(pio_ring *ring, enum pio_record_type type, const void *payload,
                    size_t size_bytes, pio_err *err)
{
	size_t size_max = ring->side_bytes / 2 - RING_FRAME_BYTES;
	if (size_bytes > size_max)
		return pio_fail(err, PIO_EINVAL, "a record of %zu bytes is too long: at most %zu fit",
		                size_bytes, size_max);
	int rc = side_lock_room(ring, size_bytes, err);
	if (rc)
		return rc;
	if (!atomic_load(&ring->header->closed))
		side_publish(ring, type, payload, size_bytes);
	side_unlock(ring);
	return 0;
}

/* ---- keys ------------------------------------------------------------------- */

static uint64_t hash_name(const char *name, size_t name_bytes)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, 64 bits */
	for (size_t i = 0; i < name_bytes; i++)
		h = (h ^ (uint8_t)name[i]) * 0x100000001b3u;
	return h;
}

static uint32_t table_find(const key_table *table, uint64_t hash, const char *name,
                           size_t name_bytes)
{
	if (!table)
		return 0;
	for (size_t i = (size_t)hash;; i++) {
		const key_entry *entry = atomic_load_explicit(&table->entries[i & table->mask],
		                                              memory_order_acquire);
		if (!entry)
			return 0;
		if (entry->hash == hash && entry->name_bytes == name_bytes &&
		    memcmp(entry->name, name, name_bytes) == 0)
			return entry->number;
	}
}

static void table_insert(key_table *table, key_entry *entry)
{
	size_t i = (size_t)entry->hash;
	while (atomic_load_explicit(&table->entries[i & table->mask], memory_order_relaxed))
		i++;
	atomic_store_explicit(&table->entries[i & table->mask], entry, memory_order_release);
	table->used++;
}

/* With the lock held: a table with room for one more, at most half full. Old
 * tables stay until close, because a reader may be inside. */
static int table_reserve(pio_ring *ring, pio_err *err)
{
	key_table *old = atomic_load_explicit(&ring->keys, memory_order_relaxed);
	if (old && (old->used + 1) * 2 <= old->mask + 1)
		return 0;
	size_t size = old ? (old->mask + 1) * 2 : KEY_TABLE_MIN;
	key_table *table = pio_calloc(1, sizeof *table + size * sizeof table->entries[0]);
	if (!table)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu metric names", size);
	table->mask = size - 1;
	table->retired = old;
	for (size_t i = 0; old && i <= old->mask; i++) {
		key_entry *entry = atomic_load_explicit(&old->entries[i], memory_order_relaxed);
		if (entry)
			table_insert(table, entry);
	}
	atomic_store_explicit(&ring->keys, table, memory_order_release);
	return 0;
}

static int key_add(pio_ring *ring, key_entry *entry, bool *added, pio_err *err)
{
	struct { uint32_t rank, number, name_bytes; } head = { ring->rank, 0, entry->name_bytes };
	uint8_t payload[sizeof head + PIO_NAME_BYTES_MAX];
	size_t size_bytes = sizeof head + entry->name_bytes;
	int rc = side_lock_room(ring, size_bytes, err);
	if (rc)
		return rc;
	entry->number = table_find(atomic_load(&ring->keys), entry->hash, entry->name,
	                           entry->name_bytes);
	if (!entry->number) {
		rc = table_reserve(ring, err);
		if (rc)
			goto out;
		/* The number comes from shared memory, so that a forked child and its
		 * parent never give one number to two names. */
		entry->number = head.number = atomic_fetch_add(&ring->header->next_key, 1);
		if (entry->number == 0 || entry->number >= PIO_POINT_INTEGER) {
			rc = pio_fail(err, PIO_EINVAL, "metric number %u: the numbers of rank %u are used up",
			              entry->number, ring->rank);
			goto out;
		}
		memcpy(payload, &head, sizeof head);
		memcpy(payload + sizeof head, entry->name, entry->name_bytes);
		side_publish(ring, PIO_RECORD_KEY, payload, size_bytes);
		table_insert(atomic_load(&ring->keys), entry);
		*added = true;
	}
out:
	side_unlock(ring);
	return rc;
}

uint32_t pio_ring_key(pio_ring *ring, const char *name, size_t name_bytes, pio_err *err)
{
	uint64_t hash = hash_name(name, name_bytes);
	uint32_t number = table_find(atomic_load_explicit(&ring->keys, memory_order_acquire), hash,
	                             name, name_bytes);
	if (number)
		return number;
	if (pio_name_check("metric", name, name_bytes, err))
		return 0;
	if (sizeof(uint32_t) * 3 + name_bytes > ring->side_bytes / 2 - RING_FRAME_BYTES) {
		pio_fail(err, PIO_EINVAL, "metric name of %zu bytes does not fit a ring of %u side bytes",
		         name_bytes, ring->side_bytes);
		return 0;
	}
	key_entry *entry = pio_alloc(sizeof *entry + name_bytes);
	if (!entry) {
		pio_fail(err, PIO_ENOMEM, "out of memory for a metric name of %zu bytes", name_bytes);
		return 0;
	}
	*entry = (key_entry){ .hash = hash, .name_bytes = (uint32_t)name_bytes };
	memcpy(entry->name, name, name_bytes);
	bool added = false;
	number = key_add(ring, entry, &added, err) ? 0 : entry->number;
	if (!added)
		pio_free(entry);
	return number;
}

/* ---- who is to blame -------------------------------------------------------- */

void pio_ring_mark_secondary(pio_ring *ring)
{
	atomic_store(&ring->header->secondary, 1);
}

bool pio_ring_is_secondary(const pio_ring *ring)
{
	return atomic_load(&ring->header->secondary) != 0;
}
