"""Other trackers' own programs, for tests that read what those really write and
for the bench that measures them.

They live in a virtual environment, build/peers of the checkout or what
PIOCHE_PEERS names; it is made when first asked for, and kept. What is missing is
installed then; where pip cannot, the test is skipped by that name."""
import fcntl
import json
import os
import subprocess
import sys
import time

from harness import Skip
from venvs import pip_install, runs

INSTALL_S = 240                    # for all that a test program asks for
DISTRIBUTION = {"PIL": "pillow"}   # of modules that are called otherwise
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOME = os.path.abspath(os.environ.get("PIOCHE_PEERS") or os.path.join(CHECKOUT, "build", "peers"))
PYTHON = os.path.join(HOME, "bin", "python")
_asked = {}                        # by name: why it cannot be had, or None
_left_s = INSTALL_S


def _have(name):
    return subprocess.run([PYTHON, "-c", f"import importlib.util as u; exit(not u.find_spec({name!r}))"],
                          capture_output=True, timeout=120).returncode == 0


def _install(name):
    """Why it cannot be had, or None."""
    global _left_s
    began = time.monotonic()
    why = pip_install(PYTHON, [DISTRIBUTION.get(name, name)], max(1, _left_s))
    if why is None:
        runs(PYTHON, f"import {name}")
    _left_s -= time.monotonic() - began
    return why


def python(*names):
    """The interpreter that can import these modules."""
    os.makedirs(HOME, exist_ok=True)
    with open(os.path.join(HOME, ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(PYTHON):
            subprocess.run([sys.executable, "-m", "venv", HOME], check=True, capture_output=True)
        for name in names:
            if name not in _asked:
                _asked[name] = None if _have(name) else _install(name)
            if _asked[name] is not None:
                raise Skip(f"{name}: pip cannot install it ({_asked[name]})")
    return PYTHON


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
