/* agent_spec.h: the orders of an agent, one JSON object on one line, on stdin or,
 * where it joins a head, from that; orders.json of the head holds the same
 * without token, node and host, and what launch/head.h adds:
 *
 *   version         1
 *   run             ULID
 *   attempt, node, nodes, ranks_per_node    integers; node 0 is the head
 *   dir             the attempt's directory, absolute
 *   cwd             working directory of the ranks, absolute
 *   command         array of strings; a relative path with '/' is relative to cwd
 *   env             object of strings, added to the agent's own environment
 *   setup           shell line sourced before the command, or absent
 *   wrap            array of strings before the command, or absent
 *   token           32 hexadecimal digits; never in a file or on a command line:
 *                   an agent that joins a head has it from its environment
 *   store, staging, lib_dir                 absolute paths
 *   resume          absolute path of the resume index, or absent
 *   timeout_s       from the start, 0 or absent: none
 *   grace_s         from SIGTERM to SIGKILL, default 10
 *   hang_s          longest time without a step, 0: any; absent: learned (pace.h)
 *   hang_first_s    the same until a rank has made its second step, default 1800 or hang_s
 *   hang_floor_s    the least that is learned, default 60
 *   last_step_s     the least that ranks have to come to the step at which they end (before
 *                   grace_s), default 60
 *   hold_s          from the head's "hold" to its word how they end; else they go on; default 30
 *   max_restarts    for TORCHELASTIC_MAX_RESTARTS, default 0
 *   sample_ms       how often the node and its GPUs are measured (agent_meter.c); 0: never
 *   preflight       true: look at the node before ranks are started (preflight.h)
 *   fit_for         for so many ranks, default ranks_per_node
 *   mpi_env         true: OpenMPI's rank variables too; absent: not
 *   bind            auto, gpu, cores or none (agent_bind.h), default auto
 *   slots           where nodes are shared: for each node an array of the slots that its
 *                   ranks have of its slots_per_node, one each; absent: it is theirs alone
 *   host            name of this node in records; absent: gethostname(2)
 *   master_addr, master_port    where torch's rank 0 is to listen; set under a head */
#ifndef PIO_LAUNCH_AGENT_SPEC_H
#define PIO_LAUNCH_AGENT_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "base/ulid.h"

#define PIO_RANKS_PER_NODE_MAX 1024
#define PIO_GRACE_S_DEFAULT 10
#define PIO_HANG_FLOOR_S_DEFAULT 60
#define PIO_LAST_STEP_S_DEFAULT 60
#define PIO_HOLD_S_DEFAULT 30

/* Strings are borrowed from `json`. */
typedef struct pio_agent_spec {
	json_t *json;
	pio_ulid ulid;
	const char *run, *dir, *cwd, *token, *store, *staging, *lib_dir;
	const char *setup, *resume, *host;         /* NULL: none */
	const char *bind;
	const char *master_addr;                   /* NULL: of this agent's making, as are */
	const char *rendezvous, *address;          /* client/env.h */
	const char **command;                      /* setup shell, wrap and command, NULL-terminated */
	json_t *env;                               /* NULL: none */
	const json_t *slots;                       /* of this node; NULL: all of it */
	int slots_per_node;
	int attempt, node, nodes, ranks_per_node, world, first_rank, master_port;
	int64_t timeout_s, grace_s, max_restarts;
	int64_t hang_s, hang_floor_s;              /* hang_s -1: learned */
	int64_t last_step_s, hold_s;
	int sample_ms;
	int64_t hang_first_s;                      /* 0: not told */
	int64_t fit_for;                           /* ranks, for preflight */
	bool mpi_env, preflight;
	char host_name[256];
} pio_agent_spec;

/* Parse and check; PIO_ECORRUPT names the member. `more`: members that do not
 * come with the text (token, host, node), taken; or NULL. */
int pio_agent_spec_parse(pio_agent_spec *spec, const char *text, size_t size_bytes, json_t *more,
                         pio_err *err);
void pio_agent_spec_fini(pio_agent_spec *spec);

/* The environment of one rank: the agent's own, then `env`, then what is
 * promised in client/env.h. Freed by pio_agent_env_free. */
int pio_agent_env(char ***envp, const pio_agent_spec *spec, int local_rank, const char *ring_path,
                  pio_err *err);
void pio_agent_env_free(char **envp);
/* Does the agent's environment or `env` say anything of this variable? */
bool pio_agent_env_has(const pio_agent_spec *spec, const char *name);

#endif
