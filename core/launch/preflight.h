/* preflight.h: is this node fit for the ranks that it is to run?
 *
 * Looked at before any rank starts, in a second or two:
 *
 *   store, tmp   room on the disks
 *   shm          room for the rings of all ranks
 *   memory       what the machine can give
 *   files        open files that a process may have
 *   host         does the node's name resolve?
 *   clock        how far the wall clock is from the head's, on several nodes
 *   gpus         does the driver answer for each, are as many there as the
 *                scheduler says, is each that the ranks see free of errors (its
 *                memory's, and those that left it in need of a reset: nvml.h), and
 *                may a process lock memory, as RDMA needs?
 *
 * A check is 'ok', a 'warning', or has 'failed': then nothing is started. */
#ifndef PIO_LAUNCH_PREFLIGHT_H
#define PIO_LAUNCH_PREFLIGHT_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "launch/agent_spec.h"

#define PIO_SKEW_UNKNOWN INT64_MIN

/* *checks is an array of { "name", "state", "message", "time_ns" }, one a check;
 * the caller owns it. The messages of those that failed are appended to
 * `failures`, with "; " between them. `skew_ns`: this wall clock minus the head's. */
int pio_preflight(json_t **checks, pio_str *failures, const pio_agent_spec *spec, int64_t skew_ns,
                  pio_err *err);

#endif
