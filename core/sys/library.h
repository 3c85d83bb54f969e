/* library.h: a shared library that is there or not: drivers and their kin.
 *
 * What is loaded is used through slots filled by name, so that nothing of it
 * is needed to build or to start. */
#ifndef PIO_SYS_LIBRARY_H
#define PIO_SYS_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct pio_symbol {
	const char *name;
	void **slot;
	bool optional;      /* newer than the oldest version that will do: the slot may stay NULL */
} pio_symbol;

/* Load `soname` and fill the slots. -PIO_ENOTFOUND, with the loader's words, if
 * it cannot be loaded; -PIO_EVERSION if it lacks a symbol that is not optional. */
int pio_library_open(void **library, const char *soname, const pio_symbol *symbols, size_t count,
                     pio_err *err);
/* The same of one that this process has loaded already; -PIO_ENOTFOUND if it has not. */
int pio_library_find(void **library, const char *soname, const pio_symbol *symbols, size_t count,
                     pio_err *err);
/* The slots are dead afterwards; sets *library to NULL. */
void pio_library_close(void **library);

#endif
