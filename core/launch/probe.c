#include "launch/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "client/comm.h"
#include "client/nccl_library.h"
#include "client/pioche.h"
#include "client/pioche_nccl.h"
#include "gpu/cuda.h"
#include "gpu/device.h"
#include "launch/gate_search.h"

#define JOIN_MS 120000    /* who hangs is found before (gate_round.c) */
#define GROUP_MS 120000
#define GPU_BYTES (64u << 20)
#define TCP_BYTES (4u << 20)
/* After all together have been measured, which says how long a call takes: */
#define CALLS_MAX 10      /* on a stream at once: what a wait is late by is spread */
#define CALLS_S 0.02
#define TRIES_MIN 2
#define TRIES_MAX 5       /* the best one counts: a machine has other things to do too */
#define TRIES_S 1.0

typedef struct probe {
	pio_run *run;
	const pio_info *info;
	pio_comm *comm;
	int node, nodes;
	pio_nccl *nccl;           /* NULL: by TCP */
	pio_device device;
	float *data;              /* by TCP */
	int calls, tries;
	pio_key key;
	int64_t step;             /* calls that are done */
	pio_gate_search search;
} probe;

/* What this library's calls say of themselves is in pio_error. */
static int said(int rc, pio_err *err)
{
	return rc ? pio_fail(err, -rc, "%s", pio_error()) : 0;
}

/* ---- one all-reduce ------------------------------------------------------------------- */

static int add_up_nccl(probe *p, pio_nccl *group)
{
	int rc = 0;
	for (int i = 0; i < p->calls && !rc; i++)
		rc = pio_nccl_allreduce(group, p->device.memory, p->device.memory, GPU_BYTES / sizeof(float),
		                        PIO_F32, p->device.stream);
	return rc ? rc : pio_nccl_wait(group, p->device.stream, GROUP_MS);
}

/* Seconds of the quickest; the first one, which may wait for others, does not count. */
static int time_best(double *best_s, probe *p, pio_nccl *nccl, pio_comm *comm)
{
	int rc = 0;
	*best_s = 0;
	for (int i = 0; i <= p->tries && !rc; i++) {
		int64_t begin_ns = pio_clock_mono_ns();
		rc = nccl ? add_up_nccl(p, nccl) : pio_comm_allreduce(comm, p->data, TCP_BYTES / sizeof(float));
		double s = (double)(pio_clock_mono_ns() - begin_ns) / 1e9 / (nccl ? p->calls : 1);
		if (i > 0 && (*best_s == 0 || s < *best_s))
			*best_s = s;
		if (!rc)
			rc = pio_log(p->run, p->key, ++p->step, s);
	}
	return rc;
}

/* What a rank sends, and receives. */
static double bytes_of(const probe *p, int ranks)
{
	return 2.0 * (ranks - 1) / ranks * (p->nccl ? GPU_BYTES : TCP_BYTES);
}

/* Of the group that this rank is in; with -1 it waits. */
static int measure(double *busbw, probe *p, int color, int ranks, pio_err *err)
{
	double best_s = 0;
	pio_nccl *nccl = NULL;
	pio_comm *comm = NULL;
	int rc = p->nccl ? pio_nccl_split(&nccl, p->nccl, color, p->info->rank, GROUP_MS)
	                 : pio_comm_group(&comm, p->comm, color, GROUP_MS);
	if (!rc && color >= 0)
		rc = time_best(&best_s, p, nccl, comm);
	if (rc)
		rc = said(rc, err);
	pio_nccl_close(&nccl, rc ? err->message : NULL);
	pio_comm_group_close(&comm);
	*busbw = best_s > 0 ? bytes_of(p, ranks) / best_s : 0;
	return rc;
}

/* ---- a round ------------------------------------------------------------------------------ */

/* The first rank of a group tells what it measured; then all know both figures. */
static int measure_round(probe *p, pio_err *err)
{
	const pio_gate_node *nodes = p->search.nodes;
	int first = 0, group = nodes[p->node].group;
	int ranks_of_node = p->nccl ? p->info->world / p->nodes : 1;
	double own = 0;
	float told[2] = { 0, 0 };
	int size = group >= 0 ? pio_gate_search_size(&p->search, group) : 0;
	bool takes_part = size >= 2 && (p->nccl || p->info->local_rank == 0);
	int rc = measure(&own, p, takes_part ? group : -1, size * ranks_of_node, err);
	while (group >= 0 && nodes[first].group != group)
		first++;
	if (!rc && takes_part && first == p->node && p->info->local_rank == 0)
		told[group] = (float)own;
	if (!rc)
		rc = said(pio_comm_allreduce(p->comm, told, 2), err);
	if (!rc)
		pio_gate_search_take(&p->search, (double[2]){ (double)told[0], (double)told[1] });
	return rc;
}

static int between(double value, int low, int high)
{
	return value < low ? low : value > high ? high : (int)value;
}

