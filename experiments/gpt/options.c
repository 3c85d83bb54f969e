#include "options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { INTEGER, NUMBER, STRING, CHOICE } kind;

typedef struct flag {
	const char *name;
	kind kind;
	size_t offset;
	const char *preset; /* NULL: must be given or stays empty */
	double min, max;    /* both included; `below` excludes max */
	int below;
	const char *meaning;
} flag;

#define AT(field) offsetof(gpt_options, field)
#define ANY_INT 9007199254740992.0 /* 2^53 */

static const flag flags[] = {
	{"text", STRING, AT(text), NULL, 0, 0, 0, "file to learn; its last tenth is validation"},
	{"width", INTEGER, AT(width), "64", 1, 8192, 0, "channels of the residual stream"},
	{"heads", INTEGER, AT(heads), "4", 1, 1024, 0, "attention heads; divides width"},
	{"depth", INTEGER, AT(depth), "2", 1, 256, 0, "blocks"},
	{"context", INTEGER, AT(context), "128", 1, 8192, 0, "bytes a prediction can see"},
	{"batch", INTEGER, AT(batch), "8", 1, 1048576, 0, "windows a step, over all ranks"},
	{"steps", INTEGER, AT(steps), "400", 1, ANY_INT, 0, "updates"},
	{"until", INTEGER, AT(until), "0", 0, ANY_INT, 0, "step at which it saves and ends; 0: after all"},
	{"lr", NUMBER, AT(lr), "0.003", 0, 1e6, 0, "learning rate at its highest"},
	{"warmup", INTEGER, AT(warmup), "20", 0, ANY_INT, 0, "steps until then"},
	{"optimizer", CHOICE, AT(optimizer), "adamw", 0, 0, 0, "adamw or sgd"},
	{"beta1", NUMBER, AT(beta1), "0.9", 0, 1, 1, "adamw: memory of the gradient"},
	{"beta2", NUMBER, AT(beta2), "0.95", 0, 1, 1, "adamw: memory of its square"},
	{"momentum", NUMBER, AT(momentum), "0.9", 0, 1, 1, "sgd: memory of the gradient"},
	{"weight-decay", NUMBER, AT(weight_decay), NULL, 0, 1e6, 0,
	 "of matrices, times lr; left out: 0.1 for adamw, 0 for sgd, whose lr is large"},
	{"clip", NUMBER, AT(clip), "1", 0, 1e30, 0, "largest norm of a gradient; 0: any"},
	{"precision", CHOICE, AT(precision), "f32", 0, 0, 0,
	 "f32, or bf16 with weights of f32 (gpt_cuda)"},
	{"seed", INTEGER, AT(seed), "1", 0, ANY_INT, 0, "of weights, windows and samples"},
	{"log-every", INTEGER, AT(log_every), "1", 1, ANY_INT, 0, "steps between points"},
	{"step-ms", INTEGER, AT(step_ms), "0", 0, 3600000, 0, "a step takes at least so long"},
	{"eval-every", INTEGER, AT(eval_every), "100", 0, ANY_INT, 0, "0: at the end alone"},
	{"eval-batches", INTEGER, AT(eval_batches), "8", 1, 1048576, 0, "batches of validation"},
	{"save-every", INTEGER, AT(save_every), "0", 0, ANY_INT, 0, "0: at the end alone"},
	{"sample-bytes", INTEGER, AT(sample_bytes), "400", 0, 1048576, 0, "0: no sample"},
	{"sample-every", INTEGER, AT(sample_every), "0", 0, ANY_INT, 0, "0: at the end alone"},
	{"temperature", NUMBER, AT(temperature), "0.8", 0, 1e6, 0, "0: the likeliest byte"},
	{"prompt", STRING, AT(prompt), "\n", 0, 0, 0, "what a sample begins after"},
	{"patience", INTEGER, AT(patience), "1800", 1, 1 << 20, 0,
	 "gpt_cuda: seconds that a step waits for other ranks"},
	{"generate", INTEGER, AT(generate), "0", 0, 1 << 30, 0,
	 "print so many bytes from the checkpoint, do not train"},
};

static const struct {
	const char *name, *one, *other;
} choices[] = {{"optimizer", "adamw", "sgd"}, {"precision", "f32", "bf16"}};

enum { FLAGS = sizeof flags / sizeof *flags };

static int expected(gpt_err *err, const char *name, const char *value, const char *what)
{
	return gpt_err_set(err, GPT_USAGE, "--%s=%s: expected %s", name, value, what);
}

static int set_integer(gpt_options *o, const flag *f, const char *name, const char *value,
                       gpt_err *err)
{
	char what[96], *end;
	long long number;

	errno = 0;
	number = strtoll(value, &end, 10);
	snprintf(what, sizeof what, "a whole number from %.0f to %.0f", f->min, f->max);
	if (*value == 0 || strchr(" \t\n\v\f\r", *value) || *end || errno
	    || number < (long long)f->min || number > (long long)f->max)
		return expected(err, name, value, what);
	memcpy((char *)o + f->offset, &(int64_t){number}, sizeof(int64_t));
	return GPT_OK;
}

