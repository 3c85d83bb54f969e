/* object_look.h: one object, looked at: for verify.c alone. */
#ifndef PIO_STORE_OBJECT_LOOK_H
#define PIO_STORE_OBJECT_LOOK_H

#include "store/verify.h"
#include "sys/reread.h"

typedef struct pio_object_look {
	const char *what;          /* static; NULL: it is as its name says */
	bool missing;
	pio_damage_range ranges[PIO_DAMAGE_RANGES_MAX];
	size_t ranges_count;
	pio_reread reread;         /* where it was read and is good, perhaps with blocks */
} pio_object_look;

/* The digests of its blocks are made where the store has none. The caller ends
 * *look by pio_object_look_fini, also on failure: of errors that are no damage. */
int pio_object_look_at(pio_object_look *look, pio_store *store, const char *sha256, int64_t bytes,
                       enum pio_verify_how how, pio_reread_progress *progress, void *context,
                       pio_err *err);
void pio_object_look_fini(pio_object_look *look);

#endif
