/* wandb_item.h: the values of one record of W&B's history, summary, config or
 * system metrics (wandb/proto/wandb_internal.proto): each has a key or a nested
 * key and a JSON text, or a value of a type.
 *
 * Nested keys are joined by '/'. What belongs to an object with a member "_type"
 * (a histogram, an image) is marked, and put together by pio_wandb_typed. */
#ifndef PIO_EXCHANGE_WANDB_ITEM_H
#define PIO_EXCHANGE_WANDB_ITEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "exchange/proto.h"

enum pio_wandb_kind { PIO_WANDB_JSON, PIO_WANDB_REAL, PIO_WANDB_TEXT };

typedef struct pio_wandb_item {
	size_t path_at, path_bytes;  /* in the list's `paths`, NUL-terminated there */
	size_t typed_bytes;          /* as much of the path names a typed object; 0: none */
	bool taken;                  /* by pio_wandb_typed */
	enum pio_wandb_kind kind;
	double real;
	const char *text;            /* of JSON or text, borrowed from the record */
	size_t text_bytes;
} pio_wandb_item;

typedef struct pio_wandb_items {
	pio_wandb_item *all;
	size_t count, capacity;
	pio_str paths;
	bool typed;                  /* there are typed objects */
} pio_wandb_items;

#define PIO_WANDB_ITEMS_INIT { .paths = PIO_STR_INIT }

/* Replace what is in the list by the items in fields `number` of a message;
 * *bad: the message is broken (what was read of it stays). */
int pio_wandb_items_read(pio_wandb_items *items, bool *bad, pio_proto message, uint32_t number,
                         pio_err *err);
void pio_wandb_items_fini(pio_wandb_items *items);

const char *pio_wandb_path(const pio_wandb_items *items, const pio_wandb_item *item);
/* W&B's own: _step, _timestamp, _runtime, _wandb and below. */
bool pio_wandb_is_private(const pio_wandb_items *items, const pio_wandb_item *item);
/* Is it a number, a truth value, or one of the words NaN, Infinity? */
bool pio_wandb_number(double *number, const pio_wandb_item *item);
/* The value as JSON; a text that is no JSON is -PIO_ECORRUPT. The caller owns it. */
int pio_wandb_json(json_t **value, const pio_wandb_item *item, pio_err *err);
/* The typed object that item `first` belongs to: its members under the rest of
 * their paths. NULL where another of its items was asked for before, or memory is
 * out. */
json_t *pio_wandb_typed(pio_wandb_items *items, size_t first);

#endif
