/* Any bytes as an event file of TensorBoard: the importer never crashes, never
 * reads beyond what is there, and ends. A first byte that is odd means that
 * records follow (u16 length, bytes) which are framed here with right checksums,
 * so that a fuzzer gets behind them. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exchange/exchange.h"
#include "exchange/tfrecord.h"
#include "sys/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frame(pio_str *file, const uint8_t *data, size_t size)
{
	while (size >= 2) {
		size_t length = (size_t)(data[0] | data[1] << 8);
		length = length < size - 2 ? length : size - 2;
		pio_tfrecord_put(file, data + 2, length);
		data += 2 + length;
		size -= 2 + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *scratch = getenv("TMPDIR");
	char dir[256], path[300];
	int fd = -1;
	pio_str file = PIO_STR_INIT;
	if (size && data[0] & 1)
		frame(&file, data + 1, size - 1);
	else if (size)
		pio_str_append(&file, data + 1, size - 1);
	snprintf(dir, sizeof dir, "%s/fuzz-tfevents-XXXXXX", scratch ? scratch : "/tmp");
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof path, "%s/events.out.tfevents.1", dir);
	if (pio_fs_open(&fd, path, O_WRONLY | O_CREAT, 0600, NULL) ||
	    pio_fs_write_all(fd, file.data, file.len, path, NULL))
		abort();
	(void)pio_fs_close(&fd, path, NULL);

	pio_import_report report = PIO_IMPORT_REPORT_INIT;
	pio_import_options options = { .dry = true };
	pio_err err = PIO_ERR_INIT;
	if (pio_import(&report, NULL, "tensorboard", dir, &options, &err) != 0)
		abort(); /* whatever is in a file, it is no failure */
	if (report.runs_count != 1)
		abort();
	pio_import_report_fini(&report);
	pio_str_fini(&file);
	(void)pio_fs_remove_tree(dir, NULL);
	return 0;
}
