#!/usr/bin/env python3
"""`pip install ./core/client`, with and without build isolation, into an
environment of its own; and mypy --strict on the client and on a program that
uses it. Prints TAP."""

import os
import subprocess
import sys
import unittest

import client

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE = os.path.join(ROOT, "core", "client")

PROGRAM = """
import pioche
from typing import Optional

def train(step: Optional[int] = None) -> float:
    with pioche.init("typed", params={"lr": 3e-4, "deep": {"width": 64}}) as run:
        run.log({"loss": 1.5, "tokens": 3}, step=step)
        run.histogram("h", [1.0, 2.0])
        run.table("t", {"a": [1, 2]})
        run.text("sample", "In the beginning", step=1)
        run.note("fine")
        name: str = run.id
    points = pioche.read(name, "loss", store=".")
    return sum(value for _, value in points)
"""


class Wheel(client.Client):
    def venv(self):
        if os.environ.get("SAN"):
            raise unittest.SkipTest("python3 is not built with the sanitizers")
        target = os.path.join(self.dir, "venv")
        made = subprocess.run([sys.executable, "-m", "venv", target], capture_output=True, text=True)
        if made.returncode:
            raise unittest.SkipTest("python3 -m venv")
        return os.path.join(target, "bin", "python")

    def pip(self, python, *words):
        env = self.environment(PIOCHE_BUILD=client.BUILD, PIP_DISABLE_PIP_VERSION_CHECK="1")
        env.pop("PYTHONPATH")
        return subprocess.run([python, "-m", "pip", "install", "-q", *words], env=env, cwd=self.dir,
                              capture_output=True, text=True, timeout=300)

    def check_installed(self, *words):
        python = self.venv()
        done = self.pip(python, *words, SOURCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.run_program("""
import os
run = pioche.init("wheel")
run.log({"x": 1.5, "n": 3})
assert "venv" in pioche.__file__ and run.log.__class__.__name__ == "builtin_function_or_method"
run.finish()
""", python=python, PYTHONPATH="")
        self.assertEqual(self.heard().points, [("x", 0, 1.5), ("n", 0, 3)])
        self.pioche("ls")
        self.run_program('assert list(pioche.read("wheel-1", "n")) == [(0, 3)]\n', python=python, PYTHONPATH="")
        files = os.path.join(os.path.dirname(os.path.dirname(python)), "lib",
                             "python%d.%d" % sys.version_info[:2], "site-packages")
        for module in ("pioche", "pioche_points", "pioche_values"):  # what read() gives is typed, too
            self.assertTrue(os.path.isfile(os.path.join(files, module, "py.typed")))

    def environment(self, **more):
        env = super().environment(**{k: v for k, v in more.items() if k != "PYTHONPATH"})
        if "PYTHONPATH" in more:
            env.pop("PYTHONPATH")
        return env

    def test_pip_installs_with_isolation(self):
        self.check_installed()

    def test_pip_installs_without_isolation(self):
        self.check_installed("--no-build-isolation")

    def test_mypy_strict_is_clean(self):
        python = self.venv()
        if self.pip(python, "mypy").returncode:
            raise unittest.SkipTest("pip cannot install mypy")
        with open(os.path.join(self.dir, "train.py"), "w", encoding="utf-8") as file:
            file.write(PROGRAM)
        env = self.environment()
        env["MYPYPATH"] = SOURCE
        done = subprocess.run([python, "-m", "mypy", "--strict", "--cache-dir", os.path.join(self.dir, "cache"),
                               "train.py", os.path.join(SOURCE, "pioche.py"),
                               os.path.join(SOURCE, "pioche_checkpoint.py"),
                               os.path.join(SOURCE, "pioche_points.py"),
                               os.path.join(SOURCE, "pioche_values.py")],
                              cwd=self.dir, env=env, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # And it is no less strict for that: a wrong argument is found.
        with open(os.path.join(self.dir, "wrong.py"), "w", encoding="utf-8") as file:
            file.write('import pioche\npioche.init("x").log(3, step="a")\n')
        done = subprocess.run([python, "-m", "mypy", "--strict", "--cache-dir", os.path.join(self.dir, "cache"),
                               "wrong.py"], cwd=self.dir, env=env, capture_output=True, text=True)
        self.assertEqual(done.stdout.count("[arg-type]"), 2, done.stdout)


client.main(Wheel)
