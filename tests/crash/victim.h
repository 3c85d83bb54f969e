/* victim.h: the kinds of processes that crash_kill.c kills. */
#ifndef PIO_CRASH_VICTIM_H
#define PIO_CRASH_VICTIM_H

#include "scene.h"

typedef struct victim {
	const char *name;
	unsigned share;                  /* of all kills, against the others' shares */
	bool by_itself;                  /* kills itself page->aim_us after its start, sets page->finished */
	bool (*prepare)(scene *s);       /* what is there before; false and a finding: could not */
	void (*work)(scene *s);          /* in the process that is killed */
	void (*reap)(scene *s);          /* afterwards: wait for its children; NULL: it has none */
	bool (*check)(scene *s, pio_store *store);  /* the next command, and what it must find */
} victim;

extern const victim victims[];
extern const size_t victims_count;

/* `program` is this executable, which an agent starts as its rank. */
void victims_init(const char *program);
int victim_rank_main(void);

#endif
