#include "store/series_now.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/recent.h"
#include "store/sql.h"
#include "store/tail.h"

/* Columns of the table that statistics stand in; the function takes the index. */
static const char *const columns[] = {
	"count", "first_step", "last_step", "last", "last_bits", "min", "min_step", "max", "max_step", "sum",
	"sum_low", "finite", "nans", "last_int",
};
enum column { COUNT, FIRST_STEP, LAST_STEP, LAST, LAST_BITS, MIN, MIN_STEP, MAX, MAX_STEP, SUM, SUM_LOW,
              FINITE, NANS, LAST_INT, COLUMNS };
enum argument { ID, RUN, RANK, COLUMN, VALUE, ARGUMENTS };

typedef struct known {
	int64_t series_id;          /* 0: this place is free */
	int attempt;
	bool joined;                /* stats are of all that reads show; else of the recent points */
	pio_chunk_stats stats;
} known;

typedef struct loaded {
	int64_t run_id, rank;
} loaded;

/* What was looked up in one state of the store. */
typedef struct now {
	pio_store *store;
	unsigned version;           /* of that state */
	bool is_valid;
	int64_t *runs;              /* that have recent rows, in order */
	size_t runs_count, runs_capacity;
	loaded *ranks;              /* whose recent rows are in `series`, in order */
	size_t ranks_count, ranks_capacity;
	known *series;              /* hash */
	size_t series_count, series_size; /* a power of two */
} now;

static void forget(now *n)
{
	pio_free(n->runs);
	pio_free(n->ranks);
	pio_free(n->series);
	*n = (now){ .store = n->store };
}

/* ---- series -------------------------------------------------------------------------------- */

static known *place_of(const now *n, int64_t series_id)
{
	size_t at = ((uint64_t)series_id * 0x9e3779b97f4a7c15u >> 32) & (n->series_size - 1);
	while (n->series[at].series_id && n->series[at].series_id != series_id)
		at = (at + 1) & (n->series_size - 1);
	return &n->series[at];
}

static int grow_series(now *n, pio_err *err)
{
	now bigger = *n;
	bigger.series_size = n->series_size ? 2 * n->series_size : 256;
	bigger.series = pio_calloc(bigger.series_size, sizeof *bigger.series);
	if (!bigger.series)
		return pio_fail(err, PIO_ENOMEM, "no memory for %zu series", bigger.series_size);
	for (size_t i = 0; i < n->series_size; i++)
		if (n->series[i].series_id)
			*place_of(&bigger, n->series[i].series_id) = n->series[i];
	pio_free(n->series);
	*n = bigger;
	return 0;
}

static int add_points(now *n, int64_t series_id, int attempt, const pio_chunk_point *points,
                      size_t count, pio_err *err)
{
	int rc = 2 * n->series_count >= n->series_size ? grow_series(n, err) : 0;
	if (rc)
		return rc;
	known *k = place_of(n, series_id);
	if (!k->series_id) {
		*k = (known){ .series_id = series_id, .attempt = attempt };
		pio_chunk_stats_init(&k->stats);
		n->series_count++;
	}
	pio_chunk_stats_add(&k->stats, points, count);
	return 0;
}

/* ---- ranks ------------------------------------------------------------------------------------- */

static int add_row(now *n, pio_recent *recent, pio_chunk_decoder *decoder, sqlite3_stmt *row,
                   pio_err *err)
{
	int rc = pio_recent_decode(recent, decoder, sqlite3_column_blob(row, 1),
	                           (size_t)sqlite3_column_bytes(row, 1), err);
	if (pio_chunk_is_damaged(rc))
		pio_err_context(err, "recent row %lld (`pioche doctor --full --fix` mends it)",
		                (long long)sqlite3_column_int64(row, 2));
	const pio_chunk_point *points = recent->points;
	for (size_t i = 0; !rc && i < recent->series_count; points += recent->series_points[i++])
		rc = add_points(n, recent->series_id[i], sqlite3_column_int(row, 0), points,
		                recent->series_points[i], err);
	return rc;
}

