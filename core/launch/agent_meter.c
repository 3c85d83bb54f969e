/* What the node and its GPUs do while the ranks run, as series of the run: every
 * `sample_ms` of the orders, "sys/gpu/..." (gpu/meter.h) of the rank that has the GPU
 * ("sys/gpu1/..." of its second one), "sys/host/..." (sys/host.h) of the node's first
 * rank. The step is the newest that a rank of the node has logged. GPUs that no rank
 * may use are somebody else's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gpu/meter.h"
#include "launch/agent_parts.h"
#include "sys/host.h"

#define GPUS_MAX 64
#define NAMED_WORDS 16            /* bits of a rank's keys: those of 64 GPUs, and the host's */
#define SLOWED_READINGS 2         /* in a row, until it is told */

_Static_assert(GPUS_MAX * PIO_GPU_GAUGES + PIO_HOST_GAUGES <= 64 * NAMED_WORDS, "a bit for each key");

typedef struct metered_gpu {
	int local_rank, place;        /* -1: nobody's here; among those of its rank */
	pio_gpu_reading newest;
	bool has_newest;
	int slowed;                   /* readings in a row */
} metered_gpu;

struct pio_agent_meter {
	pio_agent_feed feed;
	uv_timer_t timer;
	bool is_timed;
	pio_host_look host;
	metered_gpu gpus[GPUS_MAX];   /* by NVML's index */
	uint64_t named[][NAMED_WORDS];   /* one a rank */
};

/* ---- into the journal ------------------------------------------------------------------ */

static int64_t newest_step(const pio_agent *agent)
{
	int64_t newest = INT64_MIN;
	for (int i = 0; i < agent->spec.ranks_per_node; i++)
		if (agent->ranks[i].last_step > newest)
			newest = agent->ranks[i].last_step;
	return newest == INT64_MIN ? 0 : newest;
}

static int name_key(pio_agent *agent, int local_rank, uint32_t index, const char *name, pio_err *err)
{
	uint64_t *word = &agent->meter->named[local_rank][index / 64], bit = UINT64_C(1) << (index % 64);
	pio_str payload = PIO_STR_INIT;
	if (*word & bit)
		return 0;
	*word |= bit;
	pio_record_put_u32(&payload, (uint32_t)agent->ranks[local_rank].rank);
	pio_record_put_u32(&payload, PIO_KEYS_OF_AGENT + index);
	pio_record_put_str(&payload, name, strlen(name));
	int rc = pio_str_check(&payload, err);
	if (!rc)
		rc = pio_journal_append(agent->journal, PIO_RECORD_KEY, payload.data, payload.len, NULL, 0, err);
	pio_str_fini(&payload);
	return rc;
}

/* One row of gauges, those that are known; their keys begin at `first`. */
typedef const char *gauge_name(int gauge);
static int put_gauges(pio_agent *agent, int local_rank, uint32_t first, const char *prefix, gauge_name *name_of,
                      const double *gauges, int count, int64_t time_ns, pio_err *err)
{
	pio_journal_point points[PIO_GPU_GAUGES + PIO_HOST_GAUGES]; /* enough for either */
	uint32_t known = 0, head[2] = { (uint32_t)agent->ranks[local_rank].rank, 0 };
	int64_t step = newest_step(agent);
	int rc = 0;
	if (agent->is_journal_broken)
		return 0;
	for (int i = 0; i < count && !rc; i++) {
		char name[64];
		if (isnan(gauges[i]))
			continue;
		pio_journal_point *point = &points[known++];
		*point = (pio_journal_point){ .time_ns = time_ns, .step = step,
		                              .key = PIO_KEYS_OF_AGENT + first + (uint32_t)i };
		memcpy(&point->value_bits, &gauges[i], sizeof point->value_bits);
		snprintf(name, sizeof name, "%s/%s", prefix, name_of(i));
		rc = name_key(agent, local_rank, first + (uint32_t)i, name, err);
	}
	head[1] = known;
	if (!rc && known)
		rc = pio_journal_append(agent->journal, PIO_RECORD_POINTS, head, sizeof head, points,
		                        known * sizeof *points, err);
	return rc;
}

/* ---- the host ----------------------------------------------------------------------------- */

static const char *host_name(int gauge)
{
	return pio_host_gauge_name((pio_host_gauge)gauge);
}

static void sample_host(uv_timer_t *timer)
{
	pio_agent *agent = timer->data;
	pio_host_look now;
	double gauges[PIO_HOST_GAUGES];
	pio_err err = PIO_ERR_INIT;
	pio_host_look_at(&now, "");
	pio_host_gauges(gauges, &agent->meter->host, &now);
	agent->meter->host = now;
	if (put_gauges(agent, 0, GPUS_MAX * PIO_GPU_GAUGES, "sys/host", host_name, gauges, PIO_HOST_GAUGES,
	               pio_clock_wall_ns(), &err) != 0)
		pio_agent_fail_journal(agent, &err);
}

/* ---- its GPUs ------------------------------------------------------------------------------- */

static const char *gpu_name(int gauge)
{
	return pio_gpu_gauge_name((pio_gpu_gauge)gauge);
}

