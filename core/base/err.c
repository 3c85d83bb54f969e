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

static const char *const words[] = {
	[PIO_OK] = "ok",
	[PIO_EINVAL] = "invalid",
	[PIO_EUSAGE] = "usage",
	[PIO_ENOTFOUND] = "not_found",
	[PIO_EEXIST] = "exists",
	[PIO_EBUSY] = "busy",
	[PIO_ECORRUPT] = "corrupt",
	[PIO_EVERSION] = "version",
	[PIO_EIO] = "io",
	[PIO_ENOSPC] = "no_space",
	[PIO_ENOMEM] = "no_memory",
	[PIO_ETIMEOUT] = "timeout",
	[PIO_ECANCELLED] = "cancelled",
	[PIO_EPEER] = "peer",
};

int pio_err_code(const pio_err *err)
{
	return err && err->code ? -err->code : -PIO_EIO;
}

const char *pio_code_word(int code)
{
	size_t i = (size_t)(code < 0 ? -code : code);
	return words[i < sizeof words / sizeof words[0] ? i : PIO_EIO];
}
