/* scene.h: what the crash tests share: chance, a directory to work in, a page
 * that outlives a killed process, and what must hold of every store after
 * every crash. A finding goes into one message; the first one counts. */
#ifndef PIO_CRASH_SCENE_H
#define PIO_CRASH_SCENE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"
#include "store/store.h"

/* ---- chance -------------------------------------------------------------------- */

uint64_t random_next(uint64_t *state);
/* In [0, n). */
uint64_t random_below(uint64_t *state, uint64_t n);
/* SEED of the environment, else the clock's. Printed. */
uint64_t seed_of_test(void);
/* A positive number of the environment, or `otherwise`. */
uint64_t number_from(const char *variable, uint64_t otherwise);

/* ---- a place --------------------------------------------------------------------- */

typedef struct scene {
	char root[300];        /* scratch; holds shm/ and place/ */
	char store[340];       /* root/place/.pioche */
	struct page *page;
	void (*at_mark)(struct scene *); /* called when the work proper begins; NULL: nothing */
	int page_fd;           /* of the page's file, for a process that is not forked */
	uint64_t random;
} scene;

/* What was acknowledged, in memory shared with the process that dies. */
typedef struct page {
	atomic_int_fast64_t sent, acked;       /* points: pio_log was called, has returned */
	atomic_int_fast64_t texts, checkpoints; /* acknowledged */
	atomic_int_fast64_t files;             /* acknowledged */
	atomic_int_fast64_t saves;             /* checkpoints begun */
	atomic_int_fast64_t behind;            /* of these, by a thread that may still be writing */
	atomic_int_fast64_t begun, sealed, drops, dropped; /* ranks.c: a bit a checkpoint: its save was
	                                          begun, acknowledged as published, its drop begun,
	                                          acknowledged */
	atomic_int exports, exported;          /* begun, acknowledged */
	atomic_int_fast64_t synced;            /* points that are on the disk for good */
	atomic_int_fast64_t runs;              /* rows committed */
	int64_t early_operations, operations;  /* on files: before the mark; from then on, or all */
	atomic_int opened, closed, finished;
	atomic_int synced_again;               /* a file whose sync had failed */
	atomic_int pid;                        /* of the rank under an agent */
	int64_t aim_us, took_us;               /* when it kills itself after its start; how long it took */
	char message[1200];                    /* finding; empty: none */
} page;

/* Empty directories; PIOCHE_SHM and PIOCHE_STORE point into them, and the working
 * directory is there. */
void scene_up(scene *s, uint64_t seed);
/* Empty again, page zeroed. */
void scene_clear(scene *s, uint64_t seed);
void scene_down(scene *s);

/* The preparations are over. */
void scene_mark(scene *s);

/* Keep the first finding. Always false. */
bool found(scene *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- what must hold --------------------------------------------------------------------- */

int64_t int_of(pio_store *store, const char *sql);
/* integrity_check, foreign_key_check; each chunk decodes, and its columns are
 * what its points say; each series' row is what its chunks say; no object is
 * missing or wrong. */
bool store_is_sound(scene *s, pio_store *store);
/* Series `key` of all runs holds steps 0 .. n-1 once each, value_of(step) each,
 * at least `acked`, at most `sent`. */
bool points_are_whole(scene *s, pio_store *store, const char *key, int64_t acked, int64_t sent);
double value_of(int64_t step);

/* Open the store, made where there is none; NULL and a finding when that fails. */
pio_store *store_open(scene *s);

/* ---- processes ---------------------------------------------------------------------------- */

/* Fork; the child runs `work` and exits with 0. */
pid_t child_start(void (*work)(scene *), scene *s);
/* Exit status, or 128 + signal. */
int child_wait(pid_t pid);

/* ---- telling ---------------------------------------------------------------------------------- */

/* One line of TAP. */
void tell(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* 1 if anything told was not ok. */
int tell_end(void);

#endif
