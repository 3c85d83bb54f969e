#include "sys/cpus.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NODES_MAX 1024

int pio_cpus_count(const pio_cpus *cpus)
{
	int count = 0;
	for (int i = 0; i < PIO_CPUS_WORDS; i++)
		count += __builtin_popcountll(cpus->words[i]);
	return count;
}

int pio_cpus_next(const pio_cpus *cpus, int from)
{
	for (int i = from / 64; from < PIO_CPUS_MAX && i < PIO_CPUS_WORDS; i++) {
		uint64_t word = cpus->words[i];
		if (i == from / 64)
			word &= ~UINT64_C(0) << (from % 64);
		if (word)
			return 64 * i + __builtin_ctzll(word);
	}
	return -1;
}

void pio_cpus_and(pio_cpus *cpus, const pio_cpus *other)
{
	for (int i = 0; i < PIO_CPUS_WORDS; i++)
		cpus->words[i] &= other->words[i];
}

void pio_cpus_or(pio_cpus *cpus, const pio_cpus *other)
{
	for (int i = 0; i < PIO_CPUS_WORDS; i++)
		cpus->words[i] |= other->words[i];
}

bool pio_cpus_equal(const pio_cpus *a, const pio_cpus *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

bool pio_cpus_parse(pio_cpus *cpus, const char *text)
{
	memset(cpus, 0, sizeof *cpus);
	while (*text && *text != '\n') {
		char *end;
		if (*text < '0' || *text > '9')
			return false;
		unsigned long first = strtoul(text, &end, 10), last = first;
		if (*end == '-' && end[1] >= '0' && end[1] <= '9')
			last = strtoul(end + 1, &end, 10);
		if (last < first || last >= PIO_CPUS_MAX)
			return false;
		for (unsigned long cpu = first; cpu <= last; cpu++)
			pio_cpus_add(cpus, (int)cpu);
		if (*end == ',' && end[1] >= '0' && end[1] <= '9')
			end++;
		else if (*end && *end != '\n')
			return false;
		text = end;
	}
	return true;
}

void pio_cpus_put(pio_str *text, const pio_cpus *cpus)
{
	const char *comma = "";
	for (int first = pio_cpus_next(cpus, 0); first >= 0;) {
		int last = first;
		while (last + 1 < PIO_CPUS_MAX && pio_cpus_has(cpus, last + 1))
			last++;
		pio_str_printf(text, last > first ? "%s%d-%d" : "%s%d", comma, first, last);
		comma = ",";
		first = pio_cpus_next(cpus, last + 1);
	}
}

int pio_cpus_allowed(pio_cpus *cpus, pio_err *err)
{
	memset(cpus, 0, sizeof *cpus);
	if (syscall(SYS_sched_getaffinity, 0, sizeof cpus->words, cpus->words) < 0)
		return pio_fail_errno(err, errno, "ask for the CPUs that may be used");
	return 0;
}

int pio_cpus_bind(const pio_cpus *cpus, pio_err *err)
{
	if (syscall(SYS_sched_setaffinity, 0, sizeof cpus->words, cpus->words) == 0)
		return 0;
	int e = errno;
	pio_str text = PIO_STR_INIT;
	pio_cpus_put(&text, cpus);
	int rc = pio_fail_errno(err, e, "run on CPUs %.200s", text.data);
	pio_str_fini(&text);
	return rc;
}

bool pio_memory_has_policy(void)
{
	int mode = MPOL_DEFAULT;
	return syscall(SYS_get_mempolicy, &mode, NULL, 0UL, NULL, 0UL) == 0 && mode != MPOL_DEFAULT;
}

int pio_memory_prefer(int node, pio_err *err)
{
	unsigned long nodes[NODES_MAX / (8 * sizeof(unsigned long))] = { 0 };
	if (node >= NODES_MAX)
		return pio_fail(err, PIO_EINVAL, "memory of NUMA node %d: expected less than %d", node, NODES_MAX);
	if (node >= 0)
		nodes[(size_t)node / (8 * sizeof *nodes)] |= 1UL << ((size_t)node % (8 * sizeof *nodes));
	long rc = node >= 0 ? syscall(SYS_set_mempolicy, MPOL_PREFERRED, nodes, (unsigned long)NODES_MAX)
	                    : syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0UL);
	return rc == 0 ? 0 : pio_fail_errno(err, errno, "prefer memory of NUMA node %d", node);
}
