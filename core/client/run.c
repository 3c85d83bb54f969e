#include "client/run.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/env.h"
#include "client/facts.h"
#include "client/name.h"
#include "client/ring_layout.h"
#include "client/standalone.h"
#include "client/vote.h"

pio_err *pio_last_err(void)
{
	static _Thread_local pio_err last = PIO_ERR_INIT;
	return &last;
}

const char *pio_error(void)
{
	return pio_last_err()->message;
}

/* ---- life ------------------------------------------------------------------- */

/* An integer from the environment; `otherwise` where the variable is unset. */
static int env_int(int *value, const char *name, int otherwise, int min, pio_err *err)
{
	const char *text = getenv(name);
	char *end;
	*value = otherwise;
	if (!text)
		return 0;
	errno = 0;
	long n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < min || n > INT_MAX)
		return pio_fail(err, PIO_EINVAL, "%s=\"%s\" in the environment: an integer from %d expected",
		                name, text, min);
	*value = (int)n;
	return 0;
}

static int env_copy(char **copy, const char *name, pio_err *err)
{
	const char *text = getenv(name);
	if (!text || !*text)
		return pio_fail(err, PIO_EINVAL, "%s is set but %s is not: the agent sets both",
		                PIO_ENV_RING, name);
	*copy = pio_strdup(text);
	return *copy ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for %s", name);
}

static int open_resume(pio_run *run, pio_err *err)
{
	const char *path = getenv(PIO_ENV_RESUME);
	if (!path || !*path)
		return 0;
	int rc = pio_resume_open(&run->resume, path, err);
	if (!rc)
		run->info.resume_step = pio_resume_step(run->resume);
	return rc;
}

static int open_under_agent(pio_run *run, const char *ring_path, pio_err *err)
{
	pio_ulid ulid;
	const char *id = getenv(PIO_ENV_RUN);
	if (!id || !pio_ulid_parse(&ulid, id))
		return pio_fail(err, PIO_EINVAL, "%s=\"%s\" in the environment: a ULID of 26 characters "
		                "expected", PIO_ENV_RUN, id ? id : "");
	pio_ulid_format(&ulid, run->id);
	int rc = pio_ring_attach(&run->ring, ring_path, err);
	if (rc)
		return rc;
	rc = env_int(&run->info.rank, "RANK", (int)pio_ring_rank(run->ring), 0, err);
	if (!rc)
		rc = env_int(&run->info.world, "WORLD_SIZE", run->info.rank + 1, 1, err);
	if (!rc && run->info.rank >= run->info.world)
		rc = pio_fail(err, PIO_EINVAL, "RANK=%d in the environment: less than WORLD_SIZE=%d expected",
		              run->info.rank, run->info.world);
	if (!rc)
		rc = env_int(&run->info.local_rank, "LOCAL_RANK", 0, 0, err);
	if (!rc)
		rc = env_int(&run->info.attempt, PIO_ENV_ATTEMPT, 1, 1, err);
	if (!rc)
		rc = env_copy(&run->ring_path, PIO_ENV_RING, err);
	if (!rc)
		rc = env_copy(&run->dir, PIO_ENV_DIR, err);
	if (!rc)
		rc = env_copy(&run->staging, PIO_ENV_STAGING, err);
	return rc ? rc : open_resume(run, err);
}

static void free_run(pio_run *run)
{
	pio_resume_close(&run->resume);
	pio_standalone_free(run);
	pio_ring_close(&run->ring);
	pio_free(run->ring_path);
	pio_free(run->dir);
	pio_free(run->staging);
	pio_rounds_fini(&run->rounds);
	pio_free(run);
}

int pio_open(pio_run **run_out, const char *experiment)
{
	pio_err *err = pio_last_err();
	const char *ring_path = getenv(PIO_ENV_RING);
	if (!run_out)
		return pio_fail(err, PIO_EINVAL, "pio_open: where to put the run is NULL");
	*run_out = NULL;
	pio_run *run = pio_calloc(1, sizeof *run);
	if (!run)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a run");
	run->pid = getpid();
	pio_rounds_init(&run->rounds);
	pio_saver_init(&run->saver);
	run->info = (pio_info){ .rank = 0, .world = 1, .attempt = 1, .resume_step = -1 };
	int rc = ring_path && *ring_path ? open_under_agent(run, ring_path, err)
	                                 : pio_standalone_open(run, experiment, err);
	if (rc) {
		free_run(run);
		return rc;
	}
	run->info.id = run->id;
	run->info.dir = run->dir;
	run->info.staging = run->staging;
	run->info.ring = run->ring_path;
	*run_out = run;
	return 0;
}

