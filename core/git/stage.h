/* stage.h: new git objects, gathered in memory and written together.
 *
 * Synced one by one, a thousand new files cost a thousand fsyncs. Objects
 * that the repository lacks are kept in memory; a flush writes a few as loose
 * objects and many as one pack, synced before it returns. More than 64 MiB
 * flush by themselves. Nothing is referred to before the last flush, so a
 * crash leaves unreferenced objects at worst, which `git gc` sweeps. */
#ifndef PIO_GIT_STAGE_H
#define PIO_GIT_STAGE_H

#include <git2.h>

#include "base/err.h"

typedef struct pio_stage pio_stage;

/* `repo` is borrowed and must have been opened for this stage alone: until
 * close, what is written through it stays in memory. */
int pio_stage_open(pio_stage **stage, git_repository *repo, pio_err *err);
int pio_stage_put(git_oid *oid, pio_stage *stage, const void *bytes, size_t size_bytes,
                  git_object_t type, pio_err *err);
/* True if the repository or the stage has it. */
int pio_stage_has(pio_stage *stage, const git_oid *oid);
int pio_stage_flush(pio_stage *stage, pio_err *err);
/* Write one object straight to the repository, synced: the commit, last. */
int pio_stage_write_now(git_oid *oid, pio_stage *stage, const void *bytes, size_t size_bytes,
                        git_object_t type, pio_err *err);
/* What was not flushed is lost. NULL is fine. */
void pio_stage_close(pio_stage *stage);

#endif
