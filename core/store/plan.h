/* plan.h: what a recipe planned: snapshots, sweeps, proposals, inputs, and the
 * bundles that were exported.
 *
 * Every function is one transaction, or part of the caller's. */
#ifndef PIO_STORE_PLAN_H
#define PIO_STORE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"
#include "sys/hash.h"

typedef struct pio_store_snapshot {
	const char *commit, *tree;
	const char *parent, *branch;   /* NULL or "": none */
	bool dirty;
	const char *repository;        /* absolute path of the git directory */
	const char *subject;           /* of the parent's message; NULL or "": none */
} pio_store_snapshot;
/* Id of the snapshot's row, made if absent. */
int pio_store_snapshot_add(int64_t *id, pio_store *store, const pio_store_snapshot *snapshot,
                           pio_err *err);

typedef struct pio_store_sweep {
	int64_t experiment_id;
	const char *identity;              /* digest of spec */
	const char *spec;                  /* JSON */
	const char *recipe_path, *recipe;  /* the recipe and its text */
} pio_store_sweep;
/* Id of the sweep, made (state active) if its experiment has none of that
 * identity; *existed tells. An existing one becomes active again. */
int pio_store_sweep_add(int64_t *id, bool *existed, pio_store *store,
                        const pio_store_sweep *sweep, pio_err *err);
/* active, done or interrupted; the last two set ended_ns. */
int pio_store_sweep_state(pio_store *store, int64_t sweep_id, const char *state, pio_err *err);
/* It is to have so many points, where its recipe asks for fewer. */
int pio_store_sweep_extend(pio_store *store, int64_t sweep_id, int64_t runs, pio_err *err);
/* The same proposal again is no change; another one under its number is
 * PIO_EEXIST: a sampler must repeat itself. `params` is canonical JSON; `seen`
 * is how many observations the sampler had been told: with their order, which is
 * on record too, the proposal can be derived again. */
int pio_store_proposal_add(pio_store *store, int64_t sweep_id, int64_t number,
                           const char *params, int64_t seen, pio_err *err);
/* Of a member of a population: JSON, as schema.sql says. */
int pio_store_proposal_lineage(pio_store *store, int64_t sweep_id, int64_t number, const char *lineage,
                               pio_err *err);
/* What a proposal came to, JSON: the next observation of its sweep; *ordinal says
 * which. There is one a proposal: where it is on record, that stands. */
int pio_store_proposal_observe(int64_t *ordinal, pio_store *store, int64_t sweep_id, int64_t number,
                               const char *observation, pio_err *err);
/* What its sampler expects of a proposal, JSON: once, and before it is observed. */
int pio_store_proposal_forecast(pio_store *store, int64_t sweep_id, int64_t number,
                                const char *forecast, pio_err *err);
int pio_store_proposal_run_add(pio_store *store, int64_t sweep_id, int64_t number, int64_t seed,
                               int64_t run_id, pio_err *err);

/* A person asks the run's supervisor to stop it. */
int pio_store_stop_request(pio_store *store, int64_t run_id, pio_err *err);

/* SHA-256 of an input and its bytes. Of a file: of its contents. Of a folder:
 * of the lines "SHA256  PATH\n" of the regular files below it, sorted by path;
 * links are followed for files, not for folders. What stat(2) says (inode,
 * size, mtime) is remembered with the digest, so an unchanged file is not read
 * again; a store open for reading, or NULL, remembers nothing. PIO_ENOTFOUND. */
int pio_store_input_digest(char hex[PIO_SHA256_HEX + 1], int64_t *size_bytes, pio_store *store,
                           const char *path, pio_err *err);

int pio_store_bundle_add(pio_store *store, int64_t run_id, const char *path, const char *sha256,
                         int64_t size_bytes, pio_err *err);

#endif
