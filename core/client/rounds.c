#include "client/rounds.h"

#include <string.h>

#include "base/mem.h"

void pio_rounds_init(pio_rounds *rounds)
{
	*rounds = (pio_rounds){ .list = NULL };
	pthread_mutex_init(&rounds->mutex, NULL);
}

/* Looked for from the end: steps go up. */
static size_t find(const pio_rounds *rounds, int64_t step, uint32_t writers)
{
	size_t at = rounds->count;
	while (at && (rounds->list[at - 1].step > step ||
	              (rounds->list[at - 1].step == step && rounds->list[at - 1].writers >= writers)))
		at--;
	return at;
}

static int next(uint32_t *round, pio_rounds *rounds, int64_t step, uint32_t writers, pio_err *err)
{
	size_t at = find(rounds, step, writers);
	pio_round *known = rounds->list + at;
	if (at == rounds->count || known->step != step || known->writers != writers) {
		int rc = pio_grow(&rounds->list, &rounds->capacity, rounds->count, "rounds of saves", err);
		if (rc)
			return rc;
		known = rounds->list + at;
		memmove(known + 1, known, (rounds->count++ - at) * sizeof *known);
		*known = (pio_round){ step, writers, 0 };
	}
	*round = known->next++;
	return 0;
}

int pio_rounds_next(uint32_t *round, pio_rounds *rounds, int64_t step, uint32_t writers, pio_err *err)
{
	pthread_mutex_lock(&rounds->mutex);
	int rc = next(round, rounds, step, writers, err);
	pthread_mutex_unlock(&rounds->mutex);
	return rc;
}

void pio_rounds_fini(pio_rounds *rounds)
{
	pthread_mutex_destroy(&rounds->mutex);
	pio_free(rounds->list);
	rounds->list = NULL;
}
