/* main: `pioche agent` is C alone; every other verb is Lua. */
#include <signal.h>
#include <string.h>

#include "bind/bind.h"
#include "launch/agent.h"
#include "launch/head.h"
#include "launch/pilot.h"
#include "launch/probe.h"

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "agent") == 0)
		return pio_agent_main();
	if (argc == 3 && strcmp(argv[1], "agent") == 0 && strcmp(argv[2], "--join") == 0)
		return pio_agent_join_main();
	if (argc == 4 && strcmp(argv[1], "agent") == 0 && strcmp(argv[2], "--head") == 0)
		return pio_head_main(argv[3]);
	if (argc == 5 && strcmp(argv[1], "agent") == 0 && strcmp(argv[2], "--probe") == 0)
		return pio_probe_main(argv[3], argv[4]);
	if (argc == 4 && strcmp(argv[1], "agent") == 0 && strcmp(argv[2], "--pilot") == 0)
		return pio_pilot_main(argv[3]);
	/* A reader that went away (`pioche ls | head`) is an error of write(2)
	 * where it matters; sockets and the agent's pipes must not kill us. */
	signal(SIGPIPE, SIG_IGN);
	return pio_bind_main(argc, argv);
}
