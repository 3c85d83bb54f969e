/* Fields of a header, by POSIX (pax, "ustar Interchange Format"). */
#include "pack/tar_gate.h"

#include <string.h>

#define NAME_BYTES 100
#define MODE_AT 100
#define SIZE_AT 124
#define SUM_AT 148
#define TYPE_AT 156
#define LINK_AT 157
#define MAGIC_AT 257
#define PREFIX_AT 345
#define PREFIX_BYTES 155

#define EXTENDED_BYTES_MAX 65536
#define END_BYTES_MAX (16 << 20)        /* some tools fill up large blocks */

void pio_tar_gate_init(pio_tar_gate *gate, const char *name)
{
	*gate = (pio_tar_gate){ .name = name, .size_bytes = -1, .text = PIO_STR_INIT };
}

void pio_tar_gate_fini(pio_tar_gate *gate)
{
	pio_str_fini(&gate->text);
}

/* ---- fields ------------------------------------------------------------------------ */

/* Digits to the base, filled up by spaces and NULs; or, for what does not fit,
 * GNU's binary form. -1: neither. */
static int64_t number(const uint8_t *field, size_t size_bytes)
{
	int64_t value = 0;
	size_t i = 0;
	if (field[0] == 0x80) {
		for (i = 1; i < size_bytes; i++)
			if (__builtin_mul_overflow(value, 256, &value) ||
			    __builtin_add_overflow(value, field[i], &value))
				return -1;
		return value;
	}
	while (i < size_bytes && field[i] == ' ')
		i++;
	for (; i < size_bytes && field[i] >= '0' && field[i] <= '7'; i++)
		value = value * 8 + (field[i] - '0'); /* 11 digits at most */
	for (; i < size_bytes; i++)
		if (field[i] != ' ' && field[i] != 0)
			return -1;
	return value;
}

static bool is_zero(const uint8_t *bytes, size_t size_bytes)
{
	uint8_t any = 0;
	for (size_t i = 0; i < size_bytes; i++)
		any |= bytes[i];
	return !any;
}

static bool sum_fits(const uint8_t *header)
{
	int64_t sum = 0;
	for (size_t i = 0; i < PIO_TAR_BLOCK_BYTES; i++)
		sum += i >= SUM_AT && i < SUM_AT + 8 ? ' ' : header[i];
	return number(header + SUM_AT, 8) == sum;
}

/* Text up to its first NUL, and nothing but NULs behind. */
static bool ends_once(const uint8_t *field, size_t size_bytes)
{
	const uint8_t *nul = memchr(field, 0, size_bytes);
	return !nul || is_zero(nul, size_bytes - (size_t)(nul - field));
}

static const char *type_name(char type)
{
	static const struct { char type; const char *name; } names[] = {
		{ '1', "a hard link" }, { '2', "a symbolic link" }, { '3', "a character device" },
		{ '4', "a block device" }, { '6', "a FIFO" }, { '7', "a contiguous file" },
		{ 'g', "a header for all entries that follow" }, { 'K', "the long name of a link" },
		{ 'S', "a sparse file" }, { 'M', "the rest of a file of another volume" },
		{ 'V', "the label of a volume" }, { 'D', "a directory with the names in it" },
		{ 'X', "a header of Solaris" }, { 'A', "an access list of Solaris" },
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].type == type)
			return names[i].name;
	return "of no type that is known";
}

/* ---- headers beyond ustar's ------------------------------------------------------------ */

static int bad(const pio_tar_gate *gate, pio_err *err, const char *what)
{
	return pio_fail(err, PIO_ECORRUPT, "%s: a pax header before byte %lld %s", gate->name,
	                (long long)gate->offset, what);
}

/* One record, "LENGTH KEY=VALUE\n", of which `text` has `left` bytes; *seen has a bit
 * for each key that was there. */
