/* vote_rank.h: a rank that adds up with all others at each step, and asks at each
 * whether it is the last one; of test_agent_vote.c and test_head_vote.c. */
#ifndef PIO_TEST_VOTE_RANK_H
#define PIO_TEST_VOTE_RANK_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/pioche.h"

static volatile sig_atomic_t vote_rank_was_told;

static inline void vote_rank_told(int number)
{
	(void)number;
	vote_rank_was_told = 1;
}

/* `steps` of them, with a pause that differs from rank to rank; "up" at the third, "end
 * STEP" at the one that it hears to be the last. Rank `silent` never asks. Less than 100
 * steps: then it waits for a file `go`. Rank `failing` ends with 1, and the others wait
 * for it until they get a signal; -1: none does. Step 4 takes `long_ms`. */
static inline int vote_rank_main(int steps, int silent, int failing, int long_ms)
{
	pio_run *joined;
	pio_comm *comm;
	signal(SIGTERM, vote_rank_told);
	if (pio_open(&joined, NULL) || pio_comm_init(&comm, joined, 20000))
		return 98;
	const pio_info *info = pio_info_get(joined);
	pio_key key = pio_key_get(joined, "loss");
	for (int step = 1; step <= steps && !vote_rank_was_told; step++) {
		float sum = 1;
		pio_clock_sleep_ms(step == 4 ? long_ms : 1 + (step * 7 + info->rank * 3) % 5);
		if (pio_comm_allreduce(comm, &sum, 1) || (int)sum != info->world)
			return 97;
		pio_log(joined, key, step, sum);
		if (step == 3 || step == 5)
			dprintf(1, step == 3 ? "up\n" : "on\n");
		if (info->rank != silent && pio_should_stop(joined, step)) {
			dprintf(1, "end %d\n", step);
			break;
		}
	}
	if (steps < 100)
		dprintf(1, "waits\n");
	/* Who is still in the last step's sum is not to fail by another's end. */
	if (failing >= 0 && pio_comm_barrier(comm))
		return 95;
	if (info->rank == failing)
		return 1;
	while ((failing >= 0 || (steps < 100 && access("go", F_OK) != 0)) && !vote_rank_was_told)
		pio_clock_sleep_ms(5);
	pio_comm_close(&comm, NULL);
	return pio_close(&joined, 0) ? 96 : 0;
}

#endif
