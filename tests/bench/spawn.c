/* spawn.c: `spawn TIMES COMMAND [ARGUMENT]...` runs a command so often, one after
 * the other, its output thrown away, and prints for each "MILLISECONDS KIBIBYTES":
 * from before its start to after its end, and its largest resident set. A
 * small program of its own, because the kernel counts the memory of whoever
 * starts a command as the command's, and Python has more than `pioche ls`. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

int main(int argc, char **argv)
{
	posix_spawn_file_actions_t actions;
	if (argc < 3 || posix_spawn_file_actions_init(&actions) ||
	    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0))
		return 2;
	for (int i = atoi(argv[1]); i > 0; i--) {
		struct rusage usage;
		pid_t pid;
		int status;
		double begin = now_ms();
		int rc = posix_spawnp(&pid, argv[2], &actions, NULL, argv + 2, environ);
		if (rc) {
			fprintf(stderr, "%s: %s\n", argv[2], strerror(rc));
			return 3;
		}
		if (wait4(pid, &status, 0, &usage) != pid)
			return 3;
		double took_ms = now_ms() - begin;
		if (status) {
			fprintf(stderr, "%s ended with wait status %d\n", argv[2], status);
			return 1;
		}
		printf("%.4f %ld\n", took_ms, usage.ru_maxrss);
	}
	posix_spawn_file_actions_destroy(&actions);
	return 0;
}
