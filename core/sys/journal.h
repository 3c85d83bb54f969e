/* journal.h: the append-only file that keeps everything the ranks of one node
 * said in one attempt, and the only way from a ring into the store.
 *
 * File: a header of 64 bytes, then records. Everything is little-endian.
 *
 *   header   0  char[8]  "PIOJRNL\n"
 *            8  u32      version, 1
 *           12  u32      crc32c of the header with this field 0
 *           16  u8[16]   ULID of the run
 *           32  u32      attempt
 *           36  u32      node index in the attempt
 *           40  i64      wall time of creation, ns
 *           48  u64      boot time identity: first 8 bytes of the boot id
 *           56  u64      0
 *
 *   record   0  u32      length of type and payload, 1 to 16 MiB
 *            4  u32      crc32c of type and payload
 *            8  u8       type
 *            9  payload
 *
 * A journal is cut into segments: `journal.<node>`, and when that is full
 * (PIO_JOURNAL_SEGMENT_BYTES) `journal.<node>.1`, `.2`, ... Each is a file of
 * this form with a header of its own; names and numbers of keys hold across
 * them. A segment is synced before the next one is made, so a segment that has
 * a successor is whole. One that is folded may be replaced by a compressed one,
 * `.zst` behind its name (store/archive.h).
 *
 * A writer appends whole records and never rewrites. A reader stops at the
 * first record that is short or whose CRC is wrong and reports its offset: a
 * torn tail means *wait* while the writer lives and *end* when it is dead.
 * A writer that reopens a journal cuts the torn tail first.
 *
 * Payloads; `str` is u32 length and bytes, `rank` u32, `time` i64 wall ns:
 *   KEY         rank, u32 key, str name          before the first point of it
 *   POINTS      rank, u32 count, count * { i64 time, i64 step, u64 bits of the
 *               value, u32 key, u32 seq }    in the order logged; the value is
 *               an f64, or an i64 where the highest bit of key is set (the
 *               name has the number without it); seq is for recovery of a
 *               ring alone (client/drain.c), readers skip it
 *   TEXT        rank, time, i64 step, str key, str text
 *   FACT        rank, time, u8 kind ('p','t','s'), str name, str json
 *   EVENT       rank, time, str kind, str message
 *   CHECKPOINT  rank, time, i64 step, u32 writers, i64 stall ns, u32 fsyncs,
 *               u32 files, files * { str role, str path, u64 bytes, str sha256 };
 *               missing before version 5 of the store: u32 round, u8 'a'
 *               asynchronous or 'b', u8 'f' fsync or 's' syncfs, i64 total ns,
 *               i64 hash ns, files * u32 part; and where files is 0, str failure
 *               (sys/save.h)
 *   HEARTBEAT   time
 *   LOSS        rank, time, u64 stalls, u64 stalled ns   totals of the ring
 *   RUN         time, str json      a standalone run describes itself:
 *               {experiment, command[], cwd, host, pid, start_ticks, user}
 *   MEDIA       rank, time, i64 step (INT64_MIN: of the run), u8 kind
 *               ('h' histogram, 'i' image, 't' table, 'f' file), str key, str
 *               name, str mime, u64 bytes, str sha256, str path, str data: the
 *               bytes are `data`, or where sha256 is not empty the file at
 *               `path` under the attempt's directory, which becomes an object
 *   ENVIRONMENT rank, time, str part, str host, str cwd, str json: what the node
 *               runs on ("machine") or its program's interpreter is and has
 *               ("python"), an object
 *   EXIT        time, str json      the exit record (core/launch/agent.h), or
 *               {"result":"ok|failed"} of a standalone run */
#ifndef PIO_SYS_JOURNAL_H
#define PIO_SYS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "base/ulid.h"

#define PIO_JOURNAL_VERSION 1
#define PIO_JOURNAL_HEADER_BYTES 64
#define PIO_JOURNAL_RECORD_BYTES_MAX (16u << 20)
/* A segment longer than this has a successor. PIOCHE_SEGMENT_BYTES overrides
 * it, for tests. */
#define PIO_JOURNAL_SEGMENT_BYTES (256u << 20)
#define PIO_JOURNAL_ARCHIVED ".zst"

enum pio_record_type {
	PIO_RECORD_KEY = 1, PIO_RECORD_POINTS, PIO_RECORD_TEXT, PIO_RECORD_FACT, PIO_RECORD_EVENT,
	PIO_RECORD_CHECKPOINT, PIO_RECORD_HEARTBEAT, PIO_RECORD_LOSS, PIO_RECORD_RUN, PIO_RECORD_EXIT,
	PIO_RECORD_MEDIA, PIO_RECORD_ENVIRONMENT,
};

/* In the key of a point: its value is an i64. */
#define PIO_POINT_INTEGER 0x80000000u

/* Keys from here on name what the agent itself measures (KEY and POINTS alike): they
 * never were in a ring. */
