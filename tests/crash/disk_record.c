/* Files and directories are nodes, known by a number of our own: an inode's
 * number is given again to a new file. The record is a list of events; an image
 * is made by choosing which of them reached the disk, and doing these again in
 * memory. */
#include "disk_record.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "scene.h"

#define SECTOR 512
#define NONE SIZE_MAX

enum event_kind { WRITE, TRUNCATE, SYNC, SYNC_ALL, NAME, RENAME, REMOVE };

typedef struct event {
	enum event_kind kind;
	size_t node;            /* written, truncated, synced, named, renamed */
	size_t dir, to_dir;     /* of the names */
	char *name, *to_name;
	off_t at;               /* of a write; size of a truncation */
	size_t n;
	uint8_t *bytes;
} event;

typedef struct node {
	ino_t inode;
	bool is_dir;
} node;

static bool recording;
static event *events;
static size_t events_count, events_capacity;
static node *nodes;
static size_t nodes_count, nodes_capacity;

static void *grown(void *array, size_t count, size_t *capacity, size_t entry_bytes)
{
	if (count < *capacity)
		return array;
	*capacity = *capacity ? 2 * *capacity : 256;
	array = realloc(array, *capacity * entry_bytes);
	if (!array)
		abort();
	return array;
}

/* ---- recording -------------------------------------------------------------------------- */

static size_t node_new(ino_t inode, bool is_dir)
{
	nodes = grown(nodes, nodes_count, &nodes_capacity, sizeof *nodes);
	nodes[nodes_count] = (node){ inode, is_dir };
	return nodes_count++;
}

static size_t node_of(ino_t inode)
{
	for (size_t i = nodes_count; i-- > 0;)
		if (nodes[i].inode == inode)
			return i;
	return NONE;
}

static event *event_new(enum event_kind kind)
{
	events = grown(events, events_count, &events_capacity, sizeof *events);
	events[events_count] = (event){ .kind = kind, .node = NONE, .dir = NONE, .to_dir = NONE };
	return &events[events_count++];
}

/* The node of the directory that holds the path's last name; *name borrowed. */
static size_t parent_of(int dir, const char *path, const char **name)
{
	char parent[PATH_MAX];
	struct stat st;
	const char *slash = strrchr(path, '/');
	*name = slash ? slash + 1 : path;
	if (!slash)
		snprintf(parent, sizeof parent, ".");
	else
		snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	return fstatat(dir, parent, &st, 0) == 0 ? node_of(st.st_ino) : NONE;
}

static char *copy_of(const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		abort();
	return copy;
}

void record_begin(const char *root)
{
	struct stat st;
	if (stat(root, &st) != 0)
		abort();
	recording = true;
	node_new(st.st_ino, true);
}

void record_end(void)
{
	recording = false;
}

size_t record_length(void)
{
	return events_count;
}

void record_create(int dir, const char *path, bool is_dir)
{
	struct stat st;
	const char *name;
	size_t parent = recording ? parent_of(dir, path, &name) : NONE;
	if (parent == NONE || fstatat(dir, path, &st, 0) != 0)
		return;
	size_t number = node_new(st.st_ino, is_dir);
	event *e = event_new(NAME);
	e->node = number;
	e->dir = parent;
	e->name = copy_of(name);
}

void record_write(const struct stat *file, off_t at, const void *bytes, size_t n)
{
	size_t number = recording ? node_of(file->st_ino) : NONE;
	if (number == NONE)
		return;
	event *e = event_new(WRITE);
	e->node = number;
	e->at = at;
	e->n = n;
	e->bytes = malloc(n);
	if (!e->bytes)
		abort();
	memcpy(e->bytes, bytes, n);
}

void record_truncate(int fd, off_t size)
{
	struct stat st;
	size_t number = recording && fstat(fd, &st) == 0 ? node_of(st.st_ino) : NONE;
	if (number == NONE)
		return;
	event *e = event_new(TRUNCATE);
	e->node = number;
	e->at = size;
}

void record_sync(const struct stat *st, bool all)
{
	size_t number = recording ? node_of(st->st_ino) : NONE;
	if (number == NONE)
		return;
	event_new(all ? SYNC_ALL : SYNC)->node = number;
}

size_t record_rename_begin(const char *from)
{
	struct stat st;
	return recording && lstat(from, &st) == 0 ? node_of(st.st_ino) : NONE;
}

