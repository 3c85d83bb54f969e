#include "exchange/proto.h"

#include <string.h>

uint64_t pio_proto_varint(pio_proto *m)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 64 && m->at < m->end; shift += 7) {
		uint8_t byte = *m->at++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
	m->bad = true;
	m->at = m->end;
	return 0;
}

static uint64_t fixed(pio_proto *m, size_t bytes)
{
	uint64_t value = 0;
	if ((size_t)(m->end - m->at) < bytes) {
		m->bad = true;
		m->at = m->end;
		return 0;
	}
	memcpy(&value, m->at, bytes); /* little-endian hosts only */
	m->at += bytes;
	return value;
}

bool pio_proto_next(pio_proto *m, pio_proto_field *field)
{
	if (m->bad || m->at >= m->end)
		return false;
	uint64_t tag = pio_proto_varint(m);
	*field = (pio_proto_field){ .number = (uint32_t)(tag >> 3),
	                            .wire = (enum pio_proto_wire)(tag & 7) };
	if (tag >> 3 == 0 || tag >> 32)
		m->bad = true;
	switch (field->wire) {
	case PIO_PROTO_VARINT:
		field->value = pio_proto_varint(m);
		break;
	case PIO_PROTO_64:
		field->value = fixed(m, 8);
		break;
	case PIO_PROTO_32:
		field->value = fixed(m, 4);
		break;
	case PIO_PROTO_BYTES:
		field->value = pio_proto_varint(m);
		if (field->value > (size_t)(m->end - m->at)) {
			m->bad = true;
			break;
		}
		field->size_bytes = (size_t)field->value;
		field->bytes = m->at;
		m->at += field->size_bytes;
		break;
	default: /* groups are of another age */
		m->bad = true;
	}
	return !m->bad;
}

double pio_proto_double(const pio_proto_field *field)
{
	double value = 0;
	if (field->wire == PIO_PROTO_64)
		memcpy(&value, &field->value, sizeof value);
	return value;
}

float pio_proto_float(const pio_proto_field *field)
{
	float value = 0;
	uint32_t bits = (uint32_t)field->value;
	if (field->wire == PIO_PROTO_32)
		memcpy(&value, &bits, sizeof value);
	return value;
}

int64_t pio_proto_timestamp(const pio_proto_field *field)
{
	pio_proto message = pio_proto_in(field);
	pio_proto_field part;
	uint64_t seconds = 0, nanos = 0;
	while (pio_proto_next(&message, &part)) {
		if (part.number == 1)
			seconds = part.value;
		else if (part.number == 2)
			nanos = part.value;
	}
	if (message.bad || seconds >= (uint64_t)INT64_MAX / 1000000000 || nanos >= 1000000000)
		return 0;
	return (int64_t)(seconds * 1000000000 + nanos);
}

/* ---- writing ------------------------------------------------------------------------- */

static void put_raw(pio_str *out, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		pio_str_putc(out, (char)(value | 0x80));
	pio_str_putc(out, (char)value);
}

static void put_tag(pio_str *out, uint32_t number, enum pio_proto_wire wire)
{
	put_raw(out, (uint64_t)number << 3 | (uint64_t)wire);
}

void pio_proto_put_varint(pio_str *out, uint32_t number, uint64_t value)
{
	put_tag(out, number, PIO_PROTO_VARINT);
	put_raw(out, value);
}

void pio_proto_put_double(pio_str *out, uint32_t number, double value)
{
	put_tag(out, number, PIO_PROTO_64);
	pio_str_append(out, &value, sizeof value);
}

void pio_proto_put_float(pio_str *out, uint32_t number, float value)
{
	put_tag(out, number, PIO_PROTO_32);
	pio_str_append(out, &value, sizeof value);
}

void pio_proto_put_bytes(pio_str *out, uint32_t number, const void *bytes, size_t size_bytes)
{
	put_tag(out, number, PIO_PROTO_BYTES);
	put_raw(out, size_bytes);
	pio_str_append(out, bytes, size_bytes);
}

void pio_proto_put_text(pio_str *out, uint32_t number, const char *text)
{
	pio_proto_put_bytes(out, number, text, strlen(text));
}
