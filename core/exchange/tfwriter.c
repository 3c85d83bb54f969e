#include "exchange/tfwriter.h"

#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "exchange/proto.h"
#include "exchange/tfevent.h"
#include "exchange/tfrecord.h"
#include "sys/fs.h"

#define FLUSH_BYTES (1u << 20)

enum { DATA_SCALAR = 1, DATA_TENSOR = 2 };

/* ---- the file ------------------------------------------------------------------------------ */

static void fail(pio_tfwriter *w, int rc)
{
	w->rc = w->rc ? w->rc : rc;
}

static void flush(pio_tfwriter *w, size_t at_least)
{
	if (w->rc || w->out.len < at_least)
		return;
	if (pio_str_check(&w->out, &w->err))
		fail(w, -PIO_ENOMEM);
	else
		fail(w, pio_fs_write_all(w->fd, w->out.data, w->out.len, w->path, &w->err));
	pio_str_clear(&w->out);
}

static double seconds(int64_t ns)
{
	return (double)(ns / 1000) / 1e6;
}

int pio_tfwriter_open(pio_tfwriter *w, const char *path, int64_t begun_ns, pio_err *err)
{
	pio_str event = PIO_STR_INIT;
	*w = (pio_tfwriter){ .fd = -1, .path = pio_strdup(path), .out = PIO_STR_INIT,
	                     .value = PIO_STR_INIT, .event = PIO_STR_INIT, .err = PIO_ERR_INIT };
	int rc = w->path ? pio_fs_open(&w->fd, path, O_WRONLY | O_CREAT | O_EXCL, 0666, err)
	                 : pio_fail(err, PIO_ENOMEM, "out of memory");
	pio_proto_put_double(&event, 1, seconds(begun_ns));
	pio_proto_put_text(&event, 3, "brain.Event:2");
	pio_tfrecord_put(&w->out, event.data, event.len);
	w->out.failed = w->out.failed || event.failed;
	pio_str_fini(&event);
	if (rc) {
		pio_free(w->path);
		pio_str_fini(&w->out);
	}
	return rc;
}

