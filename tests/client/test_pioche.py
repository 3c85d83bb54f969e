#!/usr/bin/env python3
"""pioche.py from the outside: each test is a program that logs, and what its
journal then holds. Prints TAP."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

BUILD = os.path.abspath(os.environ.get("PIOCHE_BUILD", "build"))
MODULE = os.path.join(BUILD, "lib", "pioche")
KEY, POINTS, TEXT, FACT, EVENT, CHECKPOINT, HEARTBEAT, LOSS, RUN, EXIT, MEDIA = range(1, 12)
INTEGER = 0x80000000  # in a point's key: its value is an i64


def take(data, at, form):
    values = struct.unpack_from("<" + form, data, at)
    return values, at + struct.calcsize("<" + form)


def strings(data, at, count):
    out = []
    for _ in range(count):
        (n,), at = take(data, at, "I")
        out.append(data[at:at + n].decode())
        at += n
    return out


def records(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 64
    while at + 9 <= len(data):
        length, _, kind = struct.unpack_from("<IIB", data, at)
        yield kind, data[at + 9:at + 8 + length]
        at += 8 + length


class Heard:
    def __init__(self, store):
        runs = os.listdir(os.path.join(store, "runs"))
        assert len(runs) == 1, runs
        self.attempt = os.path.join(store, "runs", runs[0], "1")
        self.points, self.facts, self.texts, self.exits, self.runs = [], {}, [], [], []
        self.checkpoints = 0
        keys = {}
        for kind, data in records(os.path.join(self.attempt, "journal.0")):
            if kind == KEY:
                keys[struct.unpack_from("<I", data, 4)[0]] = strings(data, 8, 1)[0]
            elif kind == POINTS:
                for i in range(struct.unpack_from("<I", data, 4)[0]):
                    _, step, value, key, _ = struct.unpack_from("<qqdII", data, 8 + 32 * i)
                    if key & INTEGER:
                        (value,) = struct.unpack_from("<q", data, 8 + 32 * i + 16)
                    self.points.append((keys[key & ~INTEGER], step, value))
            elif kind == FACT:
                name, value = strings(data, 13, 2)
                self.facts[chr(data[12]), name] = value
            elif kind == TEXT:
                self.texts.append(tuple(strings(data, 20, 2)))
            elif kind == RUN:
                self.runs.append(strings(data, 8, 1)[0])
            elif kind == EXIT:
                self.exits.append(strings(data, 8, 1)[0])
            elif kind == CHECKPOINT:
                self.checkpoints += 1


class Client(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pioche-test-")
        self.store = os.path.join(self.dir, "store")

    def tearDown(self):
        shutil.rmtree(self.dir)

    def run_program(self, program, expect=0, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PIOCHE_")}
        env.update(PYTHONPATH=MODULE, PIOCHE_STORE=self.store, PIOCHE_SHM=self.dir, **more)
        path = os.path.join(self.dir, "train.py")
        with open(path, "w") as file:
            file.write("import pioche\n" + program)
        # The sanitizers' run time must come first, and Python itself leaks.
        if os.environ.get("SAN"):
            names = ["libasan.so", "libubsan.so"]
            env["LD_PRELOAD"] = " ".join(subprocess.check_output(
                ["gcc", "-print-file-name=" + n], text=True).strip() for n in names)
            env["ASAN_OPTIONS"] = "detect_leaks=0"
        done = subprocess.run([sys.executable, path], env=env, cwd=self.dir, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, expect, done.stderr)
        return done

    def heard(self):
        heard = Heard(self.store)
        left = [name for name in os.listdir(self.dir) if name.endswith(".ring")]
        self.assertEqual(left, [])
        return heard

    def test_points_params_and_texts_are_kept(self):
        self.run_program("""
run = pioche.init(params={"lr": 3e-4, "opt": {"name": "adamw", "nesterov": False}, "n": None})
run.log({"loss": 1.5, "lr": 1})
run.log({"loss": 1.25, "lr": True})
run.log({"val": {"loss": 7, "deep": {"er": 8}}}, step=2**53 + 1)
run.log({"été \\n": float("inf")}, step=-2**63)
run.tag("phase", "ablation"); run.summary({"best": float("nan")})
run.text("sample", "In the beginning", step=5); run.event("note", "half way")
assert pioche.rank == 0 and pioche.world == 1 and run.resume_step is None
run.finish(); run.finish()
""")
        heard = self.heard()
        self.assertEqual(heard.points, [
            ("loss", 0, 1.5), ("lr", 0, 1.0), ("loss", 1, 1.25), ("lr", 1, 1.0),
            ("val/loss", 2**53 + 1, 7.0), ("val/deep/er", 2**53 + 1, 8.0),
            ("été \n", -2**63, float("inf"))])
        self.assertEqual(heard.facts, {
            ("p", "lr"): "0.0003", ("p", "opt/name"): '"adamw"', ("p", "opt/nesterov"): "false",
            ("p", "n"): "null", ("t", "phase"): '"ablation"', ("s", "best"): '"NaN"'})
        self.assertEqual(heard.texts, [("sample", "In the beginning")])
        self.assertEqual(heard.exits, ['{"result":"ok"}'])
        self.assertIn('"experiment":"train"', heard.runs[0])

    def test_bad_values_name_key_and_type(self):
        self.run_program("""
run = pioche.init()
def refused(kind, text, values, **more):
    try:
        run.log(values, **more)
    except kind as error:
        assert text in str(error), error
        assert error.__context__ is None or error.__suppress_context__, "an internal error shows"
    else:
        raise SystemExit("accepted: %r" % (values,))
