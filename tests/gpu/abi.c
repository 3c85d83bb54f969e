/* What core/ declares of NCCL, CUDA and NVML instead of including their headers,
 * held against these headers; it compiles or it does not. */
#include <assert.h>
#include <stddef.h>

#include <cuda.h>
#include <nccl.h>
#include <nvml.h>

#include "client/cuda_library.h"
#include "client/nccl_library.h"
#include "gpu/driver.h"
#include "gpu/nvml_library.h"

#define SAME(ours, theirs) static_assert((long)(ours) == (long)(theirs), #theirs)
#define SAME_PLACE(ours, theirs)                                                     \
	SAME(offsetof(pio_nccl_config, ours), offsetof(ncclConfig_t, theirs));       \
	SAME(sizeof(((pio_nccl_config *)0)->ours), sizeof(((ncclConfig_t *)0)->theirs))

SAME(PIO_NCCL_ID_BYTES, NCCL_UNIQUE_ID_BYTES);
SAME(sizeof(pio_nccl_id), sizeof(ncclUniqueId));
SAME(PIO_NCCL_MAGIC, NCCL_API_MAGIC);
SAME(PIO_NCCL_UNDEFINED, NCCL_CONFIG_UNDEF_INT);
SAME(PIO_NCCL_NO_COLOR, NCCL_SPLIT_NOCOLOR);
SAME(PIO_NCCL_CONFIG_VERSION, NCCL_VERSION(2, 18, 1));
SAME_PLACE(size, size);
SAME_PLACE(magic, magic);
SAME_PLACE(version, version);
SAME_PLACE(blocking, blocking);
SAME_PLACE(cga_cluster_size, cgaClusterSize);
SAME_PLACE(ctas_min, minCTAs);
SAME_PLACE(ctas_max, maxCTAs);
SAME_PLACE(net_name, netName);
SAME_PLACE(split_share, splitShare);
SAME(PIO_NCCL_SUCCESS, ncclSuccess);
SAME(PIO_NCCL_SYSTEM_ERROR, ncclSystemError);
SAME(PIO_NCCL_INVALID_ARGUMENT, ncclInvalidArgument);
SAME(PIO_NCCL_REMOTE_ERROR, ncclRemoteError);
SAME(PIO_NCCL_IN_PROGRESS, ncclInProgress);
SAME(PIO_NCCL_SUM, ncclSum);
SAME(PIO_NCCL_INT8, ncclInt8);
SAME(PIO_NCCL_UINT8, ncclUint8);
SAME(PIO_NCCL_INT32, ncclInt32);
SAME(PIO_NCCL_UINT32, ncclUint32);
SAME(PIO_NCCL_INT64, ncclInt64);
SAME(PIO_NCCL_UINT64, ncclUint64);
SAME(PIO_NCCL_FLOAT16, ncclFloat16);
SAME(PIO_NCCL_FLOAT32, ncclFloat32);
SAME(PIO_NCCL_FLOAT64, ncclFloat64);
SAME(PIO_NCCL_BFLOAT16, ncclBfloat16);
SAME(PIO_CUDA_NOT_READY, CUDA_ERROR_NOT_READY);

/* Each call has the arguments that it is called with, enums being ints. */
#define CALL(call, ...) static_assert(                                               \
	__builtin_types_compatible_p(__typeof__(call), __VA_ARGS__), #call)
CALL(ncclGetUniqueId, ncclResult_t(ncclUniqueId *));
CALL(ncclCommInitRankConfig, ncclResult_t(ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *));
CALL(ncclCommInitRankScalable,
     ncclResult_t(ncclComm_t *, int, int, int, ncclUniqueId *, ncclConfig_t *));
CALL(ncclCommSplit, ncclResult_t(ncclComm_t, int, int, ncclComm_t *, ncclConfig_t *));
CALL(ncclCommCount, ncclResult_t(ncclComm_t, int *));
CALL(ncclCommFinalize, ncclResult_t(ncclComm_t));
CALL(ncclCommDestroy, ncclResult_t(ncclComm_t));
CALL(ncclCommAbort, ncclResult_t(ncclComm_t));
CALL(ncclCommGetAsyncError, ncclResult_t(ncclComm_t, ncclResult_t *));
CALL(ncclGetErrorString, const char *(ncclResult_t));
CALL(ncclGetLastError, const char *(ncclComm_t));
CALL(ncclGetVersion, ncclResult_t(int *));
CALL(ncclAllReduce, ncclResult_t(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t,
                                 ncclComm_t, cudaStream_t));
CALL(ncclBroadcast, ncclResult_t(const void *, void *, size_t, ncclDataType_t, int, ncclComm_t,
                                 cudaStream_t));
CALL(cuStreamQuery, CUresult(CUstream));
CALL(cuGetErrorString, CUresult(CUresult, const char **));
SAME(sizeof(ncclResult_t), sizeof(int));
SAME(sizeof(ncclDataType_t), sizeof(int));
SAME(sizeof(ncclRedOp_t), sizeof(int));
SAME(sizeof(CUresult), sizeof(int));

