/* tfevent.h: what a record of a TensorBoard event file says (tensorboard/compat/
 * proto/{event,summary,tensor,histogram}.proto). Everything is borrowed from the
 * record's bytes, and nothing in them is trusted. */
#ifndef PIO_EXCHANGE_TFEVENT_H
#define PIO_EXCHANGE_TFEVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/str.h"
#include "exchange/proto.h"

typedef struct pio_bytes {
	const char *at;             /* NULL: not there */
	size_t size_bytes;
} pio_bytes;

typedef struct pio_tfevent {
	double wall_time;           /* s since 1970 */
	int64_t step;
	pio_proto summary;          /* its values: pio_tfvalue_next */
	uint32_t session;           /* of a session log: 1 START, 2 STOP, 3 CHECKPOINT; else 0 */
	const char *other;          /* what else it is (a graph, ...); NULL: nothing else */
} pio_tfevent;
/* False: these bytes are no event. */
bool pio_tfevent_read(pio_tfevent *event, const uint8_t *data, size_t size_bytes);

enum pio_tfvalue_kind { PIO_TF_NONE, PIO_TF_SIMPLE, PIO_TF_IMAGE, PIO_TF_HISTOGRAM, PIO_TF_AUDIO,
	                PIO_TF_TENSOR };
typedef struct pio_tfvalue {
	pio_bytes tag, plugin;      /* plugin: its name */
	pio_bytes content;          /* what the plugin keeps in the metadata */
	enum pio_tfvalue_kind kind;
	float simple;
	pio_proto_field body;       /* of the other kinds */
} pio_tfvalue;
/* The next value of a summary; false at the end or when `bad` is set. */
bool pio_tfvalue_next(pio_tfvalue *value, pio_proto *summary);

enum pio_tfdtype { PIO_TF_FLOAT = 1, PIO_TF_DOUBLE = 2, PIO_TF_INT32 = 3, PIO_TF_UINT8 = 4,
	           PIO_TF_STRING = 7, PIO_TF_INT64 = 9, PIO_TF_BOOL = 10, PIO_TF_BFLOAT16 = 14,
	           PIO_TF_HALF = 19 };
#define PIO_TF_RANK_MAX 8
typedef struct pio_tftensor {
	uint32_t dtype;
	int64_t dims[PIO_TF_RANK_MAX];
	int rank;
	pio_bytes content;
	pio_proto fields;           /* the whole message, for its repeated values */
} pio_tftensor;
bool pio_tftensor_read(pio_tftensor *tensor, const pio_proto_field *body);
/* Its first `max` numbers, as doubles; how many there are of them. Integers of
 * 64 bits also as they are, in `whole` (may be NULL). */
size_t pio_tftensor_numbers(double *values, int64_t *whole, size_t max, const pio_tftensor *tensor);
/* The next string of a tensor of strings; start with *walk = tensor->fields. */
bool pio_tftensor_string(pio_bytes *string, pio_proto *walk);

/* A HistogramProto, or a tensor of rows (left, right, count), on a grid of edges.
 * PIO_ECORRUPT says what it lacks. The caller ends it with pio_histogram_fini,
 * also after a failure. */
int pio_tfhistogram_read(pio_histogram *histogram, const pio_tfvalue *value, pio_err *err);

/* width, height and bytes of an Image. */
bool pio_tfimage_read(pio_bytes *encoded, const pio_proto_field *body);

#endif
