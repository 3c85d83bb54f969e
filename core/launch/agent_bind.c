#include "launch/agent_bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "sys/fs.h"

/* A core: its logical CPUs as far as they are allowed. Only the lowest of them
 * is kept, and what orders cores by nearness. */
typedef struct core {
	int package, node, first;
} core;

typedef struct machine {
	const char *sys;
	pio_cpus *siblings;             /* by core */
	core *cores;                    /* nearest together */
	int count;
	pio_cpus *nodes;                /* by place in node_numbers */
	int *node_numbers;
	int nodes_count;
} machine;

/* ---- the topology ------------------------------------------------------------------------ */

static bool read_text(pio_str *text, const char *sys, const char *format, int number)
{
	pio_str path = PIO_STR_INIT;
	pio_str_clear(text);
	pio_str_printf(&path, "%s/", sys);
	pio_str_printf(&path, format, number);
	bool ok = !path.failed && pio_fs_read(text, path.data, NULL) == 0 && !text->failed;
	pio_str_fini(&path);
	return ok;
}

/* A machine without NUMA, or a container that hides it, has no nodes. */
static int read_nodes(machine *m, pio_err *err)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	pio_str_printf(&path, "%s/devices/system/node", m->sys);
	if (path.failed || pio_fs_list(&names, &count, path.data, NULL) != 0)
		count = 0;
	pio_str_fini(&path);
	m->nodes = pio_calloc(count + 1, sizeof *m->nodes);
	m->node_numbers = pio_calloc(count + 1, sizeof *m->node_numbers);
	for (size_t i = 0; m->nodes && m->node_numbers && i < count; i++) {
		int number, end = 0;
		if (sscanf(names[i], "node%d%n", &number, &end) != 1 || names[i][end] ||
		    !read_text(&text, m->sys, "devices/system/node/node%d/cpulist", number) ||
		    !pio_cpus_parse(&m->nodes[m->nodes_count], text.data))
			continue;
		m->node_numbers[m->nodes_count++] = number;
	}
	pio_str_fini(&text);
	pio_fs_list_free(names, count);
	return m->nodes && m->node_numbers ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for NUMA nodes");
}

/* Place of the NUMA node that holds all of these; -1: none does. */
static int node_of(const machine *m, const pio_cpus *cpus)
{
	for (int i = 0; i < m->nodes_count; i++) {
		pio_cpus inside = m->nodes[i];
		pio_cpus_and(&inside, cpus);
		if (pio_cpus_equal(&inside, cpus))
			return i;
	}
	return -1;
}

static int by_nearness(const void *a, const void *b)
{
	const core *left = a, *right = b;
	if (left->node != right->node)
		return left->node < right->node ? -1 : 1;
	if (left->package != right->package)
		return left->package < right->package ? -1 : 1;
	return left->first < right->first ? -1 : left->first > right->first;
}

