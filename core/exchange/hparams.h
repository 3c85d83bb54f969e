/* hparams.h: TensorBoard's hparams plugin (tensorboard/plugins/hparams/
 * plugin_data.proto): parameters and how a program ended, in the metadata of a
 * summary. */
#ifndef PIO_EXCHANGE_HPARAMS_H
#define PIO_EXCHANGE_HPARAMS_H

#include "exchange/tfevent.h"
#include "store/ingest.h"

/* The plugin's own numbers. */
typedef enum pio_hparams_end {
	PIO_HPARAMS_UNKNOWN, PIO_HPARAMS_SUCCESS, PIO_HPARAMS_FAILURE, PIO_HPARAMS_RUNNING,
} pio_hparams_end;

/* Parameters go to the ingest; *end changes if the content is of an end. */
int pio_hparams_take(pio_hparams_end *end, pio_ingest *ingest, pio_bytes content, pio_err *err);

/* Append the content of `_hparams_/session_start_info` (params: name to JSON
 * value) and of `_hparams_/session_end_info`. Times in s. */
void pio_hparams_put_start(pio_str *out, const json_t *params, const char *group, double start_s);
void pio_hparams_put_end(pio_str *out, pio_hparams_end end, double end_s);

#endif
