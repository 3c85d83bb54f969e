#include "client/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "client/region.h"
#include "client/run.h"
#include "sys/fs.h"

#define FIELDS_MAX 7
#define WINDOW_BYTES_MAX ((size_t)1 << 20)
#define WINDOW_BYTES_MIN ((size_t)1 << 14)

typedef struct entry {
	const char *role, *name, *path;      /* into the index's text */
	const char *shape, *whole, *begin;   /* numbers with commas; whole NULL: it is whole */
	bool own;                            /* its rank has the whole, here or in slices */
	pio_dtype dtype;
	int rank;
	int64_t offset;
} entry;

struct pio_resume {
	pio_str text; /* unescaped in place, fields ended by NUL */
	int64_t step;
	entry *entries;
	size_t count;
};

static const struct {
	const char *name;
	size_t size_bytes;
} dtypes[] = {
	[PIO_BOOL] = { "BOOL", 1 }, [PIO_U8] = { "U8", 1 }, [PIO_I8] = { "I8", 1 },
	[PIO_I16] = { "I16", 2 }, [PIO_U16] = { "U16", 2 }, [PIO_F16] = { "F16", 2 },
	[PIO_BF16] = { "BF16", 2 }, [PIO_I32] = { "I32", 4 }, [PIO_U32] = { "U32", 4 },
	[PIO_F32] = { "F32", 4 }, [PIO_F64] = { "F64", 8 }, [PIO_I64] = { "I64", 8 },
	[PIO_U64] = { "U64", 8 }, [PIO_F8_E4M3] = { "F8_E4M3", 1 }, [PIO_F8_E5M2] = { "F8_E5M2", 1 },
	[PIO_F8_E8M0] = { "F8_E8M0", 1 },
};

#define DTYPES (sizeof dtypes / sizeof dtypes[0])

const char *pio_dtype_name(pio_dtype dtype)
{
	return (size_t)dtype < DTYPES ? dtypes[dtype].name : "?";
}

size_t pio_dtype_bytes(pio_dtype dtype)
{
	return (size_t)dtype < DTYPES ? dtypes[dtype].size_bytes : 0;
}

int pio_tensor_bytes(uint64_t *size_bytes, const char *name, pio_dtype dtype, int ndim,
                     const int64_t *shape, pio_err *err)
{
	uint64_t n = pio_dtype_bytes(dtype);
	if (n == 0)
		return pio_fail(err, PIO_EINVAL, "tensor \"%s\": %d is no element type", name, (int)dtype);
	if (ndim < 0 || ndim > PIO_SAFETENSORS_DIMS_MAX || (ndim > 0 && !shape))
		return pio_fail(err, PIO_EINVAL, "tensor \"%s\" has %d dimensions%s: 0 to %d expected", name,
		                ndim, ndim > 0 && !shape ? " and no shape" : "", PIO_SAFETENSORS_DIMS_MAX);
	for (int i = 0; i < ndim; i++)
		if (shape[i] < 0)
			return pio_fail(err, PIO_EINVAL, "tensor \"%s\": dimension %d is %lld", name, i,
			                (long long)shape[i]);
		else if (__builtin_mul_overflow(n, (uint64_t)shape[i], &n) || n > INT64_MAX / 2)
			return pio_fail(err, PIO_EINVAL, "tensor \"%s\" is too large to be in memory", name);
	*size_bytes = n;
	return 0;
}

static bool parse_dtype(pio_dtype *dtype, const char *name)
{
	for (size_t i = 0; i < DTYPES; i++) {
		if (strcmp(dtypes[i].name, name) == 0) {
			*dtype = (pio_dtype)i;
			return true;
		}
	}
	return false;
}

static bool parse_int(int64_t *value, const char *text)
{
	char *end;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	*value = n;
	return !errno && end != text && !*end;
}

/* Undo \\ \t \n in place; false on any other escape. */
static bool unescape(char *field)
{
	char *to = field;
	for (const char *from = field; *from; from++) {
		char c = *from;
		if (c == '\\') {
			c = *++from;
			if (c != '\\' && c != 't' && c != 'n')
				return false;
			c = c == 't' ? '\t' : c == 'n' ? '\n' : c;
		}
		*to++ = c;
	}
	*to = 0;
	return true;
}

/* "2,3"; how many, or -1. */
static int parse_list(int64_t *numbers, const char *text)
{
	int count = 0;
	while (*text) {
		char *end;
		errno = 0;
		long long n = strtoll(text, &end, 10);
		if (errno || end == text || n < 0 || count == PIO_SAFETENSORS_DIMS_MAX ||
		    (*end && (*end != ',' || !end[1])))
			return -1;
		numbers[count++] = n;
		text = *end ? end + 1 : end;
	}
	return count;
}

