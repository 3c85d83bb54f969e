/* interrupt.h: the signals of a person who wants an end, while something takes long that looks
 * for no event.
 *
 * From begin to end SIGINT, SIGTERM and SIGHUP are counted and nothing else comes of them; who
 * takes long asks now and then whether one came, and gives up. At the end they go to whoever
 * heard them before. The third is heard by nobody: the process ends by it, also where nobody
 * asks. A signal that would end the process anyway is left alone. */
#ifndef PIO_SYS_INTERRUPT_H
#define PIO_SYS_INTERRUPT_H

#include <stdbool.h>

/* Of the main thread. What begins within another one is part of it. */
void pio_interrupt_begin(void);
/* Has one come since the outermost begin? Of any thread. */
bool pio_interrupt_came(void);
void pio_interrupt_end(void);

#endif
