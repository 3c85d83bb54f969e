/* Any bytes as a journal: the reader never crashes, never reads beyond the
 * file, and ends; payload cursors stay inside their record. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys/fs.h"
#include "sys/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("journal", MFD_CLOEXEC);
	if (fd < 0 || pio_fs_write_all(fd, data, size, "memfd", NULL) != 0)
		abort();
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);

	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	if (pio_journal_reader_open(&reader, &header, path, NULL) == 0) {
		int64_t end = PIO_JOURNAL_HEADER_BYTES;
		while (pio_journal_next(reader, &record, NULL) == 1) {
			if (record.end_offset <= end || record.end_offset > (int64_t)size)
				abort();
			end = record.end_offset;
			pio_cursor cursor = { record.payload, record.payload + record.size_bytes, 0 };
			while (!cursor.bad) {
				size_t length;
				const char *text = pio_cursor_str(&cursor, &length);
				if (length && (text < (const char *)record.payload ||
				               text + length > (const char *)record.payload + record.size_bytes))
					abort();
				pio_cursor_u8(&cursor);
			}
		}
		pio_journal_reader_close(reader);
	}
	close(fd);
	return 0;
}
