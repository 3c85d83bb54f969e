#include "base/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#define PREFIX_BYTES 8

/* Element types of the format and their width; the narrowest are packed. */
static const struct dtype {
	const char *name;
	int bits;
} dtypes[] = {
	{ "BOOL", 8 }, { "F4", 4 }, { "F6_E2M3", 6 }, { "F6_E3M2", 6 }, { "U8", 8 }, { "I8", 8 },
	{ "F8_E5M2", 8 }, { "F8_E4M3", 8 }, { "F8_E8M0", 8 }, { "I16", 16 }, { "U16", 16 },
	{ "F16", 16 }, { "BF16", 16 }, { "I32", 32 }, { "U32", 32 }, { "F32", 32 }, { "C64", 64 },
	{ "F64", 64 }, { "I64", 64 }, { "U64", 64 },
};

int pio_safetensors_header_bytes(uint64_t *header_bytes, const uint8_t first[8],
                                 int64_t file_bytes, const char *path, pio_err *err)
{
	uint64_t n = 0;
	for (int i = PREFIX_BYTES - 1; i >= 0; i--)
		n = n << 8 | first[i];
	*header_bytes = 0;
	if (file_bytes < PREFIX_BYTES)
		return pio_fail(err, PIO_ECORRUPT, "%s: %lld bytes are too few for a safetensors file, "
		                "which begins with the length of its header in 8 bytes", path,
		                (long long)file_bytes);
	if (n > PIO_SAFETENSORS_HEADER_BYTES_MAX)
		return pio_fail(err, PIO_ECORRUPT, "%s: header length %llu, expected at most %llu: not a "
		                "safetensors file", path, (unsigned long long)n,
		                (unsigned long long)PIO_SAFETENSORS_HEADER_BYTES_MAX);
	if (n < 2 || n > (uint64_t)file_bytes - PREFIX_BYTES)
		return pio_fail(err, PIO_ECORRUPT, "%s: header length %llu, expected 2 to %lld in a file of "
		                "%lld bytes: cut short or not a safetensors file", path,
		                (unsigned long long)n, (long long)(file_bytes - PREFIX_BYTES),
		                (long long)file_bytes);
	*header_bytes = n;
	return 0;
}

static int bad(pio_err *err, const char *path, const char *tensor, const char *expectation)
{
	return pio_fail(err, PIO_ECORRUPT, "%s: tensor \"%.200s\": %s", path, tensor, expectation);
}

static int read_dtype(pio_tensor *tensor, int *bits, const json_t *value, const char *path,
                      pio_err *err)
{
	const char *name = json_string_value(json_object_get(value, "dtype"));
	if (!name)
		return bad(err, path, tensor->name, "dtype is missing or no string");
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
		if (!strcmp(dtypes[i].name, name)) {
			tensor->dtype = dtypes[i].name;
			*bits = dtypes[i].bits;
			return 0;
		}
	}
	return pio_fail(err, PIO_ECORRUPT, "%s: tensor \"%.200s\": dtype \"%.40s\" is unknown, expected "
	                "one of BOOL, U8 to U64, I8 to I64, F4 to F64, BF16, C64", path, tensor->name,
	                name);
}

/* Bytes that type and shape ask for. */
static int read_shape(pio_tensor *tensor, int64_t *size_bytes, int bits, const json_t *value,
                      const char *path, pio_err *err)
{
	const json_t *shape = json_object_get(value, "shape");
	if (!json_is_array(shape))
		return bad(err, path, tensor->name, "shape is missing or no array");
	size_t ndim = json_array_size(shape);
	if (ndim > PIO_SAFETENSORS_DIMS_MAX)
		return pio_fail(err, PIO_ECORRUPT, "%s: tensor \"%.200s\" has %zu dimensions, expected at "
		                "most %d", path, tensor->name, ndim, PIO_SAFETENSORS_DIMS_MAX);
	int64_t elements = 1, total_bits = 0;
	for (size_t i = 0; i < ndim; i++) {
		const json_t *dim = json_array_get(shape, i);
		if (!json_is_integer(dim) || json_integer_value(dim) < 0)
			return bad(err, path, tensor->name, "a dimension is no integer >= 0");
		tensor->shape[i] = json_integer_value(dim);
		if (__builtin_mul_overflow(elements, tensor->shape[i], &elements))
			return bad(err, path, tensor->name, "the product of its shape overflows 63 bits");
	}
	tensor->ndim = (int)ndim;
	if (__builtin_mul_overflow(elements, (int64_t)bits, &total_bits))
		return bad(err, path, tensor->name, "its size in bits overflows 63 bits");
	if (total_bits % 8)
		return bad(err, path, tensor->name, "its packed elements do not fill whole bytes");
	*size_bytes = total_bits / 8;
	return 0;
}

