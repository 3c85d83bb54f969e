#include "client/frame.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "sys/journal.h"

#define LENGTH_BYTES 4u
#define TEXT_BYTES_MAX 4096u

int pio_frame_address_parse(pio_frame_address *address, const char *text, const char *what, pio_err *err)
{
	const char *colon = text ? strrchr(text, ':') : NULL;
	char *end = NULL;
	long port = colon ? strtol(colon + 1, &end, 10) : 0;
	size_t n = colon ? (size_t)(colon - text) : 0;
	if (n == 0 || n >= sizeof address->host || *end || port < 1 || port > UINT16_MAX)
		return pio_fail(err, PIO_EINVAL, "%s=\"%s\" in the environment: HOST:PORT expected", what,
		                text ? text : "");
	memcpy(address->host, text, n);
	address->host[n] = 0;
	address->port = (uint16_t)port;
	return 0;
}

/* ---- writing ---------------------------------------------------------------- */

/* Returns where the length stands, for put_end. */
static size_t put_begin(pio_str *out, enum pio_frame_type type)
{
	size_t start = out->len;
	pio_record_put_u32(out, 0);
	pio_str_putc(out, (char)type);
	return start;
}

static void put_end(pio_str *out, size_t start)
{
	if (out->failed)
		return;
	uint32_t length = (uint32_t)(out->len - start - LENGTH_BYTES);
	memcpy(out->data + start, &length, sizeof length);
}

static void put_address(pio_str *out, const pio_frame_address *address)
{
	pio_record_put_str(out, address->host, strlen(address->host));
	pio_record_put_u32(out, address->port);
}

void pio_frame_put_hello(pio_str *out, const pio_frame_hello *hello)
{
	size_t start = put_begin(out, PIO_FRAME_HELLO);
	pio_record_put_str(out, hello->token, strlen(hello->token));
	pio_record_put_u32(out, hello->rank);
	pio_record_put_u32(out, hello->world);
	put_address(out, &hello->address);
	if (hello->patience_ms)
		pio_record_put_u32(out, hello->patience_ms);
	put_end(out, start);
}

void pio_frame_put_next(pio_str *out, const pio_frame_address *address)
{
	size_t start = put_begin(out, PIO_FRAME_NEXT);
	put_address(out, address);
	put_end(out, start);
}

void pio_frame_put_text(pio_str *out, enum pio_frame_type type, const char *text)
{
	size_t start = put_begin(out, type), n = strlen(text);
	pio_record_put_str(out, text, n < TEXT_BYTES_MAX ? n : TEXT_BYTES_MAX);
	put_end(out, start);
}

void pio_frame_put_plain(pio_str *out, enum pio_frame_type type)
{
	put_end(out, put_begin(out, type));
}

void pio_frame_put_here(pio_str *out, const pio_frame_here *here)
{
	size_t start = put_begin(out, PIO_FRAME_HERE);
	pio_record_put_u32(out, here->rank);
	put_address(out, &here->address);
	put_end(out, start);
}

void pio_frame_put_left(pio_str *out, uint32_t rank, bool without_bye)
{
	size_t start = put_begin(out, PIO_FRAME_LEFT);
	pio_record_put_u32(out, rank);
	pio_record_put_u32(out, without_bye);
	put_end(out, start);
}

void pio_frame_put_join(pio_str *out, const pio_frame_join *join)
{
	size_t start = put_begin(out, PIO_FRAME_JOIN);
	pio_record_put_str(out, join->token, strlen(join->token));
	pio_record_put_u32(out, join->place);
	pio_record_put_str(out, join->host, strlen(join->host));
	pio_record_put_u32(out, join->is_keeper);
	pio_record_put_str(out, join->address, strlen(join->address));
	pio_record_put_u32(out, join->port);
	put_end(out, start);
}

void pio_frame_put_bytes(pio_str *out, enum pio_frame_type type, const void *bytes, size_t size_bytes)
{
	if (size_bytes > PIO_FRAME_BYTES_MAX - 2 * LENGTH_BYTES) {
		out->failed = true;
		return;
	}
	size_t start = put_begin(out, type);
	pio_record_put_str(out, bytes, size_bytes);
	put_end(out, start);
}

void pio_frame_put_ping(pio_str *out, int64_t agent_ns)
{
	size_t start = put_begin(out, PIO_FRAME_PING);
	pio_record_put_i64(out, agent_ns);
	put_end(out, start);
}

void pio_frame_put_pong(pio_str *out, int64_t agent_ns, int64_t head_ns)
{
	size_t start = put_begin(out, PIO_FRAME_PONG);
	pio_record_put_i64(out, agent_ns);
	pio_record_put_i64(out, head_ns);
	put_end(out, start);
}

/* ---- reading ---------------------------------------------------------------- */

int pio_frame_next(pio_frame *frame, size_t *used, const void *bytes, size_t size_bytes,
                   pio_err *err)
{
	const uint8_t *at = bytes;
	uint32_t length;
	if (size_bytes < LENGTH_BYTES)
		return 0;
	memcpy(&length, at, sizeof length);
	if (length == 0 || length > PIO_FRAME_BYTES_MAX)
		return pio_fail(err, PIO_ECORRUPT, "a frame of %u bytes: 1 to %u expected", length,
		                PIO_FRAME_BYTES_MAX);
	if (size_bytes - LENGTH_BYTES < length)
		return 0;
	frame->type = (enum pio_frame_type)at[LENGTH_BYTES];
	frame->payload = at + LENGTH_BYTES + 1;
	frame->size_bytes = length - 1;
	*used = LENGTH_BYTES + length;
	return 1;
}

