/* Any bytes as a histogram: refused, or one whose own bytes they are, whose
 * buckets rise and add up, and that can be added to itself. */
#include <stdlib.h>
#include <string.h>

#include "base/histogram.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	pio_histogram h;
	pio_histogram_bucket bucket;
	pio_str again = PIO_STR_INIT;
	uint64_t total = 0;
	double before = 0;
	if (pio_histogram_decode(&h, data, size_bytes, &err) != 0) {
		CHECK(err.message[0] && h.finite == 0);
		return 0;
	}
	for (size_t at = 0; pio_histogram_next(&h, &at, &bucket); total += bucket.count) {
		CHECK(bucket.low <= bucket.high && (total == 0 || bucket.low >= before || h.edges));
		before = bucket.high;
	}
	CHECK(total == h.finite);
	pio_histogram_encode(&again, &h);
	CHECK(again.len == size_bytes && memcmp(again.data, data, size_bytes) == 0);
	if (h.finite < UINT64_MAX / 2)
		CHECK(pio_histogram_merge(&h, &h, &err) == 0);
	pio_str_fini(&again);
	pio_histogram_fini(&h);
	return 0;
}
