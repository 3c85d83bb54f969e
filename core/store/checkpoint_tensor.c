#include "store/checkpoint_tensor.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/safetensors.h"
#include "base/str.h"
#include "store/checkpoint.h"
#include "store/object.h"
#include "store/object_code.h"
#include "store/sql.h"
#include "sys/fs.h"

/* ---- parts ------------------------------------------------------------------------ */

/* The member "parts" of the metadata of a file of pioche's (core/client/shard.c); *parts is
 * NULL where there is none. */
static int read_parts(json_t **parts, const char *metadata, const char *path, pio_err *err)
{
	json_t *members = NULL;
	*parts = NULL;
	int rc = metadata ? pio_json_parse(&members, metadata, strlen(metadata), path, err) : 0;
	const char *text = pio_json_string_or(members, "parts", NULL);
	if (!rc && text && !strcmp(pio_json_string_or(members, "format", ""), "pioche"))
		rc = pio_json_parse(parts, text, strlen(text), path, err);
	json_decref(members);
	return rc;
}

/* Text of a list of whole numbers; as many as `count`, if that is not negative. */
static int put_numbers(pio_str *out, const json_t *list, int64_t count)
{
	size_t n = json_array_size(list);
	if (!json_is_array(list) || n > PIO_SAFETENSORS_DIMS_MAX || (count >= 0 && n != (size_t)count))
		return -1;
	pio_str_putc(out, '[');
	for (size_t i = 0; i < n; i++) {
		const json_t *number = json_array_get(list, i);
		if (!json_is_integer(number) || json_integer_value(number) < 0)
			return -1;
		pio_str_printf(out, "%s%lld", i ? "," : "", (long long)json_integer_value(number));
	}
	pio_str_putc(out, ']');
	return 0;
}

/* Where the part lies in the whole, which has to fit both. */
static bool is_within(const pio_tensor *t, const json_t *whole, const json_t *offset)
{
	int64_t elements = 1, end;
	for (size_t i = 0; i < json_array_size(whole); i++)
		if (__builtin_mul_overflow(elements, json_integer_value(json_array_get(whole, i)), &elements))
			return false;
	if (json_is_integer(offset))
		return t->ndim == 1 && json_integer_value(offset) >= 0 &&
		       !__builtin_add_overflow(json_integer_value(offset), t->shape[0], &end) && end <= elements;
	for (int i = 0; i < t->ndim; i++) {
		int64_t begin = json_integer_value(json_array_get(offset, (size_t)i));
		if (__builtin_add_overflow(begin, t->shape[i], &end) ||
		    end > json_integer_value(json_array_get(whole, (size_t)i)))
			return false;
	}
	return (size_t)t->ndim == json_array_size(whole);
}

static int put_part(pio_str *whole, pio_str *begin, const pio_tensor *t, const json_t *part,
                    const char *path, pio_err *err)
{
	const json_t *shape = json_object_get(part, "shape"), *offset = json_object_get(part, "offset");
	int bad = put_numbers(whole, shape, -1);
	if (json_is_integer(offset))
		pio_str_printf(begin, "%lld", (long long)json_integer_value(offset));
	else
		bad |= put_numbers(begin, offset, (int64_t)json_array_size(shape));
	if (bad || !is_within(t, shape, offset))
		return pio_fail(err, PIO_ECORRUPT, "%s: tensor \"%.200s\" is part of a larger one: its shape and where "
		                "the part begins do not fit", path, t->name);
	return 0;
}

/* ---- rows ------------------------------------------------------------------------- */

static int insert_tensor(pio_store *store, const char *sha256, const pio_tensor *t, const json_t *part,
                         const char *path, pio_err *err)
{
	pio_str shape = PIO_STR_INIT, whole = PIO_STR_INIT, begin = PIO_STR_INIT;
	pio_str_putc(&shape, '[');
	for (int i = 0; i < t->ndim; i++)
		pio_str_printf(&shape, "%s%lld", i ? "," : "", (long long)t->shape[i]);
	pio_str_putc(&shape, ']');
	int rc = part ? put_part(&whole, &begin, t, part, path, err) : 0;
	if (!rc && (shape.failed || whole.failed || begin.failed))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for tensor \"%.200s\"", t->name);
	if (!rc)
		rc = pio_sql_exec(store, err, "INSERT INTO tensor (sha256, name, dtype, shape, offset, bytes,"
		                  " whole_shape, part_begin, own) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
		                  " nullif(?9, 0)) ON CONFLICT (sha256, name) DO NOTHING", "ttttiitti", sha256,
		                  t->name, t->dtype, shape.data, t->offset, t->size_bytes, part ? whole.data : NULL,
		                  part ? begin.data : NULL, (int64_t)json_is_true(json_object_get(part, "own")));
	pio_str_fini(&shape);
	pio_str_fini(&whole);
	pio_str_fini(&begin);
	return rc;
}