void record_rename_end(size_t moved, const char *from, const char *to)
{
	const char *name, *to_name;
	size_t dir = moved == NONE ? NONE : parent_of(AT_FDCWD, from, &name);
	size_t to_dir = moved == NONE ? NONE : parent_of(AT_FDCWD, to, &to_name);
	if (dir == NONE || to_dir == NONE)
		return;
	event *e = event_new(RENAME);
	e->node = moved;
	e->dir = dir;
	e->name = copy_of(name);
	e->to_dir = to_dir;
	e->to_name = copy_of(to_name);
}

void record_link(const char *from, const char *to)
{
	const char *name;
	size_t linked = record_rename_begin(from);
	size_t dir = linked == NONE ? NONE : parent_of(AT_FDCWD, to, &name);
	if (dir == NONE)
		return;
	event *e = event_new(NAME);
	e->node = linked;
	e->dir = dir;
	e->name = copy_of(name);
}

void record_remove(int dir, const char *path)
{
	const char *name;
	size_t parent = recording ? parent_of(dir, path, &name) : NONE;
	if (parent == NONE)
		return;
	event *e = event_new(REMOVE);
	e->dir = parent;
	e->name = copy_of(name);
}

bool disk_is_sync(size_t moment)
{
	return moment && moment <= events_count &&
	       (events[moment - 1].kind == SYNC || events[moment - 1].kind == SYNC_ALL);
}

void disk_forget(void)
{
	for (size_t i = 0; i < events_count; i++) {
		free(events[i].name);
		free(events[i].to_name);
		free(events[i].bytes);
	}
	free(events);
	free(nodes);
	events = NULL;
	nodes = NULL;
	events_count = events_capacity = nodes_count = nodes_capacity = 0;
}

/* ---- what reached the disk ------------------------------------------------------------------ */

typedef struct name {
	size_t dir, node;
	const char *text;       /* NULL: removed */
} name;

typedef struct image {
	struct content {
		uint8_t *bytes;
		size_t size, capacity;
	} *files;               /* by node */
	name *names;
	size_t names_count, names_capacity;
	enum disk_loss loss;
	uint64_t random;
} image;

static bool is_name(const event *e)
{
	return e->kind == NAME || e->kind == RENAME || e->kind == REMOVE;
}

/* durable[i]: event i is on the disk, whatever comes. */
static void find_durable(bool *durable, size_t moment)
{
	bool *synced = calloc(nodes_count + 1, sizeof *synced);
	bool all = false;
	if (!synced)
		abort();
	for (size_t i = moment; i-- > 0;) {
		const event *e = &events[i];
		if (e->kind == SYNC_ALL)
			all = true;
		else if (e->kind == SYNC)
			synced[e->node] = true;
		else if (!is_name(e))
			durable[i] = all || synced[e->node];
		else /* a rename is in two directories, and is one act */
			durable[i] = all || synced[e->dir] || (e->kind == RENAME && synced[e->to_dir]);
	}
	free(synced);
}

static void resize(struct content *file, size_t size)
{
	if (size > file->capacity) {
		file->capacity = size < 4096 ? 4096 : 2 * size;
		file->bytes = realloc(file->bytes, file->capacity);
		if (!file->bytes)
			abort();
	}
	if (size > file->size)
		memset(file->bytes + file->size, 0, size - file->size);
	file->size = size;
}

static void put(struct content *file, const event *e, size_t n)
{
	if (!n)
		return;
	if (file->size < (size_t)e->at + n)
		resize(file, (size_t)e->at + n);
	memcpy(file->bytes + e->at, e->bytes, n);
}

/* Sector by sector: new, old, or rubbish. */
static void put_some(image *im, struct content *file, const event *e)
{
	for (size_t done = 0; done < e->n;) {
		size_t at = (size_t)e->at + done, n = SECTOR - at % SECTOR;
		n = n < e->n - done ? n : e->n - done;
		uint64_t coin = random_next(&im->random) % 8;
		if (coin < 5 && file->size < at + n)
			resize(file, at + n);
		if (coin < 4)
			memcpy(file->bytes + at, e->bytes + done, n);
		else if (coin == 4)
			for (size_t i = 0; i < n; i++)
				file->bytes[at + i] = (uint8_t)random_next(&im->random);
		done += n;
	}
}

static name *find_name(image *im, size_t dir, const char *text)
{
	for (size_t i = 0; i < im->names_count; i++)
		if (im->names[i].text && im->names[i].dir == dir && strcmp(im->names[i].text, text) == 0)
			return &im->names[i];
	return NULL;
}