static int read_tensor(pio_tensor *tensor, const char *name, const json_t *value,
                       int64_t data_offset, int64_t data_bytes, const char *path, pio_err *err)
{
	int bits = 0, rc;
	int64_t expected = 0;
	tensor->name = pio_strdup(name);
	if (!tensor->name)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory while reading the header", path);
	if (!json_is_object(value))
		return bad(err, path, name, "its description is no JSON object");
	rc = read_dtype(tensor, &bits, value, path, err);
	if (!rc)
		rc = read_shape(tensor, &expected, bits, value, path, err);
	if (rc)
		return rc;
	const json_t *range = json_object_get(value, "data_offsets");
	const json_t *first = json_array_get(range, 0), *last = json_array_get(range, 1);
	if (json_array_size(range) != 2 || !json_is_integer(first) || !json_is_integer(last))
		return bad(err, path, name, "data_offsets is no pair of integers");
	int64_t begin = json_integer_value(first), end = json_integer_value(last);
	if (begin < 0 || end < begin || end > data_bytes)
		return pio_fail(err, PIO_ECORRUPT, "%s: tensor \"%.200s\": data_offsets [%lld, %lld] lie "
		                "outside of the data of %lld bytes", path, name, (long long)begin,
		                (long long)end, (long long)data_bytes);
	if (end - begin != expected)
		return pio_fail(err, PIO_ECORRUPT, "%s: tensor \"%.200s\": data_offsets span %lld bytes, "
		                "its dtype %s and shape need %lld", path, name, (long long)(end - begin),
		                tensor->dtype, (long long)expected);
	tensor->offset = data_offset + begin;
	tensor->size_bytes = end - begin;
	return 0;
}

static int read_metadata(pio_safetensors *header, const json_t *metadata, const char *path,
                         pio_err *err)
{
	if (!json_is_object(metadata))
		return pio_fail(err, PIO_ECORRUPT, "%s: __metadata__ is no JSON object", path);
	for (void *it = json_object_iter((json_t *)metadata); it;
	     it = json_object_iter_next((json_t *)metadata, it)) {
		if (!json_is_string(json_object_iter_value(it)))
			return pio_fail(err, PIO_ECORRUPT, "%s: __metadata__ member \"%.200s\" is no string",
			                path, json_object_iter_key(it));
	}
	char *text = pio_json_canonical(metadata);
	header->metadata = text ? pio_strdup(text) : NULL;
	free(text);
	if (!header->metadata)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory while reading the header", path);
	return 0;
}

/* By position; empty tensors come before the one that starts where they are. */
static int compare_offset(const void *left, const void *right)
{
	const pio_tensor *a = left, *b = right;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	if ((a->size_bytes > 0) != (b->size_bytes > 0))
		return a->size_bytes > 0 ? 1 : -1;
	return strcmp(a->name, b->name);
}

static int check_ranges(const pio_safetensors *header, int64_t data_offset, int64_t file_bytes,
                        const char *path, pio_err *err)
{
	int64_t at = data_offset;
	for (size_t i = 0; i < header->count; i++) {
		const pio_tensor *tensor = &header->tensors[i];
		if (tensor->offset != at)
			return pio_fail(err, PIO_ECORRUPT, "%s: tensor \"%.200s\" begins at byte %lld of the "
			                "data, expected %lld: ranges must follow each other without %s", path,
			                tensor->name, (long long)(tensor->offset - data_offset),
			                (long long)(at - data_offset), tensor->offset > at ? "holes" : "overlaps");
		at += tensor->size_bytes;
	}
	if (at != file_bytes)
		return pio_fail(err, PIO_ECORRUPT, "%s: %lld bytes after the last tensor, expected none",
		                path, (long long)(file_bytes - at));
	return 0;
}

static int read_members(pio_safetensors *header, const json_t *root, int64_t data_offset,
                        int64_t file_bytes, const char *path, pio_err *err)
{
	int rc = 0;
	header->tensors = pio_calloc(json_object_size(root), sizeof *header->tensors);
	if (!header->tensors)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory while reading the header", path);
	for (void *it = json_object_iter((json_t *)root); it && !rc;
	     it = json_object_iter_next((json_t *)root, it)) {
		const char *name = json_object_iter_key(it);
		const json_t *value = json_object_iter_value(it);
		if (!strcmp(name, "__metadata__"))
			rc = read_metadata(header, value, path, err);
		else
			rc = read_tensor(&header->tensors[header->count++], name, value, data_offset,
			                 file_bytes - data_offset, path, err);
	}
	return rc;
}

int pio_safetensors_parse(pio_safetensors *header, const char *text, size_t header_bytes,
                          int64_t file_bytes, const char *path, pio_err *err)
{
	json_t *root = NULL;
	int64_t data_offset = PREFIX_BYTES + (int64_t)header_bytes;
	int rc;
	*header = (pio_safetensors){ NULL, 0, NULL };
	if (header_bytes < 2 || header_bytes > PIO_SAFETENSORS_HEADER_BYTES_MAX || text[0] != '{')
		return pio_fail(err, PIO_ECORRUPT, "%s: the header does not start with '{': not a "
		                "safetensors file", path);
	if (file_bytes < data_offset)
		return pio_fail(err, PIO_ECORRUPT, "%s: the header of %zu bytes does not fit into a file of "
		                "%lld bytes", path, header_bytes, (long long)file_bytes);
	rc = pio_json_parse(&root, text, header_bytes, path, err);
	if (rc)
		return rc;
	rc = read_members(header, root, data_offset, file_bytes, path, err);
	if (!rc) {
		qsort(header->tensors, header->count, sizeof *header->tensors, compare_offset);
		rc = check_ranges(header, data_offset, file_bytes, path, err);
	}
	json_decref(root);
	if (rc)
		pio_safetensors_fini(header);
	return rc;
}

void pio_safetensors_fini(pio_safetensors *header)
{
	for (size_t i = 0; i < header->count; i++)
		pio_free(header->tensors[i].name);
	pio_free(header->tensors);
	pio_free(header->metadata);
	*header = (pio_safetensors){ NULL, 0, NULL };
}
