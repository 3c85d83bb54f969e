/* library.h: libgit2, loaded when a command first needs it.
 *
 * The functions of libgit2 that this room calls are jumps through slots
 * (late.sh); until the library is loaded a call of one crashes. pio_git_init
 * loads it, and everything else here runs after that. It stays loaded until
 * the process ends. */
#ifndef PIO_GIT_LIBRARY_H
#define PIO_GIT_LIBRARY_H

#include "base/err.h"

/* Once per process, from any thread; again is free. PIO_EIO if it
 * cannot be loaded, PIO_EVERSION if it lacks a function. */
int pio_git_library_load(pio_err *err);

#endif
