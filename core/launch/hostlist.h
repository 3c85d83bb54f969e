/* hostlist.h: Slurm's lists of node names, "login,dgx-[001-003,007],a[1-2]b[1-2]".
 *
 * The last bracket of a name counts fastest, and zeros in front keep their
 * width, as slurm.conf(5) and `scontrol show hostnames` have it. */
#ifndef PIO_LAUNCH_HOSTLIST_H
#define PIO_LAUNCH_HOSTLIST_H

#include <stdbool.h>

#include "base/str.h"

/* Append the n-th name, 0 the first. False, and nothing is appended, when there
 * is none, or `list` is NULL or no list. */
bool pio_hostlist_nth(pio_str *name, const char *list, int n);

#endif
