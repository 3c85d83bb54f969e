#include "launch/head.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "launch/address.h"
#include "launch/head_parts.h"
#include "launch/token.h"
#include "sys/fs.h"
#include "sys/sock.h"

#define PLACES_MAX 65536

static int in_dir(pio_str *path, const pio_head *head, const char *name, pio_err *err)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s/%s", head->dir, name);
	return pio_str_check(path, err);
}

void pio_head_say(pio_head *head, json_t *event)
{
	char *text = event ? pio_json_canonical(event) : NULL;
	pio_str line = PIO_STR_INIT;
	json_decref(event);
	if (text)
		pio_str_printf(&line, "%s\n", text);
	free(text);
	/* History only: a full disk must not end the attempt here. */
	if (line.len && !line.failed)
		(void)pio_fs_write_all(head->events_fd, line.data, line.len, "head.events", NULL);
	pio_str_fini(&line);
}

void pio_head_note(void *context, const char *kind, const char *message)
{
	pio_str text = PIO_STR_INIT;
	fprintf(stderr, "pioche head: %s\n", message);
	pio_str_put_json(&text, message, strlen(message));
	json_t *value = NULL;
	if (!text.failed)
		(void)pio_json_parse(&value, text.data, text.len, "a note", NULL);
	pio_head_say(context, json_pack("{s:s, s:s, s:o, s:I}", "event", "note", "kind", kind, "message", value,
	                                "time_ns", (json_int_t)pio_clock_wall_ns()));
	pio_str_fini(&text);
}

/* ---- life ------------------------------------------------------------------------------------- */

/* As with agents: whoever holds the lock owns the attempt, and one that has an
 * exit record is over. */
static int take_attempt(pio_head *head, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = in_dir(&path, head, "head.lock", err);
	if (!rc)
		rc = pio_fs_lock(&head->lock_fd, path.data, err);
	if (!rc)
		rc = in_dir(&path, head, "exit.json", err);
	if (!rc && pio_fs_type(path.data) != PIO_FS_NONE)
		rc = pio_fail(err, PIO_EEXIST, "this attempt has ended already: there is %s", path.data);
	if (!rc)
		rc = in_dir(&path, head, "head.events", err);
	if (!rc)
		rc = pio_fs_open(&head->events_fd, path.data, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	pio_str_fini(&path);
	return rc;
}

static int read_orders(pio_head *head, pio_err *err)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	int rc = in_dir(&path, head, "orders.json", err);
	if (!rc)
		rc = pio_fs_read(&text, path.data, err);
	if (!rc)
		rc = pio_agent_spec_parse(&head->spec, text.data, text.len,
		                          json_pack("{s:s, s:i}", "token", head->token, "node", 0), err);
	if (!rc && text.len > PIO_FRAME_BYTES_MAX / 2)
		rc = pio_fail(err, PIO_EINVAL, "%s: %zu bytes, at most %u expected", path.data, text.len,
		              PIO_FRAME_BYTES_MAX / 2);
	pio_str_fini(&path);
	pio_str_fini(&text);
	if (rc)
		return rc;
	int64_t places = head->spec.nodes + pio_json_int_or(head->spec.json, "spares", 0);
	if (places < head->spec.nodes || places > PLACES_MAX)
		return pio_fail(err, PIO_EINVAL, "orders of the head: \"spares\" is out of range");
	head->place_count = (int)places;
	head->places = pio_calloc((size_t)places, sizeof *head->places);
	head->place_of = pio_calloc((size_t)head->spec.nodes, sizeof *head->place_of);
	if (!head->places || !head->place_of)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %d nodes", head->place_count);
	for (int i = 0; i < head->place_count; i++)
		head->places[i].node = -1;
	return 0;
}

static int choose_address(pio_head *head, pio_err *err)
{
	pio_str other = PIO_STR_INIT, why = PIO_STR_INIT;
	pio_address_wish wish = { .interface = pio_json_string_or(head->spec.json, "interface", NULL),
	                          .own_name = getenv("SLURMD_NODENAME") };
	/* In a pool even the only node of an attempt may be another than ours. */
	if (head->place_count > 1 || json_object_get(head->spec.json, "hosts")) {
		pio_head_put_host(&other, head, head->place_count - 1);
		if (!wish.own_name || strcmp(other.data, wish.own_name) != 0)
			wish.other_node = other.data;
	}
	int rc = pio_address_choose(head->address, &why, &wish, err);
	if (!rc)
		pio_head_note(head, "address", why.data);
	pio_str_fini(&other);
	pio_str_fini(&why);
	return rc;
}

