/* address.h: the network addresses of this machine, and which of them leads where. */
#ifndef PIO_SYS_ADDRESS_H
#define PIO_SYS_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_ADDRESS_BYTES 64   /* of a numeric one, its scope and a NUL */

/* The address that packets to `host` would leave with; nothing is sent. */
int pio_address_towards(char address[PIO_ADDRESS_BYTES], const char *host, pio_err *err);
/* The first address of an interface by name ("ib0"), or the first in a range
 * ("10.1.0.0/16", "fd00::/8"), IPv4 before IPv6. -PIO_ENOTFOUND: there is none,
 * and the message lists what there is; -PIO_EINVAL: nothing could be called that. */
int pio_address_of_interface(char address[PIO_ADDRESS_BYTES], const char *interface, pio_err *err);
/* The name of the interface that has this address, appended; false: none has. */
bool pio_address_interface(pio_str *name, const char *address);
bool pio_address_is_loopback(const char *address);

#endif
