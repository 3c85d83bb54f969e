/* Any bytes as a log of W&B: the importer never crashes, never reads beyond what
 * is there, and ends. A first byte that is odd means that records follow (u16
 * length, bytes) which are framed here with right checksums, so that a fuzzer
 * gets behind them. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exchange/exchange.h"
#include "exchange/wandb_log.h"
#include "sys/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCK = 32768, HEADER = 7 };

static void put_chunk(pio_str *file, uint8_t type, const uint8_t *payload, size_t length)
{
	uint8_t head[HEADER] = { 0, 0, 0, 0, (uint8_t)length, (uint8_t)(length >> 8), type };
	uint32_t crc = pio_wandb_crc32(0, &type, 1);
	crc = pio_wandb_crc32(crc, payload, length);
	memcpy(head, &crc, 4);
	pio_str_append(file, head, HEADER);
	pio_str_append(file, payload, length);
}

/* In as many chunks as there are blocks to cross. */
static void put_record(pio_str *file, const uint8_t *data, size_t size)
{
	bool first = true, last = false;
	while (!last) {
		size_t left = BLOCK - file->len % BLOCK;
		if (left < HEADER) {
			pio_str_append(file, "\0\0\0\0\0\0", left);
			continue;
		}
		size_t n = size < left - HEADER ? size : left - HEADER;
		last = n == size;
		put_chunk(file, first ? last ? 1 : 2 : last ? 4 : 3, data, n);
		data += n;
		size -= n;
		first = false;
	}
}

static void frame(pio_str *file, const uint8_t *data, size_t size)
{
	pio_str_append(file, ":W&B\xe1\xbe\0", HEADER);
	while (size >= 2) {
		size_t length = (size_t)(data[0] | data[1] << 8);
		length = length < size - 2 ? length : size - 2;
		put_record(file, data + 2, length);
		data += 2 + length;
		size -= 2 + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *scratch = getenv("TMPDIR");
	char dir[256], path[300];
	int fd = -1;
	pio_str file = PIO_STR_INIT;
	if (size && data[0] & 1)
		frame(&file, data + 1, size - 1);
	else if (size)
		pio_str_append(&file, data + 1, size - 1);
	snprintf(dir, sizeof dir, "%s/fuzz-wandb-XXXXXX", scratch ? scratch : "/tmp");
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof path, "%s/run-x.wandb", dir);
	if (pio_fs_open(&fd, path, O_WRONLY | O_CREAT, 0600, NULL) ||
	    pio_fs_write_all(fd, file.data, file.len, path, NULL))
		abort();
	(void)pio_fs_close(&fd, path, NULL);

	pio_import_report report = PIO_IMPORT_REPORT_INIT;
	pio_import_options options = { .dry = true };
	pio_err err = PIO_ERR_INIT;
	int rc = pio_import(&report, NULL, "wandb", path, &options, &err);
	/* The head may be wrong; behind it nothing is a failure. */
	if (rc && rc != -PIO_ECORRUPT && rc != -PIO_EVERSION)
		abort();
	if (!rc && report.runs_count > 1)
		abort();
	pio_import_report_fini(&report);
	pio_str_fini(&file);
	(void)pio_fs_remove_tree(dir, NULL);
	return 0;
}
