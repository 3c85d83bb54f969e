/* mend.h: points that the database lost, read again from the journals.
 *
 * Journals say all that ranks logged, and are kept (archive.h). Where a chunk or a
 * row of `recent` cannot be decoded, an event of kind 'damage' tells it, of the
 * attempt and the rank whose points they were. Mending puts the points of that
 * rank and attempt as its journals have them in place of all those that the
 * database has, and the event becomes one of kind 'mended'. */
#ifndef PIO_STORE_MEND_H
#define PIO_STORE_MEND_H

#include "store/store.h"

/* Tell that a row cannot be decoded, once, for the reason in `why`. Part of the
 * caller's transaction. */
int pio_mend_note_chunk(pio_store *store, int64_t chunk_id, const char *why, pio_err *err);
int pio_mend_note_recent(pio_store *store, int64_t recent_id, const char *why, pio_err *err);

/* One transaction. *points: that the rank has now, of that attempt. PIO_ENOTFOUND:
 * no journal has anything of it, or a segment is gone; PIO_ECORRUPT: one is
 * damaged, or the journals have less than what can be decoded; nothing is changed
 * then. */
int pio_mend_points(int64_t *points, pio_store *store, int64_t attempt_id, int rank, pio_err *err);

#endif
