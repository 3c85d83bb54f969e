/* agent_parts.h: what the files of the agent share: agent.c (its life),
 * agent_loop.c (orders, timers, stages of an ending), agent_head.c (the
 * connection to the head), agent_meet.c (where ranks meet), agent_rank.c (starting,
 * reaping and stopping ranks), agent_vote.c (at which step they end), agent_place.c (where they run), agent_exit.c (the
 * exit record), agent_watch.c (hangs, lack of memory),
 * agent_straggler.c (slow ranks), agent_xid.c (GPUs that err), agent_meter.c (what the
 * node does), agent_feed.c (those who listen to GPUs), agent_preflight.c (is the node
 * fit?), agent_leftover.c (what dead ones left here). For them alone.
 *
 * An ending goes through stages, only upwards:
 *
 *   RUNNING --a rank failed, here or elsewhere--> PEERS --3 s--> TERM --grace_s--> KILL
 *    | |                                            ^              ^                ^
 *    | '--stop, timeout, and ranks ask--> VOTE --a rank failed    |                |
 *    |                                      '--patience_s, SIGTERM|                |
 *    |--stop, timeout, nobody to obey any more--------------------'                |
 *    '--kill, or the agent itself is in trouble------------------------------------'
 *
 * In VOTE the ranks know the step at which they end, and end by themselves. In PEERS the
 * others have been told the reason and may fail by themselves. A rank that ends from
 * TERM on, or at its step, was stopped, and is nobody's first failure. */
#ifndef PIO_LAUNCH_AGENT_PARTS_H
#define PIO_LAUNCH_AGENT_PARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "client/ring.h"
#include "launch/agent_bind.h"
#include "launch/agent_spec.h"
#include "launch/assembly.h"
#include "launch/join.h"
#include "launch/pace.h"
#include "launch/rendezvous.h"
#include "sys/journal.h"
#include "sys/proc.h"

enum pio_agent_stage {
	PIO_STAGE_RUNNING, PIO_STAGE_VOTE, PIO_STAGE_PEERS, PIO_STAGE_TERM, PIO_STAGE_KILL,
};

typedef struct pio_agent_watch pio_agent_watch;
typedef struct pio_agent_xids pio_agent_xids;
typedef struct pio_agent_meter pio_agent_meter;

typedef struct pio_agent_feed {
	pio_proc_feed feed;           /* opened by who starts it */
	uv_poll_t poll;
	bool is_open;                 /* from start to end */
} pio_agent_feed;

typedef struct pio_agent_rank {
	int rank;                     /* of the attempt, not of the node */
	pid_t pid;                    /* 0: never started */
	bool has_ended, was_stopped;
	int exit_code, signal;        /* -1: none */
	int batch;                    /* deaths seen at once share it */
	int64_t started_ns, ended_ns; /* wall; 0: not */
	int64_t started_mono_ns, ended_mono_ns;
	int64_t last_step;            /* drained; INT64_MIN: none */
	pio_ring *ring;
	char *ring_path;
} pio_agent_rank;

typedef struct pio_agent {
	pio_agent_spec spec;
	pio_agent_rank *ranks;        /* ranks_per_node, in memory that the keeper sees too */
	pid_t keeper_pid;             /* of this agent's parent; 0 in that itself */
	pio_gpus gpus;                /* of the node */
	pio_binding binding;
	int alive, batches;
	enum pio_agent_stage stage;
	const char *verdict;          /* why it ends, when no rank's failure is the reason */
	int64_t patience_s;           /* of the stage VOTE */
	pio_err trouble;              /* of the agent itself; code 0: none */
	int trouble_rank;             /* that could not be started; -1: none */
	int64_t trouble_mono_ns;
	int64_t started_ns, ended_ns; /* wall */
	int lock_fd;
	int note_fd;                  /* under a head: holds the lock of its note (leftover.h) */
	pio_journal_writer *journal;
	bool is_journal_broken, is_orphan, has_lost_keeper;
	int64_t signalled_ns;         /* monotonic; told to end by SIGTERM, as its ranks may have been; 0: not */
	bool is_holding;              /* for the head, which says how it goes on */
	bool failed_elsewhere;        /* a rank of another node: stopped for that */
	int told_failure;             /* to the head; 1: a victim's, 2: a culprit's */
	json_t *checks;               /* what preflight found; NULL: it was not asked for */
	bool is_unfit;                /* by preflight: no rank was started */
	pio_agent_watch *watch;
	pio_agent_xids *xids;         /* NULL: there are no GPUs */
	pio_agent_meter *meter;       /* NULL: nothing is sampled */
	pio_pace *paces;              /* one a rank */
	bool has_new_paces;           /* some step_ns is new since paces_told_ns */
	int64_t paces_told_ns;        /* monotonic */
	pio_rendezvous *rendezvous;
	pio_assembly *assembly;       /* NULL where there is a head, which has it */
	uv_timer_t assembly_tick;
	uv_loop_t loop;
	uv_pipe_t orders;
	uv_signal_t child, term, near_limit;
	uv_timer_t drain, beat, escalation, limit;
	int beats;
	char line[16];                /* of orders that is not whole yet */
	size_t line_bytes;
	pio_joined *joined;           /* NULL: no head, orders and events go through pipes */
	uv_tcp_t head;
	uv_timer_t ping;
	uv_shutdown_t goodbye;
	bool has_head;                /* connected; until the end that one side begins */
} pio_agent;

