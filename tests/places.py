"""Places for a store that are no plain directory: a FUSE mount, a disk of a few
megabytes, a directory of a group, the eyes of another user. Each raises Skip
with the name of what is missing."""
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time

from harness import Skip


def _is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return any(line.split()[4] == path.replace(" ", "\\040") for line in f)


def _unmount(command, path):
    for _ in range(100):  # what was killed a moment ago may still have it open
        subprocess.run([*command, path], check=False, capture_output=True)
        if not _is_mounted(path):
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} cannot be unmounted")


@contextlib.contextmanager
def fuse(below, *options):
    """A directory under `below` that is seen through FUSE, by bindfs."""
    if not os.path.exists("/dev/fuse") or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise Skip("/dev/fuse")
    if not shutil.which("bindfs"):
        raise Skip("bindfs (Debian package bindfs)")
    source, target = os.path.join(below, "below"), os.path.join(below, "mount")
    os.makedirs(source)
    os.makedirs(target)
    done = subprocess.run(["bindfs", *options, source, target], check=False, capture_output=True,
                          text=True)
    if done.returncode:
        raise Skip("mounting FUSE: " + done.stderr.strip().splitlines()[-1])
    try:
        yield target
    finally:
        _unmount(["fusermount", "-u"], target)


@contextlib.contextmanager
def small_disk(below, size_bytes, options="", name="disk"):
    """A tmpfs of so many bytes."""
    if os.geteuid() != 0:
        raise Skip("root, for a small tmpfs")
    target = os.path.join(below, name)
    os.makedirs(target)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}{options}", "tmpfs",
                           target], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Skip("mounting a tmpfs: " + done.stderr.strip())
    try:
        yield target
    finally:
        _unmount(["umount"], target)


CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *t)
{
	long rc = syscall(SYS_clock_gettime, id, t);
	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += AHEAD_S;
	return (int)rc;
}
time_t time(time_t *out)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return out ? *out = t.tv_sec : t.tv_sec;
}
int gettimeofday(struct timeval *out, void *zone)
{
	struct timespec t;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*out = (struct timeval){ t.tv_sec, t.tv_nsec / 1000 };
	return 0;
}
"""


@contextlib.contextmanager
def clock(ahead_s):
    """What LD_PRELOAD makes of the wall clock: so many seconds ahead (or behind) of the truth, for the
    process and its children. The monotonic clock goes as it goes."""
    if os.environ.get("SAN"):
        raise Skip("a sanitizer must be loaded first")
    with tempfile.TemporaryDirectory(prefix="pioche-clock-", dir="/tmp") as folder:  # without a space
        library = os.path.join(folder, "clock.so")
        subprocess.run(["cc", "-shared", "-fPIC", f"-DAHEAD_S=({ahead_s})", "-x", "c", "-o", library, "-"],
                       input=CLOCK, text=True, check=True)
        yield library


@contextlib.contextmanager
def read_only(path):
    """The directory cannot be written by anybody, root included."""
    if os.geteuid() != 0:
        raise Skip("root, for a read-only mount")
    bound = subprocess.run(["mount", "--bind", path, path], check=False, capture_output=True, text=True)
    if bound.returncode:
        raise Skip("a bind mount: " + bound.stderr.strip())
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        yield path
    finally:
        _unmount(["umount"], path)


@contextlib.contextmanager
def other_user(name="tester"):
    """(uid, gid) of an unprivileged user, made for the test if there is none."""
    if os.geteuid() != 0:
        raise Skip("root, to act as another user")
    made = False
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        if subprocess.run(["useradd", "--no-create-home", name], check=False,
                          capture_output=True).returncode:
            raise Skip(f"a user {name}: useradd failed") from None
        entry, made = pwd.getpwnam(name), True
    try:
        yield entry.pw_uid, entry.pw_gid
    finally:
        if made:
            subprocess.run(["userdel", name], check=False, capture_output=True)
