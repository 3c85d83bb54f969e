#include "exchange/wandb_item.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exchange/importer.h"

#define TYPED_MAX 1024 /* nested objects of a record that are put together */

enum { KEY = 1, NESTED_KEY = 2, NONE = 3, BOOLEAN = 4, INTEGER = 5, NUMBER = 6, TEXT = 7, JSON = 8,
       VALUE_JSON = 16 };

static bool has_type(const char *text, size_t n)
{
	return n >= 9 && text[0] == '{' && memmem(text, n, "\"_type\"", 7);
}

/* One item; its path is appended to the paths. */
static bool read_item(pio_wandb_item *item, pio_str *paths, const pio_proto_field *field)
{
	pio_proto message = pio_proto_in(field);
	pio_proto_field part;
	size_t last_at = paths->len;
	*item = (pio_wandb_item){ .path_at = paths->len, .text = "null", .text_bytes = 4 };
	while (pio_proto_next(&message, &part)) {
		switch (part.number) {
		case KEY:
		case NESTED_KEY:
			if (part.wire != PIO_PROTO_BYTES || !part.size_bytes)
				break;
			if (paths->len > item->path_at)
				pio_str_putc(paths, '/');
			last_at = paths->len;
			pio_str_put_text(paths, (const char *)part.bytes, part.size_bytes);
			break;
		case BOOLEAN:
			item->kind = PIO_WANDB_REAL;
			item->real = part.value ? 1 : 0;
			break;
		case INTEGER: /* zigzag */
			item->kind = PIO_WANDB_REAL;
			item->real = (double)(int64_t)(part.value >> 1 ^ (0 - (part.value & 1)));
			break;
		case NUMBER:
			item->kind = PIO_WANDB_REAL;
			item->real = pio_proto_double(&part);
			break;
		case TEXT:
		case JSON:
		case VALUE_JSON:
			item->kind = part.number == TEXT ? PIO_WANDB_TEXT : PIO_WANDB_JSON;
			item->text = part.wire == PIO_PROTO_BYTES ? (const char *)part.bytes : "";
			item->text_bytes = part.size_bytes;
			break;
		default: /* NONE is null */
			break;
		}
	}
	item->path_bytes = paths->len - item->path_at;
	pio_str_putc(paths, 0);
	if (last_at > item->path_at && !paths->failed && strcmp(paths->data + last_at, "_type") == 0)
		item->typed_bytes = last_at - 1 - item->path_at;
	else if (item->kind == PIO_WANDB_JSON && has_type(item->text, item->text_bytes))
		item->typed_bytes = item->path_bytes;
	return !message.bad;
}

/* Are `n` bytes of a path all of it, or end they before a '/'? */
static bool is_below(const char *path, size_t path_bytes, const char *prefix, size_t n)
{
	return path_bytes >= n && memcmp(path, prefix, n) == 0 && (path_bytes == n || path[n] == '/');
}

static void mark_typed(pio_wandb_items *items)
{
	int objects = 0;
	for (size_t i = 0; i < items->count && objects < TYPED_MAX; i++) {
		const pio_wandb_item *type = &items->all[i];
		const char *prefix = items->paths.data + type->path_at;
		bool nested = type->typed_bytes && type->typed_bytes < type->path_bytes &&
		              strcmp(prefix + type->typed_bytes, "/_type") == 0;
		objects += nested;
		for (size_t k = 0; nested && k < items->count; k++) {
			pio_wandb_item *item = &items->all[k];
			if (!item->typed_bytes && is_below(items->paths.data + item->path_at, item->path_bytes,
			                                   prefix, type->typed_bytes))
				item->typed_bytes = type->typed_bytes;
		}
	}
}

int pio_wandb_items_read(pio_wandb_items *items, bool *bad, pio_proto message, uint32_t number,
                         pio_err *err)
{
	pio_proto_field field;
	items->count = 0;
	items->typed = false;
	pio_str_clear(&items->paths);
	*bad = false;
	while (pio_proto_next(&message, &field)) {
		if (field.number != number)
			continue;
		int rc = pio_grow(&items->all, &items->capacity, items->count, "values", err);
		if (rc)
			return rc;
		pio_wandb_item *item = &items->all[items->count++];
		*bad = !read_item(item, &items->paths, &field) || *bad;
		items->typed = items->typed || item->typed_bytes;
	}
	*bad = *bad || message.bad;
	int rc = pio_str_check(&items->paths, err);
	if (!rc && items->typed)
		mark_typed(items);
	return rc;
}

