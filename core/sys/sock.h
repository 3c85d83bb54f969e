/* sock.h: TCP with deadlines, for rendezvous and collectives.
 *
 * All sockets are non-blocking and close-on-exec; every wait has a deadline
 * in monotonic nanoseconds (base/clock.h). -PIO_ETIMEOUT when it passes,
 * -PIO_EPEER when the other side closed. */
#ifndef PIO_SYS_SOCK_H
#define PIO_SYS_SOCK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Listen on host (NULL: 127.0.0.1) and port (0: the kernel chooses); *port is
 * the port that was bound. */
int pio_sock_listen(int *fd, const char *host, uint16_t *port, pio_err *err);
int pio_sock_accept(int *fd, int listen_fd, int64_t deadline_ns, pio_err *err);
/* Retries refused connections until the deadline: the peer may not listen yet. */
int pio_sock_connect(int *fd, const char *host, uint16_t port, int64_t deadline_ns, pio_err *err);
int pio_sock_send(int fd, const void *bytes, size_t size_bytes, int64_t deadline_ns, pio_err *err);
int pio_sock_recv(int fd, void *bytes, size_t size_bytes, int64_t deadline_ns, pio_err *err);
/* End both directions without closing: whoever waits on it is woken. */
void pio_sock_shut(int fd);
void pio_sock_close(int *fd);

#endif
