/* Any bytes as a resume index: it is refused with a message that names a line,
 * or can be asked for any tensor; a tensor that is read came from its file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/resume.h"
#include "sys/fs.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	pio_err err = PIO_ERR_INIT;
	pio_resume *resume;
	char path[64], bytes[64];
	int fd = memfd_create("resume", MFD_CLOEXEC);
	CHECK(fd >= 0 && pio_fs_write_all(fd, data, size_bytes, "memfd", NULL) == 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int rc = pio_resume_open(&resume, path, &err);
	close(fd);
	if (rc) {
		CHECK(rc == -PIO_ECORRUPT && err.message[0] && !resume);
		return 0;
	}
	(void)pio_resume_step(resume);
	static const int64_t two[] = { 2, 2 }, whole[] = { 4, 4 }, begin[] = { 1, 2 };
	static const struct { int ndim; pio_part part; } parts[] = {
		{ 2, { 2, whole, begin, 0 } }, { 1, { 2, whole, begin, 1 } }, { 1, { 1, whole, begin, 0 } },
	};
	static const char *const roles[] = { "model", "optim.m", "", "a\tb" };
	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
		for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
			rc = pio_resume_tensor(resume, 1, roles[i], "w", PIO_F32, parts[p].ndim, two, &parts[p].part,
			                       bytes, &err);
			CHECK(rc == 0 || err.message[0]);
		}
	}
	pio_resume_close(&resume);
	CHECK(!resume);
	return 0;
}
