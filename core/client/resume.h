/* resume.h: the index from which a rank reads its starting checkpoint.
 *
 * A text file written by the store beside the attempt, so that a training
 * program needs no JSON parser and no database. First line
 * "pioche-resume 1 STEP", then one line a tensor, fields separated by tabs:
 *
 *   role  name  dtype  size_bytes  offset  path
 *
 * dtype is the safetensors name ("F32"), offset the position of the tensor's
 * bytes in the file, path absolute. In role, name and path, backslash, tab and
 * newline are written \\ \t \n. */
#ifndef PIO_CLIENT_RESUME_H
#define PIO_CLIENT_RESUME_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "client/pioche.h"

typedef struct pio_resume pio_resume;

/* Reads and checks the index; PIO_ECORRUPT names the line. */
int pio_resume_open(pio_resume **resume, const char *path, pio_err *err);
int64_t pio_resume_step(const pio_resume *resume);
int pio_resume_tensor(const pio_resume *resume, const char *role, const char *name,
                      pio_dtype dtype, size_t size_bytes, void *data, pio_err *err);
void pio_resume_close(pio_resume **resume);

/* "F32" for PIO_F32; its size in bytes. */
const char *pio_dtype_name(pio_dtype dtype);
size_t pio_dtype_bytes(pio_dtype dtype);

#endif
