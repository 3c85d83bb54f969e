"""What tests on a cluster in a box share: a project whose recipe starts
tests/pod/rank.c as jobs of Slurm, and looks at what came of it."""
import contextlib
import os
import subprocess

import harness
from harness import BUILD, ROOT, wait_for
from pod.box import Box, missing

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "pod", space = { %(space)s }, retry = { attempts = %(attempts)s },
  program = pioche.program { command = { "%(program)s" }, %(of_program)s },
  launch = { on = "slurm", grace_s = 5, %(launch)s },
}
"""


def boxed(nodes, **options):
    lacks = missing(options.get("with_accounting", False))
    if lacks:
        raise harness.Skip(", ".join(lacks))
    return Box(nodes, **options)


def enter(project, box):
    """From here on what the project starts sees the box's Slurm."""
    project.env.update({k: v for k, v in box.env.items() if k.startswith("SLURM")})


class PodProject(harness.Project):
    """A project inside a box."""

    def __init__(self, box):
        super().__init__()
        self.box = box
        enter(self, box)
        self.env.pop("PIOCHE_SAMPLE_MS")  # what is measured lies beside what ranks log
        self.program = self.path("rank")
        flags = ["-fsanitize=" + os.environ["SAN"]] if os.environ.get("SAN") else []
        subprocess.run(["cc", "-std=gnu11", "-I" + os.path.join(ROOT, "core"), *flags, "-o", self.program,
                        os.path.join(ROOT, "tests", "pod", "rank.c"), os.path.join(BUILD, "lib", "libpioche.a"),
                        "-lpthread", "-lm"], check=True)

    def recipe(self, launch, space="x = 1", attempts=1, program=None, of_program=""):
        return self.write("recipe.lua", RECIPE % {
            "space": space, "attempts": attempts, "launch": launch, "of_program": of_program,
            "program": program or self.program})

    def wrap(self, name, script):
        """A program of Slurm behind a shell script; $REAL is the program itself."""
        real = self.box.run("sh", "-c", f"command -v {name}").stdout.strip()
        self.write(f"bin/{name}", f"#!/bin/sh\nREAL={real}\nDIR='{self.dir}'\n{script}\n", 0o755)
        return {"PATH": self.path("bin") + ":" + self.env["PATH"]}

    def attempts(self):
        return self.poll("SELECT a.number, a.state, a.result, a.message, a.node, a.job, r.status, r.reason"
                         " FROM attempt a JOIN run r ON r.id = a.run_id ORDER BY a.id")

    def wait_attempt(self, condition, seconds=60):
        """The newest attempt, once it is so."""
        return wait_for(lambda: next((a for a in self.attempts()[-1:] if condition(a)), None), seconds,
                        "the attempt")

    def wait_running(self, seconds=60):
        """Until ranks log."""
        self.wait_attempt(lambda a: a["state"] == "running", seconds)
        wait_for(lambda: self.poll("SELECT 1 FROM series WHERE count > 0 LIMIT 1"), seconds, "points")

    @contextlib.contextmanager
    def running(self, seconds=300):
        """`pioche run` of the recipe, from its first points on; behind the block it has ended well."""
        run = self.start("run", "recipe.lua")
        try:
            self.wait_running()
            yield run
            _, err = run.communicate(timeout=seconds)
        finally:
            run.kill()
        assert run.returncode == 0, err

    def check_points(self, ranks, metrics, steps, runs=1):
        """All of them of so many runs, none twice, each the right one."""
        count = runs * ranks * metrics * steps
        rows = self.pioche(
            "sql", "SELECT count(*) AS n, count(DISTINCT run || '/' || key || '/' || rank || '/' || step) AS different,"
            " count(DISTINCT key) AS keys, count(DISTINCT rank) AS ranks, min(step) AS first, max(step) AS last,"
            " sum(value != step * 1000 + CAST(substr(key, 8) AS INTEGER) + rank / 4096.0) AS wrong"
            " FROM point WHERE key NOT GLOB 'sys/*'", "--json", timeout=600).json
        assert rows == [{"n": count, "different": count, "keys": metrics, "ranks": ranks,
                         "first": 0, "last": steps - 1, "wrong": 0}], rows

    def check_nothing_left(self):
        """No process of an attempt lives, and none of its job."""
        def left():
            found = []
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{name}/environ", "rb") as f:
                        if b"PIOCHE_DIR=" + os.fsencode(self.store) in f.read():
                            found.append(int(name))
                except OSError:
                    pass
            return found
        wait_for(lambda: not left(), 30, "the end of the attempt's processes")
        wait_for(lambda: not self.box.run("squeue", "-h", "-o", "%i").stdout.strip(), 60, "an empty queue")
