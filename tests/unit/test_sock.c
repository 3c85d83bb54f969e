#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "sys/sock.h"

static int64_t in_ms(int64_t ms)
{
	return pio_clock_mono_ns() + ms * 1000000;
}

static void pair(int *client, int *server)
{
	pio_err err = PIO_ERR_INIT;
	int listen_fd;
	uint16_t port = 0;
	assert_int_equal(pio_sock_listen(&listen_fd, NULL, &port, &err), 0);
	assert_true(port > 0);
	assert_int_equal(pio_sock_connect(client, "127.0.0.1", port, in_ms(2000), &err), 0);
	assert_int_equal(pio_sock_accept(server, listen_fd, in_ms(2000), &err), 0);
	pio_sock_close(&listen_fd);
	assert_int_equal(listen_fd, -1);
}

static void bytes_arrive(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	int a, b;
	enum { SIZE = 8 << 20 };
	char *out = malloc(SIZE), *in = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		out[i] = (char)(i * 2654435761u >> 24);
	pair(&a, &b);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(b, F_GETFD) & FD_CLOEXEC);
	pid_t pid = fork();
	if (pid == 0)
		_exit(pio_sock_send(a, out, SIZE, in_ms(10000), NULL) ? 1 : 0);
	assert_int_equal(pio_sock_recv(b, in, SIZE, in_ms(10000), &err), 0);
	assert_memory_equal(in, out, SIZE);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	pio_sock_close(&a);
	assert_int_equal(pio_sock_recv(b, in, 1, in_ms(1000), &err), -PIO_EPEER);
	pio_sock_close(&b);
	pio_sock_close(&b);
	free(out);
	free(in);
}

static void deadlines_pass(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	int a, b, listen_fd, fd;
	uint16_t port = 0;
	char byte;
	char *big = calloc(1, 64u << 20);
	pair(&a, &b);
	int64_t start_ns = pio_clock_mono_ns();
	assert_int_equal(pio_sock_recv(a, &byte, 1, in_ms(60), &err), -PIO_ETIMEOUT);
	assert_int_equal(pio_sock_send(a, big, 64u << 20, in_ms(60), &err), -PIO_ETIMEOUT);
	assert_int_equal(pio_sock_listen(&listen_fd, NULL, &port, &err), 0);
	assert_int_equal(pio_sock_accept(&fd, listen_fd, in_ms(60), &err), -PIO_ETIMEOUT);
	assert_int_equal(fd, -1);
	int64_t took_ms = (pio_clock_mono_ns() - start_ns) / 1000000;
	assert_in_range(took_ms, 180, 3000);
	pio_sock_close(&listen_fd);
	pio_sock_close(&a);
	pio_sock_close(&b);
	free(big);
}

static void gone_peer_is_named(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	int a, b, rc = 0;
	char bytes[65536] = { 0 };
	pair(&a, &b);
	pio_sock_close(&b);
	for (int i = 0; i < 1000 && rc == 0; i++)
		rc = pio_sock_send(a, bytes, sizeof bytes, in_ms(1000), &err); /* no SIGPIPE */
	assert_int_equal(rc, -PIO_EPEER);
	assert_non_null(strstr(err.message, "the peer is gone"));
	pio_sock_close(&a);
}

/* A port that is bound but does not listen yet refuses; connect tries again. */
static void connect_waits_for_a_listener(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	struct sockaddr_in name = { .sin_family = AF_INET };
	socklen_t length = sizeof name;
	int fd, late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(late, (struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(getsockname(late, (struct sockaddr *)&name, &length), 0);
	uint16_t port = ntohs(name.sin_port);

	assert_int_equal(pio_sock_connect(&fd, "127.0.0.1", port, in_ms(80), &err), -PIO_ETIMEOUT);
	assert_non_null(strstr(err.message, "refused until the deadline"));
	pid_t pid = fork();
	if (pid == 0) {
		pio_clock_sleep_ms(100);
		listen(late, 4);
		pio_clock_sleep_ms(400);
		_exit(0);
	}
	assert_int_equal(pio_sock_connect(&fd, "127.0.0.1", port, in_ms(5000), &err), 0);
	pio_sock_close(&fd);
	pio_sock_close(&late);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void bad_hosts_are_refused(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	int fd = 7;
	uint16_t port = 0;
	assert_true(pio_sock_listen(&fd, "300.1.1.1.invalid", &port, &err) < 0);
	assert_int_equal(fd, -1);
	assert_non_null(strstr(err.message, "300.1.1.1.invalid"));
	assert_true(pio_sock_listen(&fd, "192.0.2.1", &port, &err) < 0); /* not an address of ours */
	assert_non_null(strstr(err.message, "192.0.2.1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive),
		cmocka_unit_test(deadlines_pass),
		cmocka_unit_test(gone_peer_is_named),
		cmocka_unit_test(connect_waits_for_a_listener),
		cmocka_unit_test(bad_hosts_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