run.log({"loss": 1.0})
refused(TypeError, "'loss' is '3' (str): a number expected", {"loss": "3"})
refused(TypeError, "'loss' is None (NoneType)", {"loss": None})
refused(TypeError, "'a/b' is [1] (list)", {"a": {"b": [1]}})
refused(TypeError, "key 3 is no string (int)", {3: 1.0})
refused(TypeError, "a list: a dict of numbers expected", [1.0])
refused(TypeError, "step is 1.5 (float)", {"loss": 1.0}, step=1.5)
refused(ValueError, "an integer of 64 bits", {"loss": 1.0}, step=2**63)
refused(ValueError, "holds a NUL", {"a\\0b": 1.0})
refused(ValueError, "'a/b' is there twice", {"a": {"b": 1}, "a/b": 2})
refused(pioche.Error, "empty", {"": 1.0})
refused(pioche.Error, "at most 4096", {"k" * 4097: 1.0})
run.log({"k" * 4096: 1.0})
run.finish()
refused(pioche.Error, "is finished", {"loss": 1.0})
""")
        self.assertEqual([(len(k), s) for k, s, _ in self.heard().points], [(4, 0), (4096, 1)])

    def test_scalars_of_other_libraries_are_floats(self):
        self.run_program("""
class Scalar:
    def __float__(self): return 2.5
run = pioche.init()
run.log({"x": Scalar()}); run.log({"x": Scalar(), "y": 1})
run.finish()
""")
        self.assertEqual([v for _, _, v in self.heard().points], [2.5, 2.5, 1.0])

    def test_an_exception_fails_the_run_with_its_traceback(self):
        self.run_program("""
with pioche.init() as run:
    run.log({"x": 1.0})
    raise RuntimeError("diverged")
""", expect=1)
        heard = self.heard()
        self.assertEqual(heard.exits, ['{"result":"failed"}'])
        self.assertEqual(heard.texts[0][0], "traceback")
        self.assertIn("RuntimeError: diverged", heard.texts[0][1])

    def test_an_exception_outside_a_with_too(self):
        done = self.run_program("pioche.init()\nraise RuntimeError('diverged')\n", expect=1)
        self.assertIn("RuntimeError: diverged", done.stderr)
        heard = self.heard()
        self.assertEqual(heard.exits, ['{"result":"failed"}'])
        self.assertIn("RuntimeError: diverged", heard.texts[0][1])

    def test_a_program_that_just_ends_is_ok(self):
        self.run_program("pioche.init(); pioche.log({'x': 1})\n")
        heard = self.heard()
        self.assertEqual(heard.points, [("x", 0, 1.0)])
        self.assertEqual(heard.exits, ['{"result":"ok"}'])

    def test_sys_exit_tells_the_result(self):
        self.run_program("import sys; pioche.init(); sys.exit(3)\n", expect=3)
        self.assertEqual(self.heard().exits, ['{"result":"failed"}'])

    def test_threads_do_not_mix_their_values(self):
        self.run_program("""
import threading
run = pioche.init()
def work(me):
    for i in range(2000):
        run.log({"a": me * 10000 + i, "b": -(me * 10000 + i)}, step=me * 10000 + i)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
""")
        points = self.heard().points
        self.assertEqual(len(points), 16000)
        self.assertEqual(len(set(points)), 16000)
        self.assertTrue(all(value == (step if key == "a" else -step) for key, step, value in points))

    def test_a_killed_program_leaves_its_ring(self):
        self.run_program("import os; run = pioche.init(); run.log({'x': 1.0}); os.kill(os.getpid(), 9)\n",
                         expect=-signal.SIGKILL)
        left = [name for name in os.listdir(self.dir) if name.endswith(".ring")]
        self.assertEqual(len(left), 1)

    def test_a_checkpoint_of_buffers(self):
        self.run_program("""
import array
run = pioche.init()
run.checkpoint(3, {"model": {"w": array.array("f", [1, 2, 3]), "b": bytes(5)}})
try:
    run.checkpoint(4, {"model": {"w": [1, 2]}})
except TypeError as error:
    assert "'w' is a list" in str(error)
else:
    raise SystemExit("accepted")
""")
        heard = self.heard()
        self.assertEqual(heard.checkpoints, 1)
        name = os.path.basename(os.path.dirname(heard.attempt))
        path = os.path.join(self.store, "staging", name, "step-3", "rank-0.model.safetensors")
        with open(path, "rb") as file:
            data = file.read()
        self.assertEqual(data[-17:], struct.pack("<3f", 1, 2, 3) + bytes(5))

    def test_without_the_library_the_import_says_what_to_do(self):
        done = self.run_program("", expect=1, PIOCHE_LIB=os.path.join(self.dir, "absent.so"))
        self.assertIn("ImportError: pioche needs libpioche.so: run `make`", done.stderr)


def main():
    tests = list(unittest.defaultTestLoader.loadTestsFromTestCase(Client))
    failed = 0
    print("1..%d" % len(tests))
    for number, test in enumerate(tests, 1):
        result = unittest.TestResult()
        test.run(result)
        bad = result.failures + result.errors
        failed += bool(bad)
        name = test.id().rpartition(".test_")[2].replace("_", " ")
        print("%sok %d - %s" % ("not " if bad else "", number, name), flush=True)
        for _, trace in bad:
            print("# " + trace.rstrip().replace("\n", "\n# "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
