#include <string.h>
#include <sys/wait.h>

#include "sys/cpus.h"
#include "test.h"

static const char *list_of(const pio_cpus *cpus)
{
	static char text[256];
	pio_str list = PIO_STR_INIT;
	pio_cpus_put(&list, cpus);
	snprintf(text, sizeof text, "%s", list.data);
	pio_str_fini(&list);
	return text;
}

static void lists_are_the_kernels(void **state)
{
	(void)state;
	pio_cpus cpus;
	static const char *const good[] = { "", "0", "0-3", "0-3,8", "63-64", "1,3,5,8191", "0-8191" };
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		char line[64];
		snprintf(line, sizeof line, "%s\n", good[i]);
		assert_true(pio_cpus_parse(&cpus, line));
		assert_string_equal(list_of(&cpus), good[i]);
	}
	assert_int_equal(pio_cpus_count(&cpus), 8192);
	static const char *const bad[] = { "x", "0-", "3-1", "0,", "8192", "-1", "0 1", "0-3-5", "0,,1" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (pio_cpus_parse(&cpus, bad[i]))
			fail_msg("'%s' is no list", bad[i]);
}

static void sets_are_walked(void **state)
{
	(void)state;
	pio_cpus cpus, other;
	assert_true(pio_cpus_parse(&cpus, "2,63-65,8191") && pio_cpus_parse(&other, "64-70"));
	int found[5], n = 0;
	for (int cpu = pio_cpus_next(&cpus, 0); cpu >= 0; cpu = pio_cpus_next(&cpus, cpu + 1))
		found[n++] = cpu;
	assert_int_equal(n, 5);
	assert_true(found[0] == 2 && found[1] == 63 && found[3] == 65 && found[4] == 8191);
	assert_int_equal(pio_cpus_count(&cpus), 5);
	pio_cpus both = cpus;
	pio_cpus_and(&both, &other);
	assert_string_equal(list_of(&both), "64-65");
	pio_cpus_or(&both, &cpus);
	assert_true(pio_cpus_equal(&both, &cpus));
}

/* In a child, as whoever runs the tests and as nobody: no privilege is needed. */
static void in_child(uid_t uid, int (*work)(void))
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(uid && setuid(uid) != 0 ? 90 : work());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int bind_to_one(void)
{
	pio_cpus allowed, one = { { 0 } }, found;
	if (pio_cpus_allowed(&allowed, NULL) != 0)
		return 1;
	pio_cpus_add(&one, pio_cpus_next(&allowed, 0));
	if (pio_cpus_bind(&one, NULL) != 0 || pio_cpus_allowed(&found, NULL) != 0)
		return 2;
	if (!pio_cpus_equal(&one, &found))
		return 3;
	return pio_cpus_bind(&allowed, NULL) == 0 ? 0 : 4;
}

static void a_thread_is_bound_and_freed(void **state)
{
	(void)state;
	in_child(0, bind_to_one);
	if (getuid() == 0)
		in_child(65534, bind_to_one);
	pio_cpus none;
	assert_true(pio_cpus_parse(&none, "8000-8191"));
	check_fails(pio_cpus_bind(&none, &err), PIO_EIO, "run on CPUs 8000-8191: Invalid argument");
}

static int prefer_memory(void)
{
	pio_err err = PIO_ERR_INIT;
	if (pio_memory_has_policy())
		return 1;
	int rc = pio_memory_prefer(0, &err);
	if (rc)
		return err.sys_errno == 1 ? 0 : 2; /* EPERM: a container forbids it */
	if (!pio_memory_has_policy())
		return 3;
	return pio_memory_prefer(-1, NULL) == 0 && !pio_memory_has_policy() ? 0 : 4;
}

static void memory_is_preferred_and_freed(void **state)
{
	(void)state;
	in_child(0, prefer_memory);
	if (getuid() == 0)
		in_child(65534, prefer_memory);
	check_fails(pio_memory_prefer(1024, &err), PIO_EINVAL, "expected less than 1024");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_the_kernels),
		cmocka_unit_test(sets_are_walked),
		cmocka_unit_test(a_thread_is_bound_and_freed),
		cmocka_unit_test(memory_is_preferred_and_freed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
