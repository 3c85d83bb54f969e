/* Where files stand: the file system below a path, what it can and cannot do,
 * who may write what is made there, and locks. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sys/fs.h"

/* ---- the file system ----------------------------------------------------------- */

/* Magic numbers of statfs(2). Network: other clients do not see its mappings,
 * and perhaps not its locks, at once. The rest is here for its name. */
static const struct kind {
	uint32_t magic;
	bool network;
	const char *name;
} kinds[] = {
	{ 0x6969, true, "NFS" },           { 0x0bd00bd0, true, "Lustre" },
	{ 0x47504653, true, "GPFS" },      { 0x65735546, true, "FUSE" },
	{ 0xff534d42, true, "CIFS" },      { 0xfe534d42, true, "SMB2" },
	{ 0x517b, true, "SMB" },           { 0x00c36400, true, "CephFS" },
	{ 0x19830326, true, "BeeGFS" },    { 0x01021997, true, "9p" },
	{ 0x5346414f, true, "AFS" },       { 0x6b414653, true, "kAFS" },
	{ 0x73757245, true, "Coda" },      { 0xaad7aaea, true, "PanFS" },
	{ 0x013111a8, true, "IBRIX" },     { 0x7461636f, true, "OCFS2" },
	{ 0x01161970, true, "GFS2" },      { 0x20030528, true, "OrangeFS" },
	{ 0xbeefdead, true, "StorNext" },  { 0x61636673, true, "ACFS" },
	{ 0x786f4256, true, "VirtualBox shared folder" },
	{ 0xbacbacbc, true, "VMware shared folder" },
	{ 0xef53, false, "ext4" },         { 0x58465342, false, "XFS" },
	{ 0x9123683e, false, "Btrfs" },    { 0x2fc12fc1, false, "ZFS" },
	{ 0x01021994, false, "tmpfs" },    { 0x794c7630, false, "overlayfs" },
	{ 0xf2f52010, false, "F2FS" },     { 0xca451a4e, false, "bcachefs" },
};

static void set_name(pio_fs_place *place, uint32_t magic)
{
	place->network = false;
	snprintf(place->name, sizeof place->name, "file system 0x%x", magic);
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (kinds[i].magic == magic) {
			place->network = kinds[i].network;
			snprintf(place->name, sizeof place->name, "%s", kinds[i].name);
		}
}

/* True when `options`, separated by commas, hold this one. */
static bool has_option(const char *options, const char *wanted)
{
	size_t n = strlen(wanted);
	for (const char *at = options; (at = strstr(at, wanted)); at += n)
		if ((at == options || at[-1] == ',') && (at[n] == ',' || at[n] == 0))
			return true;
	return false;
}

/* A line of mountinfo, proc(5): id parent major:minor root point options fields
 * - type source superoptions. */
static bool read_mount(char *line, dev_t device, pio_fs_place *place)
{
	unsigned major_number, minor_number;
	int options_at = 0;
	char *rest = strstr(line, " - ");
	if (!rest || sscanf(line, "%*d %*d %u:%u %*s %*s %n", &major_number, &minor_number,
	                    &options_at) != 2 || makedev(major_number, minor_number) != device)
		return false;
	char type[32] = "", super[1024] = "";
	if (sscanf(rest, " - %31s %*s %1023s", type, super) < 1)
		return false;
	/* Its own name says more than that of the module: nfs4, fuse.sshfs. */
	snprintf(place->name, sizeof place->name, "%s", type);
	place->locks_local = has_option(super, "nolock") || has_option(super, "local_lock=all") ||
	                     has_option(super, "local_lock=posix") || has_option(super, "localflock") ||
	                     has_option(super, "nobrl");
	return true;
}

void pio_fs_place_get(pio_fs_place *place, const char *path)
{
	struct statfs fs;
	struct stat st;
	char *line = NULL;
	size_t capacity = 0;
	*place = (pio_fs_place){ .name = "unknown file system" };
	if (statfs(path, &fs) == 0)
		set_name(place, (uint32_t)fs.f_type);
	FILE *mounts = stat(path, &st) == 0 ? fopen("/proc/self/mountinfo", "re") : NULL;
	while (mounts && getline(&line, &capacity, mounts) > 0)
		if (read_mount(line, st.st_dev, place))
			break;
	free(line);
	if (mounts)
		fclose(mounts);
	const char *said = getenv("PIOCHE_FS");
	place->is_network = place->network;
	if (said && (strcmp(said, "network") == 0 || strcmp(said, "local") == 0)) {
		place->forced = true;
		place->is_network = said[0] == 'n';
	}
}

bool pio_fs_is_network(const char *path)
{
	struct statfs fs;
	const char *said = getenv("PIOCHE_FS");
	if (said && strcmp(said, "network") == 0)
		return true;
	if (said && strcmp(said, "local") == 0)
		return false;
	pio_fs_place place = { .network = false };
	if (statfs(path, &fs) == 0)
		set_name(&place, (uint32_t)fs.f_type);
	return place.network;
}

