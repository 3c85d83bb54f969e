/* A training program with pioche in 30 lines, as C11 and as C++17:
 *   cc example.c $(pkg-config --cflags --libs pioche) */
#include <pioche.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	pio_run *run;
	if (pio_open(&run, "hello-c") != 0) /* training goes on without a log */
		fprintf(stderr, "%s\n", pio_error());
	pio_fact(run, 'p', "lr", "0.125");

	pio_key loss = pio_key_get(run, "train/loss");
	pio_key tokens = pio_key_get(run, "tokens");
	float weights[4] = { -1, 0, 0.5, 2 };
	for (int step = 1; step <= 100; step++) {
		pio_log(run, loss, step, 1.0 / step);
		pio_log_int(run, tokens, step, INT64_C(1000000007) * step);
		if (step % 50 == 0)
			pio_log_histogram(run, "weights", step, PIO_F32, weights, 4);
	}

	const char *sample = "In the beginning";
	const char *table = "{\"columns\":[\"class\",\"right\"],\"data\":[[\"cat\",\"dog\"],[0.9,0.7]]}";
	pio_log_media(run, PIO_TEXT, "sample", 100, NULL, sample, strlen(sample));
	pio_log_media(run, PIO_TABLE, "accuracy", 100, NULL, table, strlen(table));
	pio_fact(run, 's', "best", "0.01");
	return pio_close(&run, 0) != 0;
}
