/* Those who do not belong to an attempt, at the door of its head. */
#include "client/frame.h"
#include "head_fixture.h"
#include "sys/sock.h"

static int connect_to(const pio_frame_address *at)
{
	int fd;
	pio_err err = PIO_ERR_INIT;
	if (pio_sock_connect(&fd, at->host, at->port, pio_clock_mono_ns() + 20000000000, &err) != 0)
		fail_msg("%s", err.message);
	return fd;
}

static void say(int fd, const void *bytes, size_t size_bytes)
{
	/* The head may have cut the connection before it took all. */
	(void)pio_sock_send(fd, bytes, size_bytes, pio_clock_mono_ns() + 2000000000, NULL);
}

/* A JOIN that must be answered by REFUSED and the end of the connection. */
static void expect_refusal(const pio_frame_address *at, const char *token, uint32_t place, const char *why)
{
	pio_frame_join join = { .place = place, .host = "stranger" };
	pio_str frame = PIO_STR_INIT;
	char bytes[256], text[128], one;
	uint32_t length;
	size_t used;
	pio_frame answer;
	int fd = connect_to(at);
	int64_t deadline_ns = pio_clock_mono_ns() + 20000000000;
	snprintf(join.token, sizeof join.token, "%s", token);
	pio_frame_put_join(&frame, &join);
	say(fd, frame.data, frame.len);
	pio_str_fini(&frame);
	assert_int_equal(pio_sock_recv(fd, bytes, 4, deadline_ns, NULL), 0);
	memcpy(&length, bytes, 4);
	assert_in_range(length, 1, sizeof bytes - 4);
	assert_int_equal(pio_sock_recv(fd, bytes + 4, length, deadline_ns, NULL), 0);
	assert_int_equal(pio_frame_next(&answer, &used, bytes, length + 4, NULL), 1);
	assert_int_equal(answer.type, PIO_FRAME_REFUSED);
	assert_int_equal(pio_frame_get_text(text, sizeof text, &answer, NULL), 0);
	assert_string_equal(text, why);
	assert_int_equal(pio_sock_recv(fd, &one, 1, deadline_ns, NULL), -PIO_EPEER);
	pio_sock_close(&fd);
}

/* 10,000 connections, some hundreds at a time, each with another kind of nothing. */
static void come_in_a_crowd(const pio_frame_address *at)
{
	enum { CROWD = 10000, OPEN = 400 };
	static const struct { const char *bytes; size_t size_bytes; } kinds[] = {
		{ "", 0 }, { "GET / HTTP/1.1\r\n\r\n", 18 }, { "\xff\xff\xff\x7f\x20", 5 },
		{ "\x40\0\0\0\x20\x20\0\0", 8 }, { "\1\0\0\0\x25", 5 },
	};
	static int fds[OPEN];
	for (int i = 0; i < OPEN; i++)
		fds[i] = -1;
	for (int i = 0; i < CROWD; i++) {
		int *fd = &fds[i % OPEN];
		pio_sock_close(fd);
		*fd = connect_to(at);
		say(*fd, kinds[i % 5].bytes, kinds[i % 5].size_bytes);
	}
	for (int i = 0; i < OPEN; i++)
		pio_sock_close(&fds[i]);
}

/* In no file below `dir`, and on no process's command line. */
static void expect_nowhere(const char *token, const char *where)
{
	char shell[8192];
	snprintf(shell, sizeof shell, "if grep -rqF -e \"$0\" '%s'; then exit 1; fi; for p in /proc/[0-9]*; do"
	         " tr '\\0' ' ' < $p/cmdline; done 2>/dev/null | grep -v 'expect-nowhere' | grep -qF -e"
	         " \"$0\" && exit 2; exit 0 # expect-nowhere", where);
	pid_t pid;
	int status;
	const char *argv[] = { "sh", "-c", shell, token, NULL };
	pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ,
	                       .stdin_fd = -1, .stdout_fd = 2, .stderr_fd = 2 };
	assert_int_equal(pio_proc_spawn(&pid, &spec, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

static pio_str wait_outside(const char *name)
{
	const char *path = path_in(root, name);
	pio_str text = PIO_STR_INIT;
	for (int i = 0; i < 3000 && (pio_fs_read(&text, path, NULL) != 0 || !strchr(text.data, '\n')); i++) {
		pio_str_clear(&text);
		pio_clock_sleep_ms(10);
	}
	assert_non_null(strchr(text.data, '\n'));
	*strchr(text.data, '\n') = 0;
	return text;
}

static void strangers_harm_nobody_and_the_token_is_told_nowhere(void **state)
{
	(void)state;
	pio_frame_address at;
	json_t *spec = orders(2, 1, "log");
	json_object_set_new(spec, "join_s", json_integer(300));
	put_start(spec, "umask 077; cd \"$PIOCHE_DIR/..\"; echo $PIOCHE_TOKEN > token; echo $PIOCHE_RENDEZVOUS > at;"
	          " until [ -e go ]; do sleep 0.05; done; for i in 0 1; do PIOCHE_NODE=$i"
	          " SLURMD_NODENAME=dgx-00$i \"$1\" agent --join & done; wait");
	pid_t pid = start(spec);
	pio_str where = wait_outside("at"), token = wait_outside("token");
	assert_int_equal(pio_frame_address_parse(&at, where.data, "at", NULL), 0);
	expect_refusal(&at, "00112233445566778899aabbccddeeff", 0, "a wrong token"); /* of an earlier attempt */
	expect_refusal(&at, "", 0, "a wrong token");
	expect_refusal(&at, token.data, 2, "a JOIN with a place that this attempt has not");
	come_in_a_crowd(&at);
	assert_int_equal(pio_fs_write(path_in(root, "go"), "", 0, 0600, NULL), 0);
	come_in_a_crowd(&at);
	wait_for_text("rank-0.out", "logged", 1);
	wait_for_text("rank-1.out", "logged", 1);
	expect_refusal(&at, token.data, 1, "a JOIN for a place that is taken");
	expect_nowhere(token.data, dir);
	kill(pid, SIGTERM);
	json_t *record = end(pid);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_true(int_of(record, "refused") >= 20004);
	json_decref(record);
	expect_nowhere(token.data, dir);
	for (int node = 0; node < 2; node++)
		assert_int_equal(points_in_journal(node, NULL), 1000);
	pio_str events = read_text("head.events");
	const char *first = strstr(events.data, "refused a connection");
	assert_non_null(first);
	assert_null(strstr(first + 1, "refused a connection")); /* told once */
	pio_str_fini(&events);
	pio_str_fini(&where);
	pio_str_fini(&token);
}

int main(int argc, char **argv)
{
	int status = be_another(argc, argv, log_main);
	if (status >= 0)
		return status;
	const struct CMUnitTest tests[] = { T(strangers_harm_nobody_and_the_token_is_told_nowhere) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
