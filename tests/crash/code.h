/* code.h: objects that are encoded and decoded, for the crash tests. */
#ifndef PIO_CRASH_CODE_H
#define PIO_CRASH_CODE_H

#include "scene.h"

/* A store with three checkpoints of a run that is over, alike in most bits. */
bool code_prepare(scene *s);
/* Two of them are encoded with the first, and decoded, `rounds` times; told(s), unless
 * NULL, after each. */
void code_work(scene *s, int rounds, void (*told)(scene *s));
/* Each is there, whole, one way or the other, and nothing is left but an orphan; then they
 * are encoded and decoded again. */
bool code_check(scene *s, pio_store *store);

#endif
