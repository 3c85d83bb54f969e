/* env.h: the environment by which an agent tells a rank where it is.
 *
 *   PIOCHE_RUN         ULID of the run
 *   PIOCHE_ATTEMPT     number of the attempt, 1 the first
 *   PIOCHE_DIR         directory of the attempt, absolute
 *   PIOCHE_RING        ring file of this rank (client/ring.h)
 *   PIOCHE_STAGING     directory for checkpoint shards, on the store's disk
 *   PIOCHE_RESUME      resume index (client/resume.h); unset: start afresh
 *   PIOCHE_RENDEZVOUS  HOST:PORT of the head agent (client/frame.h)
 *   PIOCHE_TOKEN       32 hexadecimal digits, new for each attempt
 *   PIOCHE_STORE       the store, for programs started by the rank
 *   RANK, WORLD_SIZE, LOCAL_RANK and the rest of torchrun's set
 *
 * A process without PIOCHE_RING is standalone. */
#ifndef PIO_CLIENT_ENV_H
#define PIO_CLIENT_ENV_H

#define PIO_ENV_RUN "PIOCHE_RUN"
#define PIO_ENV_ATTEMPT "PIOCHE_ATTEMPT"
#define PIO_ENV_DIR "PIOCHE_DIR"
#define PIO_ENV_RING "PIOCHE_RING"
#define PIO_ENV_STAGING "PIOCHE_STAGING"
#define PIO_ENV_RESUME "PIOCHE_RESUME"
#define PIO_ENV_RENDEZVOUS "PIOCHE_RENDEZVOUS"
#define PIO_ENV_TOKEN "PIOCHE_TOKEN"
#define PIO_ENV_STORE "PIOCHE_STORE"

#endif
