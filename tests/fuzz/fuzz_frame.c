/* Any bytes as what a stranger says to a rank, an agent or the head: whole frames are
 * taken one after the other, nothing is read beyond them, and what a reader
 * accepts is what a writer would have written. */
#include <stdlib.h>
#include <string.h>

#include "client/frame.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* What was read, written again, is the same frame. */
static void check_same(pio_str *again, const uint8_t *bytes, size_t used)
{
	CHECK(again->failed || (again->len == used && !memcmp(again->data, bytes, used)));
	pio_str_clear(again);
}

static void read_of_ranks(const pio_frame *frame, const uint8_t *bytes, size_t used)
{
	pio_err err = PIO_ERR_INIT;
	pio_str again = PIO_STR_INIT;
	pio_frame_hello hello;
	pio_frame_address next;
	char text[64];
	if (pio_frame_get_hello(&hello, frame, &err) == 0) {
		CHECK(strlen(hello.token) < sizeof hello.token);
		CHECK(strlen(hello.address.host) < sizeof hello.address.host);
		pio_frame_put_hello(&again, &hello);
		if (hello.patience_ms) /* a patience of 0 is written as none */
			check_same(&again, bytes, used);
	} else {
		CHECK(err.message[0]);
	}
	pio_str_clear(&again);
	if (pio_frame_get_next(&next, frame, &err) == 0) {
		pio_frame_put_next(&again, &next);
		check_same(&again, bytes, used);
	}
	if (pio_frame_get_text(text, sizeof text, frame, &err) == 0)
		CHECK(strlen(text) < sizeof text);
	pio_str_fini(&again);
}

static void read_of_agents(const pio_frame *frame, const uint8_t *bytes, size_t used)
{
	pio_str again = PIO_STR_INIT;
	pio_frame_join join;
	pio_frame_here here;
	int64_t agent_ns, head_ns;
	uint32_t rank;
	bool without_bye;
	const char *text;
	size_t text_bytes;
	if (pio_frame_get_join(&join, frame, NULL) == 0) {
		CHECK(strlen(join.token) < sizeof join.token && strlen(join.host) < sizeof join.host &&
		      strlen(join.address) < sizeof join.address);
		pio_frame_put_join(&again, &join);
		check_same(&again, bytes, used);
	}
	if (pio_frame_get_here(&here, frame, NULL) == 0) {
		pio_frame_put_here(&again, &here);
		check_same(&again, bytes, used);
	}
	if (pio_frame_get_left(&rank, &without_bye, frame, NULL) == 0) {
		pio_frame_put_left(&again, rank, without_bye);
		check_same(&again, bytes, used);
	}
	if (pio_frame_get_ping(&agent_ns, frame, NULL) == 0) {
		pio_frame_put_ping(&again, agent_ns);
		check_same(&again, bytes, used);
	}
	if (pio_frame_get_pong(&agent_ns, &head_ns, frame, NULL) == 0) {
		pio_frame_put_pong(&again, agent_ns, head_ns);
		check_same(&again, bytes, used);
	}
	if (pio_frame_get_bytes(&text, &text_bytes, frame, NULL) == 0) {
		CHECK(text_bytes <= frame->size_bytes);
		pio_frame_put_bytes(&again, frame->type, text, text_bytes);
		check_same(&again, bytes, used);
	}
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
		read_of_ranks(&frame, data + at, used);
		read_of_agents(&frame, data + at, used);
		at += used;
	}
	CHECK(rc == 0 || (rc == -PIO_ECORRUPT && err.message[0]));
	return 0;
}
