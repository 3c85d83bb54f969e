#include "sys/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* The alternate screen, cleared, without a cursor; and back. */
#define SCREEN_ON "\033[?1049h\033[?25l\033[2J"
#define SCREEN_OFF "\033[0m\033[?25h\033[?1049l"

/* Only read by handlers while is_entered. */
static struct termios before, during;
static int keys_fd = -1;
static bool owns_keys_fd;
static volatile sig_atomic_t is_entered, has_resized, has_resumed;

static const int fatal[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
#define FATAL_COUNT (sizeof fatal / sizeof *fatal)

static void put(const char *text)
{
	ssize_t n = write(STDOUT_FILENO, text, strlen(text));
	(void)n; /* a terminal that is gone needs nothing */
}

static void take(void)
{
	tcsetattr(keys_fd, TCSANOW, &during);
	put(SCREEN_ON);
}

static void give_back(void)
{
	put(SCREEN_OFF);
	tcsetattr(keys_fd, TCSANOW, &before);
}

/* ---- signals ----------------------------------------------------------------------- */

static void handle(int signal_number, void (*handler)(int))
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = handler;
	sigemptyset(&action.sa_mask);
	sigaction(signal_number, &action, NULL);
}

/* The process ends by the signal as it would have without us. */
static void end(int signal_number)
{
	pio_tty_leave();
	handle(signal_number, SIG_DFL);
	raise(signal_number);
}

static void stop(int signal_number)
{
	int saved_errno = errno;
	sigset_t this_one, old;
	give_back();
	handle(signal_number, SIG_DFL);
	sigemptyset(&this_one);
	sigaddset(&this_one, signal_number);
	raise(signal_number);
	sigprocmask(SIG_UNBLOCK, &this_one, &old); /* stops here; SIGCONT goes on */
	sigprocmask(SIG_SETMASK, &old, NULL);
	handle(signal_number, stop);
	take();
	has_resumed = 1;
	errno = saved_errno;
}

static void go_on(int signal_number)
{
	int saved_errno = errno;
	(void)signal_number;
	take();
	has_resumed = 1;
	errno = saved_errno;
}

static void resize(int signal_number)
{
	(void)signal_number;
	has_resized = 1;
}

/* The two that only leave a mark come while pio_tty_read waits, and are not missed
 * between its look and its sleep. */
static void mark_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGWINCH);
	sigaddset(set, SIGCONT);
}

static bool is_ignored(int signal_number)
{
	struct sigaction now;
	return sigaction(signal_number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

static void catch_signals(void)
{
	sigset_t marks;
	mark_signals(&marks);
	sigprocmask(SIG_BLOCK, &marks, NULL);
	for (size_t i = 0; i < FATAL_COUNT; i++)
		if (!is_ignored(fatal[i]))
			handle(fatal[i], end);
	handle(SIGTSTP, stop);
	handle(SIGCONT, go_on);
	handle(SIGWINCH, resize);
}

/* ---- the door ---------------------------------------------------------------------- */

static int open_keys(pio_err *err)
{
	if (isatty(STDIN_FILENO)) {
		keys_fd = STDIN_FILENO;
		return 0;
	}
	keys_fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (keys_fd < 0)
		return pio_fail(err, PIO_EINVAL, "standard input is no terminal, and there is no other");
	owns_keys_fd = true;
	return 0;
}

int pio_tty_enter(pio_err *err)
{
	static bool at_exit;
	if (is_entered)
		return 0;
	if (!isatty(STDOUT_FILENO))
		return pio_fail(err, PIO_EINVAL, "standard output is no terminal");
	int rc = open_keys(err);
	if (rc)
		return rc;
	if (tcgetattr(keys_fd, &before) != 0)
		return pio_fail_errno(err, errno, "the terminal's settings");
	during = before;
	during.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
	during.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
	during.c_cc[VMIN] = 0;
	during.c_cc[VTIME] = 0;
	if (!at_exit && atexit(pio_tty_leave) != 0)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the end of a screen");
	at_exit = true;
	is_entered = 1;
	catch_signals();
	take();
	return 0;
}

void pio_tty_leave(void)
{
	sigset_t marks;
	if (!is_entered)
		return;
	is_entered = 0;
	for (size_t i = 0; i < FATAL_COUNT; i++)
		if (!is_ignored(fatal[i]))
			handle(fatal[i], SIG_DFL);
	handle(SIGTSTP, SIG_DFL);
	handle(SIGCONT, SIG_DFL);
	handle(SIGWINCH, SIG_DFL);
	give_back();
	mark_signals(&marks);
	sigprocmask(SIG_UNBLOCK, &marks, NULL);
	if (owns_keys_fd)
		close(keys_fd);
	owns_keys_fd = false;
	keys_fd = -1;
}

void pio_tty_read(pio_tty_news *news, char *bytes, size_t size_bytes, int timeout_ms)
{
	struct pollfd ready = { keys_fd, POLLIN, 0 };
	struct timespec wait = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
	sigset_t mask;
	*news = (pio_tty_news){ 0 };
	sigprocmask(SIG_BLOCK, NULL, &mask);
	sigdelset(&mask, SIGWINCH);
	sigdelset(&mask, SIGCONT);
	int n = ppoll(&ready, 1, &wait, &mask);
	if (n > 0) {
		ssize_t got = read(keys_fd, bytes, size_bytes);
		news->count = got > 0 ? (size_t)got : 0;
		news->gone = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
	}
	news->resized = has_resized;
	news->resumed = has_resumed;
	has_resized = has_resumed = 0;
}

void pio_tty_size(int *columns, int *rows)
{
	struct winsize size = { 0, 0, 0, 0 };
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
		size.ws_col = size.ws_row = 0;
	*columns = size.ws_col ? size.ws_col : 80;
	*rows = size.ws_row ? size.ws_row : 24;
}
