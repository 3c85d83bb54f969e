/* tty.h: the terminal as a screen of one's own, and as it was afterwards.
 *
 * While it is entered, keys come one by one and unseen, what is drawn is on the
 * alternate screen, and Ctrl-C and Ctrl-Z are the signals that they always are. The
 * terminal is given back however the process ends: by leave, by exit, by any signal
 * that can be caught. Ctrl-Z gives it back, and the next SIGCONT takes it again.
 *
 * A process has one; for the main thread alone. */
#ifndef PIO_SYS_TTY_H
#define PIO_SYS_TTY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Take the terminal that standard output is. Keys come from standard input, or from
 * the controlling terminal where that is something else. PIO_EINVAL: there is none. */
int pio_tty_enter(pio_err *err);
/* Give it back; nothing when it is not taken. Safe in a signal handler. */
void pio_tty_leave(void);

typedef struct pio_tty_news {
	size_t count;              /* bytes of keys */
	bool resized;              /* the size is another, maybe */
	bool resumed;              /* the screen is empty: draw all of it */
	bool gone;                 /* nobody is there any more */
} pio_tty_news;
/* Keys that were pressed, and what else happened; waits at most timeout_ms for any
 * of it. */
void pio_tty_read(pio_tty_news *news, char *bytes, size_t size_bytes, int timeout_ms);

/* Columns and rows of standard output's terminal; 80 and 24 where it does not say. */
void pio_tty_size(int *columns, int *rows);

#endif