static int read_header(pio_safetensors *header, int fd, int64_t bytes, const char *path, pio_err *err)
{
	uint8_t first[8] = { 0 };
	uint64_t header_bytes = 0;
	if (bytes < 8)
		return pio_fail(err, PIO_ECORRUPT, "%s has %lld bytes, too short for a safetensors file", path,
		                (long long)bytes);
	int rc = pio_fs_pread_all(fd, first, sizeof first, 0, path, err);
	if (!rc)
		rc = pio_safetensors_header_bytes(&header_bytes, first, bytes, path, err);
	if (rc)
		return rc;
	char *text = pio_alloc((size_t)header_bytes);
	if (!text)
		return pio_fail(err, PIO_ENOMEM, "no memory for the header of %s (%llu bytes)", path,
		                (unsigned long long)header_bytes);
	rc = pio_fs_pread_all(fd, text, (size_t)header_bytes, 8, path, err);
	if (!rc)
		rc = pio_safetensors_parse(header, text, (size_t)header_bytes, bytes, path, err);
	pio_free(text);
	return rc;
}

int pio_checkpoint_tensors(pio_store *store, const char *sha256, int64_t size_bytes, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_safetensors header = { NULL, 0, NULL };
	json_t *parts = NULL;
	int fd = -1;
	int64_t known = 0;
	int rc = pio_sql_int(&known, store, err, "SELECT EXISTS (SELECT 1 FROM tensor WHERE sha256 = ?1)",
	                     "t", sha256);
	if (!rc && known)
		return 0;
	if (!rc)
		rc = pio_store_object_path(&path, store, sha256, err);
	if (!rc)
		rc = pio_fs_open(&fd, path.data, O_RDONLY, 0, err);
	if (!rc)
		rc = read_header(&header, fd, size_bytes, path.data, err);
	if (!rc)
		rc = read_parts(&parts, header.metadata, path.data, err);
	for (size_t i = 0; !rc && i < header.count; i++)
		rc = insert_tensor(store, sha256, &header.tensors[i],
		                   json_object_get(parts, header.tensors[i].name), path.data, err);
	json_decref(parts);
	pio_safetensors_fini(&header);
	if (fd >= 0)
		pio_fs_close(&fd, path.data, NULL);
	pio_str_fini(&path);
	return rc;
}

/* ---- the resume index ----------------------------------------------------------------- */

static void put_field(pio_str *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '\t' || *text == '\n') {
			pio_str_putc(out, '\\');
			pio_str_putc(out, *text == '\\' ? '\\' : *text == '\t' ? 't' : 'n');
		} else {
			pio_str_putc(out, *text);
		}
	}
}

/* "[2,3]" as "2,3", a number as "@12". */
static void put_list(pio_str *out, const char *json)
{
	pio_str_putc(out, '\t');
	if (json[0] == '[' && json[1])
		pio_str_append(out, json + 1, strlen(json) - 2);
	else
		pio_str_printf(out, "@%s", json);
}

/* Columns of the query below. */
enum { ROLE, RANK, SHA256, NAME, DTYPE, OFFSET, SHAPE, WHOLE, BEGIN, OWN };

static const char *text_of(sqlite3_stmt *row, int column)
{
	return (const char *)sqlite3_column_text(row, column);
}

/* `file`: the rank, role and digest of the line before; the same file needs none. */
static int put_file(pio_str *out, pio_str *file, pio_store *store, sqlite3_stmt *row, pio_err *err)
{
	pio_str now = PIO_STR_INIT, path = PIO_STR_INIT;
	pio_str_printf(&now, "%s %s %s", text_of(row, RANK), text_of(row, ROLE), text_of(row, SHA256));
	int rc = pio_str_check(&now, err);
	if (!rc && strcmp(now.data, file->data) != 0) {
		rc = pio_store_object_path(&path, store, text_of(row, SHA256), err);
		pio_str_puts(out, "file\t");
		put_field(out, text_of(row, ROLE));
		pio_str_printf(out, "\t%s\t", text_of(row, RANK));
		put_field(out, path.data);
		pio_str_putc(out, '\n');
		pio_str_fini(&path);
	}
	pio_str_fini(file);
	*file = now;
	return rc;
}

