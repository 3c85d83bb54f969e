/* check.h: calls of a library that answers 0, or a number of its own (CUDA,
 * NCCL).
 *
 * Three ways to go on after a failure: return it, go to a label with it, or
 * keep the first and carry on, as clean-up does. A failure of one rank among a
 * thousand is found by its message, so that carries host, pid, rank and the
 * place in the source:
 *
 *   ncclAllReduce: remote process exited (6); dgx-047, pid 812, rank 371, comm_nccl.c:88
 */
#ifndef PIO_BASE_CHECK_H
#define PIO_BASE_CHECK_H

#include "base/err.h"

/* The library's words for a result; static storage. */
typedef const char *pio_check_words(int result);

/* Fill `err`, return -PIO_EIO. `call` is the source text of the call, of which
 * the function's name counts. */
int pio_check_fail(pio_err *err, int result, pio_check_words *words, const char *call,
                   const char *file, int line);

#define PIO_CHECK_RETURN(err, words, call)                                                         \
	do {                                                                                       \
		int result_ = (int)(call);                                                         \
		if (result_ != 0)                                                                  \
			return pio_check_fail((err), result_, (words), #call, __FILE__, __LINE__); \
	} while (0)

#define PIO_CHECK_GOTO(rc, label, err, words, call)                                                \
	do {                                                                                       \
		int result_ = (int)(call);                                                         \
		if (result_ != 0) {                                                                \
			(rc) = pio_check_fail((err), result_, (words), #call, __FILE__, __LINE__); \
			goto label;                                                                \
		}                                                                                  \
	} while (0)

/* `err` is never NULL here. */
#define PIO_CHECK_KEEP(err, words, call)                                                           \
	do {                                                                                       \
		int result_ = (int)(call);                                                         \
		if (result_ != 0 && (err)->code == 0)                                              \
			(void)pio_check_fail((err), result_, (words), #call, __FILE__, __LINE__);  \
	} while (0)

#endif
