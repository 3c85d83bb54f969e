#include "sys/library.h"

#include <dlfcn.h>

static int open_library(void **library, const char *soname, int flags, const pio_symbol *symbols, size_t count,
                        pio_err *err)
{
	*library = dlopen(soname, RTLD_NOW | RTLD_LOCAL | flags);
	if (!*library) {
		const char *words = dlerror();
		return pio_fail(err, PIO_ENOTFOUND, "%s", words ? words : soname);
	}
	for (size_t i = 0; i < count; i++) {
		*symbols[i].slot = dlsym(*library, symbols[i].name);
		if (*symbols[i].slot || symbols[i].optional)
			continue;
		pio_library_close(library);
		return pio_fail(err, PIO_EVERSION, "%s is too old: it lacks %s", soname, symbols[i].name);
	}
	return 0;
}

int pio_library_open(void **library, const char *soname, const pio_symbol *symbols, size_t count, pio_err *err)
{
	return open_library(library, soname, 0, symbols, count, err);
}

int pio_library_find(void **library, const char *soname, const pio_symbol *symbols, size_t count, pio_err *err)
{
	return open_library(library, soname, RTLD_NOLOAD, symbols, count, err);
}

void pio_library_close(void **library)
{
	if (*library)
		dlclose(*library);
	*library = NULL;
}