#define PIO_KEYS_OF_AGENT 0x7fff0000u

/* One entry of POINTS, as it lies in the file (little-endian hosts only). */
typedef struct pio_journal_point {
	int64_t time_ns, step;
	uint64_t value_bits;
	uint32_t key;       /* may hold PIO_POINT_INTEGER */
	uint32_t seq;       /* low half of the ring's claim index; 0 is as good for a reader */
} pio_journal_point;

typedef struct pio_journal_header {
	pio_ulid run;
	uint32_t attempt, node;
	int64_t created_ns;
} pio_journal_header;

/* ---- writing: one writer per file, one thread ------------------------------ */
typedef struct pio_journal_writer pio_journal_writer;

/* Create, or reopen the newest segment after cutting its torn tail (the header
 * must match). `path` is that of the first segment. */
int pio_journal_open(pio_journal_writer **writer, const char *path,
                     const pio_journal_header *header, pio_err *err);
/* Buffer one record; the parts of the payload are concatenated. */
int pio_journal_append(pio_journal_writer *writer, enum pio_record_type type,
                       const void *head, size_t head_bytes, const void *body, size_t body_bytes,
                       pio_err *err);
/* write(2) what is buffered, into the next segment where this one is full; with
 * `sync` also fdatasync. After an error the
 * writer is broken for good and every later call fails with the same message. */
int pio_journal_flush(pio_journal_writer *writer, int sync, pio_err *err);
/* Flush, sync, close, free. Sets *writer to NULL also on failure. */
int pio_journal_close(pio_journal_writer **writer, pio_err *err);

/* ---- segments ---------------------------------------------------------------- */
/* Append the path of a segment to `out`; `path` is that of the first. */
int pio_journal_segment_path(pio_str *out, const char *path, uint32_t segment, pio_err *err);
/* How many segments the journal has had so far, archived ones included; 0:
 * there is none. */
int pio_journal_segments(uint32_t *count, const char *path, pio_err *err);
/* The parts of the name journal.<node>[.<segment>][.zst]; false for any other. */
bool pio_journal_name_parse(uint32_t *node, uint32_t *segment, bool *archived, const char *name);

/* ---- building payloads ------------------------------------------------------- */
void pio_record_put_u32(pio_str *payload, uint32_t value);
void pio_record_put_i64(pio_str *payload, int64_t value);
void pio_record_put_str(pio_str *payload, const char *bytes, size_t size_bytes);

/* ---- reading -------------------------------------------------------------------- */
typedef struct pio_journal_reader pio_journal_reader;

typedef struct pio_record {
	enum pio_record_type type;
	const uint8_t *payload;     /* borrowed until the next read */
	size_t size_bytes;
	int64_t end_offset;         /* of the next record */
} pio_record;

/* Where a reader's bytes come from, if not from a file that can be read at any
 * place. Owned by the reader once it is open. */
typedef struct pio_journal_source {
	void *context;
	/* At most size_bytes of the next bytes; *n is 0 at the end. */
	int (*read)(void *context, void *bytes, size_t size_bytes, size_t *n, pio_err *err);
	void (*close)(void *context);
} pio_journal_source;

/* PIO_ECORRUPT if the header is no journal's, PIO_EVERSION if of another
 * version. A file shorter than a header is a journal without records whose
 * header reads as zeros. `path` is that of one segment. */
int pio_journal_reader_open(pio_journal_reader **reader, pio_journal_header *header,
                            const char *path, pio_err *err);
/* The same from a source, which is closed also on failure; `name` is for
 * messages. Such a reader seeks forwards only. */
int pio_journal_reader_open_source(pio_journal_reader **reader, pio_journal_header *header,
                                   const pio_journal_source *source, const char *name,
                                   pio_err *err);
/* Go to an offset that an earlier read reported (64: the first record). */
int pio_journal_seek(pio_journal_reader *reader, int64_t offset, pio_err *err);
/* 1: a record; 0: no whole record is there (end or torn tail); negative: the
 * file cannot be read. */
int pio_journal_next(pio_journal_reader *reader, pio_record *record, pio_err *err);
/* After pio_journal_next was 0: bytes stand behind the last whole record. */
bool pio_journal_has_rest(const pio_journal_reader *reader);
void pio_journal_reader_close(pio_journal_reader *reader);

/* A cursor over a payload that checks every bound: after a read beyond the end
 * `bad` is set and all values are 0 or empty. */
typedef struct pio_cursor {
	const uint8_t *at, *end;
	int bad;
} pio_cursor;
uint8_t pio_cursor_u8(pio_cursor *cursor);
uint32_t pio_cursor_u32(pio_cursor *cursor);
uint64_t pio_cursor_u64(pio_cursor *cursor);
int64_t pio_cursor_i64(pio_cursor *cursor);
/* Borrowed bytes, not NUL-terminated. */
const char *pio_cursor_str(pio_cursor *cursor, size_t *size_bytes);

#endif
