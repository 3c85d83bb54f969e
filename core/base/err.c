#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pio_fail_at(pio_err *err, int code, int sys_errno, const char *file, int line,
                const char *format, ...)
{
	if (sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG)
		code = PIO_ENOSPC;
	else if (sys_errno == ENOMEM)
		code = PIO_ENOMEM;
	if (!err)
		return -code;

	char text[PIO_ERR_MESSAGE_BYTES]; /* the arguments may point into err->message */
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n < 0)
		n = 0;
	if (sys_errno && (size_t)n < sizeof text)
		snprintf(text + n, sizeof text - (size_t)n, ": %s", strerror(sys_errno));
	err->code = code;
	err->sys_errno = sys_errno;
	err->file = file;
	err->line = line;
	memcpy(err->message, text, sizeof text);
	return -code;
}

void pio_err_context(pio_err *err, const char *format, ...)
{
	if (!err)
		return;
	char text[PIO_ERR_MESSAGE_BYTES];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n < 0)
		return;
	size_t used = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
	snprintf(text + used, sizeof text - used, ": %s", err->message);
	memcpy(err->message, text, sizeof text);
}

static const struct {
	const char *word;
	int exit_status;
} codes[] = {
	[PIO_OK] = { "ok", 0 },
	[PIO_EINVAL] = { "invalid", 1 },
	[PIO_EUSAGE] = { "usage", 2 },
	[PIO_ENOTFOUND] = { "not_found", 1 },
	[PIO_EEXIST] = { "exists", 1 },
	[PIO_EBUSY] = { "busy", 3 },
	[PIO_ECORRUPT] = { "corrupt", 1 },
	[PIO_EVERSION] = { "version", 1 },
	[PIO_EIO] = { "io", 3 },
	[PIO_ENOSPC] = { "no_space", 3 },
	[PIO_ENOMEM] = { "no_memory", 3 },
	[PIO_ETIMEOUT] = { "timeout", 3 },
	[PIO_ECANCELLED] = { "cancelled", 130 },
	[PIO_EPEER] = { "peer", 3 },
};

static size_t code_index(int code)
{
	size_t i = (size_t)(code < 0 ? -code : code);
	return i < sizeof codes / sizeof codes[0] ? i : PIO_EIO;
}

const char *pio_code_word(int code)
{
	return codes[code_index(code)].word;
}

int pio_code_exit_status(int code)
{
	return codes[code_index(code)].exit_status;
}
