#include "gpu/xid.h"

#include <unistd.h>

#include "base/clock.h"
#include "gpu/nvml_library.h"
#include "sys/library.h"

#define WAIT_MS 60000           /* then NVML is asked again */
#define NAP_MS 1000             /* after a wait that failed: a lost GPU fails them all */
#define GPUS_MAX 64

/* ---- the process that listens ------------------------------------------------ */

static int load(pio_nvml_events *api)
{
	void *library;
	const pio_symbol symbols[] = {
		{ "nvmlInit_v2", (void **)&api->nvmlInit_v2, false },
		{ "nvmlDeviceGetCount_v2", (void **)&api->nvmlDeviceGetCount_v2, false },
		{ "nvmlDeviceGetHandleByIndex_v2", (void **)&api->nvmlDeviceGetHandleByIndex_v2, false },
		{ "nvmlEventSetCreate", (void **)&api->nvmlEventSetCreate, false },
		{ "nvmlDeviceRegisterEvents", (void **)&api->nvmlDeviceRegisterEvents, false },
		{ "nvmlEventSetWait_v2", (void **)&api->nvmlEventSetWait_v2, false },
	};
	return pio_library_open(&library, "libnvidia-ml.so.1", symbols, sizeof symbols / sizeof symbols[0],
	                        NULL);
}

/* How many GPUs there are to listen to. Those that cannot be listened to (a virtual
 * one, one that is lost) are not. */
static unsigned enlist(const pio_nvml_events *api, void *devices[GPUS_MAX], void *set)
{
	unsigned count, heard = 0;
	if (api->nvmlDeviceGetCount_v2(&count) != 0)
		return 0;
	for (unsigned i = 0; i < count && i < GPUS_MAX; i++)
		if (api->nvmlDeviceGetHandleByIndex_v2(i, &devices[i]) == 0 &&
		    api->nvmlDeviceRegisterEvents(devices[i], PIO_NVML_XID, set) == 0)
			heard++;
	return heard;
}

static int index_of(const void *device, void *const devices[GPUS_MAX])
{
	for (int i = 0; i < GPUS_MAX; i++)
		if (devices[i] && devices[i] == device)
			return i;
	return -1;
}

/* Until it is killed, or nobody reads any more. */
static int listen_for_ever(int answer_fd, void *context)
{
	static void *devices[GPUS_MAX];
	pio_nvml_events api;
	void *set;
	(void)context;
	if (load(&api) != 0 || api.nvmlInit_v2() != 0 || api.nvmlEventSetCreate(&set) != 0 ||
	    enlist(&api, devices, set) == 0)
		return 0;
	for (;;) {
		pio_nvml_event event = { .device = NULL };
		int result = api.nvmlEventSetWait_v2(set, &event, WAIT_MS);
		if (result != 0 && result != PIO_NVML_TIMEOUT)
			pio_clock_sleep_ms(NAP_MS);
		if (result != 0 || event.type != PIO_NVML_XID)
			continue;
		pio_xid xid = { index_of(event.device, devices), (unsigned)event.data };
		if (write(answer_fd, &xid, sizeof xid) != (ssize_t)sizeof xid) /* whole, or not at all */
			return 0;
	}
}

int pio_xid_feed_open(pio_proc_feed *feed, pio_err *err)
{
	return pio_proc_feed_open(feed, listen_for_ever, NULL, sizeof(pio_xid), "NVML", err);
}

/* ---- what codes mean ------------------------------------------------------------- */

const char *pio_xid_words(unsigned code, pio_xid_kind *kind)
{
	static const struct {
		unsigned first, last;
		pio_xid_kind kind;
		const char *words;
	} known[] = {
		{ 13, 13, PIO_XID_PROGRAM, "a kernel went wrong" },
		{ 31, 31, PIO_XID_PROGRAM, "a kernel went where no memory is" },
		{ 32, 32, PIO_XID_MACHINE, "a command stream was corrupted" },
		{ 38, 38, PIO_XID_MACHINE, "the driver's firmware erred" },
		{ 43, 43, PIO_XID_PROGRAM, "it stopped working for the program" },
		{ 45, 45, PIO_XID_SEQUEL, "a program's work was cleaned up" },
		{ 48, 48, PIO_XID_MACHINE, "an error of its memory that could not be corrected" },
		{ 61, 62, PIO_XID_MACHINE, "its microcontroller stopped" },
		{ 63, 63, PIO_XID_MACHINE, "a bad row of its memory was replaced" },
		{ 64, 64, PIO_XID_MACHINE, "a bad row of its memory could not be replaced" },
		{ 69, 69, PIO_XID_PROGRAM, "a kernel was not understood" },
		{ 74, 74, PIO_XID_MACHINE, "an NVLink erred" },
		{ 79, 79, PIO_XID_MACHINE, "it has fallen off the bus" },
		{ 92, 92, PIO_XID_MACHINE, "errors of its memory, corrected, come too often" },
		{ 94, 94, PIO_XID_MACHINE, "an error of its memory, contained" },
		{ 95, 95, PIO_XID_MACHINE, "an error of its memory, not contained" },
		{ 109, 109, PIO_XID_MACHINE, "it did not change between programs in time" },
		{ 119, 120, PIO_XID_MACHINE, "its system processor (GSP) did not answer or erred" },
		{ 121, 121, PIO_XID_MACHINE, "its link to the CPU erred" },
		{ 140, 140, PIO_XID_MACHINE, "an error of its memory was not recovered from" },
		{ 144, 150, PIO_XID_MACHINE, "an NVLink erred" },
	};
	*kind = PIO_XID_MACHINE;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (code >= known[i].first && code <= known[i].last) {
			*kind = known[i].kind;
			return known[i].words;
		}
	return NULL;
}
