/* err.h: how a function of the trainer says that it failed.
 *
 * A fallible function returns 0 or the exit status the program should end
 * with, and writes one line into `err`, which the caller owns. */
#ifndef GPT_ERR_H
#define GPT_ERR_H

enum {
	GPT_OK = 0,
	GPT_MISTAKE = 1, /* the user's: a bad value, a missing file */
	GPT_USAGE = 2,   /* the command line itself */
	GPT_SYSTEM = 3   /* no memory, I/O, a dead rank */
};

typedef struct gpt_err {
	char text[1024];
} gpt_err;

/* Format the message, cut to fit; returns `status`. */
int gpt_err_set(gpt_err *err, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
