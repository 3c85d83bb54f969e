#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "store/checkpoint.h"
#include "store/series.h"
#include "store/sql.h"

typedef struct candidate {
	int64_t id, step;
	double value;          /* of the goal; NaN: none */
	bool keep;
} candidate;

/* Sealed checkpoints of a run, newest step first. */
static int load_candidates(candidate **list, size_t *count, pio_store *store, int64_t run_id,
                           pio_err *err)
{
	size_t capacity = 0;
	*list = NULL;
	*count = 0;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT id, step FROM checkpoint WHERE run_id = ?1 AND"
	                                  " state = 'sealed' ORDER BY step DESC, id DESC", "i", run_id);
	int rc = pio_sql_row(store, row, err);
	while (rc == 1) {
		rc = pio_grow(list, &capacity, *count, "checkpoints", err);
		if (rc)
			break;
		(*list)[(*count)++] = (candidate){ .id = sqlite3_column_int64(row, 0),
		                                   .step = sqlite3_column_int64(row, 1), .value = NAN };
		rc = pio_sql_row(store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

/* The goal is judged by the lowest rank that logged it. */
static int load_values(candidate *list, size_t count, pio_store *store, int64_t run_id,
                       const char *goal_key, pio_err *err)
{
	int64_t series_id = 0;
	int rc = pio_sql_int(&series_id, store, err, "SELECT id FROM series WHERE run_id = ?1 AND key = ?2"
	                     " ORDER BY rank LIMIT 1", "it", run_id, goal_key);
	for (size_t i = 0; !rc && series_id && i < count; i++) {
		bool found;
		rc = pio_store_series_value_at(&list[i].value, &found, store, series_id, list[i].step, err);
		if (!rc && !found)
			list[i].value = NAN;
	}
	return rc;
}

/* Index of the best that is not kept yet; count: none. Of equals the newest. */
static size_t find_best(const candidate *list, size_t count, bool maximize)
{
	size_t best = count;
	for (size_t i = 0; i < count; i++) {
		if (list[i].keep || isnan(list[i].value))
			continue;
		if (best == count || (maximize ? list[i].value > list[best].value
		                               : list[i].value < list[best].value))
			best = i;
	}
	return best;
}

static int load(candidate **list, size_t *count, pio_store *store, int64_t run_id,
                const char *goal_key, const char *goal, pio_err *err)
{
	if (goal && strcmp(goal, "minimize") != 0 && strcmp(goal, "maximize") != 0)
		return pio_fail(err, PIO_EINVAL, "goal \"%s\": expected minimize or maximize", goal);
	int rc = load_candidates(list, count, store, run_id, err);
	if (!rc && goal && goal_key)
		rc = load_values(*list, *count, store, run_id, goal_key, err);
	return rc;
}

int pio_store_checkpoint_best(int64_t *id, pio_store *store, int64_t run_id, const char *goal_key,
                              const char *goal, pio_err *err)
{
	candidate *list = NULL;
	size_t count = 0;
	*id = 0;
	int rc = load(&list, &count, store, run_id, goal_key, goal, err);
	if (!rc && goal) {
		size_t best = find_best(list, count, strcmp(goal, "maximize") == 0);
		*id = best < count ? list[best].id : 0;
	}
	pio_free(list);
	return rc;
}

int pio_store_checkpoint_retain(pio_store *store, int64_t run_id, int last, int best,
                                const char *goal_key, const char *goal, pio_err *err)
{
	candidate *list = NULL;
	size_t count = 0;
	if (last < 0 || best < 0)
		return 0;
	int rc = load(&list, &count, store, run_id, goal_key, goal, err);
	bool maximize = goal && strcmp(goal, "maximize") == 0;
	/* The best are chosen first, among all; then the newest. */
	for (int n = 0; !rc && goal && n < best; n++) {
		size_t i = find_best(list, count, maximize);
		if (i == count)
			break;
		list[i].keep = true;
	}
	size_t kept = 0;
	for (size_t i = 0; !rc && i < count; i++) {
		list[i].keep |= i < (size_t)last;
		kept += list[i].keep;
	}
	if (!rc && count && !kept)
		list[0].keep = true;
	for (size_t i = 0; !rc && i < count; i++)
		if (!list[i].keep)
			rc = pio_store_checkpoint_drop(store, list[i].id, err);
	pio_free(list);
	return rc;
}
