/* stored.h: an object's bytes, however it lies on the disk: the one way by which they
 * are read.
 *
 * DIR/ab/<sha256> has the bytes as they are. Where there is only
 * DIR/ab/<sha256>.enc, they are decoded as they are read (encoded.h), with an anchor
 * that is an object of the same DIR and has no anchor itself. Callers know the first
 * name alone; any other path is that of a plain file.
 *
 * What is read of an encoded one is the MiB around it, of which the newest is kept.
 * One thread a handle. */
#ifndef PIO_SYS_STORED_H
#define PIO_SYS_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "sys/reread.h"

#define PIO_STORED_ENCODED ".enc"

typedef struct pio_stored pio_stored;

/* PIO_ENOTFOUND if neither is there; PIO_ECORRUPT if it is encoded and damaged, or its
 * anchor is gone. */
int pio_stored_open(pio_stored **stored, const char *path, pio_err *err);
int64_t pio_stored_bytes(const pio_stored *stored);
bool pio_stored_is_encoded(const pio_stored *stored);
/* Exactly so many bytes from `at` on. PIO_ECORRUPT: they are not there, or damaged. */
int pio_stored_read(pio_stored *stored, void *bytes, size_t size_bytes, int64_t at, pio_err *err);
/* It will be read from here on, in order. */
void pio_stored_expect(pio_stored *stored, int64_t at, int64_t size_bytes);
/* NULL inside is fine. */
void pio_stored_close(pio_stored **stored);

/* pio_reread_file of an encoded file: its bytes, decoded, hashed; what it is decoded with
 * comes from the disk, too. Stops at no frame that is damaged, but tells damage(context,
 * from, to) which bytes of the object it holds; *damaged: there is one. An error of the
 * system that is no damage (pio_reread_is_damage) fails. `path` is the encoded file's own,
 * which may lie elsewhere than in `dir`, where its anchor is. */
typedef void pio_stored_damage(void *context, int64_t from, int64_t to);
int pio_stored_reread(pio_reread *reread, bool *damaged, const char *path, const char *dir,
                      pio_reread_progress *progress, void *context, pio_stored_damage *damage,
                      void *damage_context, pio_err *err);

#endif
