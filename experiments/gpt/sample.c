#include "sample.h"

#include "rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_STREAM = 3 };

static unsigned char choose(const float *logits, const gpt_sampling *s, uint64_t index)
{
	double weight[GPT_VOCABULARY], sum = 0, left;
	size_t best = 0, i;

	for (i = 1; i < GPT_VOCABULARY; i++)
		if (logits[i] > logits[best])
			best = i;
	if (s->temperature <= 0)
		return (unsigned char)best;
	for (i = 0; i < GPT_VOCABULARY; i++) {
		weight[i] = exp((double)(logits[i] - logits[best]) / s->temperature);
		sum += weight[i];
	}
	left = gpt_rng_uniform(s->seed, SAMPLE_STREAM, s->stream, index) * sum;
	for (i = 0; i < GPT_VOCABULARY; i++) {
		left -= weight[i];
		if (left < 0)
			return (unsigned char)i;
	}
	return (unsigned char)best; /* rounding, or logits that are not numbers */
}

int gpt_sample(unsigned char *out, size_t count, gpt_model *model, size_t context,
               const char *prompt, size_t prompt_bytes, const gpt_sampling *sampling,
               gpt_err *err)
{
	size_t used = prompt_bytes < context ? prompt_bytes : context, fed = 0;
	unsigned char *seen = malloc(context);
	const float *logits;
	int status = GPT_OK;

	if (!seen)
		return gpt_err_set(err, GPT_SYSTEM, "no memory for a sample");
	memcpy(seen, prompt + prompt_bytes - used, used);
	for (size_t i = 0; i < count; i++) {
		status = gpt_model_feed(&logits, model, seen + fed, fed, used - fed, err);
		if (status)
			break;
		fed = used;
		out[i] = choose(logits, sampling, i);
		if (used == context) {
			used = context / 2;
			fed = 0;
			memmove(seen, seen + context - used, used);
		}
		seen[used++] = out[i];
	}
	free(seen);
	return status;
}

/* Length of the UTF-8 character at `s`, 0 if it is none (RFC 3629). */
static size_t character(const unsigned char *s, size_t left)
{
	size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3
	                : s[0] < 0xf5 ? 4 : 0;

	if (length > left || (length == 1 && s[0] < ' ' && s[0] != '\n' && s[0] != '\t')
	    || s[0] == 0x7f)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)
	    || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return length;
}

void gpt_sample_clean(unsigned char *text, size_t count)
{
	for (size_t i = 0; i < count;) {
		size_t length = character(text + i, count - i);

		if (length == 0)
			text[i] = '?';
		i += length ? length : 1;
	}
}