int pio_tfwriter_close(pio_tfwriter *w, pio_err *err)
{
	flush(w, 1);
	if (!w->rc)
		fail(w, pio_fs_datasync(w->fd, w->path, &w->err));
	int closed = pio_fs_close(&w->fd, w->path, w->rc ? NULL : &w->err);
	fail(w, closed);
	if (w->rc && err)
		*err = w->err;
	pio_free(w->path);
	pio_str_fini(&w->out);
	pio_str_fini(&w->value);
	pio_str_fini(&w->event);
	return w->rc;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void begin(pio_tfwriter *w, const char *tag)
{
	pio_str_clear(&w->value);
	pio_proto_put_text(&w->value, 1, tag);
}

/* Event{1 wall_time, 2 step, 5 Summary{1 Value}}. */
static void end(pio_tfwriter *w, int64_t step, int64_t time_ns)
{
	pio_str summary = PIO_STR_INIT;
	pio_str_clear(&w->event);
	pio_proto_put_bytes(&summary, 1, w->value.data, w->value.len);
	pio_proto_put_double(&w->event, 1, seconds(time_ns));
	pio_proto_put_varint(&w->event, 2, (uint64_t)step);
	pio_proto_put_bytes(&w->event, 5, summary.data, summary.len);
	pio_tfrecord_put(&w->out, w->event.data, w->event.len);
	w->out.failed = w->out.failed || w->event.failed || w->value.failed || summary.failed;
	pio_str_fini(&summary);
	flush(w, FLUSH_BYTES);
}

/* SummaryMetadata{1 PluginData{1 name, 2 content}, 4 data_class}. */
static void put_metadata(pio_tfwriter *w, const char *plugin, const pio_str *content, int data_class)
{
	pio_str data = PIO_STR_INIT, metadata = PIO_STR_INIT;
	pio_proto_put_text(&data, 1, plugin);
	if (content)
		pio_proto_put_bytes(&data, 2, content->data, content->len);
	pio_proto_put_bytes(&metadata, 1, data.data, data.len);
	if (data_class)
		pio_proto_put_varint(&metadata, 4, (uint64_t)data_class);
	pio_proto_put_bytes(&w->value, 9, metadata.data, metadata.len);
	w->value.failed = w->value.failed || data.failed || metadata.failed;
	pio_str_fini(&data);
	pio_str_fini(&metadata);
}

/* Of rank 0 where dim is negative, else of rank 1. */
static void put_shape(pio_str *tensor, int64_t dim)
{
	pio_str size = PIO_STR_INIT, shape = PIO_STR_INIT;
	if (dim >= 0) {
		pio_proto_put_varint(&size, 1, (uint64_t)dim);
		pio_proto_put_bytes(&shape, 2, size.data, size.len);
	}
	pio_proto_put_bytes(tensor, 2, shape.data, shape.len);
	tensor->failed = tensor->failed || size.failed || shape.failed;
	pio_str_fini(&size);
	pio_str_fini(&shape);
}

static void put_tensor(pio_tfwriter *w, pio_str *tensor)
{
	pio_proto_put_bytes(&w->value, 8, tensor->data, tensor->len);
	w->value.failed = w->value.failed || tensor->failed;
	pio_str_fini(tensor);
}

void pio_tfwriter_f32(pio_tfwriter *w, const char *tag, int64_t step, int64_t time_ns, float value)
{
	begin(w, tag);
	pio_proto_put_float(&w->value, 2, value);
	end(w, step, time_ns);
}

void pio_tfwriter_f64(pio_tfwriter *w, const char *tag, int64_t step, int64_t time_ns, double value)
{
	pio_str tensor = PIO_STR_INIT;
	begin(w, tag);
	put_metadata(w, "scalars", NULL, DATA_SCALAR);
	pio_proto_put_varint(&tensor, 1, PIO_TF_DOUBLE);
	put_shape(&tensor, -1);
	pio_proto_put_bytes(&tensor, 6, &value, sizeof value);
	put_tensor(w, &tensor);
	end(w, step, time_ns);
}

void pio_tfwriter_text(pio_tfwriter *w, const char *tag, int64_t step, int64_t time_ns,
                       const char *text, size_t text_bytes)
{
	pio_str tensor = PIO_STR_INIT;
	begin(w, tag);
	put_metadata(w, "text", NULL, DATA_TENSOR);
	pio_proto_put_varint(&tensor, 1, PIO_TF_STRING);
	put_shape(&tensor, 1);
	pio_proto_put_bytes(&tensor, 8, text, text_bytes);
	put_tensor(w, &tensor);
	end(w, step, time_ns);
}

void pio_tfwriter_hparams(pio_tfwriter *w, const char *tag, int64_t time_ns, const pio_str *content)
{
	pio_str tensor = PIO_STR_INIT;
	begin(w, tag);
	put_metadata(w, "hparams", content, DATA_TENSOR);
	pio_proto_put_varint(&tensor, 1, PIO_TF_FLOAT);
	put_shape(&tensor, 0);
	put_tensor(w, &tensor);
	end(w, 0, time_ns);
}

/* ---- histograms --------------------------------------------------------------------------------- */

typedef struct columns {
	pio_str limits, counts;
	double last;
	bool any;
} columns;

static void put_bucket(columns *c, double limit, double count)
{
	if (c->any && limit <= c->last)
		limit = nextafter(c->last, DBL_MAX);
	pio_str_append(&c->limits, &limit, sizeof limit);
	pio_str_append(&c->counts, &count, sizeof count);
	c->last = limit;
	c->any = true;
}

void pio_tfwriter_histogram(pio_tfwriter *w, const char *tag, int64_t step, int64_t time_ns,
                            const pio_histogram *histogram)
{
	pio_str proto = PIO_STR_INIT;
	columns c = { PIO_STR_INIT, PIO_STR_INIT, 0, false };
	pio_histogram_bucket bucket;
	/* A limit is the upper edge of its bucket and the lower one of the next: an
	 * empty bucket stands where ours are apart. */
	for (size_t at = 0; pio_histogram_next(histogram, &at, &bucket);) {
		if (bucket.low < bucket.high && (!c.any || c.last < bucket.low))
			put_bucket(&c, bucket.low, 0);
		put_bucket(&c, bucket.high, (double)bucket.count);
	}
	pio_proto_put_double(&proto, 1, histogram->min);
	pio_proto_put_double(&proto, 2, histogram->max);
	pio_proto_put_double(&proto, 3, (double)histogram->finite);
	pio_proto_put_double(&proto, 4, histogram->sum);
	pio_proto_put_double(&proto, 5, histogram->sum_squares);
	pio_proto_put_bytes(&proto, 6, c.limits.data, c.limits.len);
	pio_proto_put_bytes(&proto, 7, c.counts.data, c.counts.len);
	begin(w, tag);
	pio_proto_put_bytes(&w->value, 5, proto.data, proto.len);
	w->value.failed = w->value.failed || proto.failed || c.limits.failed || c.counts.failed;
	end(w, step, time_ns);
	pio_str_fini(&proto);
	pio_str_fini(&c.limits);
	pio_str_fini(&c.counts);
}

/* ---- images ------------------------------------------------------------------------------------- */

typedef struct picture {
	uint32_t width, height, channels;
} picture;

static uint32_t big_endian(const uint8_t *p, size_t n)
{
	uint32_t value = 0;
	while (n--)
		value = value << 8 | *p++;
	return value;
}

/* Segments of a JPEG up to the one that tells the size. */
static bool read_jpeg(picture *image, const uint8_t *p, size_t n)
{
	for (size_t at = 2; at + 10 <= n && p[at] == 0xff;) {
		uint8_t marker = p[at + 1];
		bool frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
		if (frame) {
			*image = (picture){ big_endian(p + at + 7, 2), big_endian(p + at + 5, 2), p[at + 9] };
			return true;
		}
		at += 2 + big_endian(p + at + 2, 2);
	}
	return false;
}

static bool read_picture(picture *image, const uint8_t *p, size_t n)
{
	static const uint32_t png_channels[] = { 1, 0, 3, 3, 2, 0, 4 };
	if (n >= 26 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0) {
		*image = (picture){ big_endian(p + 16, 4), big_endian(p + 20, 4),
		                    p[25] < 7 ? png_channels[p[25]] : 3 };
		return true;
	}
	if (n >= 10 && memcmp(p, "GIF8", 4) == 0) {
		*image = (picture){ (uint32_t)(p[6] | p[7] << 8), (uint32_t)(p[8] | p[9] << 8), 3 };
		return true;
	}
	return n >= 3 && memcmp(p, "\xff\xd8\xff", 3) == 0 && read_jpeg(image, p, n);
}

bool pio_tfwriter_image(pio_tfwriter *w, const char *tag, int64_t step, int64_t time_ns,
                        const void *bytes, size_t size_bytes)
{
	pio_str proto = PIO_STR_INIT;
	picture image;
	if (!read_picture(&image, bytes, size_bytes))
		return false;
	pio_proto_put_varint(&proto, 1, image.height);
	pio_proto_put_varint(&proto, 2, image.width);
	pio_proto_put_varint(&proto, 3, image.channels);
	pio_proto_put_bytes(&proto, 4, bytes, size_bytes);
	begin(w, tag);
	pio_proto_put_bytes(&w->value, 4, proto.data, proto.len);
	w->value.failed = w->value.failed || proto.failed;
	end(w, step, time_ns);
	pio_str_fini(&proto);
	return true;
}
