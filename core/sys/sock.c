#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "sys/fs.h"

/* How long to wait before a refused connection is tried again. */
#define RETRY_MS 20

/* 1 when `events` (or an error, which the next call will report) is there, 0
 * when the deadline passed, or -PIO_E... */
static int wait_for(int fd, short events, int64_t deadline_ns, pio_err *err)
{
	for (;;) {
		int64_t left_ns = deadline_ns - pio_clock_mono_ns();
		if (left_ns <= 0)
			return 0;
		int64_t left_ms = left_ns / 1000000 + 1;
		struct pollfd entry = { .fd = fd, .events = events };
		int n = poll(&entry, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
		if (n > 0)
			return 1;
		if (n < 0 && errno != EINTR)
			return pio_fail_errno(err, errno, "poll of a socket");
	}
}

static int fail_peer(pio_err *err, int sys_errno, const char *what)
{
	switch (sys_errno) {
	case EPIPE: case ECONNRESET: case ECONNABORTED: case ENETRESET: case ETIMEDOUT:
		return pio_fail_at(err, PIO_EPEER, sys_errno, __FILE__, __LINE__, "%s: the peer is gone", what);
	default:
		return pio_fail_errno(err, sys_errno, "%s", what);
	}
}

static int resolve(struct addrinfo **list, const char *host, uint16_t port, int flags, pio_err *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
	                          .ai_flags = flags | AI_NUMERICSERV };
	char service[8];
	snprintf(service, sizeof service, "%u", (unsigned)port);
	*list = NULL;
	int rc = getaddrinfo(host, service, &hints, list);
	if (rc == 0)
		return 0;
	if (rc == EAI_SYSTEM)
		return pio_fail_errno(err, errno, "address of host \"%s\"", host);
	return pio_fail(err, PIO_ENOTFOUND, "address of host \"%s\": %s", host, gai_strerror(rc));
}

static int new_socket(const struct addrinfo *address)
{
	return pio_fs_lift(socket(address->ai_family,
	                          address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
	                          address->ai_protocol));
}

/* Small frames must not wait for an acknowledgement, and a peer whose machine
 * is gone must be noticed without traffic. Failure harms nothing but speed. */
static void tune(int fd)
{
	int on = 1, idle_s = 15, interval_s = 5, probes = 3;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static int bound_port(int fd, uint16_t *port)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	if (getsockname(fd, (struct sockaddr *)&name, &length) != 0)
		return -1;
	*port = ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
	                                         : ((struct sockaddr_in *)&name)->sin_port);
	return 0;
}

int pio_sock_listen(int *fd, const char *host, uint16_t *port, pio_err *err)
{
	struct addrinfo *list = NULL;
	int on = 1, sys_errno = EADDRNOTAVAIL;

	*fd = -1;
	if (!host)
		host = "127.0.0.1";
	int rc = resolve(&list, host, *port, AI_PASSIVE, err);
	if (rc)
		return rc;
	for (struct addrinfo *a = list; a && *fd < 0; a = a->ai_next) {
		int s = new_socket(a);
		if (s < 0) {
			sys_errno = errno;
			continue;
		}
		setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (bind(s, a->ai_addr, a->ai_addrlen) == 0 && listen(s, SOMAXCONN) == 0 &&
		    bound_port(s, port) == 0) {
			*fd = s;
		} else {
			sys_errno = errno;
			close(s);
		}
	}
	freeaddrinfo(list);
	if (*fd < 0)
		return pio_fail_errno(err, sys_errno, "listen on %s:%u", host, (unsigned)*port);
	return 0;
}

