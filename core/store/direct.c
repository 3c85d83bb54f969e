#include "store/direct.h"

#include "store/ingest_slots.h"

int pio_store_log(pio_store *store, int64_t run_id, const char *key, size_t key_bytes,
                  const pio_chunk_point *points, size_t count, pio_err *err)
{
	pio_slots slots = PIO_SLOTS_INIT;
	pio_slots_owner owner = { .store = store, .run_id = run_id, .attempt = 1 };
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < count; i++)
		rc = pio_slots_add(&slots, &owner, key, key_bytes, &points[i], err);
	if (rc == 1)
		rc = pio_fail(err, PIO_EINVAL, "a series cannot have such a name: expected 1 to %d bytes of UTF-8",
		              PIO_SLOTS_KEY_BYTES_MAX);
	if (!rc)
		rc = pio_slots_flush(&slots, &owner, err);
	pio_slots_fini(&slots);
	if (!rc)
		return pio_store_commit(store, err);
	pio_store_rollback(store);
	return rc;
}
