/* resume.h: the index from which a rank reads its starting checkpoint.
 *
 * A text file written by the store beside the attempt, so that a training
 * program needs no JSON parser and no database. First line
 * "pioche-resume 2 STEP"; then a line for each file and behind it one for each
 * tensor in it, fields separated by tabs:
 *
 *   file    ROLE  RANK  PATH
 *   tensor  NAME  DTYPE  OFFSET  SHAPE
 *   tensor  NAME  DTYPE  OFFSET  SHAPE  WHOLE  BEGIN
 *   slice   NAME  DTYPE  OFFSET  SHAPE  WHOLE  BEGIN
 *
 * RANK saved the file. DTYPE is the safetensors name ("F32"), OFFSET the position
 * of the tensor's bytes in the file, PATH absolute. SHAPE is "2,3", empty for a
 * scalar. A part of a larger tensor has the shape of that behind its own, and where
 * it begins: "0,3", or "@12" if it is a run of its elements (pio_part). A slice is part
 * of a tensor that RANK saved whole, too large for one file: the slices of one rank are
 * all of it. In ROLE, NAME and PATH, backslash, tab and newline are written \\ \t \n. */
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
/* pio_resume_read for `rank`. Reads what it needs and nothing else. */
int pio_resume_tensor(const pio_resume *resume, int rank, const char *role, const char *name,
                      pio_dtype dtype, int ndim, const int64_t *shape, const pio_part *part,
                      void *data, pio_err *err);
void pio_resume_close(pio_resume **resume);

/* "F32" for PIO_F32; its size in bytes. */
const char *pio_dtype_name(pio_dtype dtype);
size_t pio_dtype_bytes(pio_dtype dtype);
/* Of a tensor. PIO_EINVAL names it and says what is wrong with type or shape. */
int pio_tensor_bytes(uint64_t *size_bytes, const char *name, pio_dtype dtype, int ndim,
                     const int64_t *shape, pio_err *err);

#endif
