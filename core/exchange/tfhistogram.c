/* Histograms of event files become ours on a grid of edges. Theirs have buckets
 * that reach to the ends of double, of no width, and counts that are doubles. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "exchange/tfevent.h"

typedef struct row {
	double left, right, count;
} row;

/* Doubles of a repeated field, packed or not, appended to `out`. */
static void put_doubles(pio_str *out, const pio_proto_field *field)
{
	if (field->wire == PIO_PROTO_BYTES)
		pio_str_append(out, field->bytes, field->size_bytes & ~(size_t)7);
	else
		pio_str_append(out, &field->value, 8);
}

static double double_at(const pio_str *doubles, size_t i)
{
	double value;
	memcpy(&value, doubles->data + 8 * i, 8);
	return value;
}

/* min, max, sum and sum of squares of a HistogramProto, where it has them. */
typedef struct extent {
	double values[4];
	bool has[4];
} extent;

static int read_proto(pio_str *rows, extent *known, const pio_proto_field *body, pio_err *err)
{
	static const int place[] = { [1] = 0, [2] = 1, [4] = 2, [5] = 3 };
	pio_str limits = PIO_STR_INIT, counts = PIO_STR_INIT;
	pio_proto message = pio_proto_in(body);
	pio_proto_field field;
	while (pio_proto_next(&message, &field)) {
		if (field.number == 6) {
			put_doubles(&limits, &field);
		} else if (field.number == 7) {
			put_doubles(&counts, &field);
		} else if (field.number && field.number != 3 && field.number <= 5) {
			known->values[place[field.number]] = pio_proto_double(&field);
			known->has[place[field.number]] = true;
		}
	}
	size_t n = limits.len / 8;
	/* A proto leaves out what is 0. */
	known->has[0] = known->has[1] = known->has[2] = known->has[3] = true;
	int rc = limits.failed || counts.failed ? pio_fail(err, PIO_ENOMEM, "out of memory") : 0;
	if (!rc && (message.bad || n != counts.len / 8))
		rc = pio_fail(err, PIO_ECORRUPT, "histograms with %zu limits and %zu counts", n,
		              counts.len / 8);
	for (size_t i = 0; !rc && i < n; i++) {
		row r = { i ? double_at(&limits, i - 1) : -DBL_MAX, double_at(&limits, i),
		          double_at(&counts, i) };
		pio_str_append(rows, &r, sizeof r);
	}
	pio_str_fini(&limits);
	pio_str_fini(&counts);
	return rc ? rc : pio_str_check(rows, err);
}

static int read_tensor(pio_str *rows, const pio_proto_field *body, pio_err *err)
{
	pio_tftensor tensor;
	if (!pio_tftensor_read(&tensor, body) || tensor.rank != 2 || tensor.dims[1] != 3 ||
	    tensor.dims[0] > PIO_HISTOGRAM_BUCKETS_MAX)
		return pio_fail(err, PIO_ECORRUPT, "histograms whose tensor has not the shape [n, 3]");
	size_t wanted = (size_t)tensor.dims[0] * 3;
	double *values = pio_alloc(wanted * sizeof *values);
	if (!values)
		return pio_fail(err, PIO_ENOMEM, "out of memory");
	int rc = 0;
	if (pio_tftensor_numbers(values, NULL, wanted, &tensor) != wanted)
		rc = pio_fail(err, PIO_ECORRUPT, "histograms whose tensor is too short");
	else
		pio_str_append(rows, values, wanted * sizeof *values);
	pio_free(values);
	return rc ? rc : pio_str_check(rows, err);
}

/* Edges that rise: a bucket without width joins its neighbour, the outermost
 * ones end at the smallest and largest value. */
static int make(pio_histogram *histogram, const pio_str *rows, const extent *known, pio_err *err)
{
	size_t n = rows->len / sizeof(row), used = 0;
	double *edges = pio_alloc((n + 2) * sizeof *edges);
	uint64_t *counts = pio_calloc(n + 1, sizeof *counts);
	int rc = edges && counts ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory");
	for (size_t i = 0; !rc && i < n; i++) {
		row r;
		memcpy(&r, rows->data + i * sizeof r, sizeof r);
		if (!isfinite(r.left) || !isfinite(r.right) || !(r.count >= 0 && r.count < 0x1p63)) {
			rc = pio_fail(err, PIO_ECORRUPT, "histograms with a bucket from %g to %g of %g values",
			              r.left, r.right, r.count);
			break;
		}
		if (known->has[0] && r.left < known->values[0] && known->values[0] < r.right)
			r.left = known->values[0];
		if (known->has[1] && r.right > known->values[1] && known->values[1] > r.left)
			r.right = known->values[1];
		uint64_t count = (uint64_t)llround(r.count);
		if (!used && !count && i + 1 < n)
			continue; /* nothing below */
		if (!used)
			edges[0] = r.left;
		if (r.right > edges[used]) {
			edges[used + 1] = r.right;
			counts[used++] = count;
		} else if (used) {
			counts[used - 1] += count;
		} else {
			edges[1] = nextafter(edges[0], INFINITY);
			counts[used++] = count;
		}
	}
	while (!rc && used > 1 && !counts[used - 1])
		used--;
	if (!rc && !used)
		rc = pio_fail(err, PIO_ECORRUPT, "histograms without buckets");
	if (!rc)
		rc = pio_histogram_init_edges(histogram, edges, counts, used, err);
	pio_free(edges);
	pio_free(counts);
	return rc;
}

int pio_tfhistogram_read(pio_histogram *histogram, const pio_tfvalue *value, pio_err *err)
{
	pio_str rows = PIO_STR_INIT;
	extent known = { .has = { false } };
	*histogram = (pio_histogram)PIO_HISTOGRAM_INIT;
	int rc = value->kind == PIO_TF_TENSOR ? read_tensor(&rows, &value->body, err)
	                                      : read_proto(&rows, &known, &value->body, err);
	if (!rc)
		rc = make(histogram, &rows, &known, err);
	if (!rc && known.has[0] && histogram->finite && known.values[0] <= known.values[1] &&
	    isfinite(known.values[0]) && isfinite(known.values[1])) {
		histogram->min = known.values[0];
		histogram->max = known.values[1];
		histogram->sum = known.values[2];
		histogram->sum_squares = known.values[3];
	}
	pio_str_fini(&rows);
	return rc;
}
