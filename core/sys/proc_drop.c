/* Shutting down the connections of another process, as a network that fails does. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/proc.h"

static int open_process(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0u);
}

/* A duplicate of the descriptor `fd` of that process. */
static int take_descriptor(int process_fd, int fd)
{
	return (int)syscall(SYS_pidfd_getfd, process_fd, fd, 0u);
}

static bool is_connection(int fd)
{
	int type = 0, domain = 0;
	socklen_t size = sizeof type;
	struct sockaddr_storage peer;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM)
		return false;
	size = sizeof domain;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) || (domain != AF_INET && domain != AF_INET6))
		return false;
	size = sizeof peer;
	return getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
}

int pio_proc_drop_connections(int *count, pid_t pid, pio_err *err)
{
	char path[64];
	int rc = 0;
	*count = 0;
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	int process_fd = open_process(pid);
	if (process_fd < 0)
		return pio_fail_errno(err, errno, "process %d", (int)pid);
	DIR *dir = opendir(path);
	if (!dir)
		rc = pio_fail_errno(err, errno, "%s", path);
	for (struct dirent *entry; dir && !rc && (entry = readdir(dir));) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		int fd = take_descriptor(process_fd, atoi(entry->d_name));
		if (fd < 0 && errno != EBADF) /* closed meanwhile */
			rc = pio_fail_errno(err, errno, "descriptor %s of process %d", entry->d_name, (int)pid);
		if (fd < 0)
			continue;
		if (is_connection(fd) && shutdown(fd, SHUT_RDWR) == 0)
			++*count;
		close(fd);
	}
	if (dir)
		closedir(dir);
	close(process_fd);
	return rc;
}
