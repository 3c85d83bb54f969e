#include "store/archive_points.h"

#include <string.h>

#include "base/crc32c.h"
#include "sys/journal.h"

typedef struct field {
	size_t at, bytes;
	int differs;            /* kept as the difference to the point before */
} field;

static const field fields[] = {
	{ offsetof(pio_journal_point, time_ns), 8, 1 }, { offsetof(pio_journal_point, step), 8, 1 },
	{ offsetof(pio_journal_point, value_bits), 8, 0 }, { offsetof(pio_journal_point, key), 4, 1 },
	{ offsetof(pio_journal_point, seq), 4, 1 },
};

static uint32_t u32_at(const uint8_t *bytes)
{
	uint32_t value;
	memcpy(&value, bytes, 4);
	return value;
}

size_t pio_archive_points(const uint8_t *bytes, size_t left)
{
	if (left < PIO_ARCHIVE_HEAD_BYTES || bytes[8] != PIO_RECORD_POINTS)
		return 0;
	size_t length = u32_at(bytes), count = u32_at(bytes + 13);
	bool fits = count <= PIO_ARCHIVE_POINTS_MAX && length == PIO_ARCHIVE_HEAD_BYTES - 8 + 32 * count &&
	            length <= left - 8;
	return fits && pio_crc32c(0, bytes + 8, length) == u32_at(bytes + 4) ? count : 0;
}

void pio_archive_split(uint8_t *columns, const uint8_t *record, size_t count)
{
	for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
		uint64_t before = 0;
		for (size_t i = 0; i < count; i++) {
			uint64_t value = 0;
			memcpy(&value, record + PIO_ARCHIVE_HEAD_BYTES + 32 * i + fields[f].at, fields[f].bytes);
			uint64_t kept = value - (fields[f].differs ? before : 0);
			for (size_t b = 0; b < fields[f].bytes; b++)
				columns[b * count + i] = (uint8_t)(kept >> (8 * b));
			before = value;
		}
		columns += fields[f].bytes * count;
	}
}

void pio_archive_join(uint8_t *record, uint32_t rank, const uint8_t *columns, size_t count)
{
	for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
		uint64_t before = 0;
		for (size_t i = 0; i < count; i++) {
			uint64_t value = fields[f].differs ? before : 0;
			uint64_t kept = 0;
			for (size_t b = 0; b < fields[f].bytes; b++)
				kept |= (uint64_t)columns[b * count + i] << (8 * b);
			value += kept;
			memcpy(record + PIO_ARCHIVE_HEAD_BYTES + 32 * i + fields[f].at, &value, fields[f].bytes);
			before = value;
		}
		columns += fields[f].bytes * count;
	}
	uint32_t length = (uint32_t)(PIO_ARCHIVE_HEAD_BYTES - 8 + 32 * count), points = (uint32_t)count;
	memcpy(record, &length, 4);
	record[8] = PIO_RECORD_POINTS;
	memcpy(record + 9, &rank, 4);
	memcpy(record + 13, &points, 4);
	uint32_t crc = pio_crc32c(0, record + 8, length);
	memcpy(record + 4, &crc, 4);
}
