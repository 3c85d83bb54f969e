#include "err.h"

#include <stdarg.h>
#include <stdio.h>

int gpt_err_set(gpt_err *err, int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(err->text, sizeof err->text, format, arguments);
	va_end(arguments);
	return status;
}