static void set_name(image *im, size_t dir, const char *text, size_t number)
{
	name *there = find_name(im, dir, text);
	if (!there) {
		im->names = grown(im->names, im->names_count, &im->names_capacity, sizeof *im->names);
		there = &im->names[im->names_count++];
	}
	*there = (name){ dir, number, text };
}

static void unset_name(image *im, size_t dir, const char *text, size_t number)
{
	name *there = find_name(im, dir, text);
	if (there && (number == NONE || there->node == number))
		there->text = NULL;
}

static void apply_name(image *im, const event *e)
{
	if (e->kind == NAME) {
		set_name(im, e->dir, e->name, e->node);
	} else if (e->kind == REMOVE) {
		unset_name(im, e->dir, e->name, NONE);
	} else {
		unset_name(im, e->dir, e->name, e->node);
		set_name(im, e->to_dir, e->to_name, e->node);
	}
}

static void apply(image *im, const event *e, bool durable, bool torn)
{
	struct content *file = is_name(e) || e->node == NONE ? NULL : &im->files[e->node];
	if (is_name(e))
		apply_name(im, e);
	else if (e->kind == TRUNCATE)
		resize(file, (size_t)e->at);
	else if (e->kind == WRITE && torn)
		put(file, e, random_next(&im->random) % (e->n + 1));
	else if (e->kind == WRITE && !durable && im->loss == DISK_LOSE_ANY)
		put_some(im, file, e);
	else if (e->kind == WRITE)
		put(file, e, e->n);
}

/* DISK_LOSE_LATEST: where each node's unsynced events end; the names' end is
 * the entry behind the last node's. */
static size_t *cuts_new(image *im, size_t moment)
{
	size_t *cuts = calloc(nodes_count + 1, sizeof *cuts);
	if (!cuts)
		abort();
	for (size_t i = 0; i <= nodes_count; i++)
		cuts[i] = random_next(&im->random) % (moment + 1);
	return cuts;
}

static void play(image *im, size_t moment)
{
	bool *durable = calloc(moment + 1, sizeof *durable);
	size_t *cuts = cuts_new(im, moment);
	bool *ended = calloc(nodes_count + 1, sizeof *ended);
	if (!durable || !ended)
		abort();
	find_durable(durable, moment);
	for (size_t i = 0; i < moment; i++) {
		const event *e = &events[i];
		size_t timeline = is_name(e) ? nodes_count : e->node;
		bool torn = false, kept = durable[i];
		if (!kept && im->loss == DISK_LOSE_NOTHING)
			kept = true;
		else if (!kept && im->loss == DISK_LOSE_ANY)
			kept = e->kind == WRITE || random_next(&im->random) % 2;
		else if (!kept && im->loss == DISK_LOSE_LATEST && !ended[timeline]) {
			kept = i < cuts[timeline];
			torn = !kept && e->kind == WRITE;
			kept |= torn;
			ended[timeline] = !kept || torn;
		}
		if (kept)
			apply(im, e, durable[i], torn);
	}
	free(durable);
	free(cuts);
	free(ended);
}

/* ---- onto the real disk ------------------------------------------------------------------------ */

static void write_out(const image *im, size_t dir, const char *path);

static void write_node(const image *im, const name *n, const char *path)
{
	char own[PATH_MAX];
	snprintf(own, sizeof own, "%s/%s", path, n->text);
	if (nodes[n->node].is_dir) {
		mkdir(own, 0777);
		write_out(im, n->node, own);
		return;
	}
	const struct content *file = &im->files[n->node];
	size_t length = strlen(n->text);
	bool is_shared_memory = length > 4 && strcmp(n->text + length - 4, "-shm") == 0;
	uint64_t random = im->random;
	for (size_t i = 0; is_shared_memory && i < file->size; i++)
		file->bytes[i] = (uint8_t)random_next(&random);
	int fd = open(own, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd < 0 || (file->size && write(fd, file->bytes, file->size) != (ssize_t)file->size))
		abort();
	close(fd);
}

static void write_out(const image *im, size_t dir, const char *path)
{
	for (size_t i = 0; i < im->names_count; i++)
		if (im->names[i].text && im->names[i].dir == dir)
			write_node(im, &im->names[i], path);
}

void disk_image(const char *to, size_t moment, enum disk_loss loss, uint64_t seed)
{
	image im = { .loss = loss, .random = seed };
	im.files = calloc(nodes_count, sizeof *im.files);
	if (!im.files || mkdir(to, 0777) != 0)
		abort();
	play(&im, moment);
	write_out(&im, 0, to);
	for (size_t i = 0; i < nodes_count; i++)
		free(im.files[i].bytes);
	free(im.files);
	free(im.names);
}
