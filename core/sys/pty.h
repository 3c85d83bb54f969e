/* pty.h: a terminal for a program that asks on one, and an answer to what it asks. */
#ifndef PIO_SYS_PTY_H
#define PIO_SYS_PTY_H

#include "base/err.h"

#define PIO_PTY_PATH_BYTES 64
#define PIO_PTY_LINE_BYTES_MAX 1000

/* *fd: the side of whoever sits before it; *path: what the program opens
 * (pio_proc_spec.terminal). Nothing is echoed. The terminal is there until *fd is
 * closed. */
int pio_pty_open(int *fd, char path[PIO_PTY_PATH_BYTES], pio_err *err);
/* Type a line, before or when it is asked for. PIO_EINVAL for one that a terminal would
 * not pass on as it is: with a control character, or too long. */
int pio_pty_type(int fd, const char *line, pio_err *err);

#endif
