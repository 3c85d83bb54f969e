/* test.h: what every unit test needs: cmocka with its prerequisites, a scratch
 * directory that is removed, and a check that prints the pio_err. */
#ifndef PIO_TEST_H
#define PIO_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* after its prerequisites */
#include <cmocka.h>

#include "base/err.h"
#include "sys/fs.h"

/* Fails the test with the message of `err` unless the call returned 0. */
#define check_ok(call)                                             \
	do {                                                       \
		pio_err err = PIO_ERR_INIT;                        \
		if ((call) != 0)                                   \
			fail_msg("%s: %s", #call, err.message);    \
	} while (0)

/* The call must fail with `code`, and its message must contain `text`. */
#define check_fails(call, expected_code, text)                                        \
	do {                                                                          \
		pio_err err = PIO_ERR_INIT;                                           \
		assert_int_equal((call), -(expected_code));                           \
		if (!strstr(err.message, (text)))                                     \
			fail_msg("message \"%s\" lacks \"%s\"", err.message, (text)); \
	} while (0)

/* A new empty directory under $TMPDIR. The caller removes it by scratch_remove. */
static inline char *scratch_new(void)
{
	const char *base = getenv("TMPDIR");
	char *path = NULL;
	if (asprintf(&path, "%s/pioche-test-XXXXXX", base && *base ? base : "/tmp") < 0 ||
	    !mkdtemp(path))
		abort();
	return path;
}

static inline void scratch_remove(char *path)
{
	pio_err err = PIO_ERR_INIT;
	if (pio_fs_remove_tree(path, &err) != 0)
		fail_msg("%s", err.message);
	free(path);
}

/* "DIR/NAME" in one of eight rotating buffers. */
static inline const char *path_in(const char *dir, const char *name)
{
	static char buffers[8][4096];
	static unsigned next;
	char *buffer = buffers[next++ % 8];
	snprintf(buffer, sizeof buffers[0], "%s/%s", dir, name);
	return buffer;
}

#endif
