"""Other trackers' own programs, for tests that read what those really write.

They live in a virtual environment: the one that PIOCHE_PEERS names, which is
made if absent and kept, else one of this process, removed at its end. What is
missing is installed when a test first asks; where pip cannot, the test is
skipped by that name."""
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile

from harness import Skip

INSTALL_S = 400
DISTRIBUTION = {"PIL": "pillow"}   # of modules that are called otherwise
_failed = {}
_home = None


def _venv():
    global _home
    if _home is None:
        _home = os.environ.get("PIOCHE_PEERS")
        if not _home:
            _home = tempfile.mkdtemp(prefix="pioche peers ")
            atexit.register(shutil.rmtree, _home, ignore_errors=True)
    python = os.path.join(_home, "bin", "python")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", _home], check=True, capture_output=True)
    return python


def python(*names):
    """The interpreter that can import these modules."""
    interpreter = _venv()
    for name in names:
        if name in _failed:
            raise Skip(_failed[name])
        found = subprocess.run([interpreter, "-c", f"import {name}"], capture_output=True, timeout=120)
        if found.returncode == 0:
            continue
        try:
            done = subprocess.run([interpreter, "-m", "pip", "install", "-q",
                                   DISTRIBUTION.get(name, name)], capture_output=True,
                                  text=True, timeout=INSTALL_S)
            why = done.stderr.strip().splitlines()[-1:] if done.returncode else None
        except subprocess.TimeoutExpired:
            why = [f"not within {INSTALL_S} s"]
        if why is not None:
            _failed[name] = f"{name}: pip cannot install it ({''.join(why)[:120]})"
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
