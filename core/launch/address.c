#include "launch/address.h"

#include <string.h>

#define FAR_AWAY "198.51.100.1"   /* RFC 5737: nobody's; the default route leads there */

/* "ADDRESS (INTERFACE): BEFORE NAME AFTER". */
static void explain(pio_str *why, const char *address, const char *before, const char *name,
                    const char *after)
{
	pio_str interface = PIO_STR_INIT;
	if (!why)
		return;
	pio_str_puts(why, address);
	if (pio_address_interface(&interface, address))
		pio_str_printf(why, " (%s)", interface.data);
	pio_str_printf(why, ": %s%s%s", before, name, after);
	pio_str_fini(&interface);
}

int pio_address_choose(char address[PIO_ADDRESS_BYTES], pio_str *why, const pio_address_wish *wish,
                       pio_err *err)
{
	if (wish->interface) {
		int rc = pio_address_of_interface(address, wish->interface, err);
		if (!rc)
			explain(why, address, "launch.interface is ", wish->interface, "");
		return rc;
	}
	if (wish->other_node && pio_address_towards(address, wish->other_node, NULL) == 0) {
		explain(why, address, "packets to ", wish->other_node, " leave with it");
	} else if (wish->own_name && pio_address_towards(address, wish->own_name, NULL) == 0 &&
	           !pio_address_is_loopback(address)) {
		explain(why, address, "this node's name, ", wish->own_name, ", stands for it");
	} else if (pio_address_towards(address, FAR_AWAY, NULL) == 0) {
		explain(why, address, "it is the one of the default route", "", "");
	} else {
		memcpy(address, "127.0.0.1", sizeof "127.0.0.1");
		explain(why, address, "there is no route to any other machine", "", "");
	}
	return 0;
}
