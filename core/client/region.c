#include "client/region.h"

#include <string.h>

static int product(int64_t *elements, const char *name, const int64_t *shape, int ndim, pio_err *err)
{
	*elements = 1;
	bool none = false;
	for (int i = 0; i < ndim; i++)
		none |= shape[i] == 0;
	for (int i = 0; i < ndim && !none; i++)
		if (__builtin_mul_overflow(*elements, shape[i], elements))
			return pio_fail(err, PIO_EINVAL, "tensor \"%s\" has more than 2^63 elements", name);
	*elements = none ? 0 : *elements;
	return 0;
}

/* Runs go from the last dimension that is not had whole to the end. */
static void find_runs(pio_region *r)
{
	int64_t stride = 1;
	int d = r->ndim - 1;
	for (int i = 0; i < r->ndim; i++)
		if (r->whole[i] == 0)
			return; /* it has none */
	for (int i = d; i >= 0; i--) {
		r->stride[i] = stride;
		stride *= r->whole[i];
	}
	r->run = r->flat ? r->size[0] : 1;
	r->runs = r->run > 0;
	if (r->flat)
		return;
	while (d >= 0 && r->size[d] == r->whole[d])
		r->run *= r->size[d--];
	if (d >= 0)
		r->run *= r->size[d];
	r->outer = d > 0 ? d : 0;
	for (int i = 0; i < r->outer; i++)
		r->runs *= r->size[i];
	if (r->run == 0)
		r->runs = 0;
}

static int check_part(const char *name, int ndim, const int64_t *shape, const pio_part *part,
                      pio_err *err)
{
	int64_t elements, end;
	if (part->ndim < 0 || part->ndim > PIO_SAFETENSORS_DIMS_MAX ||
	    (part->ndim > 0 && (!part->shape || !part->offset)))
		return pio_fail(err, PIO_EINVAL, "tensor \"%s\" is part of one of %d dimensions%s: 0 to %d expected",
		                name, part->ndim, part->ndim > 0 ? " whose shape or offset is NULL" : "",
		                PIO_SAFETENSORS_DIMS_MAX);
	for (int i = 0; i < part->ndim; i++)
		if (part->shape[i] < 0)
			return pio_fail(err, PIO_EINVAL, "tensor \"%s\" is part of one whose dimension %d is %lld",
			                name, i, (long long)part->shape[i]);
	int rc = product(&elements, name, part->shape, part->ndim, err);
	if (rc)
		return rc;
	if (ndim != (part->flat ? 1 : part->ndim))
		return pio_fail(err, PIO_EINVAL, "tensor \"%s\" has %d dimensions: %d expected of a %s", name, ndim,
		                part->flat ? 1 : part->ndim, part->flat ? "run of elements" : "part of the whole");
	for (int i = 0; i < ndim; i++) {
		int64_t limit = part->flat ? elements : part->shape[i];
		if (part->offset[i] < 0 || __builtin_add_overflow(part->offset[i], shape[i], &end) || end > limit)
			return pio_fail(err, PIO_EINVAL, "tensor \"%s\": %lld from %lld on are not within the %lld "
			                "%s %d of the whole", name, (long long)shape[i], (long long)part->offset[i],
			                (long long)limit, part->flat ? "elements, dimension" : "of dimension", i);
	}
	return 0;
}

int pio_region_of(pio_region *region, const char *name, int ndim, const int64_t *shape,
                  const pio_part *part, pio_err *err)
{
	int64_t elements;
	int rc = part ? check_part(name, ndim, shape, part, err) : product(&elements, name, shape, ndim, err);
	if (rc)
		return rc;
	*region = (pio_region){ .ndim = part ? part->ndim : ndim, .flat = part && part->flat };
	for (int i = 0; i < region->ndim; i++)
		region->whole[i] = part ? part->shape[i] : shape[i];
	for (int i = 0; i < ndim; i++) {
		region->begin[i] = part ? part->offset[i] : 0;
		region->size[i] = shape[i];
	}
	find_runs(region);
	return 0;
}

int64_t pio_region_count(const pio_region *region)
{
	return region->run * region->runs;
}

bool pio_region_same_whole(const pio_region *a, const pio_region *b)
{
	return a->ndim == b->ndim && memcmp(a->whole, b->whole, (size_t)a->ndim * sizeof *a->whole) == 0;
}

/* The element of the whole with which run `at` begins. */
static int64_t run_begin(const pio_region *r, int64_t at)
{
	int64_t element = 0;
	if (r->flat)
		return r->begin[0];
	for (int d = r->outer; d < r->ndim; d++)
		element += r->begin[d] * r->stride[d];
	for (int d = r->outer - 1; d >= 0; d--) {
		element += (r->begin[d] + at % r->size[d]) * r->stride[d];
		at /= r->size[d];
	}
	return element;
}

/* The first run from `at` on that does not end before `element`. */
static int64_t seek(const pio_region *r, int64_t at, int64_t element)
{
	int64_t low = at, high = r->runs;
	if (at < r->runs && run_begin(r, at) + r->run > element)
		return at;
	while (low < high) {
		int64_t middle = low + (high - low) / 2;
		if (run_begin(r, middle) + r->run > element)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

int pio_region_share(const pio_region *a, const pio_region *b, pio_region_fn *told, void *context,
                     pio_err *err)
{
	int64_t i = 0, j = 0;
	int rc = 0;
	while (!rc && i < a->runs && j < b->runs) {
		int64_t p = run_begin(a, i), q = run_begin(b, j);
		int64_t from = p > q ? p : q, p_end = p + a->run, q_end = q + b->run;
		int64_t to = p_end < q_end ? p_end : q_end;
		if (from < to)
			rc = told(context, i * a->run + from - p, j * b->run + from - q, to - from, err);
		i += p_end == to;
		j += q_end == to;
		if (from >= to) { /* one is behind: catch up at once */
			i = seek(a, i, q);
			j = seek(b, j, p);
		}
	}
	return rc;
}