/* ---- agent.c ---- */
/* One event to the supervisor, or to the head; takes the reference. */
void pio_agent_say(pio_agent *agent, json_t *message);
/* Whoever holds the lock owns the attempt. -PIO_EEXIST when that is over. */
int pio_agent_take_attempt(pio_agent *agent, pio_err *err);
/* Write exit.<node>.json; the caller owns *record. */
int pio_agent_write_record(pio_agent *agent, json_t **record, pio_err *err);
/* Without what the ranks wrote, which is in the record's file: for the head. */
void pio_agent_slim(json_t *record);

/* ---- agent_loop.c ---- */
int pio_agent_loop_start(pio_agent *agent, pio_err *err);
/* Close every handle, the rendezvous first. */
void pio_agent_loop_end(pio_agent *agent);
/* Obey "stop", "kill", "timeout" or "peers"; anything else changes nothing. */
void pio_agent_obey(pio_agent *agent, const char *word);
/* Nobody gives orders any more. */
void pio_agent_orphaned(pio_agent *agent);
/* The agent cannot go on: keep the first reason, kill the ranks. */
void pio_agent_fail(pio_agent *agent, const pio_err *err);
/* The same, and the journal is not touched any more. */
void pio_agent_fail_journal(pio_agent *agent, const pio_err *err);
/* Enter a stage; not downwards. */
void pio_agent_escalate(pio_agent *agent, enum pio_agent_stage stage);
/* A line for the run's history (pio_rendezvous_event). */
void pio_agent_note(void *context, const char *kind, const char *message);
/* An event of a local rank, in the journal. */
void pio_agent_event(pio_agent *agent, int local_rank, const char *kind, const pio_str *message);

/* ---- agent_head.c ---- */
/* The connection of `joined` becomes the loop's. */
int pio_agent_head_start(pio_agent *agent, pio_err *err);
/* Takes the string. What cannot be sent is in the exit record. */
void pio_agent_head_send(pio_agent *agent, pio_str *frames);
/* Wait until the head has taken all that was sent; after the loop. */
void pio_agent_head_finish(pio_agent *agent);
/* The head's monotonic clock, from this machine's. Without a head they are one. */
int64_t pio_agent_head_clock_ns(const pio_agent *agent, int64_t mono_ns);
/* The first failure of this node, or the agent's own trouble, once. */
void pio_agent_head_tell_failure(pio_agent *agent);

/* ---- agent_vote.c ---- */
/* Let the ranks end at a step that they are told. False: none of them asks, or a head
 * would have to say it; nothing has happened that pio_agent_vote_drop does not undo. */
bool pio_agent_vote(pio_agent *agent, const char *verdict);
/* The head's "hold" and "end"; false: another word. */
bool pio_agent_vote_obey(pio_agent *agent, const char *word);
/* From here on they are to hear signals. */
void pio_agent_vote_drop(pio_agent *agent);
/* The rank has heard that this is its last step. */
bool pio_agent_vote_is_told(const pio_agent *agent, const pio_agent_rank *rank);
/* All have ended well before they came to the step, and no signal can be the reason. */
bool pio_agent_vote_is_moot(const pio_agent *agent);

/* ---- agent_meet.c ---- */
/* Sets what ranks are told of it in the spec. */
int pio_agent_meet_open(pio_agent *agent, pio_err *err);
void pio_agent_meet_close(pio_agent *agent);

/* ---- agent_rank.c ---- */
int pio_agent_ranks_start(pio_agent *agent, pio_err *err);
/* A child was reaped; one that is no rank changes nothing. */
void pio_agent_rank_ended(pio_agent *agent, pid_t pid, int status, bool was_stopped);
/* Collect all dead children; on a first failure go to PEERS. */
void pio_agent_ranks_reap(pio_agent *agent);
/* Ranks and all they started. */
void pio_agent_ranks_signal(int signal_number);
/* Kill whatever the ranks left behind and wait for it. How many it were. */
int pio_agent_leftovers_kill(void);
/* Drain all rings; `dead`: nobody writes any more. */
int pio_agent_drain(pio_agent *agent, bool dead, uint64_t *moved, pio_err *err);
void pio_agent_rings_close(pio_agent *agent, bool unlink);
/* The rank whose failure is the cause: known primaries before those that a
 * peer's death took along, earlier before later. NULL when there is none. */
