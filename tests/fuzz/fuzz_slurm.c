/* Any text as an answer of Slurm's programs: nothing crashes or reads beyond
 * its end, and what is read keeps its promises. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "launch/slurm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char id[PIO_SLURM_ID_BYTES], *text = pio_calloc(size + 1, 1);
	pio_slurm_line line;
	pio_slurm_end end;
	pio_str words = PIO_STR_INIT;
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (pio_slurm_id(id, text))
		check(id[0] && strspn(id, "0123456789") == strlen(id));
	for (const char *at = text; pio_slurm_line_next(&line, &at);)
		check(line.id[0] && strspn(line.id, "0123456789") == strlen(line.id) && line.state[0]);
	if (pio_slurm_end_scontrol(&end, text) || pio_slurm_end_sacct(&end, text)) {
		check(pio_slurm_phase(end.state) != PIO_SLURM_UNREADABLE);
		check(pio_slurm_result(&words, &end, "1") != NULL);
	}
	(void)pio_slurm_trouble(text);
	pio_slurm_words(&words, text);
	check(!words.data || !strchr(words.data, '\n'));
	pio_str_fini(&words);
	pio_free(text);
	return 0;
}