bool pio_fs_sync_filesystem_tells(const char *path)
{
	static const char *const known[] = { "ext4", "XFS", "Btrfs", "F2FS" };
	pio_fs_place place = { .network = false };
	struct utsname system;
	struct statfs fs;
	int major = 0, minor = 0;
	if (pio_fs_is_network(path) || statfs(path, &fs) != 0)
		return false;
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		return true;
	set_name(&place, (uint32_t)fs.f_type);
	if (uname(&system) != 0 || sscanf(system.release, "%d.%d", &major, &minor) != 2 ||
	    major < 5 || (major == 5 && minor < 17))
		return false;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(place.name, known[i]) == 0)
			return true;
	return false;
}

int64_t pio_fs_free_bytes(const char *path)
{
	struct statvfs st;
	if (statvfs(path, &st) != 0)
		return -1;
	int64_t bytes;
	return __builtin_mul_overflow(st.f_bavail, st.f_frsize, &bytes) ? INT64_MAX : bytes;
}

int pio_fs_check_room(const char *dir, int64_t size_bytes, pio_err *err)
{
	char path[PATH_MAX];
	int fd, failed, n = snprintf(path, sizeof path, "%s/room-%ld", dir, (long)getpid());
	int64_t room = pio_fs_free_bytes(dir);
	if (room >= 0 && room < size_bytes)
		return pio_fail(err, PIO_ENOSPC, "%s: %lld bytes are free, %lld are needed", dir,
		                (long long)room, (long long)size_bytes);
	if (n < 0 || (size_t)n >= sizeof path)
		return pio_fail(err, PIO_EINVAL, "%s: the path is too long", dir);
	int rc = pio_fs_open(&fd, path, O_RDWR | O_CREAT, 0600, err);
	if (rc)
		return rc;
	(void)pio_fs_unlink(path, NULL);
	failed = posix_fallocate(fd, 0, (off_t)size_bytes);
	close(fd);
	if (!failed || failed == EINTR)
		return 0;
	return pio_fail_errno(err, failed, "%s: %lld bytes are needed", dir, (long long)size_bytes);
}

/* ---- who may write what is made here --------------------------------------------- */

/* The group's rights that a new entry beside this path gets whatever the umask:
 * those of its directory, if the group may write there. A sticky directory
 * (/tmp) is shared by strangers. */
static mode_t group_rights(int dir_fd)
{
	struct stat st;
	if (fstat(dir_fd, &st) != 0 || !(st.st_mode & S_IWGRP) || (st.st_mode & S_ISVTX))
		return 0;
	return st.st_mode & S_IRWXG;
}

static int open_parent(const char *path)
{
	char parent[4096] = ".";
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 1;
	if (n >= sizeof parent)
		return -1;
	if (slash) {
		memcpy(parent, path, n);
		parent[n] = 0;
	}
	return open(n ? parent : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

void pio_fs_share(int fd, const char *path, mode_t mode)
{
	struct stat st;
	int dir = open_parent(path);
	if (dir < 0)
		return;
	mode_t wanted = group_rights(dir) & mode;
	close(dir);
	if (wanted && fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & wanted) != wanted)
		(void)fchmod(fd, (st.st_mode & 07777) | wanted);
}

/* ---- locks ------------------------------------------------------------------------ */

/* Locks of an open file description: unlike those of flock(2) they can be asked
 * for without being taken, and a network file system treats both alike. */
static int try_lock(int fd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };
	while (fcntl(fd, F_OFD_SETLK, &lock) != 0)
		if (errno != EINTR)
			return errno;
	return 0;
}

int pio_fs_lock(int *fd, const char *path, pio_err *err)
{
	int rc = pio_fs_open(fd, path, O_RDWR | O_CREAT, 0666, err);
	if (rc)
		return rc;
	int failed = try_lock(*fd, F_WRLCK);
	if (!failed)
		return 0;
	close(*fd);
	*fd = -1;
	if (failed == EAGAIN || failed == EACCES)
		return pio_fail(err, PIO_EBUSY, "%s is locked by another process", path);
	if (failed == ENOLCK || failed == ENOSYS || failed == EOPNOTSUPP)
		return pio_fail(err, PIO_EIO, "%s: its file system has no file locks (Lustre: mount with "
		                "-o flock; NFS: without nolock)", path);
	return pio_fail_errno(err, failed, "cannot lock %s", path);
}

void pio_fs_unlock(int *fd)
{
	if (*fd < 0)
		return;
	(void)try_lock(*fd, F_UNLCK);
	close(*fd);
	*fd = -1;
}

int pio_fs_is_locked(bool *locked, const char *path, pio_err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd, failed = 0;
	*locked = false;
	int rc = pio_fs_open(&fd, path, O_RDONLY, 0, err);
	if (rc)
		return rc == -PIO_ENOTFOUND ? 0 : rc;
	while (fcntl(fd, F_OFD_GETLK, &lock) != 0 && (failed = errno) == EINTR)
		failed = 0;
	close(fd);
	*locked = !failed && lock.l_type != F_UNLCK;
	return failed ? pio_fail_errno(err, failed, "cannot ask for the lock of %s", path) : 0;
}