static int open_port(pio_head *head, pio_err *err)
{
	pio_door_owner owner = { head, pio_head_hear, pio_head_lost, pio_head_tick, pio_head_note };
	pio_assembly_owner of_assembly = { head, pio_head_send, pio_head_put_node, pio_head_note };
	uint16_t port = 0;
	int fd = -1;
	int rc = choose_address(head, err);
	if (!rc)
		rc = pio_sock_listen(&fd, head->address, &port, err);
	if (!rc)
		rc = pio_door_open(&head->door, &head->loop, &fd, "the head", head->place_count, &owner, err);
	pio_sock_close(&fd);
	if (!rc)
		rc = pio_assembly_new(&head->assembly, head->spec.nodes, head->spec.ranks_per_node, &of_assembly, err);
	if (rc)
		return rc;
	snprintf(head->at, sizeof head->at, "%s:%u", head->address, (unsigned)port);
	return 0;
}

static int finish(pio_head *head, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	head->ended_ns = pio_clock_wall_ns();
	json_t *record = pio_head_exit_record(head);
	char *text = record ? pio_json_canonical(record) : NULL;
	int rc = text ? in_dir(&path, head, "exit.json", err)
	              : pio_fail(err, PIO_ENOMEM, "out of memory for the record of the attempt");
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), 0666, err);
	if (!rc) {
		json_object_set_new(record, "event", json_string("ended"));
		pio_head_say(head, json_incref(record));
	}
	json_decref(record);
	free(text);
	pio_str_fini(&path);
	return rc;
}

static int work(pio_head *head, pio_err *err)
{
	int rc = pio_head_loop_start(head, err);
	head->started_ns = pio_clock_wall_ns();
	if (!rc)
		rc = pio_head_gate(head, err);
	if (!rc && head->stage == PIO_HEAD_JOINING)
		rc = open_port(head, err);
	head->begun_ns = pio_clock_mono_ns();
	if (!rc && head->stage == PIO_HEAD_JOINING)
		rc = pio_head_start_agents(head, err);
	if (rc)
		pio_head_conclude(head, "failed", "stop", err->message);
	else if (head->stage == PIO_HEAD_JOINING)
		uv_run(&head->loop, UV_RUN_DEFAULT);
	/* The record says that all is over: so it is, before that is written. */
	pio_head_loop_end(head);
	return finish(head, err);
}

static void fini(pio_head *head)
{
	for (int i = 0; i < head->place_count && head->places; i++) {
		json_decref(head->places[i].record);
		json_decref(head->places[i].held);
		pio_head_watch_forget(&head->places[i]);
	}
	pio_free(head->places);
	pio_free(head->place_of);
	pio_assembly_free(head->assembly);
	pio_agent_spec_fini(&head->spec);
	if (head->events_fd >= 0)
		(void)pio_fs_close(&head->events_fd, "head.events", NULL);
	if (head->lock_fd >= 0)
		(void)pio_fs_close(&head->lock_fd, "head.lock", NULL);
}

int pio_head_main(const char *dir)
{
	pio_head head = { .lock_fd = -1, .events_fd = -1 };
	pio_err err = PIO_ERR_INIT;
	char absolute[PATH_MAX];

	signal(SIGPIPE, SIG_IGN);
	head.dir = absolute;
	int rc = realpath(dir, absolute) ? 0 : pio_fail_errno(&err, errno, "attempt \"%s\"", dir);
	if (!rc)
		rc = take_attempt(&head, &err);
	if (!rc)
		rc = pio_token_new(head.token, &err);
	if (!rc)
		rc = read_orders(&head, &err);
	if (!rc && uv_loop_init(&head.loop) != 0)
		rc = pio_fail(&err, PIO_ENOMEM, "out of memory for a loop");
	if (!rc)
		rc = work(&head, &err);
	if (rc)
		fprintf(stderr, "pioche head: %s\n", err.message);
	fini(&head);
	return rc ? 3 : 0;
}