/* A string of the payload that fits `text` and holds no NUL. */
static bool get_str(pio_cursor *cursor, char *text, size_t text_bytes)
{
	size_t n;
	const char *bytes = pio_cursor_str(cursor, &n);
	if (cursor->bad || n >= text_bytes || memchr(bytes, 0, n))
		return false;
	memcpy(text, bytes, n);
	text[n] = 0;
	return true;
}

static bool get_address(pio_cursor *cursor, pio_frame_address *address)
{
	if (!get_str(cursor, address->host, sizeof address->host))
		return false;
	uint32_t port = pio_cursor_u32(cursor);
	address->port = (uint16_t)port;
	return !cursor->bad && port <= UINT16_MAX;
}

static pio_cursor cursor_of(const pio_frame *frame)
{
	return (pio_cursor){ frame->payload, frame->payload + frame->size_bytes, 0 };
}

int pio_frame_get_hello(pio_frame_hello *hello, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	memset(hello, 0, sizeof *hello);
	bool good = frame->type == PIO_FRAME_HELLO && get_str(&cursor, hello->token, sizeof hello->token);
	hello->rank = pio_cursor_u32(&cursor);
	hello->world = pio_cursor_u32(&cursor);
	good = good && get_address(&cursor, &hello->address);
	if (good && cursor.at < cursor.end)
		hello->patience_ms = pio_cursor_u32(&cursor);
	if (!good || cursor.bad || cursor.at != cursor.end)
		return pio_fail(err, PIO_ECORRUPT, "a frame of type %d and %zu bytes is no HELLO",
		                (int)frame->type, frame->size_bytes);
	return 0;
}

int pio_frame_get_text(char *text, size_t text_bytes, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	size_t n;
	const char *bytes = pio_cursor_str(&cursor, &n);
	if (cursor.bad || cursor.at != cursor.end)
		return pio_fail(err, PIO_ECORRUPT, "a frame of type %d and %zu bytes is no text",
		                (int)frame->type, frame->size_bytes);
	n = n < text_bytes ? n : text_bytes - 1;
	memcpy(text, bytes, n);
	text[n] = 0;
	return 0;
}

static int fail_payload(const pio_frame *frame, const char *what, pio_err *err)
{
	return pio_fail(err, PIO_ECORRUPT, "a frame of type %d and %zu bytes is no %s", (int)frame->type,
	                frame->size_bytes, what);
}

int pio_frame_get_join(pio_frame_join *join, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	memset(join, 0, sizeof *join);
	bool good = frame->type == PIO_FRAME_JOIN && get_str(&cursor, join->token, sizeof join->token);
	join->place = pio_cursor_u32(&cursor);
	good = good && get_str(&cursor, join->host, sizeof join->host);
	join->is_keeper = pio_cursor_u32(&cursor);
	good = good && get_str(&cursor, join->address, sizeof join->address);
	join->port = pio_cursor_u32(&cursor);
	if (!good || cursor.bad || cursor.at != cursor.end || join->is_keeper > 1 || join->port > UINT16_MAX)
		return fail_payload(frame, "JOIN", err);
	return 0;
}

int pio_frame_get_bytes(const char **bytes, size_t *size_bytes, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	*bytes = pio_cursor_str(&cursor, size_bytes);
	if (cursor.bad || cursor.at != cursor.end)
		return fail_payload(frame, "string of bytes", err);
	return 0;
}

int pio_frame_get_next(pio_frame_address *address, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	if (frame->type != PIO_FRAME_NEXT || !get_address(&cursor, address) || cursor.at != cursor.end)
		return fail_payload(frame, "NEXT", err);
	return 0;
}

int pio_frame_get_here(pio_frame_here *here, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	here->rank = pio_cursor_u32(&cursor);
	if (frame->type != PIO_FRAME_HERE || !get_address(&cursor, &here->address) || cursor.at != cursor.end)
		return fail_payload(frame, "HERE", err);
	return 0;
}

int pio_frame_get_left(uint32_t *rank, bool *without_bye, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	*rank = pio_cursor_u32(&cursor);
	uint32_t flag = pio_cursor_u32(&cursor);
	*without_bye = flag == 1;
	if (frame->type != PIO_FRAME_LEFT || cursor.bad || cursor.at != cursor.end || flag > 1)
		return fail_payload(frame, "LEFT", err);
	return 0;
}

int pio_frame_get_ping(int64_t *agent_ns, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	*agent_ns = pio_cursor_i64(&cursor);
	if (frame->type != PIO_FRAME_PING || cursor.bad || cursor.at != cursor.end)
		return fail_payload(frame, "PING", err);
	return 0;
}

int pio_frame_get_pong(int64_t *agent_ns, int64_t *head_ns, const pio_frame *frame, pio_err *err)
{
	pio_cursor cursor = cursor_of(frame);
	*agent_ns = pio_cursor_i64(&cursor);
	*head_ns = pio_cursor_i64(&cursor);
	if (frame->type != PIO_FRAME_PONG || cursor.bad || cursor.at != cursor.end)
		return fail_payload(frame, "PONG", err);
	return 0;
}
