/* ranks.h: checkpoints of several ranks, from their shards to the drop and the
 * export: a story for all the tests. The ranks and their agent are one process,
 * so that a kill or a power failure cuts all of them at one of their operations. */
#ifndef PIO_CRASH_RANKS_H
#define PIO_CRASH_RANKS_H

#include "scene.h"

#define RANKS_MAX 8

/* Before it: a store with a run and its first attempt; page->runs is 1. */
bool ranks_prepare(scene *s);
/* Two checkpoints are saved and published, the first is dropped, the second exported;
 * what fails is told, and the next thing done. `acknowledged` is called whenever the
 * page tells more than before; NULL: nobody listens. */
void ranks_work(scene *s, int ranks, void (*acknowledged)(scene *s));
/* The next command: what was acknowledged is there, each checkpoint is whole or not
 * there, the same save as the last one works and takes up what that one left. */
bool ranks_check(scene *s, pio_store *store, int ranks);

#endif
