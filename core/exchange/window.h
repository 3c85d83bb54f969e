/* window.h: a file that may grow, read forward through one buffer. */
#ifndef PIO_EXCHANGE_WINDOW_H
#define PIO_EXCHANGE_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct pio_window {
	int fd;
	const char *path;           /* borrowed */
	uint8_t *buffer;
	size_t begin, end, capacity;
	int64_t offset;             /* in the file, of buffer[begin] */
} pio_window;

#define PIO_WINDOW_INIT { .fd = -1 }

int pio_window_open(pio_window *window, const char *path, pio_err *err);
/* Next to be read is this offset. */
void pio_window_seek(pio_window *window, int64_t offset);
/* 1: at least `bytes` are at *data, borrowed until the next call; 0: the file is
 * shorter. */
int pio_window_need(const uint8_t **data, pio_window *window, size_t bytes, pio_err *err);
/* Pass over bytes that were there. */
void pio_window_skip(pio_window *window, size_t bytes);
int pio_window_size(int64_t *bytes, const pio_window *window, pio_err *err);
/* Idempotent. */
void pio_window_close(pio_window *window);

#endif
