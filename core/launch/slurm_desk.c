#include "launch/slurm_desk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "sys/proc.h"

#define CALL_NS (60 * INT64_C(1000000000))
/* From its death to the end of its pipes, should something hold them. */
#define PIPE_NS (2 * INT64_C(1000000000))
#define TEXT_BYTES_MAX ((size_t)64 << 20)

void pio_slurm_desk_init(pio_slurm_desk *desk, uv_loop_t *loop)
{
	memset(desk, 0, sizeof *desk);
	desk->loop = loop;
	desk->text[0] = desk->text[1] = (pio_str)PIO_STR_INIT;
}

static void pipe_closed(uv_handle_t *handle)
{
	pio_slurm_desk *desk = handle->data;
	desk->handles--;
}

static void close_pipe(pio_slurm_desk *desk, int i)
{
	if (desk->open[i])
		uv_close((uv_handle_t *)&desk->pipes[i], pipe_closed);
	desk->open[i] = false;
}

void pio_slurm_desk_fini(pio_slurm_desk *desk)
{
	if (desk->pid > 0 && !desk->has_died) {
		pio_proc_signal_tree(desk->pid, SIGKILL);
		while (waitpid(desk->pid, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	desk->pid = 0;
	for (int i = 0; i < 2; i++) {
		close_pipe(desk, i);
		pio_str_fini(&desk->text[i]);
	}
}

bool pio_slurm_desk_is_free(const pio_slurm_desk *desk)
{
	return desk->pid == 0 && desk->handles == 0;
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char bytes[65536];
	(void)handle;
	(void)suggested;
	*buffer = uv_buf_init(bytes, sizeof bytes);
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	pio_slurm_desk *desk = stream->data;
	int i = stream == (uv_stream_t *)&desk->pipes[1];
	if (n > 0 && desk->text[i].len < TEXT_BYTES_MAX)
		pio_str_append(&desk->text[i], buffer->base, (size_t)n);
	else if (n < 0)
		close_pipe(desk, i);
}

/* Our ends of the pipes, into the loop; what the loop did not take is closed. */
static int listen_to(pio_slurm_desk *desk, int fds[2])
{
	int e = 0;
	for (int i = 0; i < 2; i++) {
		uv_pipe_init(desk->loop, &desk->pipes[i], 0);
		desk->pipes[i].data = desk;
		desk->open[i] = true;
		desk->handles++;
		if (!e && (e = uv_pipe_open(&desk->pipes[i], fds[i])) == 0) {
			fds[i] = -1;
			e = uv_read_start((uv_stream_t *)&desk->pipes[i], give_buffer, received);
		}
	}
	for (int i = 0; i < 2 && e; i++)
		close_pipe(desk, i);
	return e;
}

int pio_slurm_desk_call(pio_slurm_desk *desk, const char *const *argv, const char *const *envp,
                        pio_err *err)
{
	int ours[2] = { -1, -1 }, theirs[2] = { -1, -1 }, rc = 0, e;
	for (int i = 0; i < 2 && !rc; i++) {
		int pair[2];
		if (pipe2(pair, O_CLOEXEC) != 0) {
			rc = pio_fail_errno(err, errno, "make the pipes of %s", argv[0]);
			break;
		}
		ours[i] = pair[0];
		theirs[i] = pair[1];
	}
	if (!rc) {
		pio_proc_spec spec = { .argv = argv, .envp = envp, .stdin_fd = -1, .stdout_fd = theirs[0],
		                       .stderr_fd = theirs[1] };
		rc = pio_proc_spawn(&desk->pid, &spec, err);
	}
	if (!rc) {
		desk->since_ns = pio_clock_mono_ns();
		desk->has_died = desk->was_killed = false;
		pio_str_clear(&desk->text[0]);
		pio_str_clear(&desk->text[1]);
		if ((e = listen_to(desk, ours)) != 0) {
			rc = pio_fail_errno(err, -e, "listen to %s", argv[0]);
			pio_proc_signal_tree(desk->pid, SIGKILL);
			while (waitpid(desk->pid, NULL, 0) < 0 && errno == EINTR)
				continue;
			desk->pid = 0;
		}
	} else {
		desk->pid = 0;
	}
	for (int i = 0; i < 2; i++) {
		if (ours[i] >= 0)
			close(ours[i]);
		if (theirs[i] >= 0)
			close(theirs[i]);
	}
	return rc;
}

void pio_slurm_desk_reap(pio_slurm_desk *desk)
{
	if (desk->pid > 0 && !desk->has_died && waitpid(desk->pid, &desk->status, WNOHANG) == desk->pid) {
		desk->has_died = true;
		desk->since_ns = pio_clock_mono_ns();
	}
}

bool pio_slurm_desk_has_answer(pio_slurm_desk *desk)
{
	if (desk->pid == 0)
		return false;
	int64_t passed_ns = pio_clock_mono_ns() - desk->since_ns;
	if (!desk->has_died && passed_ns > CALL_NS && !desk->was_killed) {
		desk->was_killed = true;
		pio_proc_signal_tree(desk->pid, SIGKILL);
	}
	if (!desk->has_died)
		return false;
	for (int i = 0; i < 2 && passed_ns > PIPE_NS; i++)
		close_pipe(desk, i);
	return !desk->open[0] && !desk->open[1];
}

bool pio_slurm_desk_is_ok(const pio_slurm_desk *desk)
{
	/* A half of an answer is none. */
	return WIFEXITED(desk->status) && WEXITSTATUS(desk->status) == 0 && !desk->text[0].failed &&
	       desk->text[0].len < TEXT_BYTES_MAX;
}

void pio_slurm_desk_clear(pio_slurm_desk *desk)
{
	desk->pid = 0;
	pio_str_clear(&desk->text[0]);
	pio_str_clear(&desk->text[1]);
}
