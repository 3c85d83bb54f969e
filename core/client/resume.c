#include "client/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "client/run.h"
#include "sys/fs.h"

#define FIELDS 6

typedef struct entry {
	const char *role, *name, *path; /* into the index's text */
	pio_dtype dtype;
	int64_t size_bytes, offset;
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
	[PIO_U64] = { "U64", 8 },
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

/* NULL, or what is wrong with the line. */
static const char *parse_line(entry *e, char *line)
{
	char *fields[FIELDS], *at = line;
	for (int i = 0; i < FIELDS; i++) {
		fields[i] = at;
		at = at ? strchr(at, '\t') : NULL;
		if (at)
			*at++ = 0;
		else if (i < FIELDS - 1)
			return "fewer than 6 fields";
	}
	if (at)
		return "more than 6 fields";
	if (!unescape(fields[0]) || !unescape(fields[1]) || !unescape(fields[5]))
		return "a backslash before something else than \\, t or n";
	if (!parse_dtype(&e->dtype, fields[2]))
		return "unknown dtype";
	if (!parse_int(&e->size_bytes, fields[3]) || e->size_bytes < 0)
		return "the size is no number of bytes";
	if (!parse_int(&e->offset, fields[4]) || e->offset < 0)
		return "the offset is no number of bytes";
	if (fields[5][0] != '/')
		return "the path is not absolute";
	e->role = fields[0];
	e->name = fields[1];
	e->path = fields[5];
	return NULL;
}

static int by_role_and_name(const void *a, const void *b)
{
	const entry *x = a, *y = b;
	int order = strcmp(x->role, y->role);
	return order ? order : strcmp(x->name, y->name);
}

static int parse(pio_resume *resume, const char *path, pio_err *err)
{
	static const char magic[] = "pioche-resume 1 ";
	char *line = resume->text.data;
	size_t lines = 0;
	if (strlen(line) != resume->text.len)
		return pio_fail(err, PIO_ECORRUPT, "%s:1: the index holds a NUL", path);
	if (strncmp(line, magic, sizeof magic - 1) != 0)
		return pio_fail(err, PIO_ECORRUPT, "%s:1: \"pioche-resume 1 STEP\" expected", path);
	for (const char *p = line; *p; p++)
		lines += *p == '\n';
	resume->entries = pio_calloc(lines, sizeof *resume->entries);
	if (!resume->entries)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu tensors", lines);
	for (size_t number = 1; *line; number++) {
		char *end = strchr(line, '\n');
		const char *wrong;
		if (!end)
			return pio_fail(err, PIO_ECORRUPT, "%s:%zu: the last line has no end", path, number);
		*end = 0;
		if (number == 1)
			wrong = parse_int(&resume->step, line + sizeof magic - 1) ? NULL : "the step is no number";
		else
			wrong = parse_line(&resume->entries[resume->count++], line);
		if (wrong)
			return pio_fail(err, PIO_ECORRUPT, "%s:%zu: %s", path, number, wrong);
		line = end + 1;
	}
	qsort(resume->entries, resume->count, sizeof *resume->entries, by_role_and_name);
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

int pio_resume_tensor(const pio_resume *resume, const char *role, const char *name,
                      pio_dtype dtype, size_t size_bytes, void *data, pio_err *err)
{
	const entry key = { .role = role, .name = name };
	const entry *e = bsearch(&key, resume->entries, resume->count, sizeof key, by_role_and_name);
	if (!e)
		return pio_fail(err, PIO_ENOTFOUND, "the checkpoint of step %lld has no tensor \"%s\" of "
		                "role \"%s\"", (long long)resume->step, name, role);
	if (e->dtype != dtype || (uint64_t)e->size_bytes != size_bytes)
		return pio_fail(err, PIO_EINVAL, "tensor \"%s\" of role \"%s\" is %s of %lld bytes in the "
		                "checkpoint; %s of %zu bytes expected", name, role, pio_dtype_name(e->dtype),
		                (long long)e->size_bytes, pio_dtype_name(dtype), size_bytes);
	if (size_bytes == 0)
		return 0;
	int fd;
	int rc = pio_fs_open(&fd, e->path, O_RDONLY, 0, err);
	if (rc)
		return rc;
	rc = pio_fs_pread_all(fd, data, size_bytes, e->offset, e->path, err);
	int closed = pio_fs_close(&fd, e->path, rc ? NULL : err);
	return rc ? rc : closed;
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

int pio_resume_read(pio_run *run, const char *role, const char *name, pio_dtype dtype,
                    size_t size_bytes, void *data)
{
	pio_err *err = pio_last_err();
	if (!run)
		return 0;
	if (!role || !name || (!data && size_bytes))
		return pio_fail(err, PIO_EINVAL, "pio_resume_read: role, name or data is NULL");
	if (!run->resume)
		return pio_fail(err, PIO_ENOTFOUND, "this attempt starts afresh: there is no tensor \"%s\" of "
		                "role \"%s\"", name, role);
	return pio_resume_tensor(run->resume, role, name, dtype, size_bytes, data, err);
}