const pio_agent_rank *pio_agent_first(const pio_agent *agent);
/* It failed because a peer had (client/ring.h). */
bool pio_agent_is_victim(const pio_agent_rank *rank);

/* ---- agent_preflight.c ---- */
/* Fails where the node is unfit. Nothing to do unless the orders ask for it. */
int pio_agent_preflight(pio_agent *agent, pio_err *err);
/* `first` of the exit record of an unfit node. */
json_t *pio_agent_unfit_record(const pio_agent *agent);

/* ---- agent_watch.c ---- */
int pio_agent_watch_open(pio_agent *agent, pio_err *err);
void pio_agent_watch_close(pio_agent *agent);
/* At each beat: how far the ranks are. A node that hangs gets the verdict. */
void pio_agent_watch_beat(pio_agent *agent);
/* The longest that a step of the ranks took, or has taken by now; 0: none is known. */
int64_t pio_agent_watch_step_ns(const pio_agent *agent);
/* Words of the head (launch/agent.h) on hangs and stragglers; others change nothing. */
void pio_agent_watch_obey(pio_agent *agent, const char *word);
/* `first` of the exit record where the node hangs, else null. */
json_t *pio_agent_watch_first(const pio_agent *agent);
/* It was killed because memory was out, and by nobody else. */
bool pio_agent_watch_is_oom(const pio_agent *agent, const pio_agent_rank *rank);
/* "; out of memory: ..." where that is so. */
void pio_agent_watch_put_oom(pio_str *text, const pio_agent *agent, const pio_agent_rank *rank);

/* ---- agent_straggler.c ---- */
/* At each beat, after the paces were seen. */
void pio_agent_straggler_beat(pio_agent *agent, int64_t now_ns);
/* The head's "pace"; other words change nothing. */
void pio_agent_straggler_obey(pio_agent *agent, const char *word);

/* ---- agent_leftover.c ---- */
/* Begin to drain what dead agents left on this node. */
void pio_agent_leftover_start(pio_agent *agent);

/* ---- agent_xid.c ---- */
/* Listen; from before the ranks are started. */
void pio_agent_xids_open(pio_agent *agent);
/* A child was reaped. */
void pio_agent_xids_reaped(pio_agent *agent, pid_t pid);
/* Hear what there is, and listen no more. What was heard stays known until the agent
 * ends. */
void pio_agent_xids_end(pio_agent *agent);
/* "; Xid 79 of gpu 3 (...)" where that came seconds before the rank's failure (on the
 * monotonic clock) or since. */
void pio_agent_xids_put(pio_str *text, const pio_agent *agent, int local_rank, int64_t failed_ns);

/* ---- agent_meter.c ---- */
/* Begin to sample; before the ranks are started. */
void pio_agent_meter_open(pio_agent *agent);
/* A child was reaped. */
void pio_agent_meter_reaped(pio_agent *agent, pid_t pid);
/* Sample no more. */
void pio_agent_meter_end(pio_agent *agent);

/* ---- agent_feed.c ---- */
/* Watch a feed that was just opened; `poll->data` is the agent. */
void pio_agent_feed_start(pio_agent_feed *feed, pio_agent *agent, uv_poll_cb readable);
/* A child was reaped. */
void pio_agent_feed_reaped(pio_agent_feed *feed, pid_t pid);
/* Idempotent. */
void pio_agent_feed_end(pio_agent_feed *feed);

/* ---- agent_place.c ---- */
/* CUDA_VISIBLE_DEVICES of the ranks; NULL: not set. */
const char *pio_agent_visible(const pio_agent *agent);
/* The GPU that a rank is taken to use; NULL: there is none, or it is unknown. */
const pio_gpu *pio_agent_gpu_of(const pio_agent *agent, int local_rank);
/* The local rank of a GPU, by NVML's index: who is taken to use it, else the first one
 * if the ranks see it; -1: nobody here. */
int pio_agent_rank_of_gpu(const pio_agent *agent, int index);
/* Find the GPUs and decide the binding. What cannot be had is told. */
int pio_agent_place(pio_agent *agent, pio_err *err);
void pio_agent_place_end(pio_agent *agent);
/* Start a rank where it belongs; sets its pid. */
int pio_agent_rank_spawn(pio_agent *agent, int local_rank, const pio_proc_spec *spec, pio_err *err);

/* ---- agent_facts.c ---- */
/* What the node is and has goes into the journal. */
int pio_agent_facts_tell(pio_agent *agent, pio_err *err);

/* ---- agent_exit.c ---- */
/* Any bytes without NUL as a JSON string: what is no UTF-8 becomes U+FFFD. */
json_t *pio_agent_json_text(const char *bytes, size_t size_bytes);
/* "rank 1 (gpu 1) died: SIGKILL"; appended. */
void pio_agent_describe(pio_str *text, const pio_agent *agent, const pio_agent_rank *rank);
/* The exit record; NULL when memory is out. */
json_t *pio_agent_exit_record(pio_agent *agent);

#endif
