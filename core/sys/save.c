#include "sys/save.h"

#include <string.h>

#include "base/mem.h"
#include "sys/journal.h"

bool pio_save_role_valid(const char *role, size_t role_bytes)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	bool valid = role_bytes > 0 && role_bytes <= PIO_SAVE_ROLE_BYTES_MAX && role[0] != '.';
	for (size_t i = 0; valid && i < role_bytes; i++)
		valid = role[i] && strchr(allowed, role[i]);
	return valid;
}

void pio_save_put(pio_str *payload, const pio_save *save)
{
	pio_record_put_u32(payload, save->rank);
	pio_record_put_i64(payload, save->time_ns);
	pio_record_put_i64(payload, save->step);
	pio_record_put_u32(payload, save->writers);
	pio_record_put_i64(payload, save->stall_ns);
	pio_record_put_u32(payload, save->fsyncs);
	pio_record_put_u32(payload, save->count);
	for (uint32_t i = 0; i < save->count; i++) {
		const pio_save_file *file = &save->files[i];
		pio_record_put_str(payload, file->role, file->role_bytes);
		pio_record_put_str(payload, file->path, file->path_bytes);
		pio_record_put_i64(payload, (int64_t)file->size_bytes);
		pio_record_put_str(payload, file->sha256, file->sha256_bytes);
	}
	pio_record_put_u32(payload, save->round);
	pio_str_putc(payload, save->asynchronous ? 'a' : 'b');
	pio_str_putc(payload, save->sync);
	pio_record_put_i64(payload, save->total_ns);
	pio_record_put_i64(payload, save->hash_ns);
	for (uint32_t i = 0; i < save->count; i++)
		pio_record_put_u32(payload, save->files[i].part);
	if (!save->count)
		pio_record_put_str(payload, save->failure, save->failure_bytes);
}

static int get_files(pio_save *save, pio_cursor *cursor, pio_err *err)
{
	save->files = save->count ? pio_calloc(save->count, sizeof *save->files) : NULL;
	if (save->count && !save->files)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a report of %u files", save->count);
	for (uint32_t i = 0; i < save->count; i++) {
		pio_save_file *file = &save->files[i];
		file->role = pio_cursor_str(cursor, &file->role_bytes);
		file->path = pio_cursor_str(cursor, &file->path_bytes);
		file->size_bytes = pio_cursor_u64(cursor);
		file->sha256 = pio_cursor_str(cursor, &file->sha256_bytes);
		if (cursor->bad || file->size_bytes > INT64_MAX || !pio_save_role_valid(file->role, file->role_bytes))
			return pio_fail(err, PIO_EINVAL, "file %u of the report of rank %u makes no sense", i,
			                save->rank);
	}
	return 0;
}

/* What writers of before version 5 of the store did not say. */
static void get_rest(pio_save *save, pio_cursor *cursor)
{
	save->total_ns = save->hash_ns = -1;
	if (cursor->at == cursor->end)
		return;
	save->round = pio_cursor_u32(cursor);
	save->asynchronous = pio_cursor_u8(cursor) == 'a';
	save->sync = (char)pio_cursor_u8(cursor);
	save->total_ns = pio_cursor_i64(cursor);
	save->hash_ns = pio_cursor_i64(cursor);
	for (uint32_t i = 0; i < save->count; i++)
		save->files[i].part = pio_cursor_u32(cursor);
	if (!save->count)
		save->failure = pio_cursor_str(cursor, &save->failure_bytes);
	cursor->bad |= save->total_ns < 0 || save->hash_ns < 0;
	cursor->bad |= save->sync != PIO_SAVE_FSYNC && save->sync != PIO_SAVE_SYNCFS;
}

int pio_save_get(pio_save *save, const void *payload, size_t size_bytes, pio_err *err)
{
	pio_cursor cursor = { payload, (const uint8_t *)payload + size_bytes, 0 };
	*save = (pio_save){ .rank = pio_cursor_u32(&cursor), .time_ns = pio_cursor_i64(&cursor) };
	save->step = pio_cursor_i64(&cursor);
	save->writers = pio_cursor_u32(&cursor);
	save->stall_ns = pio_cursor_i64(&cursor);
	save->fsyncs = pio_cursor_u32(&cursor);
	save->count = pio_cursor_u32(&cursor);
	int rc = cursor.bad || save->count > PIO_SAVE_FILES_MAX ? -PIO_EINVAL : get_files(save, &cursor, err);
	if (!rc)
		get_rest(save, &cursor);
	if (rc == -PIO_EINVAL || cursor.bad || !save->writers || save->stall_ns < 0 ||
	    (!save->count && !save->failure_bytes))
		rc = pio_fail(err, PIO_EINVAL, "the report of rank %u makes no sense (%u writers, %u files)",
		              save->rank, save->writers, save->count);
	if (rc) {
		pio_free(save->files);
		save->files = NULL;
	}
	return rc;
}