static void read_core(machine *m, int cpu, const pio_cpus *allowed, pio_str *text)
{
	pio_cpus *siblings = &m->siblings[cpu];
	if (!read_text(text, m->sys, "devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu) ||
	    !pio_cpus_parse(siblings, text->data))
		memset(siblings, 0, sizeof *siblings);
	pio_cpus_and(siblings, allowed);
	pio_cpus_add(siblings, cpu);
	core *c = &m->cores[m->count++];
	c->first = cpu;
	c->node = node_of(m, siblings);
	c->package = read_text(text, m->sys, "devices/system/cpu/cpu%d/topology/physical_package_id", cpu)
	             ? atoi(text->data) : 0;
}

static int read_machine(machine *m, const pio_cpus *allowed, pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	pio_cpus seen = { { 0 } };
	int rc = read_nodes(m, err), last = 0;
	for (int cpu = pio_cpus_next(allowed, 0); cpu >= 0; cpu = pio_cpus_next(allowed, cpu + 1))
		last = cpu;
	m->siblings = pio_calloc((size_t)last + 1, sizeof *m->siblings);
	m->cores = pio_calloc((size_t)last + 1, sizeof *m->cores);
	if (!rc && (!m->siblings || !m->cores))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the cores of this machine");
	for (int cpu = pio_cpus_next(allowed, 0); !rc && cpu >= 0; cpu = pio_cpus_next(allowed, cpu + 1)) {
		if (pio_cpus_has(&seen, cpu))
			continue;
		read_core(m, cpu, allowed, &text);
		pio_cpus_or(&seen, &m->siblings[cpu]);
	}
	if (!rc)
		qsort(m->cores, (size_t)m->count, sizeof *m->cores, by_nearness);
	pio_str_fini(&text);
	return rc;
}

static void free_machine(machine *m)
{
	pio_free(m->siblings);
	pio_free(m->cores);
	pio_free(m->nodes);
	pio_free(m->node_numbers);
}

/* ---- the split ----------------------------------------------------------------------------- */

/* Whole cores of `among` for the ranks whose `near` it is, of which there are
 * `count`; false where there are more ranks than cores. */
static bool split(pio_binding *binding, const machine *m, const pio_cpus *among, const pio_cpus *near,
                  int ranks, int count)
{
	int cores = 0, at = 0, given = 0;
	for (int i = 0; i < m->count; i++)
		cores += pio_cpus_has(among, m->cores[i].first);
	if (cores < count)
		return false;
	for (int rank = 0; rank < ranks; rank++) {
		if (near && !pio_cpus_equal(&near[rank], among))
			continue;
		int until = (int)((int64_t)(given + 1) * cores / count);
		int taken = (int)((int64_t)given * cores / count);
		while (at < m->count && taken < until) {
			const core *c = &m->cores[at++];
			if (!pio_cpus_has(among, c->first))
				continue;
			pio_cpus_or(&binding->ranks[rank].cpus, &m->siblings[c->first]);
			taken++;
		}
		pio_cpus_and(&binding->ranks[rank].cpus, among);
		given++;
	}
	return true;
}

/* The entry of a rank among visible ones, of *n bytes. */
static const char *entry_of(const char *visible, int local_rank, size_t *n)
{
	size_t count = 1;
	for (const char *at = visible; (at = strchr(at, ',')); at++)
		count++;
	for (size_t skip = (size_t)local_rank % count; skip; skip--)
		visible = strchr(visible, ',') + 1;
	*n = strcspn(visible, ",");
	return visible;
}

/* Visible are numbers, or (beginnings of) UUIDs. */
const pio_gpu *pio_gpu_of_rank(const pio_gpus *gpus, const char *visible, int local_rank)
{
	size_t n;
	if (!visible)
		return gpus->count ? &gpus->gpus[(size_t)local_rank % gpus->count] : NULL;
	visible = entry_of(visible, local_rank, &n);
	for (size_t i = 0; i < gpus->count; i++)
		if (pio_gpu_has_name(&gpus->gpus[i], visible, n))
			return &gpus->gpus[i];
	return NULL;
}

static bool has_entry(const char *list, const char *entry, size_t n)
{
	for (; *list; list += strcspn(list, ","), list += *list == ',')
		if (strcspn(list, ",") == n && memcmp(list, entry, n) == 0)
			return true;
	return false;
}

void pio_gpu_put_visible(pio_str *list, const pio_gpus *gpus, const char *visible, int local_rank)
{
	char number[24];
	const char *entry = number;
	size_t n = 0;
	if (visible)
		entry = entry_of(visible, local_rank, &n);
	else if (gpus->count)
		n = (size_t)snprintf(number, sizeof number, "%d",
		                     gpus->gpus[(size_t)local_rank % gpus->count].index);
	if (!n || (list->len && has_entry(list->data, entry, n)))
		return;
	if (list->len)
		pio_str_putc(list, ',');
	pio_str_append(list, entry, n);
}

/* The allowed CPUs next to each rank's GPU. False: they are unknown for one. */
static bool find_near(pio_binding *binding, pio_cpus *near, const pio_binding_request *request)
{
	for (int rank = 0; rank < request->ranks; rank++) {
		const pio_gpu *gpu = pio_gpu_of_rank(request->gpus, request->visible, rank);
		if (!gpu || !gpu->has_cpus)
			return false;
		memset(&near[rank], 0, sizeof near[rank]);
		_Static_assert(PIO_GPU_CPUS <= PIO_CPUS_MAX, "CPUs next to a GPU are CPUs");
		for (int cpu = 0; cpu < PIO_GPU_CPUS; cpu++)
			if (gpu->cpus[cpu / 64] >> (cpu % 64) & 1)
				pio_cpus_add(&near[rank], cpu);
		pio_cpus_and(&near[rank], &request->allowed);
		if (pio_cpus_count(&near[rank]) == 0)
			return false;
		binding->ranks[rank].gpu = gpu->uuid;
	}
	return true;
}

static void clear(pio_binding *binding, int ranks)
{
	for (int rank = 0; rank < ranks; rank++)
		binding->ranks[rank] = (pio_bind){ .memory_node = -1 };
}

/* Ranks with the same neighbourhood share it out. */
static bool split_by_gpu(pio_binding *binding, const machine *m, const pio_cpus *near, int ranks)
{
	for (int rank = 0; rank < ranks; rank++) {
		int count = 0, first = rank;
		for (int other = 0; other < ranks; other++) {
			if (!pio_cpus_equal(&near[other], &near[rank]))
				continue;
			first = other < first ? other : first;
			count++;
		}
		if (first == rank && !split(binding, m, &near[rank], near, ranks, count))
			return false;
	}
	return true;
}

static int plan_by_gpu(pio_binding *binding, const machine *m, const pio_binding_request *request,
                       bool *done, pio_err *err)
{
	pio_cpus *near = pio_calloc((size_t)request->ranks, sizeof *near);
	if (!near)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a binding");
	*done = find_near(binding, near, request);
	if (!*done)
		snprintf(binding->why, sizeof binding->why,
		         "ranks are not bound: no allowed CPUs next to each rank's GPU are known");
	else if (!split_by_gpu(binding, m, near, request->ranks)) {
		*done = false;
		snprintf(binding->why, sizeof binding->why,
		         "ranks are not bound: there are more of them than cores next to a GPU");
	}
	pio_free(near);
	return 0;
}

static void find_memory(pio_binding *binding, const machine *m, int ranks)
{
	if (m->nodes_count < 2 || pio_memory_has_policy())
		return;
	for (int rank = 0; rank < ranks; rank++) {
		int place = node_of(m, &binding->ranks[rank].cpus);
		if (place >= 0)
			binding->ranks[rank].memory_node = m->node_numbers[place];
	}
}

int pio_binding_plan(pio_binding *binding, const pio_binding_request *request, pio_err *err)
{
	machine m = { .sys = request->sys };
	bool by_gpu = strcmp(request->mode, "cores") != 0, done = false;
	memset(binding, 0, sizeof *binding);
	binding->allowed = request->allowed;
	if (strcmp(request->mode, "none") == 0)
		return 0;
	binding->ranks = pio_calloc((size_t)request->ranks, sizeof *binding->ranks);
	if (!binding->ranks)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a binding");
	clear(binding, request->ranks);
	int rc = read_machine(&m, &request->allowed, err);
	if (!rc && by_gpu)
		rc = plan_by_gpu(binding, &m, request, &done, err);
	if (!rc && !done && strcmp(request->mode, "gpu") != 0) {
		clear(binding, request->ranks);
		binding->why[0] = 0;
		done = split(binding, &m, &request->allowed, NULL, request->ranks, request->ranks);
		if (!done)
			snprintf(binding->why, sizeof binding->why, "ranks are not bound: there are %d of them and"
			         " %d core%s", request->ranks, m.count, m.count == 1 ? "" : "s");
	}
	if (!rc && done)
		find_memory(binding, &m, request->ranks);
	if (rc || !done) {
		pio_free(binding->ranks);
		binding->ranks = NULL;
	}
	free_machine(&m);
	return rc;
}

void pio_binding_fini(pio_binding *binding)
{
	pio_free(binding->ranks);
	binding->ranks = NULL;
}

/* ---- its use --------------------------------------------------------------------------------- */

int pio_binding_enter(pio_binding *binding, int local_rank, pio_err *err)
{
	pio_bind *bind = binding->ranks ? &binding->ranks[local_rank] : NULL;
	if (!bind)
		return 0;
	int rc = pio_cpus_bind(&bind->cpus, err);
	if (rc) {
		*bind = (pio_bind){ .memory_node = -1 };
		return rc;
	}
	if (bind->memory_node >= 0 && (rc = pio_memory_prefer(bind->memory_node, err)) != 0)
		bind->memory_node = -1;
	return rc;
}

int pio_binding_leave(pio_binding *binding, int local_rank, pio_err *err)
{
	if (!binding->ranks)
		return 0;
	int rc = binding->ranks[local_rank].memory_node >= 0 ? pio_memory_prefer(-1, err) : 0;
	int bind_rc = pio_cpus_bind(&binding->allowed, rc ? NULL : err);
	return rc ? rc : bind_rc;
}

json_t *pio_binding_json(const pio_binding *binding, int local_rank)
{
	const pio_bind *bind = binding->ranks ? &binding->ranks[local_rank] : NULL;
	pio_str cpus = PIO_STR_INIT;
	if (!bind || pio_cpus_count(&bind->cpus) == 0)
		return json_null();
	pio_cpus_put(&cpus, &bind->cpus);
	json_t *object = json_pack("{s:s}", "cpus", cpus.data);
	if (bind->memory_node >= 0)
		json_object_set_new(object, "memory", json_integer(bind->memory_node));
	if (bind->gpu)
		json_object_set_new(object, "gpu", json_string(bind->gpu));
	pio_str_fini(&cpus);
	return object;
}