static int pax_record(pio_tar_gate *gate, const char *text, size_t left, size_t *used, unsigned *seen,
                      pio_err *err)
{
	static const char *const keys[] = { "path", "size", "mtime", "atime", "ctime", "uid", "gid", "uname",
		"gname" };
	size_t length = 0, i = 0, key = 0;
	for (; i < left && i < 6 && text[i] >= '0' && text[i] <= '9'; i++)
		length = length * 10 + (size_t)(text[i] - '0');
	if (!i || i >= left || text[i] != ' ' || length > left || length < i + 4 || text[length - 1] != '\n')
		return bad(gate, err, "is no list of records of the lengths that it says");
	const char *name = text + i + 1, *value = memchr(name, '=', length - i - 2);
	if (memchr(text, 0, length))
		return bad(gate, err, "holds a NUL");
	while (key < sizeof keys / sizeof *keys && value &&
	       (strlen(keys[key]) != (size_t)(value - name) || memcmp(keys[key], name, strlen(keys[key]))))
		key++;
	if (!value || key == sizeof keys / sizeof *keys)
		return pio_fail(err, PIO_ECORRUPT, "%s: a pax header before byte %lld has a record \"%.*s\", "
		                "expected those of plain files", gate->name, (long long)gate->offset,
		                (int)(value ? value - name < 40 ? value - name : 40 : 0), name);
	if (*seen & 1u << key)
		return bad(gate, err, "has a record twice");
	*seen |= 1u << key;
	*used = length;
	if (strcmp(keys[key], "size") != 0)
		return 0;
	gate->size_bytes = 0;
	for (value++; *value != '\n'; value++)
		if (*value < '0' || *value > '9' || __builtin_mul_overflow(gate->size_bytes, 10, &gate->size_bytes) ||
		    __builtin_add_overflow(gate->size_bytes, *value - '0', &gate->size_bytes))
			return bad(gate, err, "has a size that is none");
	return 0;
}

static int end_extended(pio_tar_gate *gate, pio_err *err)
{
	unsigned seen = 0;
	size_t used = 0;
	int rc = pio_str_check(&gate->text, err);
	if (!rc && gate->extended == 'L') {
		const char *nul = memchr(gate->text.data, 0, gate->text.len);
		return nul && nul + 1 == gate->text.data + gate->text.len ? 0 :
		       pio_fail(err, PIO_ECORRUPT, "%s: a long name before byte %lld has no NUL at its end, or one "
		                "before that", gate->name, (long long)gate->offset);
	}
	for (size_t at = 0; !rc && at < gate->text.len; at += used)
		rc = pax_record(gate, gate->text.data + at, gate->text.len - at, &used, &seen, err);
	return rc;
}

static int begin_extended(pio_tar_gate *gate, char type, int64_t size_bytes, pio_err *err)
{
	if (size_bytes > EXTENDED_BYTES_MAX)
		return pio_fail(err, PIO_ECORRUPT, "%s: a header of %lld bytes before byte %lld, expected at most %d",
		                gate->name, (long long)size_bytes, (long long)gate->offset, EXTENDED_BYTES_MAX);
	bool *has = type == 'x' ? &gate->has_pax : &gate->has_long_name;
	if (*has)
		return pio_fail(err, PIO_ECORRUPT, "%s: a second header for one entry before byte %lld", gate->name,
		                (long long)gate->offset);
	*has = true;
	gate->extended = type;
	pio_str_clear(&gate->text);
	return 0;
}

/* ---- blocks ------------------------------------------------------------------------------ */

static int check_plain(const pio_tar_gate *gate, char type, int64_t size_bytes, pio_err *err)
{
	const uint8_t *h = gate->header;
	const char *what = NULL;
	if (!ends_once(h, NAME_BYTES) || !ends_once(h + PREFIX_AT, PREFIX_BYTES))
		what = "has bytes behind the NUL of its name";
	else if (h[LINK_AT])
		what = "has the target of a link";
	else if (number(h + MODE_AT, 8) < 0 || number(h + MODE_AT, 8) & 07000)
		what = "has a set-user-ID, set-group-ID or sticky bit";
	else if (type == '5' && size_bytes)
		what = "is a directory with bytes in it";
	return !what ? 0 : pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.100s\" %s", gate->name, (const char *)h, what);
}

