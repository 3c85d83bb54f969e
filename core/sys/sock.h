/* sock.h: TCP and unix sockets with deadlines, for rendezvous and collectives.
 *
 * All sockets are non-blocking and close-on-exec; every wait has a deadline
 * in monotonic nanoseconds (base/clock.h). -PIO_ETIMEOUT when it passes,
 * -PIO_EPEER when the other side closed. */
#ifndef PIO_SYS_SOCK_H
#define PIO_SYS_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Listen on host (NULL: 127.0.0.1) and port (0: the kernel chooses); *port is
 * the port that was bound. */
int pio_sock_listen(int *fd, const char *host, uint16_t *port, pio_err *err);
/* Listen on a unix socket of an abstract name that the kernel makes up, "@00a3f":
 * no file stands for it, and it is gone with the process. */
int pio_sock_listen_local(int *fd, char *name, size_t name_bytes, pio_err *err);
/* To such a name; -PIO_EPEER when nobody, or another user, listens there. */
int pio_sock_connect_local(int *fd, const char *name, int64_t deadline_ns, pio_err *err);
/* The other side of a unix socket runs as the same effective user. */
bool pio_sock_is_same_user(int fd);
int pio_sock_accept(int *fd, int listen_fd, int64_t deadline_ns, pio_err *err);
/* Retries refused connections until the deadline: the peer may not listen yet. */
int pio_sock_connect(int *fd, const char *host, uint16_t port, int64_t deadline_ns, pio_err *err);
int pio_sock_send(int fd, const void *bytes, size_t size_bytes, int64_t deadline_ns, pio_err *err);
int pio_sock_recv(int fd, void *bytes, size_t size_bytes, int64_t deadline_ns, pio_err *err);
/* End both directions without closing: whoever waits on it is woken. */
void pio_sock_shut(int fd);
void pio_sock_close(int *fd);

#endif
