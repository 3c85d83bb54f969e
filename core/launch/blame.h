/* blame.h: the words in which a failure is told, one line each, the same
 * whether an agent or the head tells it. */
#ifndef PIO_LAUNCH_BLAME_H
#define PIO_LAUNCH_BLAME_H

#include <stdint.h>

#include "base/str.h"

/* Append "; 1,015 ranks waited 0.8 s": how many ended after the first failure,
 * and when the last of them did. Nothing where nobody waited. */
void pio_blame_waited(pio_str *text, int ranks, int64_t waited_ns);

#endif
