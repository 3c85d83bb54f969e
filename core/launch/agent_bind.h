/* agent_bind.h: which cores, and which memory, each rank of a node is given.
 *
 *   "none"   the ranks run where the agent may
 *   "cores"  the allowed CPUs are split evenly, whole cores at a time, cores that
 *            are near each other together
 *   "gpu"    each rank gets cores next to its GPU; ranks whose GPUs are next to
 *            the same cores split those
 *   "auto"   "gpu" where NVML tells the cores of every rank's GPU, else "cores"
 *
 * Allowed is what sched_getaffinity(2) says, hence what a cgroup, taskset or
 * Slurm has left. With more ranks than cores nobody is bound. The GPU of a rank is
 * that at its place among CUDA_VISIBLE_DEVICES, or among all: LOCAL_RANK modulo
 * their number. A rank whose cores lie on one of several NUMA nodes prefers the
 * memory of that node (set_mempolicy(2)), unless the agent was itself started
 * under a policy. */
#ifndef PIO_LAUNCH_AGENT_BIND_H
#define PIO_LAUNCH_AGENT_BIND_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "gpu/nvml.h"
#include "sys/cpus.h"

/* The GPU of a rank, by its place on the node; NULL: none that NVML knows. */
const pio_gpu *pio_gpu_of_rank(const pio_gpus *gpus, const char *visible, int local_rank);

typedef struct pio_bind {
	pio_cpus cpus;
	int memory_node;                /* NUMA; -1: no preference */
	const char *gpu;                /* UUID, of the caller's list; NULL: not by GPU */
} pio_bind;

typedef struct pio_binding {
	pio_bind *ranks;                /* NULL: nobody is bound */
	pio_cpus allowed;               /* to the agent */
	char why[200];                  /* nobody is, though it was asked for; else "" */
} pio_binding;

typedef struct pio_binding_request {
	const char *mode;               /* one of the four words */
	int ranks;                      /* of this node */
	pio_cpus allowed;
	const char *sys;                /* "/sys", where the topology is read */
	const pio_gpus *gpus;
	const char *visible;            /* CUDA_VISIBLE_DEVICES, or NULL */
} pio_binding_request;

/* Decide; ENOMEM alone is an error. Freed by pio_binding_fini. */
int pio_binding_plan(pio_binding *binding, const pio_binding_request *request, pio_err *err);
void pio_binding_fini(pio_binding *binding);

/* Append the GPU of a rank, as pio_gpu_of_rank has it, to a list that is to be
 * CUDA_VISIBLE_DEVICES; one is in it once. */
void pio_gpu_put_visible(pio_str *list, const pio_gpus *gpus, const char *visible, int local_rank);

/* What is started between these two is bound as this rank: the calling thread
 * is, and is again where it was. A rank that could not be bound (a cgroup has
 * changed meanwhile) is not, and from then on its binding says so. */
int pio_binding_enter(pio_binding *binding, int local_rank, pio_err *err);
int pio_binding_leave(pio_binding *binding, int local_rank, pio_err *err);

/* {"cpus": "0-13", "memory": 0, "gpu": "GPU-..."} with those that there are, or
 * null. */
json_t *pio_binding_json(const pio_binding *binding, int local_rank);

#endif
