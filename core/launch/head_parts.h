/* head_parts.h: what the files of the head share: head.c (its life), head_loop.c
 * (signals, timers, the command that starts the agents), head_node.c (what
 * agents say), head_watch.c (hangs, stragglers), head_vote.c (at which step all end),
 * head_exit.c (who failed first, and exit.json), head_gate.c (which nodes work).
 * For them alone.
 *
 *   JOINING --all are here--> RUNNING --a failure, a signal--> ENDING
 *      |--a signal, too late-------------------------------------^
 *
 * A place is one agent that `start` starts; it becomes a node of the attempt
 * when it gets its orders:
 *
 *   ABSENT --JOIN--> JOINED --orders--> WORKING --its exit record--> ENDED
 *                                          |--connection broke--> SILENT --its keeper--> ENDED
 *                                                                    |------15 s-------> GONE
 */
#ifndef PIO_LAUNCH_HEAD_PARTS_H
#define PIO_LAUNCH_HEAD_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "base/str.h"
#include "client/frame.h"
#include "launch/address.h"
#include "launch/agent_spec.h"
#include "launch/assembly.h"
#include "launch/door.h"
#include "launch/token.h"

enum pio_head_stage { PIO_HEAD_JOINING, PIO_HEAD_RUNNING, PIO_HEAD_ENDING };
enum pio_place_state {
	PIO_PLACE_ABSENT, PIO_PLACE_JOINED, PIO_PLACE_WORKING, PIO_PLACE_SILENT, PIO_PLACE_ENDED,
	PIO_PLACE_GONE,
};

typedef struct pio_place {
	enum pio_place_state state;
	int node;                     /* of the attempt; -1: none */
	char host[PIO_FRAME_HOST_BYTES], address[PIO_FRAME_HOST_BYTES];
	uint32_t port;                /* there, for rank 0 should it run there */
	pio_guest *guest;             /* NULL: not connected */
	int64_t lost_ns;              /* monotonic; the connection broke */
	json_t *record;               /* its exit record; NULL: none */
	bool has_steps;               /* its ranks log them */
	json_t *silence;              /* its report that they make none now; NULL: they do */
	json_t *look;                 /* its answer to what they do; NULL: none since it was asked */
	json_t *pace;                 /* what a step takes, a rank; NULL: not told */
	json_t *held;                 /* its answer to "hold"; NULL: none yet */
} pio_place;

typedef struct pio_head {
	const char *dir;
	pio_agent_spec spec;          /* as of node 0 */
	char token[PIO_TOKEN_CHARS + 1];
	char at[PIO_ADDRESS_BYTES + 8];      /* HOST:PORT where it listens */
	char address[PIO_ADDRESS_BYTES];
	int place_count;
	pio_place *places;
	int *place_of;                /* one a node, from the orders on */
	enum pio_head_stage stage;
	const char *verdict;          /* result word, where no failure is the reason */
	char why[PIO_ERR_MESSAGE_BYTES];   /* of the verdict */
	int64_t asked_ns, ask_ns;     /* monotonic; what ranks do, 0: not; when to ask again, 0: never */
	bool has_new_paces;           /* since paces_ns */
	int64_t paces_ns;             /* monotonic; the median was told last */
	bool has_failed;              /* the others were told of a failure */
	int64_t vote_ns;              /* monotonic; since when answers to "hold" are waited for; 0: they are not */
	int64_t victim_ns;            /* a victim's failure was heard of; 0: none, or a culprit's */
	char victim[PIO_ERR_MESSAGE_BYTES];
	int64_t begun_ns, named_ns, end_ns;   /* monotonic; when who is missing is named; when patience ends */
	int64_t started_ns, ended_ns;         /* wall */
	int lock_fd, events_fd;
	uv_loop_t loop;
	pio_door *door;
	pio_assembly *assembly;
	uv_signal_t child, term, interrupt, near_limit;
	uv_pipe_t start_errors;
	pid_t start_pid;              /* 0: not running */
	int start_status;
	int64_t start_ended_ns;
	char last_words[512];         /* last line of its standard error */
	size_t last_bytes;
	uint64_t refused;             /* connections, once the door is closed */
} pio_head;

/* ---- head.c ---- */
/* Append an event to head.events; takes the reference. */
void pio_head_say(pio_head *head, json_t *event);
/* A line for the run's history. */
void pio_head_note(void *head, const char *kind, const char *message);

/* ---- head_loop.c ---- */
int pio_head_loop_start(pio_head *head, pio_err *err);
/* Fifty milliseconds passed. */
void pio_head_tick(void *head);
int pio_head_start_agents(pio_head *head, pio_err *err);
/* Close every handle; nothing that `start` started lives on. */
void pio_head_loop_end(pio_head *head);
/* End for a reason that is no failure of a rank or node, unless one came first. */
void pio_head_conclude(pio_head *head, const char *verdict, const char *order, const char *why);
/* The ranks have this long before they are signalled: until then nobody is given up. */
void pio_head_set_patience(pio_head *head, int64_t ranks_s);
/* Nothing more can come: leave the loop. */
void pio_head_check_end(pio_head *head);

/* ---- head_node.c ---- */
/* What the door tells. */
void pio_head_hear(void *head, pio_guest *guest, const pio_frame *frame);
void pio_head_lost(void *head, pio_guest *guest);
/* Enough are here: the first `nodes` of them work, the others are not needed. */
void pio_head_begin(pio_head *head);
/* What the assembly says to a node, and the node's name. */
void pio_head_send(void *head, int node, pio_str *frames);
void pio_head_put_node(void *head, int node, pio_str *text);
/* One of pio_agent_obey's words, to all that work. */
void pio_head_order(pio_head *head, const char *word);
void pio_head_order_one(pio_head *head, int place, const char *word);
/* A failure on this node: tell the ranks and the agents of the others. */
void pio_head_spread(pio_head *head, const char *what);
/* The place's name, in messages. */
void pio_head_put_host(pio_str *text, const pio_head *head, int place);
/* "3 of 127 nodes: dgx-017, dgx-044, dgx-101"; how many are missing. */
int pio_head_put_missing(pio_str *text, const pio_head *head);

/* ---- head_gate.c ---- */
/* Where preflight is asked for on several nodes: choose those that `start` starts agents
 * on. Ends the attempt (stage) where too few are fit. Nothing else is open yet. */
int pio_head_gate(pio_head *head, pio_err *err);

/* ---- head_watch.c ---- */
/* Takes note of what an agent says of its ranks' progress. False: the event is
 * another one. */
bool pio_head_watch_hear(pio_head *head, int index, json_t *event);
/* While nothing ends: end an attempt that hangs, tell the median of a step. */
void pio_head_watch_tick(pio_head *head, int64_t now_ns);
/* A place's reports. */
void pio_head_watch_forget(pio_place *place);

/* ---- head_vote.c ---- */
/* As pio_head_conclude with "stop" or "timeout", in good order where the ranks ask when:
 * every agent is asked how far its ranks are, and told the step at which they end. */
void pio_head_vote(pio_head *head, const char *verdict, const char *order, const char *why);
/* Takes an agent's answer. False: the event is another one. */
bool pio_head_vote_hear(pio_head *head, int index, json_t *event);
/* Decide once all have answered, or one has not for too long. */
void pio_head_vote_tick(pio_head *head, int64_t now_ns);

/* ---- head_exit.c ---- */
/* The result word of a node: one that is a reason to end all the others. */
bool pio_head_is_failure(const char *result);
/* exit.json; NULL when memory is out. */
json_t *pio_head_exit_record(pio_head *head);

#endif
