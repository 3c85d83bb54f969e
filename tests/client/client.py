"""What the tests of the Python client share: a program that logs, run in a
directory of its own, and what its journal then holds."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

BUILD = os.path.abspath(os.environ.get("PIOCHE_BUILD", "build"))
PIOCHE = os.path.join(BUILD, "pioche")
MODULE = os.path.join(BUILD, "lib", "pioche")
KEY, POINTS, TEXT, FACT, EVENT, CHECKPOINT, HEARTBEAT, LOSS, RUN, EXIT, MEDIA, ENVIRONMENT = range(1, 13)
INTEGER = 0x80000000  # in a point's key: its value is an i64
NO_STEP = -(1 << 63)


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def bytes(self):
        n = self.take("I")
        self.at += n
        return self.data[self.at - n:self.at]

    def str(self):
        return self.bytes().decode()


def records(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 64
    while at + 9 <= len(data):
        length, _, kind = struct.unpack_from("<IIB", data, at)
        yield kind, Cursor(data[at + 9:at + 8 + length])
        at += 8 + length


class Heard:
    """One run's journal: points as (key, step, value), texts as (key, text, step),
    media as dicts."""

    def __init__(self, attempt):
        self.attempt = attempt
        self.points, self.facts, self.texts, self.exits, self.runs = [], {}, [], [], []
        self.events, self.media, self.checkpoints = [], [], 0
        self.keys = {}
        for kind, c in records(os.path.join(attempt, "journal.0")):
            self.hear(kind, c)

    def hear(self, kind, c):
        if kind == KEY:
            _, number = c.take("II")
            self.keys[number] = c.str()
        elif kind == POINTS:
            _, count = c.take("II")
            for _ in range(count):
                _, step, bits, key, _ = c.take("qq8sII")
                value = struct.unpack("<q" if key & INTEGER else "<d", bits)[0]
                self.points.append((self.keys[key & ~INTEGER], step, value))
        elif kind == FACT:
            _, _, which = c.take("IqB")
            name, value = c.str(), c.str()
            self.facts[chr(which), name] = value
        elif kind == TEXT:
            _, _, step = c.take("Iqq")
            key, text = c.str(), c.str()
            self.texts.append((key, text, step))
        elif kind == EVENT:
            c.take("Iq")
            self.events.append((c.str(), c.str()))
        elif kind in (RUN, EXIT):
            c.take("q")
            (self.runs if kind == RUN else self.exits).append(c.str())
        elif kind == CHECKPOINT:
            *_, files = c.take("IqqIqII")
            self.checkpoints += files > 0  # else it tells why there is none
        elif kind == MEDIA:
            self.hear_media(c)

    def hear_media(self, c):
        _, _, step, which = c.take("IqqB")
        m = {"step": step, "kind": chr(which)}
        m.update(key=c.str(), name=c.str(), mime=c.str(), bytes=c.take("Q"), sha256=c.str(), path=c.str())
        m["data"] = c.bytes()
        if m["path"]:
            with open(os.path.join(self.attempt, m["path"]), "rb") as file:
                m["data"] = file.read()
        self.media.append(m)


def preload(env):
    """The sanitizers' run time must come first, and Python itself leaks."""
    if os.environ.get("SAN"):
        names = ["libasan.so", "libubsan.so"]
        env["LD_PRELOAD"] = " ".join(subprocess.check_output(
            ["gcc", "-print-file-name=" + n], text=True).strip() for n in names)
        env["ASAN_OPTIONS"] = "detect_leaks=0"


class Client(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pioche-test-")
        self.store = os.path.join(self.dir, "store")

    def tearDown(self):
        subprocess.run(["chmod", "-R", "u+rwX", self.dir], check=False)  # objects are read-only
        shutil.rmtree(self.dir)

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PIOCHE_")}
        env.update(PYTHONPATH=MODULE, PIOCHE_STORE=self.store, PIOCHE_SHM=self.dir, NO_COLOR="1", **more)
        return env

    def run_program(self, program, expect=0, python=sys.executable, **more):
        env = self.environment(**more)
        path = os.path.join(self.dir, "train.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write("import pioche\n" + program)
        preload(env)
        done = subprocess.run([python, path], env=env, cwd=self.dir, text=True, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, expect, done.stderr)
        return done

    def pioche(self, *words):
        done = subprocess.run([PIOCHE, *words], env=self.environment(), cwd=self.dir, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def attempts(self):
        runs = os.path.join(self.store, "runs")
        return [os.path.join(runs, run, "1") for run in sorted(os.listdir(runs))]

    def rings(self):
        return [name for name in os.listdir(self.dir) if name.endswith(".ring")]

    def heard(self):
        """Of the only run, which has ended well enough to leave no ring."""
        attempts = self.attempts()
        self.assertEqual(len(attempts), 1)
        self.assertEqual(self.rings(), [])
        return Heard(attempts[0])


def main(case):
    """Run a test case; prints TAP."""
    tests = list(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    failed = 0
    print("1..%d" % len(tests))
    for number, test in enumerate(tests, 1):
        result = unittest.TestResult()
        test.run(result)
        bad = result.failures + result.errors
        failed += bool(bad)
        name = test.id().rpartition(".test_")[2].replace("_", " ")
        skip = " # SKIP %s" % result.skipped[0][1] if result.skipped else ""
        print("%sok %d - %s%s" % ("not " if bad else "", number, name, skip), flush=True)
        for _, trace in bad:
            print("# " + trace.rstrip().replace("\n", "\n# "))
    sys.exit(1 if failed else 0)
