/* Any bytes as an encoded file: it is refused with a message, or its frames are read; a
 * frame that is accepted is the same bytes again, and those of another anchor with
 * another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/encoded.h"
#include "sys/fs.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)
#define FRAMES_MAX 64

static uint8_t once[1 << 20], again[1 << 20], anchor[1 << 20];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void read_frame(pio_encoded *encoded, int64_t n, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_encoded_read(encoded, n, once, NULL, &err);
	if (rc) {
		CHECK((rc == -PIO_ECORRUPT) && err.message[0]);
		return;
	}
	CHECK(pio_encoded_read(encoded, n, again, anchor, &err) == 0);
	for (size_t i = 0; i < size_bytes; i++)
		CHECK((once[i] ^ anchor[i]) == again[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	pio_encoded *encoded;
	char path[64];
	int64_t live = pio_mem_live();
	int fd = memfd_create("encoded", MFD_CLOEXEC);
	CHECK(fd >= 0 && pio_fs_write_all(fd, data, size_bytes, "memfd", NULL) == 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < sizeof anchor && !anchor[sizeof anchor - 1]; i++) /* once; the last is not 0 */
		anchor[i] = (uint8_t)(i * 2654435761u >> 24);
	int rc = pio_encoded_open(&encoded, path, &err);
	close(fd);
	if (rc) {
		CHECK(rc == -PIO_ECORRUPT && err.message[0] && !encoded);
		CHECK(pio_mem_live() == live);
		return 0;
	}
	const pio_encoded_head *head = pio_encoded_head_get(encoded);
	int64_t frames = pio_encoded_frames(head->bytes), bytes = 0;
	CHECK(head->bytes > 0 && frames > 0 && strlen(head->sha256) == 64);
	CHECK(!head->anchor[0] || strlen(head->anchor) == 64);
	for (int64_t n = 0; n < frames; n++) {
		size_t frame = pio_encoded_frame_bytes(head->bytes, n);
		CHECK(frame > 0 && frame <= sizeof once);
		bytes += (int64_t)frame;
		if (n < FRAMES_MAX)
			read_frame(encoded, n, frame);
	}
	CHECK(bytes == head->bytes);
	pio_encoded_close(&encoded);
	CHECK(!encoded && pio_mem_live() == live);
	return 0;
}
