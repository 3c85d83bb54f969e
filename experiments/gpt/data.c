#include "data.h"

#include "rng.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRAIN_STREAM = 2, BYTES = 256 };

static int map_file(gpt_data *data, int fd, const char *path, gpt_err *err)
{
	struct stat st;
	void *text;
	size_t least = 10 * (data->context + 1);

	if (fstat(fd, &st))
		return gpt_err_set(err, GPT_SYSTEM, "--text=%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return gpt_err_set(err, GPT_MISTAKE, "--text=%s: expected a regular file", path);
	data->size_bytes = (size_t)st.st_size;
	if (data->size_bytes < least)
		return gpt_err_set(err, GPT_MISTAKE,
		                   "--text=%s: has %zu bytes; expected at least %zu for --context=%zu "
		                   "(a tenth is validation)",
		                   path, data->size_bytes, least, data->context);
	text = mmap(NULL, data->size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return gpt_err_set(err, GPT_SYSTEM, "--text=%s: %s", path, strerror(errno));
	data->text = text;
	data->train_bytes = data->size_bytes - data->size_bytes / 10;
	return GPT_OK;
}

int gpt_data_open(gpt_data *data, const char *path, size_t context, gpt_err *err)
{
	int fd, status;

	*data = (gpt_data){.context = context};
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gpt_err_set(err, GPT_MISTAKE, "--text=%s: %s", path, strerror(errno));
	status = map_file(data, fd, path, err);
	close(fd);
	return status;
}

void gpt_data_close(gpt_data *data)
{
	if (data->text)
		munmap((void *)(uintptr_t)data->text, data->size_bytes);
	data->text = NULL;
}

const unsigned char *gpt_data_train(const gpt_data *data, uint64_t seed, int64_t step,
                                    size_t index)
{
	uint64_t places = data->train_bytes - data->context;

	return data->text + gpt_rng_below(places, seed, TRAIN_STREAM, (uint64_t)step, index);
}

const unsigned char *gpt_data_validation(const gpt_data *data, size_t index, size_t count)
{
	size_t last = data->size_bytes - data->train_bytes - data->context - 1;
	double part = count > 1 ? (double)index / (double)(count - 1) : 0;

	return data->text + data->train_bytes + (size_t)(part * (double)last);
}

double gpt_data_bigram(const gpt_data *data, size_t count)
{
	uint64_t (*pairs)[BYTES] = calloc(BYTES, sizeof *pairs);
	uint64_t firsts[BYTES] = {0};
	double total = 0;

	if (!pairs)
		return -1;
	for (size_t i = 0; i + 1 < data->train_bytes; i++) {
		pairs[data->text[i]][data->text[i + 1]]++;
		firsts[data->text[i]]++;
	}
	for (size_t i = 0; i < count; i++) {
		const unsigned char *w = gpt_data_validation(data, i, count);

		for (size_t j = 0; j < data->context; j++)
			total -= log((double)(pairs[w[j]][w[j + 1]] + 1)
			             / (double)(firsts[w[j]] + BYTES));
	}
	free(pairs);
	return total / (double)(count * data->context);
}
