#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sys/proc.h"

ssize_t pio_proc_read(char *text, size_t text_bytes, const char *task, const char *name)
{
	char path[96];
	size_t len = 0;
	snprintf(path, sizeof path, "/proc/%s/%s", task, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (len + 1 < text_bytes) {
		ssize_t n = read(fd, text + len, text_bytes - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	text[len] = 0;
	return (ssize_t)len;
}

/* proc(5): "pid (comm) state ..." with user and system time, its own and of
 * children that it has waited for, in fields 14 to 17. The name may hold
 * anything, so the fields are counted from its last ')'. */
bool pio_proc_look_at(pio_proc_look *look, const char *task)
{
	char text[1024];
	uint64_t own_user, own_system, user, system;
	*look = (pio_proc_look){ .state = '?' };
	if (pio_proc_read(text, sizeof text, task, "stat") <= 0)
		return false;
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	if (!open || !close || close < open ||
	    sscanf(close + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNu64
	           " %" SCNu64, &look->state, &own_user, &own_system, &user, &system) != 5)
		return false;
	snprintf(look->name, sizeof look->name, "%.*s", (int)(close - open - 1), open + 1);
	look->cpu_ns = (int64_t)(own_user + own_system + user + system) *
	               (INT64_C(1000000000) / sysconf(_SC_CLK_TCK));
	/* "0" is what the kernel says of who does not sleep, and to who may not know. */
	if (pio_proc_read(look->wait, sizeof look->wait, task, "wchan") <= 0 || strcmp(look->wait, "0") == 0)
		look->wait[0] = 0;
	return look->state != 'Z' && look->state != 'X';
}

uint64_t pio_proc_io_bytes(pid_t pid)
{
	char task[16], text[512];
	uint64_t read_bytes = 0, written_bytes = 0;
	snprintf(task, sizeof task, "%d", (int)pid);
	if (pio_proc_read(text, sizeof text, task, "io") <= 0 ||
	    sscanf(text, "rchar: %" SCNu64 " wchar: %" SCNu64, &read_bytes, &written_bytes) != 2)
		return 0;
	return read_bytes + written_bytes;
}