/* Of an entry whose line was found good, this cannot fail. */
static int region_of(pio_region *region, const entry *e, pio_err *err)
{
	int64_t shape[PIO_SAFETENSORS_DIMS_MAX], whole[PIO_SAFETENSORS_DIMS_MAX],
		begin[PIO_SAFETENSORS_DIMS_MAX];
	int ndim = parse_list(shape, e->shape), rc = 0;
	pio_part part = { .shape = whole, .offset = begin };
	if (e->whole) {
		part.flat = e->begin[0] == '@';
		part.ndim = parse_list(whole, e->whole);
		int given = parse_list(begin, e->begin + part.flat);
		rc = part.ndim < 0 || given != (part.flat ? 1 : part.ndim);
	}
	if (rc || ndim < 0)
		return pio_fail(err, PIO_EINVAL, "not numbers with commas between");
	return pio_region_of(region, e->name, ndim, shape, e->whole ? &part : NULL, err);
}

/* 0, or what is wrong with the line. */
static int parse_tensor(entry *e, char **fields, int count, pio_err *err)
{
	pio_region region;
	int64_t size_bytes;
	bool slice = strcmp(fields[0], "slice") == 0;
	if (count != 7 && (slice || count != 5))
		return pio_fail(err, PIO_ECORRUPT, "%d fields: %s", count, slice ? "7 expected of a slice"
		                                                                 : "5 or 7 expected of a tensor");
	if (!e->path)
		return pio_fail(err, PIO_ECORRUPT, "a tensor before the first file");
	if (!unescape(fields[1]))
		return pio_fail(err, PIO_ECORRUPT, "a backslash before something else than \\, t or n");
	if (!parse_dtype(&e->dtype, fields[2]))
		return pio_fail(err, PIO_ECORRUPT, "unknown dtype");
	if (!parse_int(&e->offset, fields[3]) || e->offset < 0)
		return pio_fail(err, PIO_ECORRUPT, "the offset is no number of bytes");
	e->name = fields[1];
	e->shape = fields[4];
	e->whole = count == 7 ? fields[5] : NULL;
	e->begin = count == 7 ? fields[6] : NULL;
	e->own = count == 5 || slice;
	if (region_of(&region, e, err))
		return pio_fail(err, PIO_ECORRUPT, "the shape or the part makes no sense: %.200s", err->message);
	if (__builtin_mul_overflow(pio_region_count(&region), (int64_t)pio_dtype_bytes(e->dtype), &size_bytes) ||
	    __builtin_add_overflow(size_bytes, e->offset, &size_bytes))
		return pio_fail(err, PIO_ECORRUPT, "the tensor would not fit into a file");
	return 0;
}

static int parse_file(entry *e, char **fields, int count, pio_err *err)
{
	int64_t rank;
	if (count != 4)
		return pio_fail(err, PIO_ECORRUPT, "%d fields: 4 expected of a file", count);
	if (!unescape(fields[1]) || !unescape(fields[3]))
		return pio_fail(err, PIO_ECORRUPT, "a backslash before something else than \\, t or n");
	if (!parse_int(&rank, fields[2]) || rank < 0 || rank > INT_MAX)
		return pio_fail(err, PIO_ECORRUPT, "the rank is no number");
	if (fields[3][0] != '/')
		return pio_fail(err, PIO_ECORRUPT, "the path is not absolute");
	*e = (entry){ .role = fields[1], .path = fields[3], .rank = (int)rank };
	return 0;
}

/* `e` has the file from the lines before; a tensor fills the rest. */
static int parse_line(pio_resume *resume, entry *e, char *line, pio_err *err)
{
	char *fields[FIELDS_MAX];
	int count = 0;
	for (char *at = line; at; count++) {
		if (count == FIELDS_MAX)
			return pio_fail(err, PIO_ECORRUPT, "more than %d fields", FIELDS_MAX);
		fields[count] = at;
		at = strchr(at, '\t');
		if (at)
			*at++ = 0;
	}
	if (strcmp(fields[0], "file") == 0)
		return parse_file(e, fields, count, err);
	if (strcmp(fields[0], "tensor") != 0 && strcmp(fields[0], "slice") != 0)
		return pio_fail(err, PIO_ECORRUPT, "\"file\", \"tensor\" or \"slice\" expected");
	int rc = parse_tensor(e, fields, count, err);
	if (!rc)
		resume->entries[resume->count++] = *e;
	return rc;
}

static int by_role_and_name(const void *a, const void *b)
{
	const entry *x = a, *y = b;
	int order = strcmp(x->role, y->role);
	return order ? order : strcmp(x->name, y->name);
}

