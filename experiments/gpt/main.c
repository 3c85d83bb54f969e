/* gpt, and of the same source gpt_cuda: the reference training program. See options.h for its command line and
 * train.h for what it does; exit status 0, 1 (a mistake of the user's), 2
 * (wrong usage), 3 (the system's failure), 128 + n (stopped by signal n). */
#include "device.h"
#include "err.h"
#include "options.h"
#include "train.h"

#include <stdio.h>
#include <stdlib.h>

static void log_parameter(void *run, const char *name, const char *json)
{
	pio_fact(run, 'p', name, json);
}

/* Open the run. Without one a program trains on unrecorded, unless it is one
 * of many: these need the run to find each other. */
static int open_run(pio_run **run, const gpt_options *options, gpt_err *err)
{
	const char *world = getenv("WORLD_SIZE");

	if (pio_open(run, "gpt") == 0) {
		if (!world && !options->generate)
			gpt_options_walk(options, log_parameter, *run);
		return GPT_OK;
	}
	if ((world && atoi(world) > 1) || options->generate)
		return gpt_err_set(err, GPT_SYSTEM, "%s", pio_error());
	fprintf(stderr, "gpt: nothing will be recorded: %s\n", pio_error());
	return GPT_OK;
}

int main(int argc, char **argv)
{
	gpt_options options;
	gpt_err err = {""};
	pio_run *run = NULL;
	int status = gpt_options_parse(&options, argc, argv, &err);

	if (status == GPT_OK && options.help) {
		gpt_options_print(stdout);
		return GPT_OK;
	}
	if (status == GPT_OK)
		status = open_run(&run, &options, &err);
	if (status == GPT_OK)
		status = gpt_device_open(&options, pio_info_get(run)->local_rank, &err);
	if (status == GPT_OK)
		status = options.generate ? gpt_generate(&options, run, &err)
		                          : gpt_train(&options, run, &err);
	gpt_device_close();
	if (err.text[0])
		fprintf(stderr, "gpt: %s\n", err.text);
	if (pio_close(&run, status) && status == GPT_OK) {
		fprintf(stderr, "gpt: %s\n", pio_error());
		status = GPT_SYSTEM;
	}
	return status;
}
