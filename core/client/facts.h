/* facts.h: what a program runs on and with, as far as this process can see it:
 * kernel, system, libc, CPU, memory, limits, container, and variables that
 * change results or speed. Never a secret: of the environment only names of a
 * list are taken, and none of those that sound like a credential.
 *
 * What differs from run to run by itself (time, load, process numbers, the
 * working directory, the host's name) is not among them, so that two runs on
 * machines of a kind have the same bytes. Libraries: libc alone. */
#ifndef PIO_CLIENT_FACTS_H
#define PIO_CLIENT_FACTS_H

#include "base/str.h"

/* Append the members of a JSON object, without its braces; keys in order. envp:
 * "NAME=value", NULL-terminated, any order. */
void pio_facts_put(pio_str *json, char *const *envp);

/* Append the payload of an ENVIRONMENT record (sys/journal.h). host, cwd NULL:
 * those of this process. */
void pio_facts_payload(pio_str *payload, unsigned rank, const char *part, const char *host,
                       const char *cwd, const char *json, size_t json_bytes);

#endif
