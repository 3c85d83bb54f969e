"""A virtual environment for programs of others that tests and benches hold beside
pioche. It is made when first asked for, by one who asks while the rest wait, and kept."""
import fcntl
import os
import subprocess
import sys
import tempfile

from harness import ROOT, Skip

INSTALL_S = 420


def run_python(command, seconds, env):
    """What came of it; None where it takes longer. What it leaves in a temporary directory
    goes with one of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False,
                                  env={**env, "TMPDIR": scratch})
        except subprocess.TimeoutExpired:
            return None


def pip_install(python, wanted, seconds):
    """Why it cannot be had, or None. Modules are compiled when they are imported, not
    all of them beforehand: there are thousands, and tests need a few."""
    done = run_python([python, "-m", "pip", "install", "-q", "--no-compile", *wanted], seconds, os.environ)
    if not done:
        return f"not within the {seconds:.0f} s there are"
    return "".join(done.stderr.strip().splitlines()[-1:])[:120] if done.returncode else None


def runs(python, code, seconds=300):
    """Whether it does; what it imports is compiled then, and that is kept."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = run_python([python, "-c", code], seconds, env)
    return done is not None and done.returncode == 0


class Venv:
    def __init__(self, home, wanted, check):
        """wanted: what pip is asked for; check: Python that fails where it is not there."""
        self.home, self.wanted, self.check = os.path.abspath(home), wanted, check
        self.path = os.path.join(self.home, "bin", "python")
        self.why = None            # it cannot be had

    def works(self):
        return os.path.exists(self.path) and runs(self.path, self.check)

    def install(self):
        """Why it cannot be had, or None."""
        subprocess.run([sys.executable, "-m", "venv", self.home], check=True, capture_output=True)
        why = pip_install(self.path, self.wanted, INSTALL_S)
        return why or (None if self.works() else "what it installed does not run")

    def python(self):
        """The interpreter, and None; or None, and why there is none."""
        if self.why is None and not self.works():
            try:
                os.makedirs(self.home, exist_ok=True)
                with open(os.path.join(self.home, ".lock"), "w", encoding="utf-8") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    self.why = None if self.works() else self.install()
            except (OSError, subprocess.CalledProcessError) as error:
                self.why = str(error)
        return (None, self.why) if self.why is not None else (self.path, None)


def python_with(*packages, name, check):
    """The Python of build/NAME of the checkout, which has these packages."""
    path, why = Venv(os.path.join(ROOT, "build", name), packages, check).python()
    if not path:
        raise Skip(f"{' and '.join(packages)}: pip cannot install them ({why})")
    return path


def safetensors():
    """That package, NumPy, and nothing else."""
    return python_with("safetensors", "numpy", name="safetensors", check="import safetensors.numpy")
