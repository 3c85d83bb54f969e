/* Places and nodes: who joins, what agents say, who is gone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/head_parts.h"
#include "launch/hostlist.h"
#include "sys/sock.h"

#define MISSING_NAMED_MAX 16

/* ---- names -------------------------------------------------------------------------------- */

void pio_head_put_host(pio_str *text, const pio_head *head, int place)
{
	const json_t *hosts = json_object_get(head->spec.json, "hosts");
	const char *host = json_string_value(json_array_get(hosts, (size_t)place));
	if (head->places[place].host[0])
		host = head->places[place].host;
	if (host)
		pio_str_puts(text, host);
	else if (!pio_hostlist_nth(text, getenv("SLURM_JOB_NODELIST"), place))
		pio_str_printf(text, "node %d", place);
}

int pio_head_put_missing(pio_str *text, const pio_head *head)
{
	int missing = 0, named = 0;
	for (int i = 0; i < head->place_count; i++)
		missing += head->places[i].state == PIO_PLACE_ABSENT;
	pio_str_printf(text, "%d of %d nodes: ", missing, head->place_count);
	for (int i = 0; i < head->place_count && named < MISSING_NAMED_MAX; i++)
		if (head->places[i].state == PIO_PLACE_ABSENT) {
			pio_str_puts(text, named++ ? ", " : "");
			pio_head_put_host(text, head, i);
		}
	if (missing > named)
		pio_str_puts(text, ", ...");
	return missing;
}

/* ---- orders --------------------------------------------------------------------------------- */

static void send_word(pio_guest *guest, enum pio_frame_type type, const char *word)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_text(&frame, type, word);
	pio_guest_send(guest, &frame);
}

void pio_head_order(pio_head *head, const char *word)
{
	for (int i = 0; i < head->place_count; i++)
		if (head->places[i].guest && head->places[i].state != PIO_PLACE_ENDED)
			send_word(head->places[i].guest, PIO_FRAME_ORDER, word);
}

void pio_head_order_one(pio_head *head, int place, const char *word)
{
	send_word(head->places[place].guest, PIO_FRAME_ORDER, word);
}

static void give_orders(pio_head *head, pio_place *place, int node)
{
	pio_str frame = PIO_STR_INIT;
	json_t *orders = json_copy(head->spec.json);
	static const char *const own[] = { "start", "start_on", "spares", "hosts", "interface", "join_s", "bandwidth",
	                                   "token", "host", "setup_script" };
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		json_object_del(orders, own[i]);
	json_object_set_new(orders, "node", json_integer(node));
	place->node = node;
	head->place_of[node] = (int)(place - head->places);
	json_object_set_new(orders, "master_addr", json_string(head->places[head->place_of[0]].address));
	json_object_set_new(orders, "head_clock", json_pack("{s:I, s:I}", "wall_ns",
		(json_int_t)pio_clock_wall_ns(), "mono_ns", (json_int_t)pio_clock_mono_ns()));
	json_object_set_new(orders, "master_port", json_integer(head->places[head->place_of[0]].port));
	char *text = orders ? pio_json_canonical(orders) : NULL;
	json_decref(orders);
	if (text)
		pio_frame_put_bytes(&frame, PIO_FRAME_ORDERS, text, strlen(text));
	else
		frame.failed = true;
	free(text);
	place->state = PIO_PLACE_WORKING;
	pio_guest_send(place->guest, &frame);
}

void pio_head_begin(pio_head *head)
{
	head->stage = PIO_HEAD_RUNNING;
	for (int i = 0, node = 0; i < head->place_count; i++) {
		pio_place *place = &head->places[i];
		if (place->state != PIO_PLACE_JOINED)
			continue;
		if (node < head->spec.nodes)
			give_orders(head, place, node++);
		else
			send_word(place->guest, PIO_FRAME_ORDER, "stop");
	}
}

void pio_head_send(void *context, int node, pio_str *frames)
{
	const pio_head *head = context;
	const pio_place *place = &head->places[head->place_of[node]];
	if (place->guest && place->node == node)
		pio_guest_send(place->guest, frames);
	else
		pio_str_fini(frames);
}

void pio_head_put_node(void *context, int node, pio_str *text)
{
	const pio_head *head = context;
	pio_head_put_host(text, head, head->place_of[node]);
}

/* ---- joining ---------------------------------------------------------------------------------- */

static void refuse(pio_guest *guest, const char *why)
{
	send_word(guest, PIO_FRAME_REFUSED, why);
	pio_guest_refuse(guest, why);
}

static void admit(pio_head *head, pio_guest *guest, const pio_frame_join *join)
{
	pio_place *place = &head->places[join->place];
	if (place->guest) { /* the keeper is quicker than the news of its agent's end */
		pio_guest_close(place->guest);
		pio_head_lost(head, place->guest);
	}
	memcpy(place->host, join->host, sizeof place->host);
	place->guest = guest;
	pio_guest_admit(guest, (int)join->place);
	if (join->is_keeper)
		return;
	memcpy(place->address, join->address, sizeof place->address);
	place->port = join->port;
	place->state = PIO_PLACE_JOINED;
	int absent = 0;
	for (int i = 0; i < head->place_count; i++)
		absent += head->places[i].state == PIO_PLACE_ABSENT;
	if (head->stage != PIO_HEAD_JOINING) /* it was begun without this one, or ends */
		send_word(guest, PIO_FRAME_ORDER, "stop");
	else if (absent == 0)
		pio_head_begin(head);
}

