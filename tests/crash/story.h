/* story.h: what the processes of the crash tests do, and what may be asked of
 * the store afterwards. Each act tells the page what was acknowledged, as soon
 * as it was. */
#ifndef PIO_CRASH_STORY_H
#define PIO_CRASH_STORY_H

#include "client/pioche.h"
#include "scene.h"

#define STORY_ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"

/* ---- a run of its own --------------------------------------------------------------- */

/* Once the disk has failed, what is logged counts as kept no more. False, and a
 * finding: pio_open failed. */
bool story_open(scene *s, pio_run **run);
/* Log steps [from, to) of "loss", a text and a fact every 64. */
void story_say(scene *s, pio_run *run, int64_t from, int64_t to);
/* A checkpoint of one tensor, and a file. */
void story_save(scene *s, pio_run *run, int64_t step);
void story_close(scene *s, pio_run **run);
/* All of it, with the checkpoint amid `points`; closes if `closes`. */
bool story_log(scene *s, int64_t points, bool closes);
/* The next command: adopts what is there. */
bool story_adopt(scene *s, pio_store *store);
/* Afterwards: all that was acknowledged is there once, nothing else is, and the
 * attempt has ended; well, where pio_close returned and `alone` (else the exit
 * status of the process counts). */
bool story_logged(scene *s, pio_store *store, bool alone);

/* True, or a finding that `what` was left behind. */
bool is_empty(scene *s, const char *path, const char *what);

/* ---- a run of a supervisor -------------------------------------------------------------- */

/* Make the store with run crash-1 and its first attempt; page->runs is 1. */
bool story_begin(scene *s);
/* Append steps [from, to) to the attempt's journal, with a text and a fact every 64;
 * with `shard`, also a staged file and the report of a checkpoint. Synced:
 * page->synced is then `to`. */
bool story_journal(scene *s, int64_t from, int64_t to, bool shard);
/* Fold it. page->acked is set to `points` when that is committed. */
bool story_fold(scene *s, pio_store *store, bool final, int64_t points);
/* As if the points that wait to become chunks had done so for long. */
bool story_age(scene *s, pio_store *store);
/* After a final fold the journal, unless it is small, is compressed. */
bool story_archived(scene *s);
/* What is folded is read again from the journal, plain or compressed, and is the same. */
bool story_mend(scene *s, pio_store *store);
/* The store holds between `acked` and `sent` points and is sound; after a final
 * fold exactly `sent`, all texts, and the checkpoint if there is one. */
bool story_folded(scene *s, pio_store *store, int64_t sent, bool has_checkpoint);

/* ---- an importer ------------------------------------------------------------------------------ */

/* A TensorBoard event file with `points` of "loss" and a text every 64, put aside. */
bool story_source(scene *s, int64_t points);
/* The file has grown to part/parts of its bytes: import it. page->acked: what was
 * taken. */
bool story_import(scene *s, pio_store *store, int part, int parts);
/* After the last part: all is there once, and again after importing again. */
bool story_imported(scene *s, pio_store *store, int64_t points);

/* ---- a writer with the lease ---------------------------------------------------------------- */

/* Take the lease, make `runs` runs of ten parameters each in one transaction
 * a run, drop the lease. page->runs counts the committed. */
bool story_write(scene *s, int runs);
/* As many runs as were acknowledged, or one more, each whole; the lease is free. */
bool story_written(scene *s, pio_store *store);

#endif
