/* Runs a fuzz target over a corpus without a fuzzer: link it with one
 * fuzz_*.c under any compiler. Files or directories are its arguments, else
 * the target's own corpus (FUZZ_CORPUS). Every input that once broke something
 * lives there and is tried again by this, one line of TAP each. Exit status 0
 * if all came back, 1 if there was none. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"
#include "sys/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static int run_file(const char *path)
{
	pio_err err = PIO_ERR_INIT;
	pio_str bytes = PIO_STR_INIT;
	if (pio_fs_read(&bytes, path, &err)) {
		fprintf(stderr, "%s\n", err.message);
		pio_str_fini(&bytes);
		return -1;
	}
	/* An exact copy, so that a sanitizer sees a read of one byte too many. */
	uint8_t *copy = malloc(bytes.len ? bytes.len : 1);
	if (!copy)
		abort();
	for (size_t i = 0; i < bytes.len; i++)
		copy[i] = (uint8_t)bytes.data[i];
	LLVMFuzzerTestOneInput(copy, bytes.len);
	printf("ok - %s\n", path);
	free(copy);
	pio_str_fini(&bytes);
	return 1;
}

static int run_path(const char *path)
{
	char **names = NULL;
	size_t count = 0;
	int done = 0;
	if (pio_fs_type(path) != PIO_FS_DIR)
		return run_file(path);
	if (pio_fs_list(&names, &count, path, NULL))
		return -1;
	for (size_t i = 0; i < count && done >= 0; i++) {
		pio_str child = PIO_STR_INIT;
		pio_str_printf(&child, "%s/%s", path, names[i]);
		int n = child.failed ? -1 : run_path(child.data);
		done = n < 0 ? -1 : done + n;
		pio_str_fini(&child);
	}
	pio_fs_list_free(names, count);
	return done;
}

int main(int argc, char **argv)
{
	int done = argc > 1 ? 0 : run_path(FUZZ_CORPUS);
	for (int i = 1; i < argc && done >= 0; i++) {
		int n = run_path(argv[i]);
		done = n < 0 ? -1 : done + n;
	}
	return done > 0 ? 0 : 1;
}
