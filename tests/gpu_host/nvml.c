/* A stand-in for libnvidia-ml.so.1 with $NVML_GPUS GPUs, for tests on machines
 * without one; half of them is next to CPUs 0 to 7, the others are next to 8 to
 * 15, or all to the CPUs whose bits $NVML_CPUS has. It is a test tool: never installed, never found by accident. */
#include <stdio.h>
#include <stdlib.h>

struct memory {
	unsigned long long total, free, used;
};

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int result);
int nvmlSystemGetDriverVersion(char *text, unsigned bytes);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *text, unsigned bytes);
int nvmlDeviceGetUUID(void *device, char *text, unsigned bytes);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory);
int nvmlDeviceGetCpuAffinity(void *device, unsigned words, unsigned long *cpus);
int nvmlSystemGetCudaDriverVersion_v2(int *version);

static char devices[16];

int nvmlInit_v2(void)
{
	return 0;
}

int nvmlShutdown(void)
{
	return 0;
}

const char *nvmlErrorString(int result)
{
	return result == 15 ? "GPU is lost" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *text, unsigned bytes)
{
	snprintf(text, bytes, "580.65.06");
	return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	const char *text = getenv("NVML_GPUS");
	*count = text ? (unsigned)atoi(text) : 0;
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
	*device = &devices[index % 16];
	return 0;
}

int nvmlDeviceGetName(void *device, char *text, unsigned bytes)
{
	(void)device;
	snprintf(text, bytes, "Stand-in GPU");
	return 0;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned bytes)
{
	snprintf(text, bytes, "GPU-%td", (char *)device - devices);
	return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
	const char *lost = getenv("NVML_LOST");
	if (lost && atoi(lost) == (char *)device - devices)
		return 15;
	memory->total = 80ull << 30;
	return 0;
}

int nvmlDeviceGetCpuAffinity(void *device, unsigned words, unsigned long *cpus)
{
	unsigned count;
	const char *all = getenv("NVML_CPUS");
	nvmlDeviceGetCount_v2(&count);
	if (words == 0)
		return 2;
	for (unsigned i = 0; i < words; i++)
		cpus[i] = 0;
	cpus[0] = all ? strtoul(all, NULL, 0) : (unsigned)((char *)device - devices) < count / 2 ? 0xff : 0xff00;
	return 0;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	*version = 13000;
	return 0;
}
