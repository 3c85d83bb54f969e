/* Signals while something takes long: counted, given on afterwards, and never without end. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "sweep/gp_search.h"
#include "sys/interrupt.h"
#include "test.h"

static volatile sig_atomic_t heard;

static void hear(int signal_number)
{
	(void)signal_number;
	heard = heard + 1;
}

static void who_heard_them_before_hears_them_at_the_end(void **state)
{
	(void)state;
	heard = 0;
	signal(SIGINT, hear);
	pio_interrupt_begin();
	assert_false(pio_interrupt_came());
	pio_interrupt_begin();
	raise(SIGINT);
	raise(SIGINT);
	assert_true(pio_interrupt_came());
	pio_interrupt_end();
	assert_true(heard == 0 && pio_interrupt_came());
	pio_interrupt_end();
	assert_true(heard == 2 && !pio_interrupt_came());
	raise(SIGINT);
	assert_int_equal(heard, 3);
	pio_interrupt_begin();
	assert_false(pio_interrupt_came());
	pio_interrupt_end();
	signal(SIGINT, SIG_DFL);
}

static int status_of(void (*handler)(int), int signals)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGTERM, handler);
		pio_interrupt_begin();
		for (int i = 0; i < signals; i++)
			raise(SIGTERM);
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void the_third_ends_the_process_and_one_that_nobody_hears_the_first(void **state)
{
	(void)state;
	assert_int_equal(WEXITSTATUS(status_of(hear, 2)), 7);
	assert_int_equal(WTERMSIG(status_of(hear, 3)), SIGTERM);
	assert_int_equal(WTERMSIG(status_of(SIG_DFL, 1)), SIGTERM);
	assert_int_equal(WEXITSTATUS(status_of(SIG_IGN, 3)), 7);
}

static void a_model_that_is_learned_gives_up(void **state)
{
	(void)state;
	const pio_gp_axis axis = { pio_axis_init(PIO_AXIS_REAL, false, 0, 1), -1, 0 };
	const pio_gp_effort effort = { .candidates = 5, .starts = 3, .calls = 2 };
	double values[6] = { 3, 1, 4, 1, 5, 9 }, points[6] = { 0, 0.2, 0.4, 0.6, 0.8, 1 }, best[3];
	pio_draw draw = pio_draw_init(1, 1, "gp", 2);
	pio_gp *gp = NULL;
	size_t found;
	check_ok(pio_gp_new(&gp, &axis, 1, &err));
	check_ok(pio_gp_learn(gp, points, values, NULL, 6, 4, &err));
	check_ok(pio_gp_know(gp, points, values, NULL, 6, NULL, 0, &err));
	check_ok(pio_gp_search(best, &found, gp, &effort, NULL, NULL, &draw, &err));
	signal(SIGINT, hear);
	pio_interrupt_begin();
	raise(SIGINT);
	check_fails(pio_gp_learn(gp, points, values, NULL, 6, 4, &err), PIO_ECANCELLED, "interrupted");
	check_fails(pio_gp_search(best, &found, gp, &effort, NULL, NULL, &draw, &err), PIO_ECANCELLED, "interrupted");
	pio_interrupt_end();
	signal(SIGINT, SIG_DFL);
	pio_gp_free(gp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_heard_them_before_hears_them_at_the_end),
		cmocka_unit_test(the_third_ends_the_process_and_one_that_nobody_hears_the_first),
		cmocka_unit_test(a_model_that_is_learned_gives_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
