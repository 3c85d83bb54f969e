/* oom.h: did the kernel kill a process because memory was out?
 *
 * Each memory cgroup counts such kills (memory.events of version 2,
 * memory.oom_control of version 1), and so does the machine as a whole
 * (/proc/vmstat). A count says more than a signal: anybody may send SIGKILL.
 * Where nothing can be read nothing is claimed. */
#ifndef PIO_LAUNCH_OOM_H
#define PIO_LAUNCH_OOM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"

/* Where the memory of one process is counted. Zeroed: unknown. */
typedef struct pio_oom {
	char group[512];       /* directory of the cgroup; "": unknown */
	bool is_version_1;
	int64_t kills;         /* when the process was first seen in it */
} pio_oom;

/* Look where it is now; it may have been moved. */
void pio_oom_find(pio_oom *oom, pid_t pid);
/* Was any process of that cgroup killed since? */
bool pio_oom_has_struck(const pio_oom *oom);
/* "; out of memory: 64 MiB used of 64 MiB (cgroup /slurm/job_7)", or of the machine
 * where the cgroup is not what was full. */
void pio_oom_put_figures(pio_str *text, const pio_oom *oom);
/* Kills on this machine since it started; -1: unknown. */
int64_t pio_oom_machine_kills(void);

#endif
