"""Optuna, cmaes and SciPy for what is held against them, beside each other in one virtual
environment, build/optuna of the checkout; made when first asked for, and kept. Where pip
cannot, what needs them is skipped by that name."""
import os
import subprocess
import sys

VERSION = "5.0.0"
WANTED = (f"optuna=={VERSION}", "cmaes", "scipy")
CHECK = "import cmaes, optuna, scipy"


def python(build):
    """The Python of the environment, and None; or None and why it cannot be had."""
    home = os.path.join(build, "optuna")
    path = os.path.join(home, "bin", "python")

    def works():
        return os.path.exists(path) and subprocess.run([path, "-c", CHECK], capture_output=True,
                                                       check=False).returncode == 0
    if works():
        return path, None
    subprocess.run([sys.executable, "-m", "venv", home], check=True, capture_output=True)
    done = subprocess.run([path, "-m", "pip", "install", "-q", *WANTED], capture_output=True, text=True,
                          check=False)
    if done.returncode == 0 and works():
        return path, None
    return None, "".join(done.stderr.strip().splitlines()[-1:])[:120] or "it does not run"