static int put_tensors(pio_str *out, pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	pio_str file = PIO_STR_INIT;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT f.role, f.rank, f.sha256, t.name, t.dtype, t.offset,"
	                                  " t.shape, t.whole_shape, t.part_begin, t.own FROM checkpoint_file f JOIN"
	                                  " tensor t ON t.sha256 = f.sha256 WHERE f.checkpoint_id = ?1 ORDER BY"
	                                  " f.rank, f.role, f.sha256, t.offset, t.name", "i", checkpoint_id);
	int rc = pio_sql_row(store, row, err);
	while (rc == 1) {
		int bad = put_file(out, &file, store, row, err);
		pio_str_puts(out, sqlite3_column_int(row, OWN) ? "slice\t" : "tensor\t");
		put_field(out, text_of(row, NAME));
		pio_str_printf(out, "\t%s\t%s", text_of(row, DTYPE), text_of(row, OFFSET));
		put_list(out, text_of(row, SHAPE));
		if (text_of(row, WHOLE)) {
			put_list(out, text_of(row, WHOLE));
			put_list(out, text_of(row, BEGIN));
		}
		pio_str_putc(out, '\n');
		rc = bad ? bad : pio_sql_row(store, row, err);
	}
	pio_sql_reset(row);
	pio_str_fini(&file);
	return rc;
}

/* Each encoded file goes when the plain one is there: before that both are. */
static int check_room(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	int64_t needed = 0, room = pio_fs_free_bytes(pio_store_path(store));
	int rc = pio_sql_int(&needed, store, err, "SELECT coalesce(sum(bytes - stored_bytes) + max(stored_bytes), 0)"
	                     " FROM object WHERE codec IS NOT NULL AND sha256 IN (SELECT sha256 FROM checkpoint_file"
	                     " WHERE checkpoint_id = ?1)", "i", checkpoint_id);
	if (rc || room < 0 || needed <= room)
		return rc;
	return pio_fail(err, PIO_ENOSPC, "the checkpoint is encoded, and to go on from it %lld bytes more are needed in"
	                " %s, where %lld are free", (long long)needed, pio_store_path(store), (long long)room);
}

/* Ranks read files as they are: what is encoded becomes that again. */
static int make_plain(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	int checked = check_room(store, checkpoint_id, err);
	if (checked)
		return checked;
	for (;;) {
		sqlite3_stmt *row = pio_sql_query(store, err, "SELECT o.sha256 FROM checkpoint_file f JOIN object o ON"
		                                  " o.sha256 = f.sha256 WHERE f.checkpoint_id = ?1 AND o.codec IS NOT"
		                                  " NULL LIMIT 1", "i", checkpoint_id);
		int rc = pio_sql_row(store, row, err);
		if (rc != 1)
			return rc;
		char *sha256 = pio_sql_text_copy(row, 0);
		pio_sql_reset(row);
		rc = sha256 ? pio_store_object_decode(store, sha256, err) : pio_fail(err, PIO_ENOMEM, "out of memory");
		pio_free(sha256);
		if (rc)
			return rc;
	}
}

int pio_store_checkpoint_index(pio_store *store, int64_t checkpoint_id, const char *path,
                               pio_err *err)
{
	pio_str out = PIO_STR_INIT;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT step FROM checkpoint WHERE id = ?1 AND"
	                                  " state = 'sealed'", "i", checkpoint_id);
	int rc = pio_sql_row(store, row, err);
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no checkpoint with id %lld",
		                (long long)checkpoint_id);
	if (rc < 0)
		return rc;
	pio_str_printf(&out, "pioche-resume 2 %lld\n", (long long)sqlite3_column_int64(row, 0));
	pio_sql_reset(row);
	rc = make_plain(store, checkpoint_id, err);
	if (!rc)
		rc = put_tensors(&out, store, checkpoint_id, err);
	if (!rc)
		rc = pio_str_check(&out, err);
	if (!rc)
		rc = pio_fs_write(path, out.data, out.len, 0666, err);
	pio_str_fini(&out);
	return rc;
}
