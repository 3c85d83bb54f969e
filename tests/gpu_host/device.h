/* device.h: what device.cpp and stream.cpp know of each other. */
#ifndef GPU_HOST_DEVICE_H
#define GPU_HOST_DEVICE_H

#include "cuda_runtime.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

/* Current in this thread; -1: none. The runtime then takes the first one, the
 * driver does not. */
extern thread_local int gpu_host_device;
void gpu_host_choose_first();

/* A kernel went where no memory is: nothing runs any more, and every call says so. */
extern "C" void gpu_host_fault();
cudaError_t gpu_host_state();

/* Wait for all streams; or for those of one device. */
void gpu_host_sync_all();
void gpu_host_sync_device(int device);
bool gpu_host_is_of_device(cudaStream_t stream);  /* that is current in this thread */

/* $NAME */
size_t gpu_host_number(const char *name, size_t preset);

#endif
