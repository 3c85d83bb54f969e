/* token.h: the secret of an attempt: 32 hexadecimal digits of the kernel's
 * random bytes, new for each one, so that strangers and what is left of an
 * earlier attempt are refused. */
#ifndef PIO_LAUNCH_TOKEN_H
#define PIO_LAUNCH_TOKEN_H

#include "base/err.h"

#define PIO_TOKEN_CHARS 32

int pio_token_new(char token[PIO_TOKEN_CHARS + 1], pio_err *err);

#endif
