#include "base/json.h"

int pio_json_parse(json_t **value, const char *text, size_t size_bytes, const char *what,
                   pio_err *err)
{
	json_error_t where;
	*value = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	if (*value)
		return 0;
	return pio_fail(err, PIO_ECORRUPT, "%s: line %d, column %d: %s", what, where.line, where.column,
	                where.text);
}

char *pio_json_canonical(const json_t *value)
{
	return json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY |
	                  JSON_REAL_PRECISION(17));
}

int pio_json_get_string(const json_t *object, const char *name, const char **value,
                        const char *what, pio_err *err)
{
	const json_t *member = json_object_get(object, name);
	if (!json_is_string(member))
		return pio_fail(err, PIO_ECORRUPT, "%s: member \"%s\" is %s, expected a string", what, name,
		                member ? "of another type" : "missing");
	*value = json_string_value(member);
	return 0;
}

int pio_json_get_int(const json_t *object, const char *name, int64_t *value, const char *what,
                     pio_err *err)
{
	const json_t *member = json_object_get(object, name);
	if (!json_is_integer(member))
		return pio_fail(err, PIO_ECORRUPT, "%s: member \"%s\" is %s, expected an integer", what,
		                name, member ? "of another type" : "missing");
	*value = json_integer_value(member);
	return 0;
}

const char *pio_json_string_or(const json_t *object, const char *name, const char *otherwise)
{
	const json_t *member = json_object_get(object, name);
	return json_is_string(member) ? json_string_value(member) : otherwise;
}

int64_t pio_json_int_or(const json_t *object, const char *name, int64_t otherwise)
{
	const json_t *member = json_object_get(object, name);
	return json_is_integer(member) ? json_integer_value(member) : otherwise;
}
