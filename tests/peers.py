"""Other trackers' own programs, for tests that read what those really write.

They live in a virtual environment: the one that PIOCHE_PEERS names, which is
made if absent and kept, else the one that `make bench` made, else one of this
process, removed at its end. What is missing is installed when a test first asks;
where pip cannot, the test is skipped by that name."""
import atexit
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from harness import Skip

INSTALL_S = 240                    # for all that a test program asks for
DISTRIBUTION = {"PIL": "pillow"}   # of modules that are called otherwise
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "pioche",
                     "peers")
_failed = {}
_home = None
_left_s = INSTALL_S


def _venv():
    global _home
    if _home is None:
        _home = os.environ.get("PIOCHE_PEERS") or (os.path.isdir(CACHE) and CACHE)
        if not _home:
            _home = tempfile.mkdtemp(prefix="pioche peers ")
            atexit.register(shutil.rmtree, _home, ignore_errors=True)
    python = os.path.join(_home, "bin", "python")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", _home], check=True, capture_output=True)
    return python


def _install(interpreter, name):
    """Why it cannot be had, or None."""
    global _left_s
    began = time.monotonic()
    # What pip leaves behind when it is stopped goes with its own scratch directory.
    with open(_home + "/.lock", "w", encoding="utf-8") as lock, \
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            done = subprocess.run([interpreter, "-m", "pip", "install", "-q", DISTRIBUTION.get(name, name)],
                                  capture_output=True, text=True, timeout=max(1, _left_s),
                                  env={**os.environ, "TMPDIR": scratch})
        except subprocess.TimeoutExpired:
            return f"not within the {INSTALL_S} s there are"
        finally:
            _left_s -= time.monotonic() - began
    return "".join(done.stderr.strip().splitlines()[-1:])[:120] if done.returncode else None


def python(*names):
    """The interpreter that can import these modules."""
    interpreter = _venv()
    for name in names:
        if name in _failed:
            raise Skip(_failed[name])
        found = subprocess.run([interpreter, "-c", f"import {name}"], capture_output=True, timeout=120)
        if found.returncode == 0:
            continue
        why = _install(interpreter, name)
        if why is not None:
            _failed[name] = f"{name}: pip cannot install it ({why})"
            raise Skip(_failed[name])
    return interpreter


def run(project, names, script, *args, expect=0, **env):
    """Run a script in the project's directory; what it prints as its last line of
    stdout is JSON, and is returned."""
    process = subprocess.run([python(*names), "-c", script, *map(str, args)], cwd=project.dir,
                             env={**project.env, "PYTHONDONTWRITEBYTECODE": "1",
                                  "TMPDIR": project.dir, **env},
                             capture_output=True, text=True, timeout=240)
    assert process.returncode == expect, f"{process.returncode}\n{process.stdout}\n{process.stderr}"
    lines = process.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1][:1] in "[{" else None
