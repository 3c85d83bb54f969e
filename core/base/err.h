/* err.h: how every fallible function of pioche reports failure.
 *
 * A fallible function returns 0, or one of the negative codes below, and
 * takes a last argument `pio_err *err` that the caller owns. The message is
 * written once, where the failure is known best; callers pass it on unchanged
 * and may add context only at the border of a room (pio_err_context).
 * Nothing here allocates, so an error can be reported when memory is gone.
 * `err` may be NULL where the caller does not want the message. */
#ifndef PIO_BASE_ERR_H
#define PIO_BASE_ERR_H

#include <stddef.h>

enum pio_code {
	PIO_OK = 0,
	/* The numbers behind are the exit statuses that lua/pioche/errors.lua gives. */
	PIO_EINVAL = 1,     /* the user's value is wrong: 1 */
	PIO_EUSAGE = 2,     /* the command line is wrong: 2 */
	PIO_ENOTFOUND = 3,  /* what was named does not exist: 1 */
	PIO_EEXIST = 4,     /* it exists already: 1 */
	PIO_EBUSY = 5,      /* somebody else holds it: 3 */
	PIO_ECORRUPT = 6,   /* bytes are not what they claim to be: 1 */
	PIO_EVERSION = 7,   /* written by another version: 1 */
	PIO_EIO = 8,        /* the system failed: 3; sys_errno says how */
	PIO_ENOSPC = 9,     /* no space, quota or file too large: 3 */
	PIO_ENOMEM = 10,    /* allocation failed: 3 */
	PIO_ETIMEOUT = 11,  /* a deadline passed: 3 */
	PIO_ECANCELLED = 12,/* interrupted by a person: 130 */
	PIO_EPEER = 13,     /* another rank or process is gone: 3 */
};

#define PIO_ERR_MESSAGE_BYTES 1024

typedef struct pio_err {
	int code;           /* enum pio_code, positive; 0 when unset */
	int sys_errno;      /* errno where a system call failed, else 0 */
	const char *file;   /* source position that reported it, static storage */
	int line;
	char message[PIO_ERR_MESSAGE_BYTES]; /* one line of UTF-8, NUL-terminated */
} pio_err;

#define PIO_ERR_INIT { 0, 0, NULL, 0, "" }

/* Fill `err` and return -code. The message says what was wrong, with what
 * value, and what was expected. An already filled `err` is overwritten: the
 * callee that fails last is the one the caller sees. */
#define pio_fail(err, code, ...) \
	pio_fail_at((err), (code), 0, __FILE__, __LINE__, __VA_ARGS__)

/* The same for a failed system call: appends ": " and strerror(sys_errno).
 * ENOSPC, EDQUOT and EFBIG become PIO_ENOSPC, ENOMEM becomes PIO_ENOMEM,
 * everything else PIO_EIO. */
#define pio_fail_errno(err, sys_errno, ...) \
	pio_fail_at((err), PIO_EIO, (sys_errno), __FILE__, __LINE__, __VA_ARGS__)

int pio_fail_at(pio_err *err, int code, int sys_errno, const char *file,
                int line, const char *format, ...)
	__attribute__((format(printf, 6, 7)));

/* Put "context: " before the message; the code stays. */
void pio_err_context(pio_err *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* -code of the failure in `err`, for who was told of it by a NULL; -PIO_EIO where
 * `err` is NULL and nobody knows. */
int pio_err_code(const pio_err *err);

/* Stable lower-case word of a code ("not_found"), the third value that a Lua
 * function returns on failure. Static storage. */
const char *pio_code_word(int code);

#endif
