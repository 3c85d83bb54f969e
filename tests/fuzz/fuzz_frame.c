/* Any bytes as what a stranger says to a rank or the head: whole frames are
 * taken one after the other, nothing is read beyond them, and what a reader
 * accepts is what a writer would have written. */
#include <stdlib.h>
#include <string.h>

#include "client/frame.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)
#define WORLD 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* An accepted HELLO, TABLE or text, written again, is the same frame; only
 * text beyond the writer's limit, or with a NUL, may differ. */
static void read_back(const pio_frame *frame, const uint8_t *bytes, size_t used)
{
	pio_err err = PIO_ERR_INIT;
	pio_str again = PIO_STR_INIT;
	pio_frame_hello hello;
	pio_frame_address table[WORLD];
	char text[64];
	if (pio_frame_get_hello(&hello, frame, &err) == 0) {
		CHECK(strlen(hello.token) < sizeof hello.token);
		CHECK(strlen(hello.address.host) < sizeof hello.address.host);
		pio_frame_put_hello(&again, &hello);
		/* A patience of 0 is written as none. */
		CHECK(again.failed || !hello.patience_ms ||
		      (again.len == used && !memcmp(again.data, bytes, used)));
	} else {
		CHECK(err.message[0]);
	}
	pio_str_clear(&again);
	if (pio_frame_get_table(table, WORLD, frame, &err) == 0) {
		pio_frame_put_table(&again, table, WORLD);
		CHECK(again.failed || (again.len == used && !memcmp(again.data, bytes, used)));
	}
	if (pio_frame_get_text(text, sizeof text, frame, &err) == 0)
		CHECK(strlen(text) < sizeof text);
	pio_str_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	pio_frame frame;
	size_t used = 0, at = 0;
	int rc;
	while ((rc = pio_frame_next(&frame, &used, data + at, size_bytes - at, &err)) == 1) {
		CHECK(used >= PIO_FRAME_HEADER_BYTES && used <= size_bytes - at);
		CHECK(frame.payload == data + at + PIO_FRAME_HEADER_BYTES);
		CHECK(frame.size_bytes == used - PIO_FRAME_HEADER_BYTES);
		read_back(&frame, data + at, used);
		at += used;
	}
	CHECK(rc == 0 || (rc == -PIO_ECORRUPT && err.message[0]));
	return 0;
}
