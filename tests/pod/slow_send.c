/* slow_send: a preloaded library with which what a process sends over sockets goes no
 * faster than RATE bytes a second: a node with a bad cable, for tests. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#ifndef RATE
#define RATE 50e6
#endif

ssize_t send(int fd, const void *bytes, size_t size_bytes, int flags)
{
	static ssize_t (*real)(int, const void *, size_t, int);
	if (!real)
		real = (ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
	ssize_t sent = real(fd, bytes, size_bytes, flags);
	if (sent > 4096) {
		double s = (double)sent / RATE;
		nanosleep(&(struct timespec){ (time_t)s, (long)((s - (double)(time_t)s) * 1e9) }, NULL);
	}
	return sent;
}
