/* series_now.h: what is known of series whose newest points are no chunks yet.
 *
 * A row of `series` says what its chunks say; the points in `recent` come on top
 * of that (recent.h). Once a store has such rows, the SQL of its connection sees
 * a temporary view in place of the table: the same rows and columns, with
 * statistics of all points, as they will stand in the table when those points
 * are chunks. The view is flattened into what asks it, so that its indices serve
 * as before, and looks only into the rows whose statistics are asked for. What
 * writes, or wants the row as it stands, says main.series. */
#ifndef PIO_STORE_SERIES_NOW_H
#define PIO_STORE_SERIES_NOW_H

#include "store/store.h"

/* Once a connection: the function behind the view. */
int pio_store_series_now_register(pio_store *store, pio_err *err);
/* Before SQL that reads `series` is prepared: make the view if there are recent
 * rows. Cheap. */
int pio_store_series_now_show(pio_store *store, pio_err *err);

#endif
