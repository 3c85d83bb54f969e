/* Any bytes as the texts of a bag: what is taken for a manifest is one, line by
 * line, and comes back as it was written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pack/bag.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void read_oxum(const char *text)
{
	int64_t bytes = -1, files = -1;
	if (pio_bag_oxum(text, &bytes, &files))
		CHECK(bytes >= 0 && files >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_bag_manifest manifest;
	pio_err err = PIO_ERR_INIT;
	pio_str text = PIO_STR_INIT, again = PIO_STR_INIT;
	pio_str_append(&text, data, size_bytes);
	CHECK(!text.failed);
	read_oxum(text.data);
	int rc = pio_bag_manifest_parse(&manifest, text.data, text.len, "fuzz", &err);
	CHECK(rc ? rc == -PIO_ECORRUPT && strncmp(err.message, "fuzz", 4) == 0 : 1);
	for (size_t i = 0; !rc && i < manifest.count; i++) {
		const pio_bag_line *line = &manifest.lines[i];
		CHECK(!pio_bag_path_problem(line->path) && pio_bag_manifest_find(&manifest, line->path) == line);
		pio_str_clear(&again);
		pio_bag_put_line(&again, line->sha256, line->path);
		CHECK(!again.failed && memmem(text.data, text.len, again.data, again.len));
	}
	pio_bag_manifest_fini(&manifest);
	pio_str_fini(&text);
	pio_str_fini(&again);
	return 0;
}
