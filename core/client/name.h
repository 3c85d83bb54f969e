/* name.h: what a name or a fact's value may look like.
 *
 * Checked where they enter, so that every later reader may rely on it. */
#ifndef PIO_CLIENT_NAME_H
#define PIO_CLIENT_NAME_H

#include <stddef.h>

#include "base/err.h"

#define PIO_NAME_BYTES_MAX 4096

/* UTF-8, 1 to 4096 bytes, no NUL. `what` names the thing in the message. */
int pio_name_check(const char *what, const char *name, size_t name_bytes, pio_err *err);
/* UTF-8 without NUL. `what` and `key` name it in the message. */
int pio_text_check(const char *what, const char *key, const char *text, size_t size_bytes,
                   pio_err *err);
/* A table as pioche.h describes it: as many columns as names, all of one
 * length, cells that are scalars. `json` ends with a NUL at size_bytes. */
int pio_table_check(const char *key, const char *json, size_t size_bytes, pio_err *err);
/* One JSON scalar: string, number, true, false or null (RFC 8259). */
int pio_scalar_check(const char *name, const char *json, pio_err *err);

#endif
