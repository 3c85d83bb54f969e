/* Parts that do not overlap, and together have as many elements as the tensor, are
 * the tensor: so neither grid nor order is asked of them. */
#include "store/checkpoint_cover.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/safetensors.h"
#include "store/sql.h"

typedef struct part {
	int64_t rank, elements;
	int64_t along;                            /* where it begins in the dimension of the sweep */
	bool flat;                                /* a run of elements: the first dimension alone */
	int64_t begin[PIO_SAFETENSORS_DIMS_MAX], size[PIO_SAFETENSORS_DIMS_MAX];
} part;

/* All that a checkpoint says of one tensor. */
typedef struct tensor {
	char *role, *name, *dtype, *whole;        /* whole: JSON of its shape; NULL: it is not in parts */
	bool own;                                 /* each rank saved one of its own whole, if in slices */
	int64_t rank;                             /* who said so first */
	part *parts;                              /* those that are not empty */
	size_t count, capacity;
} tensor;

/* Of "[2,3]" or "7"; how many. Rows hold no other text (checkpoint_tensor.c). */
static int read_numbers(int64_t *numbers, const char *text)
{
	int count = 0;
	text += *text == '[';
	while (*text >= '0' && *text <= '9' && count < PIO_SAFETENSORS_DIMS_MAX) {
		char *end;
		numbers[count++] = strtoll(text, &end, 10);
		text = end + (*end == ',');
	}
	return count;
}

static int64_t product(const int64_t *numbers, int count)
{
	int64_t result = 1;
	for (int i = 0; i < count; i++)
		result *= numbers[i];
	return result;
}

