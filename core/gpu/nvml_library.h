/* nvml_library.h: what nvml.c, xid.c and meter.c use of NVIDIA's management library; private
 * to core/gpu. Calls are under their own names; enums are ints. */
#ifndef PIO_GPU_NVML_LIBRARY_H
#define PIO_GPU_NVML_LIBRARY_H

#include <limits.h>

/* nvmlReturn_t, as far as it is told apart. */
enum { PIO_NVML_NOT_SUPPORTED = 3, PIO_NVML_NO_DRIVER = 9, PIO_NVML_TIMEOUT = 10 };
/* nvmlMemoryErrorType_t, nvmlEccCounterType_t: since the driver took the GPU. */
enum { PIO_NVML_CORRECTED = 0, PIO_NVML_UNCORRECTED = 1, PIO_NVML_VOLATILE = 0 };
/* nvmlTemperatureSensors_t, nvmlClockType_t */
enum { PIO_NVML_OF_GPU = 0, PIO_NVML_CLOCK_SM = 1 };
/* NVML_FI_DEV_..: NVLINK_THROUGHPUT_DATA_TX and _RX, in KiB; GET_GPU_RECOVERY_ACTION */
enum { PIO_NVML_NVLINK_SENT = 138, PIO_NVML_NVLINK_RECEIVED = 139, PIO_NVML_RECOVERY_ACTION = 230 };
#define PIO_NVML_ALL_LINKS UINT_MAX     /* the scope of the former */
/* nvmlClocksThrottleReason..: what slows a GPU that something ails. */
enum {
	PIO_NVML_SLOW_HARDWARE = 0x8, PIO_NVML_SLOW_HEAT_SOFTWARE = 0x20, PIO_NVML_SLOW_HEAT_HARDWARE = 0x40,
	PIO_NVML_SLOW_BRAKE = 0x80,
};

typedef struct pio_nvml_memory {
	unsigned long long total, free, used;
} pio_nvml_memory;

/* nvmlFieldValue_t */
typedef struct pio_nvml_field {
	unsigned field, scope;
	long long time_us, latency_us;
	int type, result;
	union {
		unsigned as_unsigned;
		unsigned long long as_long;
		double as_double;
	} value;
} pio_nvml_field;

typedef struct pio_nvml {
	int (*nvmlInit_v2)(void);
	const char *(*nvmlErrorString)(int result);
	int (*nvmlSystemGetDriverVersion)(char *text, unsigned bytes);
	int (*nvmlDeviceGetCount_v2)(unsigned *count);
	int (*nvmlDeviceGetHandleByIndex_v2)(unsigned index, void **device);
	int (*nvmlDeviceGetName)(void *device, char *text, unsigned bytes);
	int (*nvmlDeviceGetUUID)(void *device, char *text, unsigned bytes);
	int (*nvmlDeviceGetMemoryInfo)(void *device, pio_nvml_memory *memory);
	/* Or NULL, these: */
	int (*nvmlSystemGetCudaDriverVersion_v2)(int *version);
	int (*nvmlDeviceGetCpuAffinity)(void *device, unsigned words, unsigned long *cpus);
	int (*nvmlDeviceGetTotalEccErrors)(void *device, int type, int counter, unsigned long long *errors);
	int (*nvmlDeviceGetRemappedRows)(void *device, unsigned *corrected, unsigned *uncorrected,
	                                 unsigned *pending, unsigned *failed);
	int (*nvmlDeviceGetRetiredPagesPendingStatus)(void *device, int *is_pending);
	int (*nvmlDeviceGetFieldValues)(void *device, int count, pio_nvml_field *fields);
} pio_nvml;

/* nvmlEventTypeXidCriticalError, which stands for every Xid */
#define PIO_NVML_XID 8ull

/* nvmlEventData_t */
typedef struct pio_nvml_event {
	void *device;
	unsigned long long type, data;          /* of an Xid its code */
	unsigned gpu_instance, compute_instance;
} pio_nvml_event;

/* What xid.c uses. */
typedef struct pio_nvml_events {
	int (*nvmlInit_v2)(void);
	int (*nvmlDeviceGetCount_v2)(unsigned *count);
	int (*nvmlDeviceGetHandleByIndex_v2)(unsigned index, void **device);
	int (*nvmlEventSetCreate)(void **set);
	int (*nvmlDeviceRegisterEvents)(void *device, unsigned long long types, void *set);
	int (*nvmlEventSetWait_v2)(void *set, pio_nvml_event *event, unsigned timeout_ms);
} pio_nvml_events;

typedef struct pio_nvml_utilization {
	unsigned gpu, memory;                   /* percent of the time since it was last told */
} pio_nvml_utilization;

/* What meter.c uses; those that a driver or a GPU lacks tell nothing. */
typedef struct pio_nvml_gauges {
	int (*nvmlInit_v2)(void);
	int (*nvmlDeviceGetCount_v2)(unsigned *count);
	int (*nvmlDeviceGetHandleByIndex_v2)(unsigned index, void **device);
	/* Or NULL, these: */
	int (*nvmlDeviceGetUtilizationRates)(void *device, pio_nvml_utilization *utilization);
	int (*nvmlDeviceGetMemoryInfo)(void *device, pio_nvml_memory *memory);
	int (*nvmlDeviceGetPowerUsage)(void *device, unsigned *milliwatts);
	int (*nvmlDeviceGetTotalEnergyConsumption)(void *device, unsigned long long *millijoules);
	int (*nvmlDeviceGetTemperature)(void *device, int sensor, unsigned *celsius);
	int (*nvmlDeviceGetClockInfo)(void *device, int clock, unsigned *mhz);
	int (*nvmlDeviceGetCurrentClocksEventReasons)(void *device, unsigned long long *reasons);
	int (*nvmlDeviceGetCurrentClocksThrottleReasons)(void *device, unsigned long long *reasons);
	int (*nvmlDeviceGetTotalEccErrors)(void *device, int type, int counter, unsigned long long *errors);
	int (*nvmlDeviceGetFieldValues)(void *device, int count, pio_nvml_field *fields);
} pio_nvml_gauges;

#endif