/* Once an episode. */
static void watch_slowed(pio_agent *agent, metered_gpu *gpu, const pio_gpu_reading *reading)
{
	const char *by = pio_gpu_slowed_by(reading->gauges[PIO_GPU_SLOWED]);
	pio_str message = PIO_STR_INIT;
	gpu->slowed = by ? gpu->slowed + 1 : 0;
	if (gpu->slowed != SLOWED_READINGS)
		return;
	pio_str_printf(&message, "gpu %d is slowed by %s", reading->gpu, by);
	if (!isnan(reading->gauges[PIO_GPU_TEMPERATURE]))
		pio_str_printf(&message, " at %.0f degrees Celsius", reading->gauges[PIO_GPU_TEMPERATURE]);
	pio_str_printf(&message, ", node %s", agent->spec.host);
	pio_agent_event(agent, gpu->local_rank, "slowed", &message);
	pio_str_fini(&message);
}

static void put_gpu(pio_agent *agent, const metered_gpu *gpu, const pio_gpu_reading *reading)
{
	char prefix[32] = "sys/gpu";
	pio_err err = PIO_ERR_INIT;
	if (gpu->place)
		snprintf(prefix, sizeof prefix, "sys/gpu%d", gpu->place);
	if (put_gauges(agent, gpu->local_rank, (uint32_t)gpu->place * PIO_GPU_GAUGES, prefix, gpu_name,
	               reading->gauges, PIO_GPU_GAUGES, reading->time_ns, &err) != 0)
		pio_agent_fail_journal(agent, &err);
}

static void hear(pio_agent *agent, const pio_gpu_reading *reading)
{
	metered_gpu *gpu = &agent->meter->gpus[reading->gpu];
	if (gpu->local_rank < 0)
		return;
	gpu->newest = *reading;
	gpu->has_newest = true;
	put_gpu(agent, gpu, reading);
	watch_slowed(agent, gpu, reading);
}

static void readable(uv_poll_t *poll, int status, int events)
{
	pio_agent *agent = poll->data;
	pio_gpu_reading reading;
	int more;
	(void)events;
	while ((more = pio_proc_feed_take(&agent->meter->feed.feed, &reading)) > 0)
		hear(agent, &reading);
	if (more < 0 || status < 0)
		uv_poll_stop(poll);
}

static void assign_gpus(pio_agent *agent)
{
	metered_gpu *gpus = agent->meter->gpus;
	for (int i = 0; i < GPUS_MAX; i++) {
		gpus[i].local_rank = pio_agent_rank_of_gpu(agent, i);
		for (int k = 0; k < i && gpus[i].local_rank >= 0; k++)
			gpus[i].place += gpus[k].local_rank == gpus[i].local_rank;
	}
}

static void open_gpus(pio_agent *agent)
{
	pio_err why = PIO_ERR_INIT;
	if (agent->gpus.count == 0)
		return;
	assign_gpus(agent);
	if (pio_gpu_meter_open(&agent->meter->feed.feed, agent->spec.sample_ms, &why) != 0)
		pio_agent_note(agent, "launch.gpu", why.message);
	else
		pio_agent_feed_start(&agent->meter->feed, agent, readable);
}

/* ---- life ------------------------------------------------------------------------------------- */

/* What is not measured is worth no failure. */
void pio_agent_meter_open(pio_agent *agent)
{
	pio_agent_meter *meter;
	size_t ranks = (size_t)agent->spec.ranks_per_node;
	if (!agent->spec.sample_ms)
		return;
	meter = agent->meter = pio_calloc(1, sizeof *meter + ranks * sizeof meter->named[0]);
	if (!meter)
		return;
	pio_host_look_at(&meter->host, "");
	meter->is_timed = uv_timer_init(&agent->loop, &meter->timer) == 0;
	meter->timer.data = agent;
	if (meter->is_timed)
		uv_timer_start(&meter->timer, sample_host, (uint64_t)agent->spec.sample_ms,
		               (uint64_t)agent->spec.sample_ms);
	open_gpus(agent);
}

void pio_agent_meter_reaped(pio_agent *agent, pid_t pid)
{
	if (agent->meter)
		pio_agent_feed_reaped(&agent->meter->feed, pid);
}

/* What a GPU took since its newest reading, by the power of that: its energy until now
 * is its last point. */
static void close_energy(pio_agent *agent, const metered_gpu *gpu)
{
	pio_gpu_reading last = { .gpu = gpu->newest.gpu, .time_ns = pio_clock_wall_ns() };
	const double *gauges = gpu->newest.gauges;
	double seconds = (double)(pio_clock_mono_ns() - gpu->newest.mono_ns) / 1e9;
	for (int i = 0; i < PIO_GPU_GAUGES; i++)
		last.gauges[i] = NAN;
	last.gauges[PIO_GPU_ENERGY] = gauges[PIO_GPU_ENERGY] + gauges[PIO_GPU_POWER] * seconds;
	put_gpu(agent, gpu, &last);
}

void pio_agent_meter_end(pio_agent *agent)
{
	pio_agent_meter *meter = agent->meter;
	if (!meter)
		return;
	if (meter->is_timed)
		uv_close((uv_handle_t *)&meter->timer, NULL);
	meter->is_timed = false;
	pio_agent_feed_end(&meter->feed);
	for (int i = 0; i < GPUS_MAX; i++)
		if (meter->gpus[i].has_newest)
			close_energy(agent, &meter->gpus[i]);
}
