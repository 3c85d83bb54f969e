/* comm_nccl.h: what tests need of comm_nccl.c beyond pioche_nccl.h; private. */
#ifndef PIO_CLIENT_COMM_NCCL_H
#define PIO_CLIENT_COMM_NCCL_H

#include "client/pioche_nccl.h"

/* pio_nccl_init with another number of ranks for each unique id. */
int pio_nccl_open(pio_nccl **nccl, pio_comm *comm, int ranks_per_id, int timeout_ms);

/* The rank that makes unique id `index` of `ids`. */
int pio_nccl_id_maker(int world, int ids, int index);

#endif
