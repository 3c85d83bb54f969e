"""A virtual environment for programs of others that tests and benches hold beside
pioche. It is made when first asked for, by one who asks while the rest wait, and kept."""
import fcntl
import os
import subprocess
import sys
import tempfile

INSTALL_S = 420


class Venv:
    def __init__(self, home, wanted, check):
        """wanted: what pip is asked for; check: Python that fails where it is not there."""
        self.home, self.wanted, self.check = os.path.abspath(home), wanted, check
        self.path = os.path.join(self.home, "bin", "python")
        self.why = None            # it cannot be had

    def works(self):
        return os.path.exists(self.path) and subprocess.run(
            [self.path, "-c", self.check], capture_output=True, timeout=300, check=False).returncode == 0

    def install(self):
        """Why it cannot be had, or None."""
        subprocess.run([sys.executable, "-m", "venv", self.home], check=True, capture_output=True)
        # What pip leaves behind when it is stopped goes with its own scratch directory.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            try:
                done = subprocess.run([self.path, "-m", "pip", "install", "-q", *self.wanted],
                                      capture_output=True, text=True, timeout=INSTALL_S, check=False,
                                      env={**os.environ, "TMPDIR": scratch})
            except subprocess.TimeoutExpired:
                return f"not within the {INSTALL_S} s there are"
        if done.returncode:
            return "".join(done.stderr.strip().splitlines()[-1:])[:120]
        return None if self.works() else "what it installed does not run"

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