static void hear_join(pio_head *head, pio_guest *guest, const pio_frame *frame)
{
	pio_frame_join join;
	const pio_place *place;
	if (pio_frame_get_join(&join, frame, NULL) != 0) {
		pio_guest_refuse(guest, "something else than a JOIN");
		return;
	}
	if (!pio_token_matches(head->token, join.token)) {
		refuse(guest, "a wrong token");
		return;
	}
	if (join.place >= (uint32_t)head->place_count) {
		refuse(guest, "a JOIN with a place that this attempt has not");
		return;
	}
	place = &head->places[join.place];
	/* An agent may come anew before the end of its first connection is heard of. */
	bool is_again = place->state == PIO_PLACE_JOINED && strcmp(place->host, join.host) == 0;
	if (join.is_keeper ? place->state != PIO_PLACE_WORKING && place->state != PIO_PLACE_SILENT
	                   : place->state != PIO_PLACE_ABSENT && !is_again)
		refuse(guest, "a JOIN for a place that is taken");
	else
		admit(head, guest, &join);
}

/* ---- what they say --------------------------------------------------------------------------- */

void pio_head_spread(pio_head *head, const char *what)
{
	if (head->has_failed)
		return;
	head->has_failed = true;
	head->victim_ns = 0;
	head->stage = PIO_HEAD_ENDING;
	if (head->verdict) { /* all were to end in good order */
		size_t at = strlen(head->why);
		snprintf(head->why + at, sizeof head->why - at, "; %s", what);
	}
	pio_assembly_abort(head->assembly, what);
	pio_head_order(head, "peers");
}

static void hear_failure(pio_head *head, int index, const json_t *event)
{
	pio_str what = PIO_STR_INIT;
	pio_head_put_host(&what, head, index);
	pio_str_printf(&what, " %s", pio_json_string_or(event, "what", "failed"));
	if (!json_is_true(json_object_get(event, "victim"))) {
		pio_head_spread(head, what.data);
	} else if (!head->has_failed && !head->victim_ns) { /* the culprit may be heard of soon */
		head->victim_ns = pio_clock_mono_ns();
		snprintf(head->victim, sizeof head->victim, "%s", what.data);
	}
	pio_str_fini(&what);
}

/* Closing the connection tells the agent that its record has come. */
static void hear_end(pio_head *head, pio_place *place, json_t *event)
{
	place->record = json_incref(event);
	place->state = PIO_PLACE_ENDED;
	pio_guest_close(place->guest);
	place->guest = NULL;
	if (pio_head_is_failure(pio_json_string_or(event, "result", "lost")))
		pio_head_spread(head, pio_json_string_or(event, "message", "an agent failed"));
	pio_head_check_end(head);
}

static void hear_event(pio_head *head, int index, json_t *event)
{
	pio_place *place = &head->places[index];
	const char *kind = pio_json_string_or(event, "event", "");
	if (pio_head_watch_hear(head, index, event) || pio_head_vote_hear(head, index, event)) {
		return;
	} else if (strcmp(kind, "failed") == 0) {
		hear_failure(head, index, event);
	} else if (strcmp(kind, "ended") == 0) {
		if (place->node >= 0)
			hear_end(head, place, event);
	} else {
		json_object_set_new(event, "host", json_string(place->host));
		json_object_set_new(event, "node", json_integer(place->node));
		json_object_set_new(event, "time_ns", json_integer(pio_clock_wall_ns()));
		pio_head_say(head, json_incref(event));
	}
}

static void hear_ping(pio_guest *guest, const pio_frame *frame)
{
	int64_t agent_ns;
	pio_str pong = PIO_STR_INIT;
	if (pio_frame_get_ping(&agent_ns, frame, NULL) != 0)
		return;
	pio_frame_put_pong(&pong, agent_ns, pio_clock_mono_ns());
	pio_guest_send(guest, &pong);
}

void pio_head_hear(void *context, pio_guest *guest, const pio_frame *frame)
{
	pio_head *head = context;
	const char *text;
	size_t text_bytes;
	json_t *event = NULL;
	if (pio_guest_index(guest) < 0) {
		hear_join(head, guest, frame);
	} else if (frame->type == PIO_FRAME_PING) {
		hear_ping(guest, frame);
	} else if (frame->type == PIO_FRAME_EVENT && pio_frame_get_bytes(&text, &text_bytes, frame, NULL) == 0 &&
	           pio_json_parse(&event, text, text_bytes, "event", NULL) == 0) {
		if (json_is_object(event))
			hear_event(head, pio_guest_index(guest), event);
		json_decref(event);
	} else if (head->places[pio_guest_index(guest)].node >= 0) {
		pio_assembly_hear(head->assembly, head->places[pio_guest_index(guest)].node, frame);
	}
}

void pio_head_lost(void *context, pio_guest *guest)
{
	pio_head *head = context;
	pio_place *place = &head->places[pio_guest_index(guest)];
	if (place->guest != guest)
		return;
	place->guest = NULL;
	if (place->state == PIO_PLACE_JOINED && head->stage == PIO_HEAD_JOINING) {
		place->state = PIO_PLACE_ABSENT; /* it may come again */
	} else if (place->state == PIO_PLACE_WORKING) {
		pio_str what = PIO_STR_INIT;
		place->state = PIO_PLACE_SILENT;
		place->lost_ns = pio_clock_mono_ns();
		pio_str_printf(&what, "%s is gone: the connection to its agent broke", place->host);
		pio_head_spread(head, what.data);
		pio_str_fini(&what);
	}
}
