/* proto.h: as much of the protocol buffers wire format as foreign files need
 * (protobuf.dev/programming-guides/encoding). The reader checks every bound: bytes
 * that are no message set `bad` and end the walk. The writer appends to a
 * pio_str, whose `failed` is checked at the end. */
#ifndef PIO_EXCHANGE_PROTO_H
#define PIO_EXCHANGE_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum pio_proto_wire { PIO_PROTO_VARINT = 0, PIO_PROTO_64 = 1, PIO_PROTO_BYTES = 2, PIO_PROTO_32 = 5 };

typedef struct pio_proto {
	const uint8_t *at, *end;
	bool bad;
} pio_proto;

typedef struct pio_proto_field {
	uint32_t number;
	enum pio_proto_wire wire;
	uint64_t value;             /* of a number; bits of a float or double */
	const uint8_t *bytes;       /* of PIO_PROTO_BYTES, borrowed */
	size_t size_bytes;
} pio_proto_field;

static inline pio_proto pio_proto_of(const void *bytes, size_t size_bytes)
{
	const uint8_t *at = bytes;
	return (pio_proto){ at, at ? at + size_bytes : at, false };
}

/* The message in a field; empty for a field that is none. */
static inline pio_proto pio_proto_in(const pio_proto_field *field)
{
	return field->wire == PIO_PROTO_BYTES ? pio_proto_of(field->bytes, field->size_bytes)
	                                      : (pio_proto){ NULL, NULL, false };
}

/* True and the next field; false at the end, or with `bad`. */
bool pio_proto_next(pio_proto *message, pio_proto_field *field);
/* One varint, as in a packed field. */
uint64_t pio_proto_varint(pio_proto *message);

/* The value of a fixed field, 0 for another. */
double pio_proto_double(const pio_proto_field *field);
float pio_proto_float(const pio_proto_field *field);
/* google.protobuf.Timestamp in ns; 0 unless between 1970 and 2262. */
int64_t pio_proto_timestamp(const pio_proto_field *field);

void pio_proto_put_varint(pio_str *out, uint32_t number, uint64_t value);
void pio_proto_put_double(pio_str *out, uint32_t number, double value);
void pio_proto_put_float(pio_str *out, uint32_t number, float value);
void pio_proto_put_bytes(pio_str *out, uint32_t number, const void *bytes, size_t size_bytes);
void pio_proto_put_text(pio_str *out, uint32_t number, const char *text);

#endif
