#include "launch/preflight.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/json.h"
#include "client/ring.h"
#include "gpu/nvml.h"
#include "sys/fs.h"
#include "sys/host.h"
#include "sys/shm.h"

#define MIB (INT64_C(1) << 20)
#define STORE_BYTES (256 * MIB)        /* journals, and the first checkpoint's beginning */
#define TMP_BYTES (64 * MIB)
#define RANK_MEMORY_BYTES (64 * MIB)   /* an interpreter with its libraries, no model */
#define FILES 1024
#define FILES_MIN 64
#define SKEW_NS INT64_C(1000000000)    /* times of points are out of order by as much */
#define SKEW_MAX_NS INT64_C(60000000000)

/* What one check found. */
typedef struct finding {
	const char *state;
	pio_str message;
} finding;

typedef void check(finding *found, const pio_agent_spec *spec, int64_t skew_ns);

/* ---- room ----------------------------------------------------------------------------- */

static void look_at_room(finding *found, const char *dir, int64_t needed_bytes, const char *who)
{
	int64_t free_bytes = pio_fs_free_bytes(dir);
	if (free_bytes < 0) {
		found->state = "failed";
		pio_str_printf(&found->message, "%s cannot be looked at", dir);
		return;
	}
	pio_str_printf(&found->message, "%s has %lld MiB", dir, (long long)(free_bytes / MIB));
	if (free_bytes < needed_bytes) {
		found->state = "failed";
		pio_str_printf(&found->message, ", %s %lld MiB", who, (long long)((needed_bytes + MIB - 1) / MIB));
	}
}

static void check_store(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	(void)skew_ns;
	look_at_room(found, spec->store, STORE_BYTES, "a run needs");
}

static void check_tmp(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	const char *dir = getenv("TMPDIR");
	(void)spec;
	(void)skew_ns;
	look_at_room(found, dir && *dir ? dir : "/tmp", TMP_BYTES, "programs need");
}

static void check_shm(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	char who[48];
	(void)skew_ns;
	snprintf(who, sizeof who, "%lld ring%s need%s", (long long)spec->fit_for, spec->fit_for == 1 ? "" : "s",
	         spec->fit_for == 1 ? "s" : "");
	look_at_room(found, pio_shm_dir(), (int64_t)pio_ring_bytes(0, 0) * spec->fit_for, who);
}

static void check_memory(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	int64_t total_bytes, free_bytes, needed_bytes = RANK_MEMORY_BYTES * spec->fit_for;
	(void)skew_ns;
	if (!pio_host_memory(&total_bytes, &free_bytes, "")) {
		found->state = "warning";
		pio_str_puts(&found->message, "the kernel does not say how much memory there is");
		return;
	}
	pio_str_printf(&found->message, "%lld MiB of memory are free", (long long)(free_bytes / MIB));
	if (free_bytes < needed_bytes) {
		found->state = "failed";
		pio_str_printf(&found->message, ", %lld rank%s need at least %lld MiB", (long long)spec->fit_for,
		               spec->fit_for == 1 ? "" : "s", (long long)(needed_bytes / MIB));
	}
}

/* ---- limits ------------------------------------------------------------------------------ */

static void check_files(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	struct rlimit limit = { 0, 0 };
	(void)spec;
	(void)skew_ns;
	getrlimit(RLIMIT_NOFILE, &limit);
	pio_str_printf(&found->message, "a process may have %llu open files", (unsigned long long)limit.rlim_cur);
	if (limit.rlim_cur < FILES) {
		found->state = limit.rlim_cur < FILES_MIN ? "failed" : "warning";
		pio_str_printf(&found->message, ", %d expected (ulimit -n)", FILES);
	}
}

/* ---- the node in its net -------------------------------------------------------------------- */

static void check_host(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	struct addrinfo *list = NULL;
	(void)skew_ns;
	int e = getaddrinfo(spec->host, NULL, NULL, &list);
	if (e == 0) {
		freeaddrinfo(list);
		pio_str_printf(&found->message, "the name %s resolves", spec->host);
	} else { /* ranks are told addresses: only what looks for itself needs it */
		found->state = "warning";
		pio_str_printf(&found->message, "the name %s does not resolve: %s", spec->host, gai_strerror(e));
	}
}

