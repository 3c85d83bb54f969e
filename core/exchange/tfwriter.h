/* tfwriter.h: one event file as TensorBoard reads it. Values gather in memory and
 * are written a megabyte at a time; a failure is kept, and every later call does
 * nothing, until pio_tfwriter_close tells of it. */
#ifndef PIO_EXCHANGE_TFWRITER_H
#define PIO_EXCHANGE_TFWRITER_H

#include <stdint.h>

#include "base/histogram.h"
#include "base/str.h"

typedef struct pio_tfwriter {
	int fd;
	char *path;
	pio_str out;                /* records not written yet */
	pio_str value, event;       /* of the record at hand */
	int rc;
	pio_err err;
} pio_tfwriter;

/* The file must not exist. `begun_ns`: of its first event. */
int pio_tfwriter_open(pio_tfwriter *writer, const char *path, int64_t begun_ns, pio_err *err);
void pio_tfwriter_f32(pio_tfwriter *writer, const char *tag, int64_t step, int64_t time_ns,
                      float value);
void pio_tfwriter_f64(pio_tfwriter *writer, const char *tag, int64_t step, int64_t time_ns,
                      double value);
void pio_tfwriter_text(pio_tfwriter *writer, const char *tag, int64_t step, int64_t time_ns,
                       const char *text, size_t text_bytes);
void pio_tfwriter_histogram(pio_tfwriter *writer, const char *tag, int64_t step, int64_t time_ns,
                            const pio_histogram *histogram);
/* False, and nothing is written, where it is no PNG, JPEG or GIF. */
bool pio_tfwriter_image(pio_tfwriter *writer, const char *tag, int64_t step, int64_t time_ns,
                        const void *bytes, size_t size_bytes);
/* A value of the hparams plugin with this content. */
void pio_tfwriter_hparams(pio_tfwriter *writer, const char *tag, int64_t time_ns,
                          const pio_str *content);
/* Written and synced. */
int pio_tfwriter_close(pio_tfwriter *writer, pio_err *err);

#endif
