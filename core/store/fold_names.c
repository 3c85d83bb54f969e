#include "store/fold_names.h"

#include "base/mem.h"

#define BYTES_MAX (8u << 20)

typedef struct place {
	int64_t journal_id, offset;
	uint32_t segment;
	fold_index index;
	size_t index_bytes;
} place;

struct pio_fold_names {
	place *all;
	size_t count, capacity;
	size_t held_bytes;
};

bool pio_fold_names_take(fold_batch *batch, uint32_t segment, int64_t offset)
{
	struct pio_fold_names *names = *pio_store_fold_names_slot(batch->store);
	size_t at = 0;
	while (names && at < names->count && names->all[at].journal_id != batch->journal_id)
		at++;
	if (!names || at == names->count)
		return false;
	place p = names->all[at];
	names->held_bytes -= p.index_bytes;
	names->all[at] = names->all[--names->count];
	bool is_right = p.segment == segment && p.offset == offset;
	if (is_right) {
		batch->index = p.index;
		batch->held_bytes = p.index_bytes;
	} else {
		pio_fold_index_fini(&p.index);
	}
	return is_right;
}

/* Room for one more place; NULL where there is none. */
static struct pio_fold_names *make_room(pio_store *store, size_t index_bytes)
{
	struct pio_fold_names **slot = pio_store_fold_names_slot(store), *names = *slot;
	if (!names && !(names = *slot = pio_calloc(1, sizeof *names)))
		return NULL;
	if (names->held_bytes + index_bytes > BYTES_MAX)
		return NULL;
	bool has_room = pio_grow(&names->all, &names->capacity, names->count, "places", NULL) == 0;
	return has_room ? names : NULL;
}

void pio_fold_names_keep(fold_batch *batch, uint32_t segment, int64_t offset)
{
	size_t index_bytes = pio_fold_index_empty(&batch->index);
	struct pio_fold_names *names = make_room(batch->store, index_bytes);
	if (!names)
		return; /* they are read again */
	names->all[names->count++] = (place){ batch->journal_id, offset, segment, batch->index, index_bytes };
	names->held_bytes += index_bytes;
	batch->index = (fold_index){ 0 };
	batch->held_bytes = 0;
}

void pio_fold_names_forget(pio_store *store)
{
	struct pio_fold_names **slot = pio_store_fold_names_slot(store);
	pio_fold_names_free(*slot);
	*slot = NULL;
}

void pio_fold_names_free(struct pio_fold_names *names)
{
	if (!names)
		return;
	for (size_t i = 0; i < names->count; i++)
		pio_fold_index_fini(&names->all[i].index);
	pio_free(names->all);
	pio_free(names);
}
