/* Finding processes by what /proc says of them. A scan is a snapshot: a
 * process may fork while it is taken. Whoever kills repeats it until it shows
 * nobody new, which ends because a killed process forks no more. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/proc.h"

/* A fork bomb that outruns this many scans is left to the caller's next call. */
#define SCANS_MAX 32

typedef struct process {
	pid_t pid, parent, session;
	char state;
	uint64_t start_ticks;
	bool in_set;
} process;

typedef struct table {
	process *rows;
	size_t count, capacity;
} table;

static ssize_t read_proc(pid_t pid, const char *name, char *text, size_t text_bytes)
{
	char task[16];
	snprintf(task, sizeof task, "%d", (int)pid);
	return pio_proc_read(text, text_bytes, task, name);
}

/* proc(5): pid (comm) state ppid pgrp session ... starttime is field 22. The
 * name may hold anything, so the fields are counted from its last ')'. */
static bool read_stat(pid_t pid, process *row)
{
	char text[1024];
	if (read_proc(pid, "stat", text, sizeof text) <= 0)
		return false;
	const char *at = strrchr(text, ')');
	int parent, session, end = 0;
	if (!at || sscanf(at + 1, " %c %d %*d %d%n", &row->state, &parent, &session, &end) != 3)
		return false;
	at += 1 + end;
	for (int field = 6; at && field < 21; field++)
		at = strchr(at + 1, ' ');
	row->pid = pid;
	row->parent = parent;
	row->session = session;
	row->start_ticks = at ? strtoull(at, NULL, 10) : 0;
	row->in_set = false;
	return true;
}

static bool is_alive(const process *row)
{
	return row->state != 'Z' && row->state != 'X';
}

uint64_t pio_proc_start_ticks(pid_t pid)
{
	process row;
	return read_stat(pid, &row) && is_alive(&row) ? row.start_ticks : 0;
}

static void table_free(table *t)
{
	pio_free(t->rows);
	*t = (table){ NULL, 0, 0 };
}

static process *table_add(table *t)
{
	bool has_room = pio_grow(&t->rows, &t->capacity, t->count, "processes", NULL) == 0;
	return has_room ? &t->rows[t->count++] : NULL;
}

static bool scan(table *t)
{
	t->count = 0;
	DIR *dir = opendir("/proc");
	if (!dir)
		return false;
	for (struct dirent *entry; (entry = readdir(dir));) {
		process row;
		if (!isdigit((unsigned char)entry->d_name[0]) || !read_stat(atoi(entry->d_name), &row))
			continue;
		process *added = table_add(t);
		if (!added)
			break; /* signal at least those that were seen */
		*added = row;
	}
	closedir(dir);
	return true;
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = ((const process *)a)->pid, y = ((const process *)b)->pid;
	return (x > y) - (x < y);
}

/* Grow the set by the children of its members and of `ancestor`. */
static void close_over_children(table *t, pid_t ancestor)
{
	bool grew = t->count > 0;
	if (grew)
		qsort(t->rows, t->count, sizeof *t->rows, by_pid);
	while (grew) {
		grew = false;
		for (size_t i = 0; i < t->count; i++) {
			process *row = &t->rows[i], wanted = { .pid = row->parent };
			if (row->in_set)
				continue;
			const process *parent = bsearch(&wanted, t->rows, t->count, sizeof wanted, by_pid);
			if ((ancestor && row->parent == ancestor) || (parent && parent->in_set))
				row->in_set = grew = true;
		}
	}
}

static bool has(const table *t, const process *row)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->rows[i].pid == row->pid && t->rows[i].start_ticks == row->start_ticks)
			return true;
	return false;
}

/* Children of kthreadd, pid 2 where it can be seen; they have no environment. */
static bool is_kernel_thread(const process *row)
{
	return row->pid == 2 || row->parent == 2;
}

static bool is_marked(pid_t pid, const char *entry, char *buffer, size_t buffer_bytes)
{
	ssize_t n = read_proc(pid, "environ", buffer, buffer_bytes);
	/* In the middle of exec there is no environment for a moment. */
	for (int i = 0; n == 0 && i < 5; i++) {
		pio_clock_sleep_ms(1);
		n = read_proc(pid, "environ", buffer, buffer_bytes);
	}
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(buffer + at) + 1)
		if (strcmp(buffer + at, entry) == 0)
			return true;
	return false;
}

/* Who is meant: one of the three is set. */
typedef struct target {
	pid_t leader, ancestor;
	const char *entry;
	char *buffer;          /* for environ */
	size_t buffer_bytes;
} target;

static void mark(table *t, const target *who)
{
	for (size_t i = 0; i < t->count; i++) {
		process *row = &t->rows[i];
		if (who->leader)
			row->in_set = row->session == who->leader || row->pid == who->leader;
		else if (who->entry && is_alive(row) && !is_kernel_thread(row))
			row->in_set = is_marked(row->pid, who->entry, who->buffer, who->buffer_bytes);
	}
	if (!who->entry)
		close_over_children(t, who->ancestor);
}

static int signal_all(const target *who, int signal_number)
{
	table now = { NULL, 0, 0 }, done = { NULL, 0, 0 };
	bool grew = true;
	for (int n = 0; n < SCANS_MAX && grew && scan(&now); n++) {
		grew = false;
		mark(&now, who);
		for (size_t i = 0; i < now.count; i++) {
			process *row = &now.rows[i];
			if (!row->in_set || !is_alive(row) || row->pid == getpid() || has(&done, row))
				continue;
			process *added = table_add(&done);
			if (added)
				*added = *row;
			if (signal_number)
				kill(row->pid, signal_number);
			grew = added && signal_number;
		}
	}
	int count = (int)done.count;
	table_free(&now);
	table_free(&done);
	return count;
}

int pio_proc_signal_tree(pid_t leader, int signal_number)
{
	if (leader <= 1)
		return 0;
	target who = { .leader = leader };
	return signal_all(&who, signal_number);
}

/* The leader, or whoever has the smallest number, is first. */
static size_t list_all(pid_t *pids, size_t capacity, const target *who)
{
	table now = { NULL, 0, 0 };
	size_t count = 0;
	if (scan(&now))
		mark(&now, who);
	for (size_t i = 0; i < now.count && count < capacity; i++)
		if (now.rows[i].in_set && is_alive(&now.rows[i]) && now.rows[i].pid != getpid())
			pids[count++] = now.rows[i].pid;
	for (size_t i = 1; i < count; i++)
		if (pids[i] == who->leader) {
			pids[i] = pids[0];
			pids[0] = who->leader;
		}
	table_free(&now);
	return count;
}

size_t pio_proc_list_tree(pid_t *pids, size_t capacity, pid_t leader)
{
	target who = { .leader = leader };
	return list_all(pids, capacity, &who);
}

size_t pio_proc_list_descendants(pid_t *pids, size_t capacity, pid_t ancestor)
{
	target who = { .ancestor = ancestor };
	return list_all(pids, capacity, &who);
}

bool pio_proc_tree_alive(pid_t leader)
{
	return pio_proc_signal_tree(leader, 0) > 0;
}

int pio_proc_signal_descendants(pid_t ancestor, int signal_number)
{
	target who = { .ancestor = ancestor };
	return signal_all(&who, signal_number);
}

int pio_proc_signal_marked(const char *entry, int signal_number)
{
	target who = { .entry = entry, .buffer_bytes = 4u << 20 };
	who.buffer = pio_alloc(who.buffer_bytes);
	if (!who.buffer)
		return 0;
	int count = signal_all(&who, signal_number);
	pio_free(who.buffer);
	return count;
}