static int by_role_name_and_rank(const void *a, const void *b)
{
	const entry *x = a, *y = b;
	int order = by_role_and_name(a, b);
	return order ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

static int parse(pio_resume *resume, const char *path, pio_err *err)
{
	static const char magic[] = "pioche-resume 2 ";
	char *line = resume->text.data;
	size_t lines = 0;
	if (strlen(line) != resume->text.len)
		return pio_fail(err, PIO_ECORRUPT, "%s:1: the index holds a NUL", path);
	if (strncmp(line, magic, sizeof magic - 1) != 0)
		return pio_fail(err, PIO_ECORRUPT, "%s:1: \"pioche-resume 2 STEP\" expected", path);
	for (const char *p = line; *p; p++)
		lines += *p == '\n';
	resume->entries = pio_calloc(lines, sizeof *resume->entries);
	if (!resume->entries)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu tensors", lines);
	entry e = { .role = NULL };
	for (size_t number = 1; *line; number++) {
		char *end = strchr(line, '\n');
		pio_err why = PIO_ERR_INIT;
		if (!end)
			return pio_fail(err, PIO_ECORRUPT, "%s:%zu: the last line has no end", path, number);
		*end = 0;
		if (number > 1)
			(void)parse_line(resume, &e, line, &why);
		else if (!parse_int(&resume->step, line + sizeof magic - 1))
			pio_fail(&why, PIO_ECORRUPT, "the step is no number");
		if (why.code)
			return pio_fail(err, PIO_ECORRUPT, "%s:%zu: %s", path, number, why.message);
		line = end + 1;
	}
	qsort(resume->entries, resume->count, sizeof *resume->entries, by_role_name_and_rank);
	return 0;
}

int pio_resume_open(pio_resume **resume_out, const char *path, pio_err *err)
{
	pio_resume *resume = pio_calloc(1, sizeof *resume);
	*resume_out = NULL;
	if (!resume)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the index %s", path);
	resume->text = (pio_str)PIO_STR_INIT;
	int rc = pio_fs_read(&resume->text, path, err);
	if (!rc)
		rc = parse(resume, path, err);
	if (rc)
		pio_resume_close(&resume);
	*resume_out = resume;
	return rc;
}

int64_t pio_resume_step(const pio_resume *resume)
{
	return resume->step;
}

/* ---- reading ------------------------------------------------------------------ */

/* One tensor of a file. Runs that lie close together come out of one read, those
 * that lie far apart do not drag in what is between. */
typedef struct source {
	const entry *from;
	int fd;                       /* -1 until something of it is needed */
	size_t width;                 /* of an element */
	int64_t size_bytes;           /* of the tensor in the file */
	uint8_t *window;
	int64_t window_at;            /* of its first byte in the tensor */
	size_t filled, served, next;  /* bytes: in it, taken from it, to fill next time */
	uint8_t *to;
	int64_t done;                 /* elements */
} source;

static int read_exactly(source *s, void *to, size_t size_bytes, int64_t at, pio_err *err)
{
	return pio_fs_pread_all(s->fd, to, size_bytes, s->from->offset + at, s->from->path, err);
}

static int fill_window(source *s, int64_t at, size_t needed, pio_err *err)
{
	s->next = s->served * 2 >= s->filled ? s->next * 2 : s->next / 2;
	s->next = s->next > WINDOW_BYTES_MAX ? WINDOW_BYTES_MAX : s->next;
	s->next = s->next < needed ? needed : s->next;
	s->filled = (int64_t)s->next < s->size_bytes - at ? s->next : (size_t)(s->size_bytes - at);
	s->window_at = at;
	s->served = 0;
	int rc = read_exactly(s, s->window, s->filled, at, err);
	s->filled = rc ? 0 : s->filled;
	return rc;
}

static int take_shared(void *context, int64_t want_at, int64_t have_at, int64_t count, pio_err *err)
{
	source *s = context;
	int64_t at = have_at * (int64_t)s->width;
	size_t n = (size_t)count * s->width;
	uint8_t *to = s->to + want_at * (int64_t)s->width;
	int rc = s->fd < 0 ? pio_fs_open(&s->fd, s->from->path, O_RDONLY, 0, err) : 0;
	if (!rc && n >= WINDOW_BYTES_MIN)
		rc = read_exactly(s, to, n, at, err);
	else if (!rc && (at < s->window_at || at + (int64_t)n > s->window_at + (int64_t)s->filled))
		rc = fill_window(s, at, n, err);
	if (rc)
		return rc;
	if (n < WINDOW_BYTES_MIN) {
		memcpy(to, s->window + (at - s->window_at), n);
		s->served += n;
	}
	s->done += count;
	return 0;
}

static int read_from(source *s, const entry *from, const pio_region *want, pio_err *err)
{
	pio_region have;
	int rc = region_of(&have, from, err);
	if (!rc && !pio_region_same_whole(want, &have))
		rc = pio_fail(err, PIO_EINVAL, "tensor \"%s\" of role \"%s\" has the shape [%s] in the checkpoint: "
		              "another one was asked for", from->name, from->role,
		              from->whole ? from->whole : from->shape);
	if (rc)
		return rc;
	s->from = from;
	s->fd = -1;
	s->size_bytes = pio_region_count(&have) * (int64_t)s->width;
	s->window_at = 0;
	s->filled = s->served = 0;
	s->next = WINDOW_BYTES_MIN / 2;
	rc = pio_region_share(want, &have, take_shared, s, err);
	int closed = s->fd < 0 ? 0 : pio_fs_close(&s->fd, from->path, rc ? NULL : err);
	return rc ? rc : closed;
}

/* All entries of a role and name; NULL if there is none. */
static const entry *find_all(size_t *count, const pio_resume *resume, const char *role, const char *name)
{
	const entry key = { .role = role, .name = name };
	const entry *end = resume->entries + resume->count;
	const entry *first = bsearch(&key, resume->entries, resume->count, sizeof key, by_role_and_name);
	const entry *last = first;
	while (first && first > resume->entries && by_role_and_name(first - 1, &key) == 0)
		first--;
	while (last && last < end && by_role_and_name(last, &key) == 0)
		last++;
	*count = (size_t)(last - first);
	return first;
}

/* Of a tensor that ranks saved whole, what is to be read: this rank's, else that of the
 * first who did. */
static void choose_own(const entry **first, size_t *count, int rank)
{
	const entry *end = *first + *count, *found = NULL;
	for (const entry *e = *first; e < end; e++)
		if (e->own && (!found || (e->rank == rank && found->rank != rank)))
			found = e;
	if (!found)
		return;
	*first = found;
	*count = 1;
	while (found->whole && found + *count < end && found[*count].rank == found->rank)
		++*count;
}

int pio_resume_tensor(const pio_resume *resume, int rank, const char *role, const char *name,
                      pio_dtype dtype, int ndim, const int64_t *shape, const pio_part *part,
                      void *data, pio_err *err)
{
	size_t count;
	pio_region want;
	const entry *first = find_all(&count, resume, role, name);
	if (!first)
		return pio_fail(err, PIO_ENOTFOUND, "the checkpoint of step %lld has no tensor \"%s\" of "
		                "role \"%s\"", (long long)resume->step, name, role);
	choose_own(&first, &count, rank);
	source s = { .width = pio_dtype_bytes(dtype), .to = data };
	int rc = pio_region_of(&want, name, ndim, shape, part, err);
	if (!rc && !(s.window = pio_alloc(WINDOW_BYTES_MAX)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for reading tensor \"%s\"", name);
	for (size_t i = 0; !rc && i < count; i++) {
		const entry *from = &first[i];
		if (from->dtype != dtype)
			rc = pio_fail(err, PIO_EINVAL, "tensor \"%s\" of role \"%s\" is %s in the checkpoint; %s "
			              "expected", name, role, pio_dtype_name(from->dtype), pio_dtype_name(dtype));
		else
			rc = read_from(&s, from, &want, err);
	}
	if (!rc && s.done != pio_region_count(&want))
		rc = pio_fail(err, PIO_ECORRUPT, "tensor \"%s\" of role \"%s\": the checkpoint has %lld of the %lld "
		              "elements asked for", name, role, (long long)s.done,
		              (long long)pio_region_count(&want));
	pio_free(s.window);
	return rc;
}

void pio_resume_close(pio_resume **resume_in)
{
	pio_resume *resume = *resume_in;
	*resume_in = NULL;
	if (!resume)
		return;
	pio_free(resume->entries);
	pio_str_fini(&resume->text);
	pio_free(resume);
}

int pio_resume_read(pio_run *run, const char *role, const char *name, pio_dtype dtype, int ndim,
                    const int64_t *shape, const pio_part *part, void *data)
{
	pio_err *err = pio_last_err();
	uint64_t size_bytes;
	if (!run)
		return 0;
	if (!role || !name)
		return pio_fail(err, PIO_EINVAL, "pio_resume_read: role or name is NULL");
	int rc = pio_tensor_bytes(&size_bytes, name, dtype, ndim, shape, err);
	if (rc)
		return rc;
	if (!data && size_bytes)
		return pio_fail(err, PIO_EINVAL, "pio_resume_read: data is NULL");
	if (!run->resume)
		return pio_fail(err, PIO_ENOTFOUND, "this attempt starts afresh: there is no tensor \"%s\" of "
		                "role \"%s\"", name, role);
	return pio_resume_tensor(run->resume, run->info.rank, role, name, dtype, ndim, shape, part, data, err);
}
