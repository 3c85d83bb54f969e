#!/usr/bin/env python3
"""The tests of ring and client once more under ThreadSanitizer: many threads
log while one drains, and no two of them race. Prints TAP."""

import glob
import os
import re
import subprocess
import unittest

import client

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# libpioche's own, as the Makefile has it: base without what needs jansson.
ABSENT = {"core/base/json.c", "core/base/safetensors.c"}


class Threads(client.Client):
    def check(self, name):
        if os.environ.get("SAN"):
            raise unittest.SkipTest("another sanitizer")
        with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
            system = re.search(r"addprefix core/sys/,([^)]*)\)", file.read()).group(1).split()
        sources = sorted(os.path.relpath(path, ROOT) for pattern in ("client", "base")
                         for path in glob.glob(os.path.join(ROOT, "core", pattern, "*.c")))
        sources = [s for s in sources if s not in ABSENT] + ["core/sys/" + s for s in system]
        program = os.path.join(self.dir, "test_client")
        built = subprocess.run(
            ["gcc", "-std=gnu11", "-O1", "-g", "-w", "-Icore", "-D_GNU_SOURCE", "-fsanitize=thread", "-o", program,
             "tests/unit/%s.c" % name, *sources, "-lcmocka", "-lpthread", "-lm"],
            cwd=ROOT, capture_output=True, text=True)
        if "cannot find -ltsan" in built.stderr:
            raise unittest.SkipTest("libtsan")
        self.assertEqual(built.returncode, 0, built.stderr)
        env = {k: v for k, v in os.environ.items() if not k.startswith("PIOCHE_")}
        done = subprocess.run([program], cwd=self.dir, env=dict(env, TMPDIR=self.dir), capture_output=True,
                              text=True, timeout=300)
        said = done.stdout + done.stderr
        self.assertNotIn("WARNING: ThreadSanitizer", said)
        self.assertEqual(done.returncode, 0, said)

    def test_the_ring_has_no_race(self):
        self.check("test_ring")

    def test_the_client_has_no_race(self):
        self.check("test_client")


client.main(Threads)
