/* Any bytes as a safetensors file: the parser either refuses them with a
 * message or gives tensors that lie within them, gapless and in order. */
#include <stdlib.h>

#include "base/safetensors.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	pio_safetensors header;
	uint8_t first[8] = { 0 };
	uint64_t header_bytes;
	for (size_t i = 0; i < size_bytes && i < sizeof first; i++)
		first[i] = data[i];
	if (pio_safetensors_header_bytes(&header_bytes, first, (int64_t)size_bytes, "input", &err)) {
		CHECK(err.message[0]);
		return 0;
	}
	if (pio_safetensors_parse(&header, (const char *)data + 8, (size_t)header_bytes,
	                          (int64_t)size_bytes, "input", &err)) {
		CHECK(err.message[0] && !header.tensors && !header.metadata);
		return 0;
	}
	int64_t at = 8 + (int64_t)header_bytes;
	for (size_t i = 0; i < header.count; i++) {
		CHECK(header.tensors[i].offset == at && header.tensors[i].size_bytes >= 0);
		CHECK(header.tensors[i].name && header.tensors[i].dtype);
		CHECK(header.tensors[i].ndim >= 0 && header.tensors[i].ndim <= PIO_SAFETENSORS_DIMS_MAX);
		at += header.tensors[i].size_bytes;
	}
	CHECK(at == (int64_t)size_bytes);
	pio_safetensors_fini(&header);
	return 0;
}
