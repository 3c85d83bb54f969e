"""PyTorch for the tests that train with it, of exactly one version, beside
scikit-learn, which brings the data, and safetensors, which reads what was saved.

It lives in a virtual environment of its own, build/torch of the checkout or what
PIOCHE_TORCH names; that is made when first asked for, and kept. Where pip cannot,
the test is skipped by that name."""
import fcntl
import os
import subprocess
import sys
import tempfile

from harness import ROOT, Skip

INSTALL_S = 420
VERSION = "2.13.0"
WANTED = (f"torch=={VERSION}", "numpy", "safetensors", "scikit-learn")
CHECK = f"import numpy, safetensors, sklearn, torch; assert torch.__version__.split('+')[0] == '{VERSION}'"
HOME = os.path.abspath(os.environ.get("PIOCHE_TORCH") or os.path.join(ROOT, "build", "torch"))
PYTHON = os.path.join(HOME, "bin", "python")
_why = None                        # it cannot be had


def _works():
    return os.path.exists(PYTHON) and subprocess.run(
        [PYTHON, "-c", CHECK], capture_output=True, timeout=300).returncode == 0


def _install():
    """Why it cannot be had, or None."""
    subprocess.run([sys.executable, "-m", "venv", HOME], check=True, capture_output=True)
    # What pip leaves behind when it is stopped goes with its own scratch directory.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            done = subprocess.run([PYTHON, "-m", "pip", "install", "-q", *WANTED], capture_output=True,
                                  text=True, timeout=INSTALL_S, env={**os.environ, "TMPDIR": scratch})
        except subprocess.TimeoutExpired:
            return f"not within the {INSTALL_S} s there are"
    return "".join(done.stderr.strip().splitlines()[-1:])[:120] if done.returncode else None


def home():
    """The environment's folder; its bin/python imports torch, safetensors and sklearn."""
    global _why
    if os.environ.get("SAN"):
        raise Skip("python3 is not built with the sanitizers")
    if _why is None and not _works():
        try:
            os.makedirs(HOME, exist_ok=True)
            with open(os.path.join(HOME, ".lock"), "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _works():
                    _why = _install()
        except (OSError, subprocess.CalledProcessError) as error:
            _why = str(error)
    if _why is not None:
        raise Skip(f"torch=={VERSION}: pip cannot install it ({_why})")
    return HOME
