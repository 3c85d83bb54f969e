/* json.h: jansson with pioche's rules.
 *
 * Canonical text (sorted keys, no spaces, shortest doubles that read back the same) is what
 * identities and manifests are hashed from. Parsing is strict: duplicate keys,
 * NULs in keys and trailing bytes are errors with line and column. JSON has no
 * NaN or infinities: where a metric needs them they are the strings "NaN",
 * "Infinity" and "-Infinity". */
#ifndef PIO_BASE_JSON_H
#define PIO_BASE_JSON_H

#include <jansson.h>

#include "base/err.h"

/* The caller owns *value (json_decref). `what` names the text in messages. */
int pio_json_parse(json_t **value, const char *text, size_t size_bytes, const char *what,
                   pio_err *err);
/* By other rules: jansson's json_loadb with its flags, but for memory that is
 * out, which is PIO_ENOMEM and never a value that lacks something. PIO_ECORRUPT:
 * *where says what is wrong. */
int pio_json_load(json_t **value, const char *text, size_t size_bytes, size_t flags, json_error_t *where);
/* Canonical text; the caller frees it with free(). NULL when memory is out. */
char *pio_json_canonical(const json_t *value);
/* The same for people: a member a line, indented by two spaces. */
char *pio_json_pretty(const json_t *value);

/* Typed member access with a message that names `what` and the member; the
 * returned string or value is borrowed. A missing optional member leaves the
 * default. */
int pio_json_get_string(const json_t *object, const char *name, const char **value,
                        const char *what, pio_err *err);
int pio_json_get_int(const json_t *object, const char *name, int64_t *value,
                     const char *what, pio_err *err);
const char *pio_json_string_or(const json_t *object, const char *name, const char *otherwise);
int64_t pio_json_int_or(const json_t *object, const char *name, int64_t otherwise);

#endif
