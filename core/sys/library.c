#include "sys/library.h"

#include <dlfcn.h>

int pio_library_open(void **library, const char *soname, const pio_symbol *symbols, size_t count,
                     pio_err *err)
{
	*library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
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

void pio_library_close(void **library)
{
	if (*library)
		dlclose(*library);
	*library = NULL;
}
