/* Any bytes as the parts of an archive, their checksums made right: the reader
 * never crashes and ends. Then as a segment: what is archived comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "store/archive.h"
#include "store/archive_points.h"
#include "sys/fs.h"

#define COUNT_MAX 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[200], path[300], archive[300];

static void clean(void)
{
	pio_fs_remove_tree(dir, NULL);
}

static void set_up(void)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/pioche-fuzz-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		abort();
	atexit(clean);
	snprintf(path, sizeof path, "%s/journal.0", dir);
	snprintf(archive, sizeof archive, "%s/journal.0.zst", dir);
}

static void put_file(const char *name, const void *data, size_t size)
{
	FILE *file = fopen(name, "wb");
	if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
		abort();
}

static void read_all(void)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	if (pio_archive_open(&reader, &header, path, NULL) != 0)
		return;
	while (pio_journal_next(reader, &record, NULL) == 1)
		continue;
	pio_journal_reader_close(reader);
}

/* Each part's checksum is that of what it stands for, as far as parts go. */
static void mend(uint8_t *parts, size_t size)
{
	static uint8_t record[PIO_ARCHIVE_HEAD_BYTES + 32 * COUNT_MAX];
	for (size_t at = 0; size - at >= 13;) {
		uint32_t count, rank, crc;
		memcpy(&count, parts + at + 1, 4);
		memcpy(&rank, parts + at + 9, 4);
		size_t body = parts[at] == 'P' ? 4 + 32 * (size_t)count : count;
		if (count > COUNT_MAX || body > size - at - 9)
			return;
		crc = pio_crc32c(0, parts + at + 9, body);
		if (parts[at] == 'P') {
			pio_archive_join(record, rank, parts + at + 13, count);
			crc = pio_crc32c(0, record, PIO_ARCHIVE_HEAD_BYTES + 32 * (size_t)count);
		}
		memcpy(parts + at + 5, &crc, 4);
		at += 9 + body;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!dir[0])
		set_up();
	if (size > 1 << 20)
		return 0;
	const size_t magic = strlen(PIO_ARCHIVE_MAGIC);
	size_t bound = ZSTD_compressBound(size + magic);
	uint8_t *parts = malloc(size + magic), *packed = malloc(bound);
	if (!parts || !packed)
		abort();
	memcpy(parts, PIO_ARCHIVE_MAGIC, magic);
	if (size)
		memcpy(parts + magic, data, size);
	mend(parts + magic, size);
	unlink(path);
	put_file(archive, packed, ZSTD_compress(packed, bound, parts, size + magic, 1));
	read_all();
	/* Compared with the plain file when it is made: any difference is a failure. */
	unlink(archive);
	put_file(path, data, size);
	if (pio_archive_make(path, NULL) != 0 || (access(archive, F_OK) == 0) != (size >= PIO_ARCHIVE_BYTES_MIN))
		abort();
	read_all();
	free(parts);
	free(packed);
	return 0;
}
