#include "sys/interrupt.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

#define PATIENCE 2                 /* signals that are kept back */

static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
#define COUNT (sizeof numbers / sizeof *numbers)

static struct sigaction before[COUNT];
static volatile sig_atomic_t came[COUNT], total;
static bool is_held[COUNT];
static int depth;

static void count(int signal_number)
{
	for (size_t i = 0; i < COUNT; i++)
		came[i] = came[i] + (numbers[i] == signal_number);
	total = total + 1;
	if (total <= PATIENCE)
		return;
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

void pio_interrupt_begin(void)
{
	struct sigaction action;
	if (depth++)
		return;
	memset(&action, 0, sizeof action);
	action.sa_handler = count;
	action.sa_flags = SA_RESTART;
	sigemptyset(&action.sa_mask);
	total = 0;
	for (size_t i = 0; i < COUNT; i++) {
		came[i] = 0;
		is_held[i] = sigaction(numbers[i], NULL, &before[i]) == 0 && before[i].sa_handler != SIG_DFL &&
		             before[i].sa_handler != SIG_IGN && sigaction(numbers[i], &action, NULL) == 0;
	}
}

bool pio_interrupt_came(void)
{
	return depth && total > 0;
}

void pio_interrupt_end(void)
{
	assert(depth > 0);
	if (--depth)
		return;
	for (size_t i = 0; i < COUNT; i++)
		if (is_held[i])
			sigaction(numbers[i], &before[i], NULL);
	for (size_t i = 0; i < COUNT; i++)
		for (; came[i]; came[i] = came[i] - 1)
			raise(numbers[i]);
}
