/* Any bytes as the ring that a rank left behind: attaching refuses it or
 * draining it ends, touches nothing outside the file, and leaves a journal
 * that reads whole. Recovery of the same bytes also ends, and takes the file
 * away; with them beside it as the backlog that a full disk left, too. The last
 * bits of the input say whether the rank is dead, and whether there is one. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/drain.h"
#include "client/ring.h"
#include "sys/fs.h"
#include "sys/journal.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)
#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define DRAINS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static char dir[64], ring_path[160], spill_path[168], journal_path[160];

static void remove_dir(void)
{
	(void)pio_fs_remove_tree(dir, NULL);
}

static void prepare(void)
{
	pio_str path = PIO_STR_INIT;
	snprintf(dir, sizeof dir, "%s/pioche-fuzz-XXXXXX",
	         pio_fs_type("/dev/shm") == PIO_FS_DIR ? "/dev/shm" : "/tmp");
	CHECK(mkdtemp(dir) && setenv("PIOCHE_SHM", dir, 1) == 0 && atexit(remove_dir) == 0);
	CHECK(pio_ring_path(&path, ULID, 1, 0, NULL) == 0 && path.len < sizeof ring_path);
	memcpy(ring_path, path.data, path.len + 1);
	pio_str_fini(&path);
	snprintf(spill_path, sizeof spill_path, "%s.spill", ring_path);
	snprintf(journal_path, sizeof journal_path, "%s/journal.0", dir);
}

static void write_file(const char *path, const uint8_t *data, size_t size_bytes)
{
	int fd;
	unlink(path);
	CHECK(pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_EXCL, 0600, NULL) == 0);
	CHECK(pio_fs_write_all(fd, data, size_bytes, path, NULL) == 0 && close(fd) == 0);
}

/* As the fold does: whole points, and a MEDIA record as far as it goes. */
static void read_record(const pio_record *record)
{
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	size_t n;
	if (record->type == PIO_RECORD_POINTS) {
		CHECK(record->size_bytes >= 8);
	} else if (record->type == PIO_RECORD_MEDIA) {
		pio_cursor_u32(&cursor), pio_cursor_i64(&cursor), pio_cursor_i64(&cursor);
		pio_cursor_u8(&cursor);
		for (int i = 0; i < 3; i++)
			pio_cursor_str(&cursor, &n);
		pio_cursor_u64(&cursor);
		for (int i = 0; i < 3; i++)
			pio_cursor_str(&cursor, &n);
	}
}

/* Every record of the journal says what rank 0, or the ring's rank, may say. */
static void read_journal(void)
{
	pio_err err = PIO_ERR_INIT;
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	int rc = pio_journal_reader_open(&reader, &header, journal_path, &err);
	CHECK(rc == 0);
	while ((rc = pio_journal_next(reader, &record, &err)) == 1) {
		CHECK(record.size_bytes >= 4 && record.type <= PIO_RECORD_ENVIRONMENT);
		read_record(&record);
	}
	CHECK(rc == 0);
	pio_journal_reader_close(reader);
}

static void drain(bool rank_is_dead)
{
	pio_err err = PIO_ERR_INIT;
	pio_ring *ring;
	pio_journal_writer *journal;
	pio_journal_header header = { .attempt = 1 };
	uint64_t moved = 1;
	int rc = pio_ring_attach(&ring, ring_path, &err);
	if (rc) {
		CHECK(err.message[0] && !ring);
		return;
	}
	CHECK(pio_ulid_parse(&header.run, ULID));
	CHECK(pio_journal_open(&journal, journal_path, &header, &err) == 0);
	for (int i = 0; i < DRAINS && moved; i++)
		CHECK(pio_ring_drain(ring, journal, rank_is_dead, &moved, &err) == 0);
	(void)pio_ring_last_step(ring);
	(void)pio_ring_is_secondary(ring);
	CHECK(pio_journal_close(&journal, &err) == 0);
	pio_ring_close(&ring);
	read_journal();
}

/* A ring that can be attached, for a backlog beside it. */
static void write_whole_ring(void)
{
	pio_ring *ring;
	unlink(ring_path);
	CHECK(pio_ring_create(&ring, ring_path, 0, 16, 1024, NULL) == 0);
	pio_ring_log(ring, pio_ring_key(ring, "k", 1, NULL), 1, 1.0);
	pio_ring_close(&ring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	uint8_t last = size_bytes ? data[size_bytes - 1] : 0;
	if (!dir[0])
		prepare();
	write_file(ring_path, data, size_bytes);
	drain(last & 1);
	/* Once more on the same bytes, as after a drainer that was killed. */
	if (last & 2) {
		write_whole_ring();
		write_file(spill_path, data, size_bytes);
	} else {
		write_file(ring_path, data, size_bytes);
	}
	int rc = pio_ring_recover(dir, ULID, 1, 1, &err);
	CHECK(rc == 0 && pio_fs_type(ring_path) == PIO_FS_NONE);
	CHECK(!(last & 2) || pio_fs_type(spill_path) == PIO_FS_NONE);
	read_journal();
	unlink(journal_path);
	return 0;
}