static void check_clock(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	(void)spec;
	if (skew_ns == PIO_SKEW_UNKNOWN) {
		pio_str_puts(&found->message, "one node, one clock");
		return;
	}
	int64_t off_ns = skew_ns < 0 ? -skew_ns : skew_ns;
	pio_str_printf(&found->message, "the clock is %.3f s %s the head's", (double)off_ns / 1e9,
	               skew_ns < 0 ? "behind" : "ahead of");
	if (off_ns > SKEW_NS) {
		found->state = off_ns > SKEW_MAX_NS ? "failed" : "warning";
		pio_str_printf(&found->message, ", at most %d s expected", (int)(SKEW_NS / INT64_C(1000000000)));
	}
}

/* ---- GPUs -------------------------------------------------------------------------------------- */

static void put_locked(finding *found)
{
	struct rlimit limit = { 0, 0 };
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		return;
	if (strcmp(found->state, "ok") == 0)
		found->state = "warning";
	pio_str_printf(&found->message, "; a process may lock %lld MiB of memory, RDMA expects no limit (ulimit -l)",
	               (long long)limit.rlim_cur / (long long)MIB);
}

/* Those that the ranks will see. */
static void put_faults(finding *found, const pio_gpus *list, const pio_agent_spec *spec)
{
	const char *visible = pio_json_string_or(spec->env, "CUDA_VISIBLE_DEVICES",
	                                         getenv("CUDA_VISIBLE_DEVICES"));
	pio_str faults = PIO_STR_INIT;
	for (size_t i = 0; i < list->count; i++) {
		pio_str_clear(&faults);
		if (!pio_gpu_is_visible(&list->gpus[i], visible) || !pio_gpu_put_faults(&faults, &list->gpus[i]))
			continue;
		found->state = "failed";
		pio_str_printf(&found->message, "; %s", faults.data);
	}
	pio_str_fini(&faults);
}

static void check_gpus(finding *found, const pio_agent_spec *spec, int64_t skew_ns)
{
	pio_gpus list;
	pio_err err = PIO_ERR_INIT;
	const char *text = getenv("SLURM_GPUS_ON_NODE");
	long long expected = text ? strtoll(text, NULL, 10) : 0;
	(void)skew_ns;
	int rc = pio_gpus_list(&list, PIO_GPUS_TIMEOUT_MS, &err);
	if (rc) { /* NVML without a driver: a node without GPUs */
		found->state = rc == -PIO_ENOTFOUND && expected == 0 ? "ok" : "failed";
		pio_str_puts(&found->message, err.message);
		return;
	}
	pio_str_printf(&found->message, "%zu GPU%s", list.count, list.count == 1 ? "" : "s");
	if (list.driver[0])
		pio_str_printf(&found->message, ", driver %s", list.driver);
	if (list.driver[0] && (long long)list.count < expected) {
		found->state = "failed";
		pio_str_printf(&found->message, ", %lld expected", expected);
	}
	put_faults(found, &list, spec);
	if (list.count)
		put_locked(found);
	pio_gpus_free(&list);
}

/* ---- all of them ---------------------------------------------------------------------------------- */

int pio_preflight(json_t **checks, pio_str *failures, const pio_agent_spec *spec, int64_t skew_ns,
                  pio_err *err)
{
	static const struct { const char *name; check *look; } all[] = {
		{ "store", check_store }, { "tmp", check_tmp }, { "shm", check_shm }, { "memory", check_memory },
		{ "files", check_files }, { "host", check_host }, { "clock", check_clock }, { "gpus", check_gpus },
	};
	*checks = json_array();
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		finding found = { "ok", PIO_STR_INIT };
		pio_str text = PIO_STR_INIT;
		all[i].look(&found, spec, skew_ns);
		pio_str_put_text(&text, found.message.data, found.message.len); /* paths are any bytes */
		if (strcmp(found.state, "failed") == 0)
			pio_str_printf(failures, "%s%s", failures->len ? "; " : "", text.data);
		json_array_append_new(*checks, json_pack("{s:s, s:s, s:s, s:I}", "name", all[i].name, "state",
		                                         found.state, "message", text.data, "time_ns",
		                                         (json_int_t)pio_clock_wall_ns()));
		pio_str_fini(&found.message);
		pio_str_fini(&text);
	}
	if (json_array_size(*checks) == sizeof all / sizeof *all)
		return pio_str_check(failures, err);
	json_decref(*checks);
	*checks = NULL;
	return pio_fail(err, PIO_ENOMEM, "out of memory for what preflight found");
}
