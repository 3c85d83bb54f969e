#include "sys/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fs.h"

/* By statfs(2) alone: PIOCHE_FS speaks of the store. */
static bool is_shared_by_machines(const char *path)
{
	pio_fs_place place;
	pio_fs_place_get(&place, path);
	return place.network;
}

const char *pio_shm_dir(void)
{
	const char *dir = getenv("PIOCHE_SHM");
	if (dir && *dir)
		return dir;
	if (access("/dev/shm", W_OK | X_OK) == 0)
		return "/dev/shm";
	dir = getenv("TMPDIR");
	return dir && *dir && !is_shared_by_machines(dir) ? dir : "/tmp";
}

static int map(pio_shm *shm, int fd, size_t size_bytes, const char *path, pio_err *err)
{
	void *base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return pio_fail_errno(err, errno, "cannot map %s", path);
	*shm = (pio_shm){ base, size_bytes };
	return 0;
}

/* A signal ends the call and undoes it, so a program whose timer is faster than
 * the reservation would try for ever. */
static int reserve(int fd, size_t size_bytes)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int failed = posix_fallocate(fd, 0, (off_t)size_bytes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return failed;
}

int pio_shm_create(pio_shm *shm, const char *path, size_t size_bytes, pio_err *err)
{
	*shm = (pio_shm){ NULL, 0 };
	int fd;
	int rc = pio_fs_open(&fd, path, O_RDWR | O_CREAT | O_EXCL, 0600, err);
	if (rc)
		return rc;
	if (is_shared_by_machines(path)) {
		close(fd);
		(void)pio_fs_unlink(path, NULL);
		return pio_fail(err, PIO_EINVAL, "%s: memory cannot be shared through a network file system; "
		                "set PIOCHE_SHM to a directory of this machine", path);
	}
	int failed = reserve(fd, size_bytes);
	rc = failed ? pio_fail_errno(err, failed, "cannot reserve %zu bytes for %s", size_bytes, path)
	            : map(shm, fd, size_bytes, path, err);
	close(fd);
	if (rc)
		(void)pio_fs_unlink(path, NULL);
	return rc;
}

int pio_shm_open(pio_shm *shm, const char *path, pio_err *err)
{
	*shm = (pio_shm){ NULL, 0 };
	int fd;
	int rc = pio_fs_open(&fd, path, O_RDWR | O_NOFOLLOW, 0, err);
	if (rc)
		return rc;
	struct stat st;
	if (fstat(fd, &st) != 0)
		rc = pio_fail_errno(err, errno, "cannot stat %s", path);
	else if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		rc = pio_fail(err, PIO_ECORRUPT, "%s is no mapped file of ours: it has %lld bytes", path,
		              (long long)st.st_size);
	else
		rc = map(shm, fd, (size_t)st.st_size, path, err);
	close(fd);
	return rc;
}

void pio_shm_close(pio_shm *shm)
{
	if (shm->base)
		munmap(shm->base, shm->size_bytes);
	*shm = (pio_shm){ NULL, 0 };
}