static int set_number(gpt_options *o, const flag *f, const char *name, const char *value,
                      gpt_err *err)
{
	char what[96], *end;
	double number = strtod(value, &end);

	snprintf(what, sizeof what, "a number from %g to %s%g", f->min, f->below ? "below " : "",
	         f->max);
	if (*value == 0 || strchr(" \t\n\v\f\r", *value) || *end || !isfinite(number)
	    || number < f->min || number > f->max || (f->below && !(number < f->max)))
		return expected(err, name, value, what);
	memcpy((char *)o + f->offset, &number, sizeof number);
	return GPT_OK;
}

static int check_choice(const flag *f, const char *name, const char *value, gpt_err *err)
{
	char what[32];
	size_t i = 0;

	while (strcmp(choices[i].name, f->name) != 0)
		i++;
	snprintf(what, sizeof what, "%s or %s", choices[i].one, choices[i].other);
	if (strcmp(value, choices[i].one) != 0 && strcmp(value, choices[i].other) != 0)
		return expected(err, name, value, what);
	return GPT_OK;
}

static int set_flag(gpt_options *o, const flag *f, const char *name, const char *value,
                    gpt_err *err)
{
	int status = GPT_OK;

	switch (f->kind) {
	case INTEGER:
		return set_integer(o, f, name, value, err);
	case NUMBER:
		return set_number(o, f, name, value, err);
	case CHOICE:
		status = check_choice(f, name, value, err);
		break;
	case STRING:
		if (*value == 0)
			status = expected(err, name, value, "at least one byte");
		break;
	}
	if (status == GPT_OK)
		memcpy((char *)o + f->offset, &value, sizeof value);
	return status;
}

static const flag *find_flag(const char *name)
{
	for (size_t i = 0; i < FLAGS; i++)
		if (strcmp(flags[i].name, name) == 0)
			return &flags[i];
	return NULL;
}

static int parse_one(gpt_options *o, const char *argument, gpt_err *err)
{
	const char *equals = strchr(argument, '='), *name, *dot;
	const flag *f;
	char whole[128];

	if (strcmp(argument, "--help") == 0) {
		o->help = 1;
		return GPT_OK;
	}
	if (strncmp(argument, "--", 2) != 0 || !equals)
		return gpt_err_set(err, GPT_USAGE, "%s: expected --name=value (see --help)",
		                   argument);
	snprintf(whole, sizeof whole, "%.*s", (int)(equals - argument - 2), argument + 2);
	dot = strrchr(whole, '.');
	name = dot ? dot + 1 : whole;
	f = find_flag(name);
	if (!f)
		return gpt_err_set(err, GPT_USAGE,
		                   "--%s=%s: expected a known flag; --help lists them", whole,
		                   equals + 1);
	return set_flag(o, f, whole, equals + 1, err);
}

int gpt_options_parse(gpt_options *options, int argc, char *const *argv, gpt_err *err)
{
	int status;

	*options = (gpt_options){.weight_decay = -1};
	for (size_t i = 0; i < FLAGS; i++) {
		if (!flags[i].preset)
			continue;
		status = set_flag(options, &flags[i], flags[i].name, flags[i].preset, err);
		if (status)
			return status;
	}
	for (int i = 1; i < argc; i++) {
		status = parse_one(options, argv[i], err);
		if (status)
			return status;
	}
	if (options->weight_decay < 0)
		options->weight_decay = strcmp(options->optimizer, "sgd") == 0 ? 0 : 0.1;
	if (!options->text && !options->generate && !options->help)
		return gpt_err_set(err, GPT_USAGE, "--text=PATH: expected the file to learn");
	return GPT_OK;
}

void gpt_options_print(FILE *to)
{
	fprintf(to, "usage: gpt --text=PATH [--name=value ...]\n\n");
	for (size_t i = 0; i < FLAGS; i++) {
		const char *preset = flags[i].preset ? flags[i].preset : "";

		fprintf(to, "  --%-14s %-8s %s\n", flags[i].name, *preset == '\n' ? "\\n" : preset,
		        flags[i].meaning);
	}
}

/* `text` as a JSON string, cut to fit. */
static void quote(char *to, size_t size, const char *text)
{
	size_t n = 0;

	to[n++] = '"';
	for (; *text && n + 8 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < ' ' || c == '"' || c == '\\')
			n += (size_t)snprintf(to + n, size - n, "\\u%04x", c);
		else
			to[n++] = *text;
	}
	to[n++] = '"';
	to[n] = 0;
}

void gpt_options_walk(const gpt_options *options,
                      void (*each)(void *context, const char *name, const char *json),
                      void *context)
{
	char json[4096];

	for (size_t i = 0; i < FLAGS; i++) {
		const char *at = (const char *)options + flags[i].offset, *string;
		int64_t integer;
		double number;

		if (flags[i].kind == INTEGER) {
			memcpy(&integer, at, sizeof integer);
			snprintf(json, sizeof json, "%lld", (long long)integer);
		} else if (flags[i].kind == NUMBER) {
			memcpy(&number, at, sizeof number);
			snprintf(json, sizeof json, "%.17g", number);
		} else {
			memcpy(&string, at, sizeof string);
			if (!string)
				continue;
			quote(json, sizeof json, string);
		}
		each(context, flags[i].name, json);
	}
}
