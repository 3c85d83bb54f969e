#include "code.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/checkpoint.h"
#include "store/checkpoint_import.h"
#include "store/object_code.h"
#include "store/retain.h"
#include "store/run.h"
#include "store/verify.h"
#include "story.h"
#include "sys/fs.h"
#include "sys/stored.h"

#define FLOATS 20000

static bool write_weights(scene *s, const char *path, int step)
{
	static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[20000],\"data_offsets\":[0,80000]}}    ";
	pio_err err = PIO_ERR_INIT;
	uint64_t n = sizeof header - 1, random = 1;
	pio_str bytes = PIO_STR_INIT;
	pio_str_append(&bytes, &n, 8);
	pio_str_append(&bytes, header, n);
	for (int i = 0; i < FLOATS; i++) {
		float w = ((float)random_below(&random, 20000) / 10000 - 1) *
		          (1 + 1e-5f * (float)step * (float)random_below(&random, 8));
		pio_str_append(&bytes, &w, sizeof w);
	}
	int rc = pio_str_check(&bytes, &err);
	if (!rc)
		rc = pio_fs_write(path, bytes.data, bytes.len, 0666, &err);
	pio_str_fini(&bytes);
	return !rc || found(s, "weights: %s", err.message);
}

static bool add_checkpoint(scene *s, pio_store *store, int step)
{
	char path[400], staging[400];
	const pio_checkpoint_import_file file = { .path = path };
	int64_t id;
	pio_err err = PIO_ERR_INIT;
	snprintf(path, sizeof path, "%s/from", s->root);
	snprintf(staging, sizeof staging, "%s/staging/import", s->store);
	pio_checkpoint_import import = { .run_id = int_of(store, "SELECT id FROM run"), .step = step, .role = "model",
		                         .staging = staging, .files = &file, .count = 1 };
	return write_weights(s, path, step) &&
	       (pio_store_checkpoint_import(&id, store, &import, NULL, NULL, &err) == 0 ||
	        found(s, "import: %s", err.message));
}

bool code_prepare(scene *s)
{
	bool well = story_begin(s);
	pio_store *store = well ? store_open(s) : NULL;
	well = store && sqlite3_exec(pio_store_db(store), "UPDATE attempt SET state = 'ended', result = 'ok'; UPDATE"
	                             " run SET status = 'finished'", NULL, NULL, NULL) == SQLITE_OK;
	for (int step = 1; well && step <= 3; step++)
		well = add_checkpoint(s, store, step);
	pio_store_close(&store);
	s->page->checkpoints = well ? 3 : 0;
	return well || found(s, "no checkpoints can be made");
}

static bool digest_of(char sha256[PIO_SHA256_HEX + 1], pio_store *store, int step)
{
	sqlite3_stmt *row = NULL;
	bool there = sqlite3_prepare_v2(pio_store_db(store), "SELECT f.sha256 FROM checkpoint_file f JOIN"
	                                " checkpoint c ON c.id = f.checkpoint_id WHERE c.step = ?1", -1, &row,
	                                NULL) == SQLITE_OK;
	if (there) {
		sqlite3_bind_int(row, 1, step);
		there = sqlite3_step(row) == SQLITE_ROW;
	}
	if (there)
		snprintf(sha256, PIO_SHA256_HEX + 1, "%s", sqlite3_column_text(row, 0));
	sqlite3_finalize(row);
	return there;
}

static bool there_and_back(scene *s, pio_store *store, int step)
{
	char anchor[PIO_SHA256_HEX + 1], sha256[PIO_SHA256_HEX + 1];
	pio_encode_options options = { .anchor = anchor, .least = 1 };
	pio_encode_result result;
	pio_err err = PIO_ERR_INIT;
	if (!digest_of(anchor, store, 1) || !digest_of(sha256, store, step))
		return found(s, "a checkpoint is gone");
	if (pio_store_object_encode(&result, store, sha256, &options, &err) != 0)
		return found(s, "encoding: %s", err.message);
	if (!result.codec && strcmp(result.why, "it is encoded already") != 0)
		return found(s, "not encoded: %s", result.why);
	if (int_of(store, "SELECT count(*) FROM object WHERE codec = 'xor'") < 1)
		return found(s, "nothing is encoded");
	return pio_store_object_decode(store, sha256, &err) == 0 || found(s, "decoding: %s", err.message);
}

void code_work(scene *s, int rounds, void (*told)(scene *s))
{
	pio_store *store = store_open(s);
	scene_mark(s);
	for (int i = 0; store && i < rounds; i++) {
		if (!there_and_back(s, store, 2 + i % 2))
			break;
		if (told)
			told(s);
	}
	pio_store_close(&store);
}

static void take_orphan(void *context, const pio_verify_finding *finding, int64_t done, int64_t total)
{
	char *name = context;
	(void)done;
	(void)total;
	if (finding && finding->orphan)
		snprintf(name, 100, "%s", finding->object);
}

/* What a death leaves beside a good one goes, and nothing is wrong. */
static bool is_tidy(scene *s, pio_store *store)
{
	char orphan[100] = "";
	int64_t bytes;
	pio_verify_result r;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_verify(&r, store, NULL, take_orphan, orphan, &err) != 0)
		return found(s, "verifying: %s", err.message);
	if (r.bad || r.missing || r.orphans > 1)
		return found(s, "%" PRId64 " objects are bad, %" PRId64 " missing, %" PRId64 " orphans", r.bad,
		             r.missing, r.orphans);
	if (r.orphans && pio_store_orphan_remove(&bytes, store, orphan, &err) != 0)
		return found(s, "%s: %s", orphan, err.message);
	return true;
}

bool code_check(scene *s, pio_store *store)
{
	char path[400];
	pio_err err = PIO_ERR_INIT;
	snprintf(path, sizeof path, "%s/staging", s->store);
	if (s->page->checkpoints < 3)
		return true; /* there was nothing to encode yet */
	if (pio_store_checkpoint_recover(store, &err) != 0)
		return found(s, "recovering: %s", err.message);
	char import[420]; /* whose removal need not be durable */
	snprintf(import, sizeof import, "%s/import", path);
	(void)pio_fs_remove_tree(import, NULL);
	return is_empty(s, path, "staging") && is_tidy(s, store) && there_and_back(s, store, 2) &&
	       there_and_back(s, store, 3) && is_tidy(s, store) && is_empty(s, path, "staging");
}
