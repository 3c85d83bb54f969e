/* client_fixture.h: a home for standalone runs, and checks that show pio_error(). */
#ifndef PIO_CLIENT_FIXTURE_H
#define PIO_CLIENT_FIXTURE_H

#include <string.h>

#include "client/env.h"
#include "client/pioche.h"
#include "heard.h"
#include "test.h"

/* A working directory of its own; rings go there too. */
static inline char *home_new(void)
{
	char *dir = scratch_new();
	setenv("PIOCHE_SHM", dir, 1);
	unsetenv(PIO_ENV_STORE);
	unsetenv(PIO_ENV_RING);
	assert_int_equal(chdir(dir), 0);
	return dir;
}

static inline void home_remove(char *dir)
{
	assert_int_equal(chdir("/"), 0);
	unsetenv("PIOCHE_SHM");
	scratch_remove(dir);
}

static inline heard *hear_of(const char *attempt_dir)
{
	return heard_read(path_in(attempt_dir, "journal.0"));
}

static inline int rings_left(const char *dir)
{
	char **names;
	size_t count;
	int rings = 0;
	check_ok(pio_fs_list(&names, &count, dir, &err));
	for (size_t i = 0; i < count; i++)
		rings += strstr(names[i], ".ring") != NULL;
	pio_fs_list_free(names, count);
	return rings;
}

#define ok(call)                                               \
	do {                                                   \
		if ((call) != 0)                               \
			fail_msg("%s: %s", #call, pio_error()); \
	} while (0)

#define refused(call, code, text)                                                    \
	do {                                                                         \
		assert_int_equal((call), -(code));                                   \
		if (!strstr(pio_error(), (text)))                                    \
			fail_msg("message \"%s\" lacks \"%s\"", pio_error(), (text)); \
	} while (0)

#endif
