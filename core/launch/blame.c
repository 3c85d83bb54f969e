#include "launch/blame.h"

void pio_blame_waited(pio_str *text, int ranks, int64_t waited_ns)
{
	if (ranks < 1)
		return;
	pio_str_puts(text, "; ");
	if (ranks >= 1000)
		pio_str_printf(text, "%d,%03d", ranks / 1000, ranks % 1000);
	else
		pio_str_printf(text, "%d", ranks);
	pio_str_printf(text, " rank%s waited %.1f s", ranks == 1 ? "" : "s", (double)waited_ns / 1e9);
}