/* All ranks come to the same numbers: they know the same figure. */
static void set_pace(probe *p)
{
	int ranks = p->nccl ? p->info->world : p->nodes;
	double call_s = p->search.whole > 0 ? bytes_of(p, ranks) / p->search.whole : TRIES_S;
	p->calls = between(CALLS_S / call_s, 1, CALLS_MAX);
	p->tries = between(TRIES_S / call_s, TRIES_MIN, TRIES_MAX);
}

static int search_all(probe *p, double expected, int most, pio_err *err)
{
	int rc = pio_gate_search_init(&p->search, p->nodes, most, expected, err);
	p->calls = 1;
	p->tries = TRIES_MIN;
	while (!rc && pio_gate_search_next(&p->search)) {
		rc = measure_round(p, err);
		if (!rc && p->search.round == 1)
			set_pace(p);
	}
	return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool has_gpu(const probe *p)
{
	const pio_nccl_library *api;
	pio_cuda_devices list;
	if (pio_nccl_library_get(&api, NULL) != 0 || !api->ncclCommSplit || pio_cuda_devices_list(&list, NULL) != 0)
		return false;
	bool has = list.count > (size_t)p->info->local_rank;
	pio_cuda_devices_free(&list);
	return has;
}

/* All by NCCL, or none. */
static int prepare(probe *p, pio_err *err)
{
	float able = has_gpu(p);
	int rc = said(pio_comm_allreduce(p->comm, &able, 1), err);
	if (!rc && (int)able == p->info->world) {
		rc = pio_device_open(&p->device, p->info->local_rank, GPU_BYTES, err);
		if (!rc)
			rc = said(pio_nccl_init(&p->nccl, p->comm, GROUP_MS), err);
	} else if (!rc) {
		p->data = pio_calloc(TCP_BYTES / sizeof(float), sizeof(float));
		if (!p->data)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for %u bytes", TCP_BYTES);
	}
	return rc;
}

static int tell(const probe *p, pio_err *err)
{
	static const char *const states[] = { [PIO_GATE_UNKNOWN] = "unknown", [PIO_GATE_GOOD] = "good",
	                                      [PIO_GATE_SLOW] = "slow" };
	json_t *nodes = json_array();
	for (int i = 0; i < p->nodes; i++) {
		const pio_gate_node *node = &p->search.nodes[i];
		json_array_append_new(nodes, json_pack("{s:s, s:f, s:f}", "state", states[node->state], "busbw",
		                                       node->busbw, "control", node->control));
	}
	json_t *result = json_pack("{s:s, s:i, s:f, s:f, s:o}", "by", p->nccl ? "nccl" : "tcp", "rounds",
	                           p->search.round, "whole", p->search.whole, "best",
	                           pio_gate_search_best(&p->search), "nodes", nodes);
	char *text = result ? pio_json_canonical(result) : NULL;
	int rc = text && printf("%s\n", text) > 0 && fflush(stdout) == 0
		? 0 : pio_fail(err, PIO_EIO, "the result cannot be told");
	free(text);
	json_decref(result);
	return rc;
}

static void end(probe *p, const char *reason)
{
	pio_nccl_close(&p->nccl, reason);
	pio_comm_close(&p->comm, reason);
	pio_device_close(&p->device);
	pio_gate_search_fini(&p->search);
	pio_free(p->data);
}

int pio_probe_main(const char *expected, const char *most)
{
	probe p = { .device = { .device = -1 } };
	pio_err err = PIO_ERR_INIT;
	const char *ranks_of_node = getenv("LOCAL_WORLD_SIZE");
	int rc = said(pio_open(&p.run, NULL), &err);
	if (!rc) {
		int each = ranks_of_node ? atoi(ranks_of_node) : 0;
		p.info = pio_info_get(p.run);
		if (each < 1 || p.info->world % each != 0)
			rc = pio_fail(&err, PIO_EINVAL, "LOCAL_WORLD_SIZE: only an agent starts a probe");
		p.nodes = rc ? 0 : p.info->world / each;
		p.node = rc ? 0 : p.info->rank / each;
	}
	if (!rc) {
		p.key = pio_key_get(p.run, "preflight/allreduce_s");
		rc = said(pio_log(p.run, p.key, p.step, 0), &err); /* from here on it may not stand */
	}
	if (!rc)
		rc = said(pio_comm_init(&p.comm, p.run, JOIN_MS), &err);
	if (!rc)
		rc = said(pio_log(p.run, p.key, ++p.step, 0), &err);
	if (!rc)
		rc = prepare(&p, &err);
	if (!rc)
		rc = search_all(&p, strtod(expected, NULL), atoi(most), &err);
	if (!rc && p.info->rank == 0)
		rc = tell(&p, &err);
	if (rc)
		fprintf(stderr, "pioche probe: %s\n", err.message);
	end(&p, rc ? err.message : NULL);
	return p.run && pio_close(&p.run, rc ? 1 : 0) ? 1 : rc ? 1 : 0;
}