static int refuse(const tensor *t, pio_err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int refuse(const tensor *t, pio_err *err, const char *format, ...)
{
	char why[400];
	va_list args;
	va_start(args, format);
	vsnprintf(why, sizeof why, format, args);
	va_end(args);
	return pio_fail(err, PIO_EINVAL, "tensor \"%.200s\" of role \"%s\": %s", t->name, t->role, why);
}

/* ---- do they fit? ------------------------------------------------------------------ */

static int by_place(const void *a, const void *b)
{
	const part *x = a, *y = b;
	if (x->along != y->along)
		return x->along < y->along ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static size_t sort_along(tensor *t, int dim)
{
	size_t places = 0;
	for (size_t i = 0; i < t->count; i++)
		t->parts[i].along = t->parts[i].begin[dim];
	if (t->count)
		qsort(t->parts, t->count, sizeof *t->parts, by_place);
	for (size_t i = 0; i < t->count; i++)
		places += i == 0 || t->parts[i].along != t->parts[i - 1].along;
	return places;
}

static bool overlap(const part *a, const part *b, int ndim)
{
	for (int d = 0; d < ndim; d++)
		if (a->begin[d] + a->size[d] <= b->begin[d] || b->begin[d] + b->size[d] <= a->begin[d])
			return false;
	return true;
}

/* Along the dimension in which parts begin at most places few are beside each other. */
static int find_overlap(tensor *t, int ndim, pio_err *err)
{
	int dim = 0;
	size_t most = 0;
	for (int d = 0; d < ndim; d++) {
		size_t places = sort_along(t, d);
		dim = places > most ? d : dim;
		most = places > most ? places : most;
	}
	sort_along(t, dim);
	for (size_t i = 0; i < t->count; i++) {
		const part *p = &t->parts[i];
		int64_t end = p->along + p->size[dim];
		for (size_t k = i + 1; k < t->count && t->parts[k].along < end; k++)
			if (overlap(p, &t->parts[k], ndim))
				return refuse(t, err, "the parts of rank %lld and rank %lld overlap",
				              (long long)p->rank, (long long)t->parts[k].rank);
	}
	return 0;
}

/* They are without overlap; `missing` elements are nobody's. Where a whole stretch of the
 * first dimension is, its neighbours are named. */
static int tell_hole(tensor *t, int64_t missing, int64_t length, pio_err *err)
{
	const part *before = NULL;
	sort_along(t, 0);
	for (size_t i = 0; i < t->count; i++) {
		const part *p = &t->parts[i];
		int64_t reached = before ? before->begin[0] + before->size[0] : 0;
		if (p->begin[0] > reached && before)
			return refuse(t, err, "nobody saved what lies between the parts of rank %lld and rank %lld,"
			              " %lld elements in all", (long long)before->rank, (long long)p->rank,
			              (long long)missing);
		if (p->begin[0] > reached)
			return refuse(t, err, "nobody saved what lies before the part of rank %lld, %lld elements in"
			              " all", (long long)p->rank, (long long)missing);
		if (p->begin[0] + p->size[0] > reached)
			before = p;
	}
	bool at_end = before && before->begin[0] + before->size[0] < length;
	return refuse(t, err, "nobody saved %lld of its elements%s", (long long)missing,
	              at_end ? ", those at its end among them" : "");
}

static int check(tensor *t, pio_err *err)
{
	int64_t whole[PIO_SAFETENSORS_DIMS_MAX] = { 0 }, held = 0;
	if (!t->whole)
		return 0;
	int ndim = read_numbers(whole, t->whole);
	int64_t elements = product(whole, ndim);
	for (size_t i = 0; i < t->count; i++) {
		const part *p = &t->parts[i], *first = &t->parts[0];
		held += p->elements;
		if (p->flat != first->flat)
			return refuse(t, err, "rank %lld saved a run of its elements, rank %lld a box",
			              (long long)(p->flat ? p : first)->rank, (long long)(p->flat ? first : p)->rank);
	}
	bool flat = t->count && t->parts[0].flat;
	int rc = find_overlap(t, flat ? 1 : ndim, err);
	return rc || held == elements ? rc : tell_hole(t, elements - held, flat ? elements : whole[0], err);
}

/* ---- gathering ------------------------------------------------------------------------ */

/* Columns of the query below. */
enum { ROLE, NAME, RANK, DTYPE, SHAPE, WHOLE, BEGIN, OWN };

static const char *text_of(sqlite3_stmt *row, int column)
{
	return (const char *)sqlite3_column_text(row, column);
}

static bool is_own(sqlite3_stmt *row)
{
	return !text_of(row, WHOLE) || sqlite3_column_int(row, OWN);
}

static void forget(tensor *t)
{
	pio_free(t->role);
	pio_free(t->name);
	pio_free(t->dtype);
	pio_free(t->whole);
	t->role = t->name = t->dtype = t->whole = NULL;
	t->count = 0;
}

static int start(tensor *t, sqlite3_stmt *row, pio_err *err)
{
	forget(t);
	t->role = pio_sql_text_copy(row, ROLE);
	t->name = pio_sql_text_copy(row, NAME);
	t->dtype = pio_sql_text_copy(row, DTYPE);
	t->whole = pio_sql_text_copy(row, WHOLE);
	t->rank = sqlite3_column_int64(row, RANK);
	t->own = is_own(row);
	bool has_all = t->role && t->name && t->dtype && !t->whole == !text_of(row, WHOLE);
	return has_all ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a tensor");
}

static int take_part(tensor *t, sqlite3_stmt *row, pio_err *err)
{
	part p = { .rank = sqlite3_column_int64(row, RANK), .flat = text_of(row, BEGIN)[0] != '[' };
	p.elements = product(p.size, read_numbers(p.size, text_of(row, SHAPE)));
	(void)read_numbers(p.begin, text_of(row, BEGIN));
	int rc = p.elements ? pio_grow(&t->parts, &t->capacity, t->count, "parts of a tensor", err) : 0;
	if (!rc && p.elements)
		t->parts[t->count++] = p;
	return rc;
}

/* The rows of a tensor follow one another. */
static int take(tensor *t, sqlite3_stmt *row, pio_err *err)
{
	const char *whole = text_of(row, WHOLE), *dtype = text_of(row, DTYPE);
	long long rank = sqlite3_column_int64(row, RANK), first = t->rank;
	bool own = is_own(row);
	if (!t->name || strcmp(t->role, text_of(row, ROLE)) != 0 || strcmp(t->name, text_of(row, NAME)) != 0 ||
	    (own && t->own && rank != first)) {
		int rc = t->name ? check(t, err) : 0;
		if (!rc)
			rc = start(t, row, err);
		return rc || !whole ? rc : take_part(t, row, err);
	}
	if (own != t->own || !whole != !t->whole)
		return refuse(t, err, "rank %lld saved it whole, rank %lld a part of one", t->own ? first : rank,
		              t->own ? rank : first);
	if (whole && (strcmp(whole, t->whole) != 0 || strcmp(dtype, t->dtype) != 0))
		return refuse(t, err, "to rank %lld it is %s of shape %s, to rank %lld %s of shape %s", first, t->dtype,
		              t->whole, rank, dtype, whole);
	return whole ? take_part(t, row, err) : 0;
}

int pio_checkpoint_cover(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	tensor t = { .name = NULL };
	int64_t has_parts = 0;
	int rc = pio_sql_int(&has_parts, store, err, "SELECT EXISTS (SELECT 1 FROM checkpoint_file f JOIN tensor t"
	                     " ON t.sha256 = f.sha256 WHERE f.checkpoint_id = ?1 AND t.whole_shape IS NOT NULL)",
	                     "i", checkpoint_id);
	if (rc || !has_parts)
		return rc;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT f.role, t.name, f.rank, t.dtype, t.shape,"
	                                  " t.whole_shape, t.part_begin, t.own FROM checkpoint_file f JOIN tensor t ON"
	                                  " t.sha256 = f.sha256 WHERE f.checkpoint_id = ?1"
	                                  " ORDER BY f.role, t.name, f.rank", "i", checkpoint_id);
	rc = pio_sql_row(store, row, err);
	while (rc == 1) {
		int bad = take(&t, row, err);
		rc = bad ? bad : pio_sql_row(store, row, err);
	}
	pio_sql_reset(row);
	if (!rc && t.name)
		rc = check(&t, err);
	forget(&t);
	pio_free(t.parts);
	return rc;
}