void pio_wandb_items_fini(pio_wandb_items *items)
{
	pio_free(items->all);
	pio_str_fini(&items->paths);
	*items = (pio_wandb_items)PIO_WANDB_ITEMS_INIT;
}

const char *pio_wandb_path(const pio_wandb_items *items, const pio_wandb_item *item)
{
	return items->paths.data + item->path_at;
}

bool pio_wandb_is_private(const pio_wandb_items *items, const pio_wandb_item *item)
{
	static const char *const names[] = { "_step", "_timestamp", "_runtime", "_wandb" };
	const char *path = pio_wandb_path(items, item);
	for (size_t i = 0; path[0] == '_' && i < sizeof names / sizeof *names; i++)
		if (is_below(path, item->path_bytes, names[i], strlen(names[i])))
			return true;
	return false;
}

static bool is_word(const pio_wandb_item *item, const char *word)
{
	return item->text_bytes == strlen(word) && memcmp(item->text, word, item->text_bytes) == 0;
}

bool pio_wandb_number(double *number, const pio_wandb_item *item)
{
	static const struct { const char *word; double value; } words[] = {
		{ "true", 1 }, { "false", 0 }, { "NaN", NAN }, { "Infinity", INFINITY },
		{ "-Infinity", -INFINITY }, { "\"NaN\"", NAN }, { "\"Infinity\"", INFINITY },
		{ "\"-Infinity\"", -INFINITY },
	};
	char text[64], *end;
	*number = item->real;
	if (item->kind == PIO_WANDB_REAL)
		return true;
	if (item->kind == PIO_WANDB_TEXT || !item->text_bytes)
		return false;
	char first = item->text[0], second = item->text_bytes > 1 ? item->text[1] : 0;
	bool digits = (first >= '0' && first <= '9') || (first == '-' && second >= '0' && second <= '9');
	if (digits && item->text_bytes < sizeof text) {
		memcpy(text, item->text, item->text_bytes);
		text[item->text_bytes] = 0;
		*number = strtod(text, &end);
		return *end == 0 && second != 'x';
	}
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (is_word(item, words[i].word)) {
			*number = words[i].value;
			return true;
		}
	}
	return false;
}

static json_t *text_json(const char *text, size_t n)
{
	pio_str clean = PIO_STR_INIT;
	pio_str_put_text(&clean, text, n);
	json_t *value = clean.failed ? NULL : json_stringn(clean.data, clean.len);
	pio_str_fini(&clean);
	return value;
}

int pio_wandb_json(json_t **value, const pio_wandb_item *item, pio_err *err)
{
	if (item->kind == PIO_WANDB_JSON)
		return pio_exchange_json(value, item->text, item->text_bytes, err);
	if (item->kind == PIO_WANDB_TEXT)
		*value = text_json(item->text, item->text_bytes);
	else if (isfinite(item->real))
		*value = json_real(item->real);
	else
		*value = json_string(isnan(item->real) ? "NaN" : item->real > 0 ? "Infinity" : "-Infinity");
	return *value ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a value");
}

static int set_member(void *context, const char *path, json_t *value, pio_err *err)
{
	(void)err;
	return json_object_set(context, path, value) ? -PIO_ENOMEM : 0;
}

json_t *pio_wandb_typed(pio_wandb_items *items, size_t first)
{
	const pio_wandb_item item = items->all[first];
	const char *name = pio_wandb_path(items, &item);
	size_t end = item.typed_bytes < item.path_bytes ? items->count : first + 1;
	json_t *object = item.taken ? NULL : json_object();
	for (size_t i = first; object && i < end; i++) {
		pio_wandb_item *part = &items->all[i];
		json_t *value = NULL;
		const char *path = pio_wandb_path(items, part);
		if (part->typed_bytes != item.typed_bytes || memcmp(path, name, item.typed_bytes) != 0)
			continue;
		part->taken = true;
		if (pio_wandb_json(&value, part, NULL) != 0)
			continue;
		if (part->path_bytes > part->typed_bytes)
			(void)json_object_set(object, path + part->typed_bytes + 1, value);
		else if (json_is_object(value))
			(void)pio_exchange_flatten(value, "", set_member, object, NULL);
		json_decref(value);
	}
	return object;
}