int pio_close(pio_run **run_in, int status)
{
	pio_run *run = run_in ? *run_in : NULL;
	pio_err *err = pio_last_err();
	int rc = 0;
	if (run_in)
		*run_in = NULL;
	if (!run || run->pid != getpid())
		return 0; /* a forked child: the run is its parent's */
	pio_err unsaved = PIO_ERR_INIT;
	int saved = pio_saver_fini(&run->saver, &unsaved);
	if (run->alone)
		rc = pio_standalone_finish(run, status, err);
	else if (status != 0)
		rc = pio_fact(run, 'e', "close", "the program closed the run as failed");
	free_run(run);
	if (!rc && saved)
		*err = unsaved;
	return rc ? rc : saved;
}

const pio_info *pio_info_get(const pio_run *run)
{
	static const pio_info none = { .rank = 0, .world = 1, .attempt = 1, .resume_step = -1,
	                               .id = "", .dir = "", .staging = "", .ring = "" };
	return run ? &run->info : &none;
}

/* ---- metrics ---------------------------------------------------------------- */

pio_key pio_key_get(pio_run *run, const char *name)
{
	if (!run)
		return 0;
	if (!name) {
		pio_fail(pio_last_err(), PIO_EINVAL, "metric name is NULL");
		return 0;
	}
	return pio_ring_key(run->ring, name, strlen(name), pio_last_err());
}

static int log_bits(pio_run *run, pio_key key, uint32_t flag, int64_t step, uint64_t bits)
{
	if (!run)
		return 0;
	uint32_t next = atomic_load_explicit(&run->ring->header->next_key, memory_order_relaxed);
	if (__builtin_expect(key == 0 || key >= next, 0))
		return pio_fail(pio_last_err(), PIO_EINVAL, "metric number %u: a result of pio_key_get "
		                "expected, of which there are %u", key, next - 1);
	ring_log(run->ring, key | flag, step, bits);
	return 0;
}

int pio_log(pio_run *run, pio_key key, int64_t step, double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof bits);
	return log_bits(run, key, 0, step, bits);
}

int pio_log_int(pio_run *run, pio_key key, int64_t step, int64_t value)
{
	return log_bits(run, key, PIO_POINT_INTEGER, step, (uint64_t)value);
}

/* ---- the end ---------------------------------------------------------------- */

int pio_should_stop(pio_run *run, int64_t step)
{
	return run && pio_vote_ask(run->ring, step);
}

/* ---- facts ------------------------------------------------------------------ */

void pio_run_payload(pio_str *payload, const pio_run *run)
{
	pio_record_put_u32(payload, pio_ring_rank(run->ring));
	pio_record_put_i64(payload, pio_clock_wall_ns());
}

int pio_run_send(pio_run *run, enum pio_record_type type, pio_str *payload, pio_err *err)
{
	int rc = pio_str_check(payload, err);
	if (!rc)
		rc = pio_ring_record(run->ring, type, payload->data, payload->len, err);
	pio_str_fini(payload);
	return rc;
}

int pio_run_check_key(const char *what, const char *key, pio_err *err)
{
	if (!key)
		return pio_fail(err, PIO_EINVAL, "%s name is NULL", what);
	return pio_name_check(what, key, strlen(key), err);
}

static int check_fact(char kind, const char *name, const char *value, pio_err *err)
{
	static const char kinds[] = "ptsev";
	static const char *const nouns[] = { "parameter", "tag", "summary", "event", "environment" };
	const char *known = kind ? strchr(kinds, kind) : NULL;
	if (!known)
		return pio_fail(err, PIO_EINVAL, "kind of a fact is '%c': 'p', 't', 's', 'e' or 'v' expected",
		                kind >= ' ' && kind <= '~' ? kind : '?');
	const char *noun = nouns[known - kinds];
	int rc = pio_run_check_key(noun, name, err);
	if (rc)
		return rc;
	if (!value)
		return pio_fail(err, PIO_EINVAL, "%s \"%.80s\": its value is NULL", noun, name);
	return kind == 'e' || kind == 'v' ? pio_text_check(noun, name, value, strlen(value), err)
	                                  : pio_scalar_check(name, value, err);
}

int pio_fact(pio_run *run, char kind, const char *name, const char *value)
{
	pio_err *err = pio_last_err();
	pio_str payload = PIO_STR_INIT;
	if (!run)
		return 0;
	int rc = check_fact(kind, name, value, err);
	if (rc)
		return rc;
	if (kind == 'v') {
		pio_facts_payload(&payload, pio_ring_rank(run->ring), name, NULL, NULL, value, strlen(value));
		return pio_run_send(run, PIO_RECORD_ENVIRONMENT, &payload, err);
	}
	pio_run_payload(&payload, run);
	if (kind != 'e')
		pio_str_putc(&payload, kind);
	pio_record_put_str(&payload, name, strlen(name));
	pio_record_put_str(&payload, value, strlen(value));
	return pio_run_send(run, kind == 'e' ? PIO_RECORD_EVENT : PIO_RECORD_FACT, &payload, err);
}
