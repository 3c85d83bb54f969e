#include "sys/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "sys/fs.h"

int pio_pty_open(int *fd, char path[PIO_PTY_PATH_BYTES], pio_err *err)
{
	struct termios mode;
	*fd = pio_fs_lift(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (*fd < 0)
		return pio_fail_errno(err, errno, "no terminal for a program that asks on one");
	int failed = grantpt(*fd) || unlockpt(*fd) || ptsname_r(*fd, path, PIO_PTY_PATH_BYTES) ||
	             tcgetattr(*fd, &mode);
	if (!failed) {
		mode.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
		failed = tcsetattr(*fd, TCSANOW, &mode);
	}
	if (!failed)
		return 0;
	int sys_errno = errno;
	(void)pio_fs_close(fd, "pty", NULL);
	return pio_fail_errno(err, sys_errno, "no terminal for a program that asks on one");
}

int pio_pty_type(int fd, const char *line, pio_err *err)
{
	size_t n = strlen(line);
	if (n > PIO_PTY_LINE_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "%zu bytes are too many for a line that is typed: at most %d", n,
		                PIO_PTY_LINE_BYTES_MAX);
	for (const char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			return pio_fail(err, PIO_EINVAL, "a line that is typed may have no control characters");
	int rc = pio_fs_write_all(fd, line, n, "pty", err);
	return rc ? rc : pio_fs_write_all(fd, "\n", 1, "pty", err);
}
