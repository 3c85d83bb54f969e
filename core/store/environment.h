/* environment.h: what attempts ran on and with.
 *
 * A document is kept once, by the SHA-256 of its canonical JSON: 127 equal nodes
 * and the thousand attempts that ran on them share one. */
#ifndef PIO_STORE_ENVIRONMENT_H
#define PIO_STORE_ENVIRONMENT_H

#include "store/store.h"

#define PIO_ENVIRONMENT_BYTES_MAX (1u << 20)

typedef struct pio_store_environment {
	int64_t attempt_id;
	int node;                       /* number in the attempt */
	const char *part;               /* "machine" or "python", or what another client calls its own */
	const char *host, *cwd;
	const char *json;               /* an object */
	size_t json_bytes;
} pio_store_environment;

/* Replaces what the part of that node had. PIO_ECORRUPT: no JSON object, or a
 * part without a name; PIO_EINVAL: longer than PIO_ENVIRONMENT_BYTES_MAX. */
int pio_store_environment_set(pio_store *store, const pio_store_environment *environment, pio_err *err);

#endif
