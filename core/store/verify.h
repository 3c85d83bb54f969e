/* verify.h: are the objects what their names say, and if not, where not?
 *
 * Quick: each is there, with its size. Reread: every byte is read from the disk,
 * past the page cache (sys/reread.h), and hashed. What is found is written to
 * the row of the object (object.verified), where whoever chooses a checkpoint to
 * resume from, or one to drop, looks for it; a store that cannot be written is
 * verified as well, and remembers nothing, and so does one on a full disk.
 *
 * A reread takes hours for a large store, so it is a pass: a row of
 * `verification` that says up to which object it has come, committed every few
 * seconds. The next one of the same kind goes on there, having looked again at
 * what the earlier part found wrong.
 *
 * Objects that are being dropped meanwhile are no findings. */
#ifndef PIO_STORE_VERIFY_H
#define PIO_STORE_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

enum pio_verify_how { PIO_VERIFY_QUICK, PIO_VERIFY_REREAD };

typedef struct pio_verify_options {
	enum pio_verify_how how;
	int64_t part, parts;       /* only the part-th (1, 2, ...) of so many samples; 0, 0: all */
	int64_t run_id;            /* only what its checkpoints and logs refer to; 0: all */
	int64_t checkpoint_id;     /* only what this one refers to; 0: all. Such a reread is no pass */
	bool only_unread;          /* leave out what was reread and good */
	bool anew;                 /* begin a pass also where one was cut short */
} pio_verify_options;

typedef struct pio_verify_result {
	int64_t objects, bytes;    /* looked at, the earlier part of the pass among them */
	int64_t bad, missing, orphans;
	int64_t earlier_objects;   /* by the earlier part */
	int64_t begun_ns;          /* of the pass; 0: there was no earlier part */
	pio_err forgotten;         /* why the store does not know what was found: a full disk. Code 0: it does */
} pio_verify_result;

#define PIO_DAMAGE_RANGES_MAX 16

/* Bytes [begin, end) of an object. */
typedef struct pio_damage_range {
	int64_t begin, end;
} pio_damage_range;

typedef struct pio_verify_finding {
	const char *object;        /* its digest; of an orphan the name of the file */
	const char *what;          /* "is missing" and the like: object.verified */
	bool orphan;               /* no row names it: left by a crash, harmless */
	int64_t bytes;             /* that it should have */
	const pio_damage_range *ranges; /* where it differs, as far as that is known, ascending;
	                                   the last may span what is sound as well */
	size_t ranges_count;
} pio_verify_finding;

/* Called for every finding, and now and then for progress (finding NULL). */
typedef void pio_verify_report(void *context, const pio_verify_finding *finding, int64_t bytes_done,
                               int64_t bytes_total);

/* options NULL: reread all. Orphans are looked for where all objects are verified.
 * `report` may be NULL.
 * An error only where the system fails, or verifying would be no verdict (no
 * memory, no permission to read). */
int pio_store_verify(pio_verify_result *result, pio_store *store, const pio_verify_options *options,
                     pio_verify_report *report, void *context, pio_err *err);

#endif
