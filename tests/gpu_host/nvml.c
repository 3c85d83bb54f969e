/* A stand-in for libnvidia-ml.so.1 with $NVML_GPUS GPUs, for tests on machines
 * without one; half of them is next to CPUs 0 to 7, the others are next to 8 to
 * 15, or all to the CPUs whose bits $NVML_CPUS has. It is a test tool: never
 * installed, never found by accident.
 *
 *   NVML_LOST=N        GPU N has fallen off its bus
 *   NVML_INIT=RESULT   how nvmlInit ends; "hang": it does not
 *   NVML_MUTE=1        GPUs tell neither memory nor health: the calls are not supported
 *   NVML_ECC=N:COUNT NVML_PENDING=N NVML_FAILED=N NVML_RECOVERY=N:ACTION
 *                      what ails GPU N
 *   NVML_RETIRED=N     likewise, and rows are not remapped: pages are retired
 *   NVML_HOT=N         GPU N is slowed by its heat
 *   NVML_UNCOUNTED=1   the driver does not count energy
 *
 * GPU N takes 100 + N watts, and is busy for 10 + N percent of the time.
 *   NVML_XIDS=FILE     each line "N:CODE" that comes into it is an Xid of GPU N; without
 *                      it events are not supported; "hang": nobody hears anything, for ever */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct memory {
	unsigned long long total, free, used;
};

int nvmlInit_v2(void);
const char *nvmlErrorString(int result);
int nvmlSystemGetDriverVersion(char *text, unsigned bytes);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *text, unsigned bytes);
int nvmlDeviceGetUUID(void *device, char *text, unsigned bytes);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory);
int nvmlDeviceGetCpuAffinity(void *device, unsigned words, unsigned long *cpus);
int nvmlSystemGetCudaDriverVersion_v2(int *version);

int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *errors);
int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failed);
int nvmlDeviceGetRetiredPagesPendingStatus(void *device, int *is_pending);

/* nvmlFieldValue_t */
struct field {
	unsigned id, scope;
	long long time_us, latency_us;
	int type, result;
	union {
		unsigned as_unsigned;
		unsigned long long as_long;
		double as_double;
	} value;
};
int nvmlDeviceGetFieldValues(void *device, int count, struct field *fields);

struct utilization {
	unsigned gpu, memory;
};
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *utilization);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius);
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *mhz);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons);

/* nvmlEventData_t */
struct event {
	void *device;
	unsigned long long type, data;
	unsigned gpu_instance, compute_instance;
};
int nvmlEventSetCreate(void **set);
int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set);
int nvmlEventSetWait_v2(void *set, struct event *event, unsigned timeout_ms);

enum { NOT_SUPPORTED = 3, NO_DRIVER = 9, TIMEOUT = 10, LOST = 15 };

static char devices[16];

/* What $NAME says of this GPU: 1, or the number behind "N:"; 0: nothing. */
static unsigned ails(const char *name, const void *device)
{
	const char *text = getenv(name);
	unsigned index, much = 1;
	if (!text || sscanf(text, "%u:%u", &index, &much) < 1)
		return 0;
	return index == (unsigned)((const char *)device - devices) ? much : 0;
}

int nvmlInit_v2(void)
{
	const char *text = getenv("NVML_INIT");
	while (text && strcmp(text, "hang") == 0)
		pause();
	return text ? atoi(text) : 0;
}

const char *nvmlErrorString(int result)
{
	switch (result) {
	case NOT_SUPPORTED: return "Not Supported";
	case NO_DRIVER: return "Driver Not Loaded";
	case LOST: return "GPU is lost";
	}
	return "Unknown Error";
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
	if (ails("NVML_LOST", device))
		return LOST;
	if (getenv("NVML_MUTE"))
		return NOT_SUPPORTED;
	memory->total = 80ull << 30;
	memory->used = 3ull << 30;
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

int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *errors)
{
	if (getenv("NVML_MUTE") || counter != 0) /* since the driver was loaded */
		return NOT_SUPPORTED;
	*errors = type == 1 ? ails("NVML_ECC", device) : 5; /* uncorrected: 1 */
	return 0;
}

