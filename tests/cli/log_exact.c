/* log_exact: log what a file of records says, as libpioche takes it from C, for
 * test_exact.py, which does the same from Python. A record is u32 key, u32 is it a
 * whole number, i64 step, 8 bytes of the value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/pioche.h"

struct record {
	uint32_t key, is_whole;
	int64_t step;
	uint64_t bits;
};

static int failed(const char *what)
{
	fprintf(stderr, "log_exact: %s: %s\n", what, pio_error());
	return 1;
}

/* `log_exact EXPERIMENT RECORDS KEYS` */
int main(int argc, char **argv)
{
	pio_run *run;
	struct record r;
	char name[32];
	if (argc != 4 || pio_open(&run, argv[1]) != 0)
		return failed("pio_open");
	uint32_t keys = (uint32_t)atoi(argv[3]);
	pio_key *numbers = calloc(keys, sizeof *numbers);
	FILE *file = fopen(argv[2], "rb");
	if (!file || !numbers)
		return failed(argv[2]);
	while (fread(&r, sizeof r, 1, file) == 1) {
		double value;
		memcpy(&value, &r.bits, sizeof value);
		if (!numbers[r.key]) {
			snprintf(name, sizeof name, "key/%06u", r.key);
			numbers[r.key] = pio_key_get(run, name);
		}
		if (r.is_whole ? pio_log_int(run, numbers[r.key], r.step, (int64_t)r.bits)
		               : pio_log(run, numbers[r.key], r.step, value))
			return failed(name);
	}
	fclose(file);
	free(numbers);
	return pio_close(&run, 0) ? failed("pio_close") : 0;
}
