/* An agent whose head is this test: what it does with words that come early, late or
 * never. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "attempt_fixture.h"
#include "client/env.h"
#include "client/frame.h"
#include "client/pioche.h"
#include "launch/agent.h"
#include "sys/sock.h"

#define TOKEN "00112233445566778899aabbccddeeff"
#define WAIT_NS (60 * INT64_C(1000000000))

/* A dot a step, for ever; "end" where it is told to. */
static int rank_main(void)
{
	pio_run *joined;
	if (pio_open(&joined, NULL))
		return 98;
	pio_key key = pio_key_get(joined, "loss");
	for (int step = 1;; step++) {
		pio_clock_sleep_ms(2);
		pio_log(joined, key, step, 1);
		if (pio_should_stop(joined, step))
			break;
		dprintf(1, ".");
	}
	dprintf(1, "end");
	return pio_close(&joined, 0) ? 96 : 0;
}

typedef struct head {
	pid_t pid;
	int listens, fd;
	pio_str in;
} head;

/* Of the one agent. */
static json_t *hear(head *h, const char *wanted)
{
	for (;;) {
		pio_frame frame;
		size_t used = 0;
		const char *text;
		size_t size;
		json_t *event = NULL;
		char c;
		int whole = pio_frame_next(&frame, &used, h->in.data, h->in.len, NULL);
		assert_true(whole >= 0);
		if (!whole) {
			check_ok(pio_sock_recv(h->fd, &c, 1, pio_clock_mono_ns() + WAIT_NS, &err));
			pio_str_append(&h->in, &c, 1);
			continue;
		}
		if (frame.type == PIO_FRAME_EVENT && pio_frame_get_bytes(&text, &size, &frame, NULL) == 0)
			event = json_loadb(text, size, 0, NULL);
		bool is_join = frame.type == PIO_FRAME_JOIN;
		memmove(h->in.data, h->in.data + used, h->in.len - used);
		h->in.len -= used;
		if (is_join && strcmp(wanted, "join") == 0)
			return NULL;
		const char *kind = text_of(event, "event");
		if (event && (strcmp(kind, wanted) == 0 || strcmp(kind, "ended") == 0)) {
			assert_string_equal(kind, wanted);
			return event;
		}
		/* Nothing of what is waited for has come before its time. */
		assert_false(event && strcmp(wanted, "started") == 0 && strcmp(kind, "hold") == 0);
		json_decref(event);
	}
}

static void say(head *h, const char *word)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_text(&frame, PIO_FRAME_ORDER, word);
	check_ok(pio_sock_send(h->fd, frame.data, frame.len, pio_clock_mono_ns() + WAIT_NS, &err));
	pio_str_fini(&frame);
}

/* Its orders, and a word at once; NULL: none. */
static head begin(const char *word, int hold_s)
{
	head h = { .fd = -1, .listens = -1, .in = PIO_STR_INIT };
	pio_str frames = PIO_STR_INIT;
	uint16_t port;
	char at[64];
	check_ok(pio_sock_listen(&h.listens, "127.0.0.1", &port, &err));
	snprintf(at, sizeof at, "127.0.0.1:%u", port);
	setenv(PIO_ENV_RENDEZVOUS, at, 1);
	setenv(PIO_ENV_TOKEN, TOKEN, 1);
	setenv(PIO_ENV_NODE, "0", 1);
	setenv(PIO_ENV_DIR, dir, 1);
	int quiet = getenv("V") ? 2 : open("/dev/null", O_WRONLY | O_CLOEXEC);
	const char *argv[] = { self, "agent", "--join", NULL };
	pio_proc_spec proc = { .argv = argv, .envp = (const char *const *)environ, .stdin_fd = -1,
	                       .stdout_fd = quiet, .stderr_fd = quiet };
	check_ok(pio_proc_spawn(&h.pid, &proc, &err));
	if (quiet != 2)
		close(quiet);
	check_ok(pio_sock_accept(&h.fd, h.listens, pio_clock_mono_ns() + WAIT_NS, &err));
	hear(&h, "join");
	json_t *orders = json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:[s, s], s:i, s:i}",
		"version", 1, "run", ulid, "attempt", 1, "node", 0, "nodes", 1, "ranks_per_node", 1, "dir", dir,
		"cwd", dir, "store", root, "staging", root, "lib_dir", "/lib-of-pioche", "command", self, "rank",
		"grace_s", 10, "hold_s", hold_s);
	char *text = json_dumps(orders, JSON_COMPACT);
	json_decref(orders);
	pio_frame_put_bytes(&frames, PIO_FRAME_ORDERS, text, strlen(text));
	free(text);
	if (word)
		pio_frame_put_text(&frames, PIO_FRAME_ORDER, word);
	check_ok(pio_sock_send(h.fd, frames.data, frames.len, pio_clock_mono_ns() + WAIT_NS, &err));
	pio_str_fini(&frames);
	return h;
}

