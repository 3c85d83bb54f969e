#include "exchange/tfevent.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static pio_bytes bytes_of(const pio_proto_field *field)
{
	if (field->wire != PIO_PROTO_BYTES)
		return (pio_bytes){ NULL, 0 };
	return (pio_bytes){ (const char *)field->bytes, field->size_bytes };
}

bool pio_tfevent_read(pio_tfevent *event, const uint8_t *data, size_t size_bytes)
{
	pio_proto message = pio_proto_of(data, size_bytes), log;
	pio_proto_field field, part;
	*event = (pio_tfevent){ .step = 0 };
	while (pio_proto_next(&message, &field)) {
		switch (field.number) {
		case 1:
			event->wall_time = pio_proto_double(&field);
			break;
		case 2:
			event->step = field.wire == PIO_PROTO_VARINT ? (int64_t)field.value : 0;
			break;
		case 5:
			event->summary = pio_proto_in(&field);
			break;
		case 7:
			for (log = pio_proto_in(&field); pio_proto_next(&log, &part);)
				if (part.number == 1 && part.wire == PIO_PROTO_VARINT)
					event->session = (uint32_t)part.value;
			break;
		case 4:
		case 9:
			event->other = "graphs";
			break;
		case 8:
			event->other = "metadata of TensorFlow sessions";
			break;
		default: /* the file's version, its writer, log messages */
			break;
		}
	}
	return !message.bad;
}

static void read_metadata(pio_tfvalue *value, const pio_proto_field *field)
{
	pio_proto metadata = pio_proto_in(field), plugin;
	pio_proto_field part, leaf;
	while (pio_proto_next(&metadata, &part)) {
		if (part.number != 1)
			continue;
		for (plugin = pio_proto_in(&part); pio_proto_next(&plugin, &leaf);) {
			if (leaf.number == 1)
				value->plugin = bytes_of(&leaf);
			else if (leaf.number == 2)
				value->content = bytes_of(&leaf);
		}
	}
}