int pio_sock_accept(int *fd, int listen_fd, int64_t deadline_ns, pio_err *err)
{
	*fd = -1;
	for (;;) {
		*fd = pio_fs_lift(accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
		if (*fd >= 0) {
			tune(*fd);
			return 0;
		}
		/* Linux passes errors of the new connection on to accept: the next one may be well. */
		if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == ENETDOWN ||
		    errno == EHOSTUNREACH || errno == ENETUNREACH)
			continue;
		if (errno != EAGAIN)
			return pio_fail_errno(err, errno, "accept a connection");
		int rc = wait_for(listen_fd, POLLIN, deadline_ns, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return pio_fail(err, PIO_ETIMEOUT, "nobody connected before the deadline");
	}
}

/* ---- unix sockets of this machine ---------------------------------------------------- */

int pio_sock_listen_local(int *fd, char *name, size_t name_bytes, pio_err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof address;
	*fd = pio_fs_lift(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	/* unix(7), autobind: an address of nothing but its family. */
	if (*fd < 0 || bind(*fd, (struct sockaddr *)&address, sizeof address.sun_family) != 0 ||
	    listen(*fd, SOMAXCONN) != 0 || getsockname(*fd, (struct sockaddr *)&address, &length) != 0) {
		int rc = pio_fail_errno(err, errno, "listen on a unix socket");
		pio_sock_close(fd);
		return rc;
	}
	snprintf(name, name_bytes, "@%.*s", (int)(length - offsetof(struct sockaddr_un, sun_path) - 1),
	         address.sun_path + 1);
	return 0;
}

bool pio_sock_is_same_user(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == geteuid();
}

int pio_sock_connect_local(int *fd, const char *name, int64_t deadline_ns, pio_err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(name);
	*fd = -1;
	if (name[0] != '@' || n < 2 || n > sizeof address.sun_path)
		return pio_fail(err, PIO_EINVAL, "\"%s\" is no name of a unix socket: \"@\" and text expected", name);
	memcpy(address.sun_path + 1, name + 1, n - 1);
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	*fd = pio_fs_lift(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	if (*fd < 0)
		return pio_fail_errno(err, errno, "make a unix socket");
	int rc;
	/* EAGAIN: the queue of those who wait to be accepted is full. */
	while ((rc = connect(*fd, (struct sockaddr *)&address, length)) != 0 &&
	       (errno == EAGAIN || errno == EINTR) && pio_clock_mono_ns() < deadline_ns)
		pio_clock_sleep_ms(RETRY_MS / 4);
	if (rc != 0)
		rc = errno == EAGAIN ? pio_fail(err, PIO_ETIMEOUT, "connect to %s: refused until the deadline", name)
		                     : pio_fail(err, PIO_EPEER, "connect to %s: %s", name, strerror(errno));
	else if (!pio_sock_is_same_user(*fd))
		rc = pio_fail(err, PIO_EPEER, "connect to %s: a process of another user listens there", name);
	if (rc)
		pio_sock_close(fd);
	return rc;
}

/* ---- connecting ------------------------------------------------------------------------ */

/* Connecting to a free local port may pick that very port as the source and
 * succeed with nobody there (TCP's simultaneous open): that is a refusal. */
static bool is_self_connected(int fd)
{
	struct sockaddr_storage here, there;
	socklen_t here_length = sizeof here, there_length = sizeof there;
	memset(&here, 0, sizeof here);
	memset(&there, 0, sizeof there);
	return getsockname(fd, (struct sockaddr *)&here, &here_length) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &there_length) == 0 &&
	       here_length == there_length && memcmp(&here, &there, here_length) == 0;
}

/* One try: 0 and *fd, a positive errno, or -PIO_E... */
static int connect_once(int *fd, const struct addrinfo *a, int64_t deadline_ns, pio_err *err)
{
	int s = new_socket(a), sys_errno = 0;
	if (s < 0)
		return errno;
	if (connect(s, a->ai_addr, a->ai_addrlen) != 0) {
		sys_errno = errno;
		if (sys_errno == EINPROGRESS || sys_errno == EINTR) {
			socklen_t length = sizeof sys_errno;
			int rc = wait_for(s, POLLOUT, deadline_ns, err);
			if (rc < 0) {
				close(s);
				return rc;
			}
			if (rc == 0)
				sys_errno = ETIMEDOUT;
			else if (getsockopt(s, SOL_SOCKET, SO_ERROR, &sys_errno, &length) != 0)
				sys_errno = errno;
		}
	}
	if (sys_errno == 0 && is_self_connected(s))
		sys_errno = ECONNREFUSED;
	if (sys_errno) {
		close(s);
		return sys_errno;
	}
	tune(s);
	*fd = s;
	return 0;
}

int pio_sock_connect(int *fd, const char *host, uint16_t port, int64_t deadline_ns, pio_err *err)
{
	struct addrinfo *list = NULL;
	*fd = -1;
	int rc = resolve(&list, host, port, 0, err);
	if (rc)
		return rc;
	do {
		rc = ECONNREFUSED;
		for (struct addrinfo *a = list; a; a = a->ai_next) {
			rc = connect_once(fd, a, deadline_ns, err);
			if (rc <= 0)
				goto out;
		}
		if (rc != ECONNREFUSED && rc != ECONNRESET && rc != EAGAIN && rc != EADDRNOTAVAIL)
			break;
		if (pio_clock_mono_ns() < deadline_ns)
			pio_clock_sleep_ms(RETRY_MS);
	} while (pio_clock_mono_ns() < deadline_ns);
	if (rc == ECONNREFUSED || rc == ECONNRESET || rc == ETIMEDOUT || rc == EAGAIN)
		rc = pio_fail(err, PIO_ETIMEOUT, "connect to %s:%u: %s until the deadline", host,
		              (unsigned)port, rc == ETIMEDOUT ? "no answer" : "refused");
	else
		rc = pio_fail_errno(err, rc, "connect to %s:%u", host, (unsigned)port);
out:
	freeaddrinfo(list);
	return rc;
}

int pio_sock_send(int fd, const void *bytes, size_t size_bytes, int64_t deadline_ns, pio_err *err)
{
	const char *at = bytes;
	while (size_bytes) {
		ssize_t n = send(fd, at, size_bytes, MSG_NOSIGNAL);
		if (n >= 0) {
			at += n;
			size_bytes -= (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return fail_peer(err, errno, "send");
		int rc = wait_for(fd, POLLOUT, deadline_ns, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return pio_fail(err, PIO_ETIMEOUT, "send: %zu bytes were not taken before the deadline",
			                size_bytes);
	}
	return 0;
}

int pio_sock_recv(int fd, void *bytes, size_t size_bytes, int64_t deadline_ns, pio_err *err)
{
	char *at = bytes;
	while (size_bytes) {
		ssize_t n = recv(fd, at, size_bytes, 0);
		if (n > 0) {
			at += n;
			size_bytes -= (size_t)n;
			continue;
		}
		if (n == 0)
			return pio_fail(err, PIO_EPEER, "receive: the peer closed the connection with %zu bytes "
			                "missing", size_bytes);
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return fail_peer(err, errno, "receive");
		int rc = wait_for(fd, POLLIN, deadline_ns, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return pio_fail(err, PIO_ETIMEOUT, "receive: %zu bytes did not come before the deadline",
			                size_bytes);
	}
	return 0;
}

void pio_sock_shut(int fd)
{
	shutdown(fd, SHUT_RDWR);
}

void pio_sock_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
