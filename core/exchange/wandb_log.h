/* wandb_log.h: the framing of .wandb files (wandb/core/pkg/leveldb/record.go): a
 * LevelDB log with another checksum.
 *
 *   7 bytes ":W&B", u16 magic 0xbee1, u8 version 0, inside block 0
 *   blocks of 32 KiB, counted from the beginning of the file; in them chunks:
 *   u32 CRC-32 (IEEE) of type and payload | u16 length | u8 type | payload
 *   type 1 FULL, 2 FIRST, 3 MIDDLE, 4 LAST; less than 7 bytes left of a block
 *   are zeros
 *
 * A record that is not whole yet means *wait*. A broken chunk in a block that is
 * complete costs the rest of that block. */
#ifndef PIO_EXCHANGE_WANDB_LOG_H
#define PIO_EXCHANGE_WANDB_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "exchange/window.h"

#define PIO_WANDB_HEADER_BYTES 7
#define PIO_WANDB_RECORD_BYTES_MAX (1u << 30)

typedef struct pio_wandb_log {
	pio_window window;
	int64_t offset;             /* where the next record begins */
	int64_t broken;             /* blocks that had to be passed over in part */
	pio_str record;
} pio_wandb_log;

#define PIO_WANDB_LOG_INIT { .window = PIO_WINDOW_INIT, .record = PIO_STR_INIT }

/* PIO_ECORRUPT or PIO_EVERSION for another file's head. */
int pio_wandb_log_open(pio_wandb_log *log, const char *path, pio_err *err);
/* An offset that an earlier read reported; 0: the first record. */
void pio_wandb_log_seek(pio_wandb_log *log, int64_t offset);
/* 1: log->record is the next record and log->offset behind it; 0: there is no
 * whole record (yet). */
int pio_wandb_log_next(pio_wandb_log *log, pio_err *err);
void pio_wandb_log_close(pio_wandb_log *log);

/* CRC-32 (ISO 3309), as zlib's crc32. */
uint32_t pio_wandb_crc32(uint32_t crc, const uint8_t *bytes, size_t size_bytes);

#endif