bool pio_tfvalue_next(pio_tfvalue *value, pio_proto *summary)
{
	static const enum pio_tfvalue_kind kinds[] = {
		[2] = PIO_TF_SIMPLE, [4] = PIO_TF_IMAGE, [5] = PIO_TF_HISTOGRAM, [6] = PIO_TF_AUDIO,
		[8] = PIO_TF_TENSOR,
	};
	pio_proto_field field, part;
	do {
		if (!pio_proto_next(summary, &field))
			return false;
	} while (field.number != 1);
	*value = (pio_tfvalue){ .kind = PIO_TF_NONE };
	pio_proto message = pio_proto_in(&field);
	while (pio_proto_next(&message, &part)) {
		if (part.number == 1) {
			value->tag = bytes_of(&part);
		} else if (part.number == 9) {
			read_metadata(value, &part);
		} else if (part.number < sizeof kinds / sizeof *kinds && kinds[part.number]) {
			value->kind = kinds[part.number];
			value->body = part;
			value->simple = pio_proto_float(&part);
		}
	}
	summary->bad = summary->bad || message.bad;
	return !message.bad;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static bool read_shape(pio_tftensor *tensor, const pio_proto_field *field)
{
	pio_proto shape = pio_proto_in(field), dim;
	pio_proto_field part, leaf;
	while (pio_proto_next(&shape, &part)) {
		if (part.number != 2)
			continue;
		int64_t size = 0;
		for (dim = pio_proto_in(&part); pio_proto_next(&dim, &leaf);)
			if (leaf.number == 1)
				size = (int64_t)leaf.value;
		if (tensor->rank == PIO_TF_RANK_MAX || size < 0 || size > INT32_MAX)
			return false;
		tensor->dims[tensor->rank++] = size;
	}
	return !shape.bad;
}

bool pio_tftensor_read(pio_tftensor *tensor, const pio_proto_field *body)
{
	*tensor = (pio_tftensor){ .fields = pio_proto_in(body) };
	pio_proto message = tensor->fields;
	pio_proto_field field;
	bool good = true;
	while (good && pio_proto_next(&message, &field)) {
		if (field.number == 1)
			tensor->dtype = (uint32_t)field.value;
		else if (field.number == 2)
			good = read_shape(tensor, &field);
		else if (field.number == 4)
			tensor->content = bytes_of(&field);
	}
	return good && !message.bad;
}

static double half_to_double(uint16_t bits)
{
	int exponent = bits >> 10 & 31, mantissa = bits & 1023;
	double value = exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
	             : exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
	return bits >> 15 ? -value : value;
}

static double bfloat_to_double(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;
	memcpy(&value, &wide, 4);
	return (double)value;
}

/* Bytes of one number in tensor_content, and the field that repeats it; 0: not
 * a number that we know. */
static size_t number_format(uint32_t dtype, uint32_t *field)
{
	switch (dtype) {
	case PIO_TF_FLOAT:
		return *field = 5, 4;
	case PIO_TF_DOUBLE:
		return *field = 6, 8;
	case PIO_TF_INT32:
		return *field = 7, 4;
	case PIO_TF_UINT8:
		return *field = 7, 1;
	case PIO_TF_INT64:
		return *field = 10, 8;
	case PIO_TF_BOOL:
		return *field = 11, 1;
	case PIO_TF_HALF:
	case PIO_TF_BFLOAT16:
		return *field = 13, 2;
	default:
		return *field = 0, 0;
	}
}

static double number_of(uint32_t dtype, uint64_t bits, int64_t *whole)
{
	float single;
	double wide;
	uint32_t low = (uint32_t)bits;
	*whole = (int64_t)bits;
	switch (dtype) {
	case PIO_TF_FLOAT:
		memcpy(&single, &low, 4);
		return (double)single;
	case PIO_TF_DOUBLE:
		memcpy(&wide, &bits, 8);
		return wide;
	case PIO_TF_INT32:
		*whole = (int32_t)low;
		return (double)*whole;
	case PIO_TF_HALF:
		return half_to_double((uint16_t)bits);
	case PIO_TF_BFLOAT16:
		return bfloat_to_double((uint16_t)bits);
	default:
		return (double)*whole;
	}
}

size_t pio_tftensor_numbers(double *values, int64_t *whole, size_t max, const pio_tftensor *tensor)
{
	uint32_t number;
	size_t width = number_format(tensor->dtype, &number), count = 0;
	int64_t ignored;
	for (size_t at = 0; width && count < max && tensor->content.size_bytes - at >= width; at += width) {
		uint64_t bits = 0;
		memcpy(&bits, tensor->content.at + at, width);
		values[count] = number_of(tensor->dtype, bits, whole ? &whole[count] : &ignored);
		count++;
	}
	pio_proto message = tensor->fields, packed;
	pio_proto_field field;
	while (width && count < max && !tensor->content.size_bytes && pio_proto_next(&message, &field)) {
		if (field.number != number)
			continue;
		bool fixed = number == 5 || number == 6;
		packed = pio_proto_in(&field);
		do {
			uint64_t bits = field.value;
			if (field.wire == PIO_PROTO_BYTES && fixed && (size_t)(packed.end - packed.at) < width)
				break;
			if (field.wire == PIO_PROTO_BYTES && fixed) {
				bits = 0;
				memcpy(&bits, packed.at, width);
				packed.at += width;
			} else if (field.wire == PIO_PROTO_BYTES) {
				bits = pio_proto_varint(&packed);
			}
			if (packed.bad)
				break;
			values[count] = number_of(tensor->dtype, bits, whole ? &whole[count] : &ignored);
			count++;
		} while (count < max && packed.at < packed.end);
	}
	return count;
}

bool pio_tftensor_string(pio_bytes *string, pio_proto *walk)
{
	pio_proto_field field;
	while (pio_proto_next(walk, &field)) {
		if (field.number != 8 || field.wire != PIO_PROTO_BYTES)
			continue;
		*string = bytes_of(&field);
		return true;
	}
	return false;
}

bool pio_tfimage_read(pio_bytes *encoded, const pio_proto_field *body)
{
	pio_proto message = pio_proto_in(body);
	pio_proto_field field;
	*encoded = (pio_bytes){ NULL, 0 };
	while (pio_proto_next(&message, &field))
		if (field.number == 4)
			*encoded = bytes_of(&field);
	return encoded->size_bytes && !message.bad;
}
