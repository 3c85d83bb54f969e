/* Any bytes as a bundle: the verifier ends, and only ever accepts an archive
 * whose every file is in its manifest with its digest. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pack/bundle.h"
#include "sys/fs.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void hear(void *context, const char *finding, int64_t bytes_done, int64_t bytes_total)
{
	int64_t *findings = context;
	CHECK(bytes_done <= bytes_total);
	CHECK(!finding || finding[0]);
	*findings += finding != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	pio_bundle_result result;
	int64_t findings = 0;
	char path[64];
	int fd = memfd_create("bundle", MFD_CLOEXEC);
	CHECK(fd >= 0 && pio_fs_write_all(fd, data, size_bytes, "memfd", NULL) == 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int rc = pio_bundle_verify(&result, path, hear, &findings, &err);
	close(fd);
	CHECK(findings == result.bad);
	if (rc) {
		CHECK(rc == -PIO_ECORRUPT && err.message[0]);
		return 0;
	}
	CHECK(!findings && result.size_bytes == (int64_t)size_bytes && result.name[0]);
	CHECK(result.payload_bytes >= 0 && result.files > 0);
	return 0;
}
