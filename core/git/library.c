#include "git/library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <git2/version.h>

/* late.sh: the names, each ended by NUL, after the last an empty one; and
 * where to jump, in the same order. */
extern const char pio_git_names[];
extern void *pio_git_slots[];

/* The version that the room was compiled against: its structs are part of the calls. */
#define LIBRARY "libgit2.so." LIBGIT2_SOVERSION

static int resolve(void *library, pio_err *err)
{
	void **slot = pio_git_slots;
	for (const char *name = pio_git_names; *name; name += strlen(name) + 1)
		if (!(*slot++ = dlsym(library, name)))
			return pio_fail(err, PIO_EVERSION, "%s has no function %s", LIBRARY, name);
	return 0;
}

int pio_git_library_load(pio_err *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool is_loaded;
	int rc = 0;
	pthread_mutex_lock(&lock);
	if (!is_loaded) {
		void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
		rc = library ? resolve(library, err)
		             : pio_fail(err, PIO_EIO, "code is recorded and read by libgit2, which cannot be "
		                        "loaded: %s", dlerror());
		is_loaded = rc == 0;
	}
	pthread_mutex_unlock(&lock);
	return rc;
}
