/* Run.log for CPython, without Python.h and without ctypes on the way.
 *
 * A ctypes call takes 0.15 us before it does anything and its arguments more;
 * a builtin function takes 0.03. So pioche.py hands over the addresses of the
 * few functions of CPython that are needed here (there since 3.9, and in the
 * stable ABI of 3.12), and gets a builtin function back: log(values, step=None).
 * It takes the plain case, an exact dict of exact str to float or exact int, and
 * passes anything else, errors included, to the same method written in Python.
 *
 * The state (struct state) lies in a bytearray of the Run, so that nothing here
 * outlives it: closing the run zeroes `run` there, and a log function that was
 * kept then takes the way through Python, which raises. Everything below runs
 * under the interpreter's lock, and no Python code runs between the look at a
 * value and its use. */
#include <stdint.h>
#include <string.h>

#include "client/ring_layout.h"
#include "client/run.h"

#define VALUES_MAX 256

typedef struct object object; /* PyObject */

/* In this order in pioche.py. Types and None are borrowed for ever. */
typedef struct python_api {
	object *(*new_function)(void *definition, object *self, object *module);
	int (*dict_next)(object *dict, intptr_t *at, object **key, object **value);
	intptr_t (*dict_size)(object *dict);
	object *(*type_of)(object *of);                       /* a new reference */
	void (*retain)(object *of);
	void (*release)(object *of);
	double (*to_double)(object *of);
	long long (*to_int)(object *of, int *overflow);
	const char *(*to_utf8)(object *text, intptr_t *size_bytes);
	void (*error_clear)(void);
	char *(*bytes_of)(object *bytearray);
	object *(*item)(object *tuple, intptr_t at);          /* borrowed */
	intptr_t (*tuple_size)(object *tuple);
	int (*is_ascii)(object *text, const char *ascii);     /* 0: the same */
	object *(*new_dict)(void);
	int (*dict_set)(object *dict, object *key, object *value);
	object *(*call)(object *callable, object *const *arguments, size_t count, object *named);
	int (*is_subtype)(object *type, object *of);
	object *none, *dict_type, *str_type, *float_type, *int_type;
} python_api;

/* At the beginning of the bytearray. */
typedef struct state {
	pio_run *run; /* NULL: finished, or another process's */
	int64_t step; /* newest one logged; -1 before the first */
} state;

typedef struct point {
	object *name;  /* borrowed from the dict */
	uint32_t key;
	uint32_t flag; /* PIO_POINT_INTEGER or 0 */
	uint64_t bits;
} point;

/* One interpreter's addresses are every interpreter's of the process. */
static python_api python;

static bool is_exactly(object *of, object *type)
{
	object *is = python.type_of(of);
	python.release(is); /* the object itself keeps its type */
	return is == type;
}

/* Also of a class derived from it, such as NumPy's float64: what it holds is
 * read without running any code. */
static bool is_float(object *of)
{
	object *is = python.type_of(of);
	python.release(is);
	return is == python.float_type || python.is_subtype(is, python.float_type);
}

static uint32_t key_of(pio_run *run, object *name)
{
	intptr_t size_bytes;
	if (!is_exactly(name, python.str_type))
		return 0;
	const char *utf8 = python.to_utf8(name, &size_bytes);
	uint32_t key = utf8 ? pio_ring_key(run->ring, utf8, (size_t)size_bytes, pio_last_err()) : 0;
	if (!utf8)
		python.error_clear(); /* a lone surrogate: the method in Python tells */
	return key;
}

static bool take_int(int64_t *number, object *value)
{
	int overflow = 0;
	if (!is_exactly(value, python.int_type))
		return false;
	*number = python.to_int(value, &overflow);
	return overflow == 0;
}

static bool take_value(point *p, object *value)
{
	int64_t whole;
	if (is_float(value)) {
		double number = python.to_double(value);
		memcpy(&p->bits, &number, sizeof p->bits);
		p->flag = 0;
		return true;
	}
	if (!take_int(&whole, value))
		return false;
	p->flag = PIO_POINT_INTEGER;
	p->bits = (uint64_t)whole;
	return true;
}

static bool take_step(int64_t *number, const state *s, object *step)
{
	if (step != python.none)
		return take_int(number, step);
	return !__builtin_add_overflow(s->step, 1, number);
}

/* All values or none: what is wrong with one is found before any is logged, and
 * before any name becomes a metric. */
static bool log_values(state *s, object *values, object *step)
{
	point points[VALUES_MAX];
	size_t count = 0;
	intptr_t at = 0;
	object *name, *value;
	int64_t number;
	if (!s->run || !is_exactly(values, python.dict_type) || python.dict_size(values) > VALUES_MAX ||
	    !take_step(&number, s, step))
		return false;
	while (python.dict_next(values, &at, &name, &value)) {
		points[count].name = name;
		if (!take_value(&points[count++], value))
			return false;
	}
	/* A writer that has to wait must not hold the interpreter meanwhile. */
	if (!count || !ring_has_room(s->run->ring, count))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!(points[i].key = key_of(s->run, points[i].name)))
			return false;
	for (size_t i = 0; i < count; i++)
		ring_log(s->run->ring, points[i].key | points[i].flag, number, points[i].bits);
	s->step = number;
	return true;
}

/* PyObject_Vectorcall takes the names as they are, but is younger: of 3.11. */
static object *call_method(object *method, object *const *arguments, intptr_t count, object *names)
{
	object *named = names ? python.new_dict() : NULL, *result = NULL;
	if (names && !named)
		return NULL;
	for (intptr_t i = 0; names && i < python.tuple_size(names); i++)
		if (python.dict_set(named, python.item(names, i), arguments[count + i]) != 0)
			goto out;
	result = python.call(method, arguments, (size_t)count, named);
out:
	if (named)
		python.release(named);
	return result;
}

/* self: the bytearray and the method written in Python. A METH_FASTCALL |
 * METH_KEYWORDS function: values of the keywords stand behind the others. */
static object *python_log(object *self, object *const *arguments, intptr_t count, object *names)
{
	intptr_t named = names ? python.tuple_size(names) : 0;
	object *step = count + named == 2 ? arguments[1] : python.none;
	bool plain = count >= 1 && count + named <= 2 &&
	             (named == 0 || python.is_ascii(python.item(names, 0), "step") == 0);
	if (plain && log_values((state *)(void *)python.bytes_of(python.item(self, 0)), arguments[0], step)) {
		python.retain(python.none);
		return python.none;
	}
	return call_method(python.item(self, 1), arguments, count, names);
}

/* PyMethodDef, as the stable ABI has it. */
static struct {
	const char *name;
	object *(*call)(object *self, object *const *arguments, intptr_t count, object *names);
	int flags;
	const char *doc;
} definition = {
	"log", python_log, 0x0080 | 0x0002,
	"log($self, values, /, step=None)\n--\n\n"
	"Log a dict of numbers at `step` (left out: one more than the last).",
};

/* For pioche.py alone: a new reference to a function log(values, step=None)
 * whose self is the tuple (bytearray, method in Python); NULL with a Python
 * exception. Called with the interpreter's lock. The number in the name grows
 * with the table: a pioche.py of another version does not find the function, and
 * logs without it. */
PIO_API object *pio_python_log_2(const void *const *addresses, object *self);

object *pio_python_log_2(const void *const *addresses, object *self)
{
	_Static_assert(sizeof(python_api) == 23 * sizeof(void *), "as many as pioche.py passes");
	memcpy(&python, addresses, sizeof python);
	return python.new_function(&definition, self, NULL);
}