static json_t *end(head *h)
{
	int status;
	json_decref(hear(h, "ended"));
	pio_sock_close(&h->fd);
	pio_sock_close(&h->listens);
	pio_str_fini(&h->in);
	assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
	assert_int_equal(status, 0);
	assert_int_equal(pio_proc_signal_marked(mark, 0), 0);
	return read_json("exit.0.json");
}

static size_t steps(void)
{
	pio_str out = read_text("rank-0.out");
	size_t count = out.data ? strspn(out.data, ".") : 0;
	pio_str_fini(&out);
	return count;
}

static void wait_for_steps(size_t wanted)
{
	for (int i = 0; i < 3000 && steps() < wanted; i++)
		pio_clock_sleep_ms(10);
	assert_true(steps() >= wanted);
}

static json_t *rank_of(const json_t *record)
{
	return json_array_get(json_object_get(record, "ranks"), 0);
}

/* Ranks that run from now on would not be held. */
static void before_there_are_ranks_nothing_is_held(void **state)
{
	(void)state;
	head h = begin("hold", 60);
	json_decref(hear(&h, "started"));
	wait_for_steps(5);
	say(&h, "hold");
	json_t *held = hear(&h, "hold");
	int64_t step = int_of(held, "asked") + 1;
	json_decref(held);
	assert_true(step > 5);
	char word[64];
	snprintf(word, sizeof word, "end %d 100 stop", (int)step);
	say(&h, word);
	json_t *record = end(&h);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_int_equal(int_of(rank_of(record), "exit_code"), 0);
	assert_int_equal(int_of(rank_of(record), "last_step"), step);
	json_decref(record);
}

static void before_there_are_ranks_a_stop_starts_none(void **state)
{
	(void)state;
	head h = begin("stop", 60);
	json_t *record = end(&h);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_string_equal(text_of(record, "message"), "stopped on request");
	assert_true(json_is_null(json_object_get(rank_of(record), "pid")));
	json_decref(record);
}

/* It is stopped, or cut off: the ranks go on, and a step that is named to them after that
 * may be one that they have passed. */
static void who_holds_for_a_silent_head_gives_up(void **state)
{
	(void)state;
	head h = begin(NULL, 1);
	wait_for_steps(5);
	say(&h, "hold");
	json_t *held = hear(&h, "hold");
	int64_t step = int_of(held, "asked") + 1;
	json_decref(held);
	wait_for_steps((size_t)step + 20);
	char word[64];
	snprintf(word, sizeof word, "end %d 1000 stop", (int)step + 1000000);
	alarm(300);
	say(&h, word);
	json_t *record = end(&h);
	alarm(0);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_int_equal(int_of(rank_of(record), "signal"), SIGTERM);
	json_decref(record);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[2], "--join") == 0)
		return pio_agent_join_main();
	if (argc == 2 && strcmp(argv[1], "rank") == 0)
		_exit(rank_main());
	find_self();
	const struct CMUnitTest tests[] = {
		T(before_there_are_ranks_nothing_is_held), T(before_there_are_ranks_a_stop_starts_none),
		T(who_holds_for_a_silent_head_gives_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
