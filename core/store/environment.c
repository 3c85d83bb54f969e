#include "store/environment.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "store/sql.h"
#include "sys/hash.h"

static int insert(pio_store *store, const pio_store_environment *e, const char *text, pio_err *err)
{
	char hex[PIO_SHA256_HEX + 1];
	int rc = pio_sha256_bytes(text, strlen(text), hex, err);
	if (!rc)
		rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT INTO environment (sha256, document) VALUES (?1, ?2)"
	                  " ON CONFLICT (sha256) DO NOTHING", "tt", hex, text);
	if (!rc)
		rc = pio_sql_exec(store, err, "INSERT OR REPLACE INTO attempt_environment (attempt_id, part, node,"
		                  " host, cwd, sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", "itittt", e->attempt_id,
		                  e->part, (int64_t)e->node, e->host, e->cwd, hex);
	if (rc) {
		pio_store_rollback(store);
		return rc;
	}
	return pio_store_commit(store, err);
}

int pio_store_environment_set(pio_store *store, const pio_store_environment *e, pio_err *err)
{
	json_t *document = NULL;
	if (!e->part[0])
		return pio_fail(err, PIO_ECORRUPT, "an environment without a name");
	if (e->json_bytes > PIO_ENVIRONMENT_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "environment \"%s\" has %zu bytes, at most %u are kept", e->part,
		                e->json_bytes, PIO_ENVIRONMENT_BYTES_MAX);
	int rc = pio_json_parse(&document, e->json, e->json_bytes, "environment", err);
	if (!rc && !json_is_object(document))
		rc = pio_fail(err, PIO_ECORRUPT, "environment \"%s\" is no JSON object", e->part);
	char *text = rc ? NULL : pio_json_canonical(document);
	if (!rc)
		rc = text ? insert(store, e, text, err) : pio_fail(err, PIO_ENOMEM, "out of memory for JSON");
	free(text);
	json_decref(document);
	return rc;
}
