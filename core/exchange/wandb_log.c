#include "exchange/wandb_log.h"

#include <string.h>

#define BLOCK_BYTES 32768
#define CHUNK_HEADER_BYTES 7

enum { FULL = 1, FIRST, MIDDLE, LAST };

/* ---- CRC-32 by slices of 8 bytes ------------------------------------------------------- */

static uint32_t crc_table[8][256];

__attribute__((constructor)) static void make_crc_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int k = 0; k < 8; k++)
			crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
		crc_table[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int s = 1; s < 8; s++)
			crc_table[s][i] = crc_table[s - 1][i] >> 8 ^ crc_table[0][crc_table[s - 1][i] & 255];
}

uint32_t pio_wandb_crc32(uint32_t crc, const uint8_t *p, size_t n)
{
	crc = ~crc;
	for (; n >= 8; n -= 8, p += 8) {
		uint64_t word;
		memcpy(&word, p, 8); /* little-endian hosts only */
		word ^= crc;
		crc = 0;
		for (int s = 0; s < 8; s++)
			crc ^= crc_table[7 - s][word >> (8 * s) & 255];
	}
	for (; n; n--, p++)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 255];
	return ~crc;
}

/* ---- the file ----------------------------------------------------------------------------- */

int pio_wandb_log_open(pio_wandb_log *log, const char *path, pio_err *err)
{
	static const uint8_t head[PIO_WANDB_HEADER_BYTES] = { ':', 'W', '&', 'B', 0xe1, 0xbe, 0 };
	const uint8_t *data;
	*log = (pio_wandb_log)PIO_WANDB_LOG_INIT;
	int rc = pio_window_open(&log->window, path, err);
	if (rc)
		return rc;
	rc = pio_window_need(&data, &log->window, sizeof head, err);
	if (rc == 0)
		rc = pio_fail(err, PIO_ECORRUPT, "%s: too short for a W&B log: it has no head of 7 bytes", path);
	else if (rc == 1 && memcmp(data, head, 6) != 0)
		rc = pio_fail(err, PIO_ECORRUPT, "%s: no W&B log: byte 0 should begin \":W&B\" and 0xbee1", path);
	else if (rc == 1 && data[6] != head[6])
		rc = pio_fail(err, PIO_EVERSION, "%s: a W&B log of version %d at byte 6, expected 0", path,
		              data[6]);
	rc = rc == 1 ? 0 : rc;
	if (rc)
		pio_wandb_log_close(log);
	else
		pio_wandb_log_seek(log, 0);
	return rc;
}

void pio_wandb_log_seek(pio_wandb_log *log, int64_t offset)
{
	log->offset = offset < PIO_WANDB_HEADER_BYTES ? PIO_WANDB_HEADER_BYTES : offset;
	pio_window_seek(&log->window, log->offset);
}

enum found { WAIT, CHUNK, BROKEN };

/* In a block that is complete nobody will put it right. */
static int broken_or_not_yet(const pio_window *w, int64_t left_in_block, pio_err *err)
{
	int64_t size = 0;
	int rc = pio_window_size(&size, w, err);
	return rc ? rc : size - w->offset >= left_in_block ? BROKEN : WAIT;
}

/* The chunk at the window's offset, padding passed over. */
static int next_chunk(const uint8_t **payload, size_t *length, int *type, pio_wandb_log *log,
                      pio_err *err)
{
	static const uint8_t zeros[CHUNK_HEADER_BYTES];
	pio_window *w = &log->window;
	const uint8_t *data;
	int64_t left = BLOCK_BYTES - w->offset % BLOCK_BYTES;
	if (left < CHUNK_HEADER_BYTES) {
		int rc = pio_window_need(&data, w, (size_t)left, err);
		if (rc != 1)
			return rc;
		pio_window_skip(w, (size_t)left);
		left = BLOCK_BYTES;
	}
	int rc = pio_window_need(&data, w, CHUNK_HEADER_BYTES, err);
	if (rc != 1)
		return rc;
	uint32_t crc;
	memcpy(&crc, data, 4);
	*length = (size_t)(data[4] | data[5] << 8);
	*type = data[6];
	bool sound = *type >= FULL && *type <= LAST && (int64_t)*length + CHUNK_HEADER_BYTES <= left;
	if (!sound || memcmp(data, zeros, sizeof zeros) == 0)
		return broken_or_not_yet(w, left, err);
	rc = pio_window_need(&data, w, CHUNK_HEADER_BYTES + *length, err);
	if (rc != 1)
		return rc;
	if (crc != pio_wandb_crc32(0, data + 6, 1 + *length))
		return broken_or_not_yet(w, left, err);
	*payload = data + CHUNK_HEADER_BYTES;
	pio_window_skip(w, CHUNK_HEADER_BYTES + *length);
	return CHUNK;
}

int pio_wandb_log_next(pio_wandb_log *log, pio_err *err)
{
	const uint8_t *payload = NULL;
	size_t length = 0;
	int type = 0, rc;
	bool inside = false;
	if (log->window.offset != log->offset)
		pio_window_seek(&log->window, log->offset);
	pio_str_clear(&log->record);
	while ((rc = next_chunk(&payload, &length, &type, log, err)) > WAIT) {
		if (rc == BROKEN) {
			int64_t at = log->window.offset;
			log->broken++;
			pio_window_seek(&log->window, at + BLOCK_BYTES - at % BLOCK_BYTES);
			log->offset = log->window.offset;
			inside = false;
			continue;
		}
		if (type == FULL || type == FIRST) {
			pio_str_clear(&log->record);
			inside = true;
		}
		/* The rest of a record whose beginning was lost. */
		if (!inside) {
			log->offset = log->window.offset;
			continue;
		}
		if (log->record.len + length > PIO_WANDB_RECORD_BYTES_MAX)
			return pio_fail(err, PIO_ECORRUPT, "%s: a record of more than 1 GiB at byte %lld",
			                log->window.path, (long long)log->offset);
		pio_str_append(&log->record, payload, length);
		if (type == FULL || type == LAST) {
			log->offset = log->window.offset;
			rc = pio_str_check(&log->record, err);
			return rc ? rc : 1;
		}
	}
	return rc;
}

void pio_wandb_log_close(pio_wandb_log *log)
{
	pio_window_close(&log->window);
	pio_str_fini(&log->record);
}