static int read_rank(now *n, int64_t run_id, int64_t rank, pio_err *err)
{
	pio_chunk_decoder *decoder = NULL;
	pio_recent *recent = pio_alloc(sizeof *recent);
	int rc = recent ? pio_chunk_decoder_new(&decoder, err)
	                : pio_fail(err, PIO_ENOMEM, "no memory to read recent points");
	sqlite3_stmt *row = rc ? NULL
		: pio_sql_query(n->store, err, "SELECT attempt, data, id FROM recent WHERE run_id = ?1 AND rank = ?2"
		                " ORDER BY id", "ii", run_id, rank);
	rc = rc ? rc : pio_sql_row(n->store, row, err);
	while (rc == 1) {
		int bad = add_row(n, recent, decoder, row, err);
		rc = bad ? bad : pio_sql_row(n->store, row, err);
	}
	pio_sql_reset(row);
	pio_chunk_decoder_free(decoder);
	pio_free(recent);
	return rc;
}

static bool is_before(const loaded *a, int64_t run_id, int64_t rank)
{
	return a->run_id != run_id ? a->run_id < run_id : a->rank < rank;
}

static int load_rank(now *n, int64_t run_id, int64_t rank, pio_err *err)
{
	size_t low = 0, high = n->ranks_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (is_before(&n->ranks[middle], run_id, rank))
			low = middle + 1;
		else
			high = middle;
	}
	if (low < n->ranks_count && n->ranks[low].run_id == run_id && n->ranks[low].rank == rank)
		return 0;
	int rc = pio_grow(&n->ranks, &n->ranks_capacity, n->ranks_count, "ranks", err);
	if (!rc)
		rc = read_rank(n, run_id, rank, err);
	if (rc)
		return rc;
	memmove(&n->ranks[low + 1], &n->ranks[low], (n->ranks_count++ - low) * sizeof *n->ranks);
	n->ranks[low] = (loaded){ run_id, rank };
	return 0;
}

/* ---- runs ---------------------------------------------------------------------------------------- */

static int load_runs(now *n, pio_err *err)
{
	int64_t run_id = 0;
	for (;;) {
		int rc = pio_sql_int(&run_id, n->store, err, "SELECT min(run_id) FROM recent WHERE run_id > ?1",
		                     "i", run_id);
		if (rc || !run_id)
			return rc;
		rc = pio_grow(&n->runs, &n->runs_capacity, n->runs_count, "runs", err);
		if (rc)
			return rc;
		n->runs[n->runs_count++] = run_id;
	}
}

/* Whatever commits moves the version; within a statement it stays. */
static int refresh(now *n, pio_err *err)
{
	unsigned version = 0;
	sqlite3_file_control(pio_store_db(n->store), "main", SQLITE_FCNTL_DATA_VERSION, &version);
	if (n->is_valid && n->version == version)
		return 0;
	forget(n);
	int rc = load_runs(n, err);
	n->version = version;
	n->is_valid = rc == 0;
	return rc;
}

