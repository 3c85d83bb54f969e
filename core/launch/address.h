/* address.h: by which of its addresses a head is reached from the other nodes.
 *
 * In this order: the interface that somebody named; the address that packets to
 * another node leave with; the one that this node's own name stands for; the
 * one of the default route; the loopback, which serves a single machine. */
#ifndef PIO_LAUNCH_ADDRESS_H
#define PIO_LAUNCH_ADDRESS_H

#include "base/str.h"
#include "sys/address.h"

typedef struct pio_address_wish {
	const char *interface;   /* name or range; NULL: none named */
	const char *other_node;  /* any other node; NULL: there is none, or its name is unknown */
	const char *own_name;    /* as the scheduler calls this node; NULL: unknown */
} pio_address_wish;

/* `why`, where not NULL, gets the choice in words: "10.1.0.7 (ib0): packets to
 * dgx-002 leave with it". */
int pio_address_choose(char address[PIO_ADDRESS_BYTES], pio_str *why, const pio_address_wish *wish,
                       pio_err *err);

#endif
