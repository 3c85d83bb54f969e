/* env.h: the environment by which an agent tells a rank where it is.
 *
 *   PIOCHE_RUN         ULID of the run
 *   PIOCHE_ATTEMPT     number of the attempt, 1 the first
 *   PIOCHE_DIR         directory of the attempt, absolute
 *   PIOCHE_RING        ring file of this rank (client/ring.h)
 *   PIOCHE_STAGING     directory for checkpoint shards, on the store's disk
 *   PIOCHE_RESUME      resume index (client/resume.h); unset: start afresh
 *   PIOCHE_RENDEZVOUS  the agent's unix socket, "@NAME" (client/frame.h)
 *   PIOCHE_ADDRESS     this node's address, where ranks listen for each other
 *   PIOCHE_TOKEN       32 hexadecimal digits, new for each attempt
 *   PIOCHE_STORE       the store, for programs started by the rank
 *
 * A process without PIOCHE_RING is standalone. Agents that join a head find in
 * it PIOCHE_RENDEZVOUS (HOST:PORT), PIOCHE_TOKEN and PIOCHE_DIR, as it set them, and
 * PIOCHE_NODE, which of the agents they are, 0 the first; under Slurm
 * SLURM_NODEID says that too.
 *
 * Beside these a rank has what other launchers would have set for it; the
 * families do not collide:
 *
 *   torchrun     RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK
 *                GROUP_WORLD_SIZE NODE_RANK ROLE_NAME ROLE_RANK ROLE_WORLD_SIZE
 *                MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID
 *                TORCHELASTIC_RESTART_COUNT TORCHELASTIC_MAX_RESTARTS
 *                TORCHELASTIC_USE_AGENT_STORE, and where nobody set them
 *                TORCH_NCCL_ASYNC_ERROR_HANDLING=1, with several ranks a node
 *                OMP_NUM_THREADS=1
 *   DeepSpeed    LOCAL_SIZE CROSS_RANK CROSS_SIZE
 *   JAX          JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES JAX_PROCESS_ID
 *   OpenMPI      OMPI_COMM_WORLD_{RANK,SIZE,LOCAL_RANK,LOCAL_SIZE,NODE_RANK},
 *                if launch.mpi_env is true
 *
 * CUDA_VISIBLE_DEVICES is passed on as the agent has it: as under torchrun each
 * rank sees all GPUs of its node and takes number LOCAL_RANK. SLURM_* too is as
 * the agent has it, of which there is one a node: SLURM_PROCID is the node's
 * number, not the rank's, so that jax.distributed.initialize() has to be given
 * JAX_NUM_PROCESSES and JAX_PROCESS_ID. What an outer mpirun, srun --mpi or
 * torchrun told the agent of itself is not passed on. */
#ifndef PIO_CLIENT_ENV_H
#define PIO_CLIENT_ENV_H

#define PIO_ENV_RUN "PIOCHE_RUN"
#define PIO_ENV_ATTEMPT "PIOCHE_ATTEMPT"
#define PIO_ENV_DIR "PIOCHE_DIR"
#define PIO_ENV_RING "PIOCHE_RING"
#define PIO_ENV_STAGING "PIOCHE_STAGING"
#define PIO_ENV_RESUME "PIOCHE_RESUME"
#define PIO_ENV_RENDEZVOUS "PIOCHE_RENDEZVOUS"
#define PIO_ENV_ADDRESS "PIOCHE_ADDRESS"
#define PIO_ENV_TOKEN "PIOCHE_TOKEN"
#define PIO_ENV_STORE "PIOCHE_STORE"
#define PIO_ENV_NODE "PIOCHE_NODE"
#define PIO_ENV_FILE_BYTES "PIOCHE_FILE_BYTES" /* at most, of a file of a checkpoint */

#endif
