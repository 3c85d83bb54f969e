/* disk.h: the disk of the crash tests.
 *
 * This program's own open, write, ftruncate, fallocate, fsync, rename and so on
 * stand before the C library's, so that everything it does to files passes
 * through here: pioche's and SQLite's alike. A call can be where the process
 * dies or is stopped, or can fail; and all of them can be recorded, from which
 * the files are made as a power failure would have left them.
 *
 * Nothing is ever really synced: the tests would only wait for it. What
 * counts as an operation: each of these calls on a regular file or directory,
 * descriptors 0 to 2 excepted. Thread-safe; a forked child goes on counting
 * for itself. */
#ifndef PIO_CRASH_DISK_H
#define PIO_CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- what happens at the n-th operation from now ------------------------------- */

enum disk_trap {
	DISK_KILL,        /* SIGKILL before it */
	DISK_KILL_AMID,   /* a write is cut in the middle, then SIGKILL; of another, SIGKILL after it */
	DISK_KILL_AFTER,
	DISK_STOP,        /* SIGSTOP after it, then go on */
	DISK_FAIL,        /* it fails with `error` */
	DISK_FAIL_STAYS,  /* and so do all writes, truncations, creations, syncs and renames after it */
	DISK_FAIL_AMID,   /* as FAIL_STAYS, but a write does its first half before */
};

/* n = 0: nothing. Returns how many operations there were since the last call. */
uint64_t disk_trap_at(uint64_t n, enum disk_trap trap, int error);
/* Operations since disk_trap_at. */
uint64_t disk_operations(void);
/* True once the trap was sprung; for the traps that fail. */
bool disk_was_trapped(void);

/* True if a sync of a shard or an object failed and the same file was synced again: the
 * kernel may have marked the lost pages clean, so that this says nothing. */
bool disk_was_synced_again(void);

/* ---- the record --------------------------------------------------------------------- */

/* Record all that happens below this directory, which is empty now. */
void disk_record(const char *root);
/* Stop recording, keep the record. */
void disk_record_stop(void);
/* Length of the record: a moment in it. */
size_t disk_moment(void);
/* True if the operation that ended at this moment was a sync. */
bool disk_is_sync(size_t moment);

enum disk_loss {
	DISK_LOSE_ALL,      /* whatever was not synced is gone, names in directories too */
	DISK_LOSE_NOTHING,
	DISK_LOSE_LATEST,   /* each file, and the names, are as they were some time after the last sync;
	                       the last write to a file may be torn */
	DISK_LOSE_ANY,      /* each sector and each name by the throw of a coin; a lost sector holds
	                       what was there before, or rubbish */
	DISK_LOSSES,
};

/* Make the files at `to`, which does not exist, as they are when the power
 * fails at `moment`. What was synced (a file's bytes, a directory's names) is
 * always there; a name can be there without its file's bytes, and the other
 * way round. Shared memory of SQLite (NAME-shm) is rubbish. */
void disk_image(const char *to, size_t moment, enum disk_loss loss, uint64_t seed);
/* Forget the record. */
void disk_forget(void);

#endif
