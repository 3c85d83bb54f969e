/* archive_points.h: records of points in another order, for archives alone.
 *
 * 32 bytes of a point beside each other look like noise to a compressor; the
 * same bytes of many points, of what a point adds to the one before it, do not.
 *
 * An archive (archive.h) holds the 8 bytes "PIOARCH1" and then parts; what they
 * stand for, one after another, is the segment, byte for byte:
 *
 *   'R', u32 n, u32 crc, n bytes      they themselves, n up to
 *        PIO_ARCHIVE_RECORD_BYTES_MAX
 *   'P', u32 n, u32 crc, u32 rank, 32 n bytes    a whole record of n points, n
 *        up to PIO_ARCHIVE_POINTS_MAX. Of times, steps, value bits, keys and
 *        seqs (sys/journal.h) in turn: the first bytes of all points, then the
 *        second bytes, and so on; where all but value bits are differences to
 *        the point before. What else is in the record follows from these.
 *
 * crc is the crc32c of the bytes that the part stands for: a reader would take a
 * damaged record for the end of a torn journal.
 *
 * An archive that begins otherwise is the segment itself. */
#ifndef PIO_STORE_ARCHIVE_POINTS_H
#define PIO_STORE_ARCHIVE_POINTS_H

#include <stddef.h>
#include <stdint.h>

#define PIO_ARCHIVE_MAGIC "PIOARCH1"
#define PIO_ARCHIVE_POINTS_MAX 32768
/* Before its points a record has length, CRC, type, rank and their count. */
#define PIO_ARCHIVE_HEAD_BYTES 17
#define PIO_ARCHIVE_RECORD_BYTES_MAX (PIO_ARCHIVE_HEAD_BYTES + 32 * PIO_ARCHIVE_POINTS_MAX)

/* How many points the record at `bytes` has that can become a 'P'; 0: it is
 * another record, or not whole within `left` bytes, or not as it was written. */
size_t pio_archive_points(const uint8_t *bytes, size_t left);
/* The points of such a record as columns, 32 bytes each. */
void pio_archive_split(uint8_t *columns, const uint8_t *record, size_t count);
/* The record, PIO_ARCHIVE_HEAD_BYTES and 32 bytes a point. */
void pio_archive_join(uint8_t *record, uint32_t rank, const uint8_t *columns, size_t count);

#endif
