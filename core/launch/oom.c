#include "launch/oom.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys/fs.h"
#include "sys/proc.h"

#define ROOT "/sys/fs/cgroup"
#define MIB (1024.0 * 1024.0)

/* The number behind `name` in a file of "name number" lines; -1: not there. */
static int64_t read_count(const char *path, const char *name)
{
	pio_str text = PIO_STR_INIT;
	int64_t value = -1;
	size_t bytes = strlen(name);
	if (pio_fs_read(&text, path, NULL) == 0)
		for (const char *line = text.data; line; line = strchr(line, '\n'), line += line != NULL)
			if (strncmp(line, name, bytes) == 0 && line[bytes] == ' ')
				value = strtoll(line + bytes, NULL, 10);
	pio_str_fini(&text);
	return value;
}

static int64_t read_number(const pio_oom *oom, const char *name)
{
	char path[600];
	pio_str text = PIO_STR_INIT;
	int64_t value = -1;
	snprintf(path, sizeof path, "%s/%s", oom->group, name);
	if (pio_fs_read(&text, path, NULL) == 0 && text.len && strncmp(text.data, "max", 3) != 0)
		value = strtoll(text.data, NULL, 10);
	pio_str_fini(&text);
	return value;
}

static int64_t count_kills(const pio_oom *oom)
{
	char path[600];
	snprintf(path, sizeof path, "%s/%s", oom->group,
	         oom->is_version_1 ? "memory.oom_control" : "memory.events");
	return oom->group[0] ? read_count(path, "oom_kill") : -1;
}

/* cgroups(7): lines "7:memory:/path", and "0::/path" of version 2. A machine may
 * have both; memory is then counted by version 1. */
static bool find_group(char *path, size_t path_bytes, bool *is_version_1, pid_t pid)
{
	char task[16], text[4096];
	*path = 0;
	snprintf(task, sizeof task, "%d", (int)pid);
	if (pio_proc_read(text, sizeof text, task, "cgroup") <= 0)
		return false;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char *names = strchr(line, ':'), *where = names ? strchr(names + 1, ':') : NULL;
		if (!where)
			continue;
		*where++ = 0;
		names++;
		bool is_memory = strcmp(names, "memory") == 0;
		if (is_memory || (!*names && !*path)) {
			*is_version_1 = is_memory;
			snprintf(path, path_bytes, ROOT "%s%s", is_memory ? "/memory" : "", where);
		}
		if (is_memory)
			break;
	}
	return *path != 0;
}

void pio_oom_find(pio_oom *oom, pid_t pid)
{
	char group[sizeof oom->group];
	bool is_version_1 = false;
	if (!find_group(group, sizeof group, &is_version_1, pid) || strcmp(group, oom->group) == 0)
		return;
	memcpy(oom->group, group, sizeof group);
	oom->is_version_1 = is_version_1;
	oom->kills = count_kills(oom);
}

bool pio_oom_has_struck(const pio_oom *oom)
{
	return oom->group[0] && oom->kills >= 0 && count_kills(oom) > oom->kills;
}

void pio_oom_put_figures(pio_str *text, const pio_oom *oom)
{
	pio_str_puts(text, "; out of memory");
	if (pio_oom_has_struck(oom)) {
		int64_t used = read_number(oom, oom->is_version_1 ? "memory.max_usage_in_bytes" : "memory.peak");
		int64_t limit = read_number(oom, oom->is_version_1 ? "memory.limit_in_bytes" : "memory.max");
		size_t root = strlen(ROOT) + (oom->is_version_1 ? strlen("/memory") : 0);
		if (used >= 0 && limit >= 0)
			pio_str_printf(text, ": %.0f MiB used of %.0f MiB", (double)used / MIB, (double)limit / MIB);
		pio_str_puts(text, " (cgroup ");
		pio_str_put_text(text, oom->group + root, strlen(oom->group + root));
		pio_str_putc(text, ')');
	} else {
		int64_t total = read_count("/proc/meminfo", "MemTotal:");
		if (total > 0)
			pio_str_printf(text, " on a machine of %.1f GiB", (double)total / 1024 / 1024);
	}
}

int64_t pio_oom_machine_kills(void)
{
	return read_count("/proc/vmstat", "oom_kill");
}