static int take_header(pio_tar_gate *gate, pio_err *err)
{
	const uint8_t *h = gate->header;
	char type = h[TYPE_AT] ? (char)h[TYPE_AT] : '0';
	if (!sum_fits(h) || (memcmp(h + MAGIC_AT, "ustar\0" "00", 8) != 0 &&
	                     memcmp(h + MAGIC_AT, "ustar  ", 8) != 0))
		return pio_fail(err, PIO_ECORRUPT, "%s: no header of a tar at byte %lld: damaged, or no tar archive",
		                gate->name, (long long)gate->offset - PIO_TAR_BLOCK_BYTES);
	int64_t size_bytes = number(h + SIZE_AT, 12);
	if (size_bytes < 0)
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.100s\" has a size that is none", gate->name,
		                (const char *)h);
	bool plain = type == '0' || type == '5';
	if (!plain && type != 'x' && type != 'L')
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.100s\" is %s, expected only files and directories",
		                gate->name, (const char *)h, type_name(type));
	if (plain && gate->size_bytes >= 0)
		size_bytes = gate->size_bytes;
	int rc = plain ? check_plain(gate, type, size_bytes, err)
	               : begin_extended(gate, type, size_bytes, err);
	if (rc)
		return rc;
	if (plain) {
		gate->size_bytes = -1;
		gate->has_pax = gate->has_long_name = false;
	}
	gate->left = size_bytes;
	gate->padding = -size_bytes & (PIO_TAR_BLOCK_BYTES - 1);
	gate->state = plain ? PIO_TAR_BODY : PIO_TAR_EXTENDED;
	return 0;
}

/* Header by header; of a body only its end matters. */
static int take_some(pio_tar_gate *gate, const uint8_t *bytes, size_t left, size_t *used, pio_err *err)
{
	if (gate->state == PIO_TAR_HEADER) {
		size_t n = PIO_TAR_BLOCK_BYTES - gate->have;
		*used = n < left ? n : left;
		memcpy(gate->header + gate->have, bytes, *used);
		gate->have += *used;
		gate->offset += (int64_t)*used;
		if (gate->have < PIO_TAR_BLOCK_BYTES)
			return 0;
		gate->have = 0;
		if (!is_zero(gate->header, PIO_TAR_BLOCK_BYTES))
			return take_header(gate, err);
		if (gate->has_pax || gate->has_long_name)
			return pio_fail(err, PIO_ECORRUPT, "%s: the last header describes no entry", gate->name);
		gate->state = PIO_TAR_END;
		gate->zeros = PIO_TAR_BLOCK_BYTES;
		return 0;
	}
	bool end = gate->state == PIO_TAR_END;
	*used = end || (int64_t)left < gate->left ? left : (size_t)gate->left;
	gate->offset += (int64_t)*used;
	if (end) {
		gate->zeros += (int64_t)left;
		if (!is_zero(bytes, left))
			return pio_fail(err, PIO_ECORRUPT, "%s: bytes after the end of the archive (before byte %lld)",
			                gate->name, (long long)gate->offset);
		return gate->zeros <= END_BYTES_MAX ? 0 :
		       pio_fail(err, PIO_ECORRUPT, "%s: more than %d MiB of zeros after the end of the archive",
		                gate->name, END_BYTES_MAX >> 20);
	}
	gate->left -= (int64_t)*used;
	if (gate->state == PIO_TAR_EXTENDED)
		pio_str_append(&gate->text, bytes, *used);
	if (gate->state == PIO_TAR_PADDING && !is_zero(bytes, *used))
		return pio_fail(err, PIO_ECORRUPT, "%s: bytes behind the end of an entry (before byte %lld)",
		                gate->name, (long long)gate->offset);
	return 0;
}

/* Nothing is left of a part: what comes after it? */
static int turn(pio_tar_gate *gate, pio_err *err)
{
	int rc = 0;
	if (gate->state == PIO_TAR_EXTENDED)
		rc = end_extended(gate, err);
	if (gate->state != PIO_TAR_PADDING) {
		gate->state = PIO_TAR_PADDING;
		gate->left = gate->padding;
	}
	if (!gate->left)
		gate->state = PIO_TAR_HEADER;
	return rc;
}

int pio_tar_gate_pass(pio_tar_gate *gate, const void *bytes, size_t size_bytes, pio_err *err)
{
	const uint8_t *at = bytes;
	int rc = 0;
	for (size_t used = 0; !rc && size_bytes; at += used, size_bytes -= used) {
		rc = take_some(gate, at, size_bytes, &used, err);
		while (!rc && gate->state != PIO_TAR_HEADER && gate->state != PIO_TAR_END && !gate->left)
			rc = turn(gate, err);
	}
	return rc;
}

int pio_tar_gate_end(const pio_tar_gate *gate, pio_err *err)
{
	if (gate->state == PIO_TAR_END && gate->zeros >= 2 * PIO_TAR_BLOCK_BYTES)
		return 0;
	return pio_fail(err, PIO_ECORRUPT, "%s: cut short: the end of the archive is missing", gate->name);
}