CALL(cuInit, CUresult(unsigned));
CALL(cuDeviceGetCount, CUresult(int *));
CALL(cuDeviceGet, CUresult(CUdevice *, int));
CALL(cuDeviceGetName, CUresult(char *, int, CUdevice));
CALL(cuDeviceTotalMem, CUresult(size_t *, CUdevice));
CALL(cuDeviceGetAttribute, CUresult(int *, CUdevice_attribute, CUdevice));
CALL(cuDevicePrimaryCtxRetain, CUresult(CUcontext *, CUdevice));
CALL(cuDevicePrimaryCtxRelease, CUresult(CUdevice));
CALL(cuCtxSetCurrent, CUresult(CUcontext));
CALL(cuMemAlloc, CUresult(CUdeviceptr *, size_t));
CALL(cuMemFree, CUresult(CUdeviceptr));
CALL(cuStreamCreate, CUresult(CUstream *, unsigned));
CALL(cuStreamDestroy, CUresult(CUstream));
CALL(cuMemHostAlloc, CUresult(void **, size_t, unsigned));
CALL(cuMemFreeHost, CUresult(void *));
CALL(cuMemcpyDtoHAsync, CUresult(void *, CUdeviceptr, size_t, CUstream));
CALL(cuMemcpyHtoDAsync, CUresult(CUdeviceptr, const void *, size_t, CUstream));
CALL(cuEventCreate, CUresult(CUevent *, unsigned));
CALL(cuEventRecord, CUresult(CUevent, CUstream));
CALL(cuEventSynchronize, CUresult(CUevent));
CALL(cuEventDestroy, CUresult(CUevent));
CALL(cuPointerGetAttributes, CUresult(unsigned, CUpointer_attribute *, void **, CUdeviceptr));
CALL(cuCtxPushCurrent, CUresult(CUcontext));
CALL(cuCtxPopCurrent, CUresult(CUcontext *));
CALL(cuCtxSynchronize, CUresult(void));
CALL(cuMemHostRegister, CUresult(void *, size_t, unsigned));
CALL(cuMemHostUnregister, CUresult(void *));
CALL(cuStreamSynchronize, CUresult(CUstream));
SAME(sizeof(CUpointer_attribute), sizeof(int));
SAME(sizeof(CUmemorytype), sizeof(unsigned));
SAME(PIO_CU_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
SAME(PIO_CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED);
SAME(PIO_CU_DEINITIALIZED, CUDA_ERROR_DEINITIALIZED);
SAME(PIO_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(PIO_CU_INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT);
SAME(PIO_CU_POINTER_CONTEXT, CU_POINTER_ATTRIBUTE_CONTEXT);
SAME(PIO_CU_POINTER_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
SAME(PIO_CU_POINTER_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
SAME(PIO_CU_MEMORY_DEVICE, CU_MEMORYTYPE_DEVICE);
SAME(PIO_CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);
SAME(PIO_CU_REGISTER_PORTABLE, CU_MEMHOSTREGISTER_PORTABLE);
SAME(PIO_CU_STREAM_OWN, CU_STREAM_NON_BLOCKING);
SAME(PIO_CU_EVENT_NO_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(sizeof(CUdevice), sizeof(int));
SAME(sizeof(CUdeviceptr), sizeof(uintptr_t));
SAME(sizeof(CUdevice_attribute), sizeof(int));
SAME(PIO_CUDA_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(PIO_CUDA_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(PIO_CUDA_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(PIO_CUDA_EVENT_NO_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(PIO_CUDA_STREAM_OWN, CU_STREAM_NON_BLOCKING);

CALL(nvmlInit_v2, nvmlReturn_t(void));
CALL(nvmlErrorString, const char *(nvmlReturn_t));
CALL(nvmlSystemGetDriverVersion, nvmlReturn_t(char *, unsigned));
CALL(nvmlSystemGetCudaDriverVersion_v2, nvmlReturn_t(int *));
CALL(nvmlDeviceGetCount_v2, nvmlReturn_t(unsigned *));
CALL(nvmlDeviceGetHandleByIndex_v2, nvmlReturn_t(unsigned, nvmlDevice_t *));
CALL(nvmlDeviceGetName, nvmlReturn_t(nvmlDevice_t, char *, unsigned));
CALL(nvmlDeviceGetUUID, nvmlReturn_t(nvmlDevice_t, char *, unsigned));
CALL(nvmlDeviceGetMemoryInfo, nvmlReturn_t(nvmlDevice_t, nvmlMemory_t *));
CALL(nvmlDeviceGetCpuAffinity, nvmlReturn_t(nvmlDevice_t, unsigned, unsigned long *));
CALL(nvmlDeviceGetTotalEccErrors,
     nvmlReturn_t(nvmlDevice_t, nvmlMemoryErrorType_t, nvmlEccCounterType_t, unsigned long long *));
CALL(nvmlDeviceGetRemappedRows,
     nvmlReturn_t(nvmlDevice_t, unsigned *, unsigned *, unsigned *, unsigned *));
CALL(nvmlDeviceGetRetiredPagesPendingStatus, nvmlReturn_t(nvmlDevice_t, nvmlEnableState_t *));
CALL(nvmlDeviceGetFieldValues, nvmlReturn_t(nvmlDevice_t, int, nvmlFieldValue_t *));
CALL(nvmlDeviceGetUtilizationRates, nvmlReturn_t(nvmlDevice_t, nvmlUtilization_t *));
CALL(nvmlDeviceGetPowerUsage, nvmlReturn_t(nvmlDevice_t, unsigned *));
CALL(nvmlDeviceGetTotalEnergyConsumption, nvmlReturn_t(nvmlDevice_t, unsigned long long *));
CALL(nvmlDeviceGetTemperature, nvmlReturn_t(nvmlDevice_t, nvmlTemperatureSensors_t, unsigned *));
CALL(nvmlDeviceGetClockInfo, nvmlReturn_t(nvmlDevice_t, nvmlClockType_t, unsigned *));
CALL(nvmlDeviceGetCurrentClocksEventReasons, nvmlReturn_t(nvmlDevice_t, unsigned long long *));
CALL(nvmlDeviceGetCurrentClocksThrottleReasons, nvmlReturn_t(nvmlDevice_t, unsigned long long *));
CALL(nvmlEventSetCreate, nvmlReturn_t(nvmlEventSet_t *));
CALL(nvmlDeviceRegisterEvents, nvmlReturn_t(nvmlDevice_t, unsigned long long, nvmlEventSet_t));
CALL(nvmlEventSetWait_v2, nvmlReturn_t(nvmlEventSet_t, nvmlEventData_t *, unsigned));
SAME(sizeof(nvmlReturn_t), sizeof(int));
SAME(sizeof(nvmlMemoryErrorType_t), sizeof(int));
SAME(sizeof(nvmlEccCounterType_t), sizeof(int));
SAME(sizeof(nvmlEnableState_t), sizeof(int));
SAME(sizeof(nvmlDevice_t), sizeof(void *));
SAME(PIO_NVML_NOT_SUPPORTED, NVML_ERROR_NOT_SUPPORTED);
SAME(PIO_NVML_NO_DRIVER, NVML_ERROR_DRIVER_NOT_LOADED);
SAME(PIO_NVML_TIMEOUT, NVML_ERROR_TIMEOUT);
SAME(PIO_NVML_XID, nvmlEventTypeXidCriticalError);
SAME(sizeof(pio_nvml_event), sizeof(nvmlEventData_t));
SAME(offsetof(pio_nvml_event, device), offsetof(nvmlEventData_t, device));
SAME(offsetof(pio_nvml_event, type), offsetof(nvmlEventData_t, eventType));
SAME(offsetof(pio_nvml_event, data), offsetof(nvmlEventData_t, eventData));
SAME(PIO_NVML_CORRECTED, NVML_MEMORY_ERROR_TYPE_CORRECTED);
SAME(PIO_NVML_UNCORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED);
SAME(PIO_NVML_VOLATILE, NVML_VOLATILE_ECC);
SAME(PIO_NVML_OF_GPU, NVML_TEMPERATURE_GPU);
SAME(PIO_NVML_CLOCK_SM, NVML_CLOCK_SM);
SAME(PIO_NVML_NVLINK_SENT, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX);
SAME(PIO_NVML_NVLINK_RECEIVED, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX);
SAME(PIO_NVML_SLOW_HARDWARE, nvmlClocksThrottleReasonHwSlowdown);
SAME(PIO_NVML_SLOW_HEAT_SOFTWARE, nvmlClocksEventReasonSwThermalSlowdown);
SAME(PIO_NVML_SLOW_HEAT_HARDWARE, nvmlClocksThrottleReasonHwThermalSlowdown);
SAME(PIO_NVML_SLOW_BRAKE, nvmlClocksThrottleReasonHwPowerBrakeSlowdown);
SAME(sizeof(nvmlTemperatureSensors_t), sizeof(int));
SAME(sizeof(nvmlClockType_t), sizeof(int));
SAME(sizeof(pio_nvml_utilization), sizeof(nvmlUtilization_t));
SAME(offsetof(pio_nvml_utilization, gpu), offsetof(nvmlUtilization_t, gpu));
SAME(offsetof(pio_nvml_memory, used), offsetof(nvmlMemory_t, used));
SAME(PIO_NVML_RECOVERY_ACTION, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION);
SAME(sizeof(pio_nvml_memory), sizeof(nvmlMemory_t));
SAME(offsetof(pio_nvml_memory, total), offsetof(nvmlMemory_t, total));
SAME(sizeof(pio_nvml_field), sizeof(nvmlFieldValue_t));
SAME(offsetof(pio_nvml_field, field), offsetof(nvmlFieldValue_t, fieldId));
SAME(offsetof(pio_nvml_field, result), offsetof(nvmlFieldValue_t, nvmlReturn));
SAME(offsetof(pio_nvml_field, value), offsetof(nvmlFieldValue_t, value));