static bool has_recent(const now *n, int64_t run_id)
{
	size_t low = 0, high = n->runs_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (n->runs[middle] < run_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n->runs_count && n->runs[low] == run_id;
}

/* *stats NULL: the row of the table says all. */
static int look_up(const pio_chunk_stats **stats, now *n, int64_t series_id, int64_t run_id, int64_t rank,
                   pio_err *err)
{
	*stats = NULL;
	int rc = refresh(n, err);
	if (rc || !has_recent(n, run_id))
		return rc;
	rc = load_rank(n, run_id, rank, err);
	if (rc) { /* half of its rows may be there */
		n->is_valid = false;
		return rc;
	}
	known *k = n->series_size ? place_of(n, series_id) : NULL;
	if (!k || !k->series_id)
		return 0;
	if (!k->joined) {
		pio_chunk_stats shown;
		rc = pio_tail_foresee(&shown, n->store, series_id, k->attempt, &k->stats, err);
		if (rc)
			return rc;
		k->stats = shown;
		k->joined = true;
	}
	*stats = &k->stats;
	return 0;
}

/* ---- the function and the view --------------------------------------------------------------------- */

/* As a column has it: no NaN, no -0.0. */
static void result_real(sqlite3_context *context, double value)
{
	sqlite3_result_double(context, value == 0 ? 0 : value);
}

static void result_last(sqlite3_context *context, const pio_chunk_stats *s, enum column column)
{
	double last;
	memcpy(&last, &s->last_bits, sizeof last);
	if (column == LAST_INT) {
		if (s->last_integer)
			sqlite3_result_int64(context, (int64_t)s->last_bits);
	} else if (s->last_integer) {
		if (column == LAST)
			result_real(context, (double)(int64_t)s->last_bits);
	} else if (column == LAST) {
		result_real(context, last);
	} else if (isnan(last) || (last == 0 && s->last_bits)) {
		sqlite3_result_int64(context, (int64_t)s->last_bits);
	}
}

static void result(sqlite3_context *context, const pio_chunk_stats *s, enum column column)
{
	switch (column) {
	case COUNT: sqlite3_result_int64(context, s->count); break;
	case FIRST_STEP: sqlite3_result_int64(context, s->first_step); break;
	case LAST_STEP: sqlite3_result_int64(context, s->last_step); break;
	case MIN: result_real(context, s->min); break;
	case MAX: result_real(context, s->max); break;
	case SUM: result_real(context, s->sum); break;
	case SUM_LOW: result_real(context, s->sum_low); break;
	case FINITE: sqlite3_result_int64(context, s->finite); break;
	case NANS: sqlite3_result_int64(context, s->nans); break;
	case MIN_STEP:
	case MAX_STEP:
		if (!isnan(s->min))
			sqlite3_result_int64(context, column == MIN_STEP ? s->min_step : s->max_step);
		break;
	default: result_last(context, s, column);
	}
}

/* series_now(id, run_id, rank, column, value of the table's column) */
static void series_now(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	pio_err err = PIO_ERR_INIT;
	const pio_chunk_stats *stats;
	int rc = look_up(&stats, sqlite3_user_data(context), sqlite3_value_int64(argv[ID]),
	                 sqlite3_value_int64(argv[RUN]), sqlite3_value_int64(argv[RANK]), &err);
	if (rc == -PIO_ENOMEM)
		sqlite3_result_error_nomem(context);
	else if (rc)
		sqlite3_result_error(context, err.message, -1);
	else if (!stats)
		sqlite3_result_value(context, argv[VALUE]);
	else
		result(context, stats, (enum column)sqlite3_value_int(argv[COLUMN]));
}

static void now_free(void *state)
{
	forget(state);
	pio_free(state);
}

int pio_store_series_now_register(pio_store *store, pio_err *err)
{
	now *n = pio_calloc(1, sizeof *n);
	if (!n)
		return pio_fail(err, PIO_ENOMEM, "store %s: out of memory", pio_store_path(store));
	n->store = store;
	int rc = sqlite3_create_function_v2(pio_store_db(store), "series_now", ARGUMENTS, SQLITE_UTF8, n,
	                                    series_now, NULL, NULL, now_free); /* frees it on failure, too */
	return rc == SQLITE_OK ? 0 : pio_store_fail(store, err, "registering series_now");
}

int pio_store_series_now_show(pio_store *store, pio_err *err)
{
	int64_t found = 0;
	bool *is_shown = pio_store_series_now_slot(store);
	int rc = *is_shown ? 0 : pio_sql_int(&found, store, err, "SELECT EXISTS (SELECT 1 FROM recent)", "");
	if (rc || !found)
		return rc;
	pio_str sql = PIO_STR_INIT;
	pio_str_puts(&sql, "CREATE TEMP VIEW series AS SELECT id, run_id, key, rank");
	for (int i = 0; i < COLUMNS; i++)
		pio_str_printf(&sql, ", series_now(id, run_id, rank, %d, %s) AS %s", i, columns[i], columns[i]);
	pio_str_puts(&sql, ", tail FROM main.series");
	rc = pio_str_check(&sql, err);
	if (!rc && sqlite3_exec(pio_store_db(store), sql.data, NULL, NULL, NULL) != SQLITE_OK)
		rc = pio_store_fail(store, err, "showing recent points");
	pio_str_fini(&sql);
	*is_shown = rc == 0;
	return rc;
}
