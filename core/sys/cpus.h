/* cpus.h: sets of logical CPUs, and where the calling thread may run.
 *
 * What a thread may use is what taskset, a cgroup or Slurm left it; children
 * inherit it, and the policy for memory as well. Linux alone. Thread-safe. */
#ifndef PIO_SYS_CPUS_H
#define PIO_SYS_CPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_CPUS_MAX 8192          /* as many as Linux can be built for */
#define PIO_CPUS_WORDS (PIO_CPUS_MAX / 64)

typedef struct pio_cpus {
	uint64_t words[PIO_CPUS_WORDS];
} pio_cpus;

static inline bool pio_cpus_has(const pio_cpus *cpus, int cpu)
{
	return cpus->words[cpu / 64] >> (cpu % 64) & 1;
}

static inline void pio_cpus_add(pio_cpus *cpus, int cpu)
{
	cpus->words[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

int pio_cpus_count(const pio_cpus *cpus);
/* The first CPU of the set from `from` on; -1: there is none. */
int pio_cpus_next(const pio_cpus *cpus, int from);
/* Keep what is in `other` too. */
void pio_cpus_and(pio_cpus *cpus, const pio_cpus *other);
void pio_cpus_or(pio_cpus *cpus, const pio_cpus *other);
bool pio_cpus_equal(const pio_cpus *a, const pio_cpus *b);

/* The kernel's form of a list, "0-3,8"; a newline may follow. False where it is
 * none, or holds a CPU that is out of range. */
bool pio_cpus_parse(pio_cpus *cpus, const char *text);
/* Append the list in that form. */
void pio_cpus_put(pio_str *text, const pio_cpus *cpus);

/* Where the calling thread may run, and from now on runs. PIO_EIO: the system's
 * reason, for example that a cgroup has none of these. */
int pio_cpus_allowed(pio_cpus *cpus, pio_err *err);
int pio_cpus_bind(const pio_cpus *cpus, pio_err *err);

/* Has anybody (numactl) given this thread a policy for memory? */
bool pio_memory_has_policy(void);
/* New pages of this thread rather come from this NUMA node; -1: from that where
 * it runs, which is the system's default. */
int pio_memory_prefer(int node, pio_err *err);

#endif