int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failed)
{
	if (getenv("NVML_MUTE") || getenv("NVML_RETIRED"))
		return NOT_SUPPORTED;
	*corrected = *uncorrected = 0;
	*pending = ails("NVML_PENDING", device);
	*failed = ails("NVML_FAILED", device);
	return 0;
}

int nvmlDeviceGetRetiredPagesPendingStatus(void *device, int *is_pending)
{
	if (!getenv("NVML_RETIRED"))
		return NOT_SUPPORTED;
	*is_pending = (int)ails("NVML_RETIRED", device);
	return 0;
}

static unsigned watts(const void *device)
{
	return 100 + (unsigned)((const char *)device - devices);
}

static unsigned long long milliseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000 + (unsigned long long)t.tv_nsec / 1000000;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *utilization)
{
	utilization->gpu = watts(device) - 90;
	utilization->memory = 7;
	return getenv("NVML_MUTE") ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
	*milliwatts = 1000 * watts(device);
	return getenv("NVML_MUTE") ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules)
{
	*millijoules = watts(device) * milliseconds();
	return getenv("NVML_MUTE") || getenv("NVML_UNCOUNTED") ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)
{
	*celsius = ails("NVML_HOT", device) ? 93 : 40;
	return getenv("NVML_MUTE") || sensor != 0 ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *mhz)
{
	*mhz = ails("NVML_HOT", device) ? 600 : 1980;
	return getenv("NVML_MUTE") || clock != 1 ? NOT_SUPPORTED : 0;
}

/* Idle, or HW slowdown and HW thermal slowdown. */
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons)
{
	*reasons = ails("NVML_HOT", device) ? 0x48 : 1;
	return getenv("NVML_MUTE") ? NOT_SUPPORTED : 0;
}

/* 138 and 139: KiB sent and received by NVLink, here 1 and 2 a millisecond. */
static bool tell_links(struct field *field)
{
	if ((field->id != 138 && field->id != 139) || field->scope != ~0u || getenv("NVML_MUTE"))
		return false;
	field->value.as_long = (field->id - 137) * milliseconds();
	field->result = 0;
	return true;
}

int nvmlDeviceGetFieldValues(void *device, int count, struct field *fields)
{
	for (int i = 0; i < count; i++) {
		if (tell_links(&fields[i]))
			continue;
		bool told = fields[i].id == 230 && !getenv("NVML_MUTE"); /* the recovery action */
		fields[i].result = told ? 0 : NOT_SUPPORTED;
		fields[i].value.as_double = -1;
		if (told)
			fields[i].value.as_unsigned = ails("NVML_RECOVERY", device);
	}
	return 0;
}

int nvmlEventSetCreate(void **set)
{
	static long read_bytes; /* of the file */
	*set = &read_bytes;
	return 0;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set)
{
	(void)device, (void)set;
	return getenv("NVML_XIDS") && types == 8 ? 0 : NOT_SUPPORTED;
}

/* The next whole line. */
static bool next_xid(long *read_bytes, struct event *event)
{
	FILE *file = fopen(getenv("NVML_XIDS"), "r");
	char line[64];
	unsigned index, code;
	bool found = file && fseek(file, *read_bytes, SEEK_SET) == 0 && fgets(line, sizeof line, file) &&
	             strchr(line, '\n') && sscanf(line, "%u:%u", &index, &code) == 2;
	if (found) {
		*event = (struct event){ .device = &devices[index % 16], .type = 8, .data = code };
		*read_bytes = ftell(file);
	}
	if (file)
		fclose(file);
	return found;
}

int nvmlEventSetWait_v2(void *set, struct event *event, unsigned timeout_ms)
{
	while (strcmp(getenv("NVML_XIDS"), "hang") == 0)
		pause();
	for (unsigned waited_ms = 0; waited_ms < timeout_ms; waited_ms += 10) {
		if (next_xid(set, event))
			return 0;
		usleep(10000);
	}
	return TIMEOUT;
}
