#!/usr/bin/env python3
"""pioche.py from the outside: each test is a program that logs, and what its
journal then holds. Prints TAP."""

import os
import signal
import struct

import client


class Logging(client.Client):
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
        self.assertEqual(heard.texts, [("sample", "In the beginning", 5)])
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
assert run.should_stop(7) is False
try:
    run.should_stop("7")
except TypeError as error:
    assert "step is '7' (str)" in str(error), error
run.finish()
refused(pioche.Error, "is finished", {"loss": 1.0})
""")
        self.assertEqual([(len(k), s) for k, s, _ in self.heard().points], [(4, 0), (4096, 1)])

    def test_every_call_names_its_wrong_argument(self):
        self.run_program(r"""
import array
run = pioche.init()
def refused(error, text, call, *words, **more):
    try: call(*words, **more)
    except error as e: assert text in str(e), (text, e)
    else: raise SystemExit("accepted: %r %r" % (call, words))
for call, what, rest in ((run.text, "key", ("t",)), (run.image, "key", (b"\x89PNG",)), (run.table, "key", ([],)),
                         (run.file, "key", (b"x",)), (run.histogram, "key", ([],)), (run.event, "kind", ("m",))):
    refused(TypeError, what + " is 3 (int): str expected", call, 3, *rest)
    refused(ValueError, "holds a NUL", call, "a" + chr(0), *rest)
    refused(ValueError, "lone surrogate", call, chr(0xd800), *rest)
    refused(pioche.Error, "empty", call, "", *rest)
    refused(pioche.Error, "at most 4096", call, "k" * 4097, *rest)
for call, rest in ((run.text, "t"), (run.image, b"\x89PNG\r\n\x1a\n"), (run.table, []), (run.file, b"x"),
                   (run.histogram, [])):
    refused(TypeError, "step is 1.5 (float): an integer expected", call, "k", rest, step=1.5)
    refused(TypeError, "step is 'x' (str)", call, "k", rest, "x")
    refused(ValueError, "an integer of 64 bits", call, "k", rest, 2**63)
refused(TypeError, "text is 3 (int): str expected", run.text, "k", 3)
refused(pioche.Error, "text 'k' of 500001 bytes: at most 500000".replace("'", '"'), run.text, "k", "x" * 500001)
run.text("k" * 4096, "x" * 500000)
refused(TypeError, "note is None", run.note, None)
refused(TypeError, "message is 3", run.event, "k", 3)
refused(TypeError, "key 3 is no string (int)", run.tag, 3)
refused(TypeError, "params is 3 (int): a dict expected", run.params, 3)
refused(TypeError, "summary is 3 (int): a dict expected", run.summary, 3)
refused(ValueError, "holds a NUL", run.params, {"a": "x" + chr(0)})
refused(TypeError, "missing 1 required", run.log)
refused(TypeError, "unexpected keyword", run.log, {"a": 1.0}, stepp=1)
refused(TypeError, "multiple values", run.log, {"a": 1.0}, 1, step=1)
refused(TypeError, "params is [1] (list)", pioche.init, "x", [1])
refused(TypeError, "'loss' is (1+2j) (complex): a number expected", pioche.run.log, {"loss": 1 + 2j})
""")

    def test_each_parameter_of_each_public_call_is_named_when_it_is_wrong(self):
        self.run_program('pioche.init("first").log({"x": 1.0})')
        self.pioche("ls")
        self.run_program(r"""
import inspect, os
run = pioche.init("matrix", params={"lr": 1})
run.log({"x": 1.0}, step=3)
class Odd: pass
good = {"values": {"a": 1}, "step": 5, "key": "k", "text": "t", "image": b"\x89PNG\r\n\x1a\n", "table": {"a": [1]},
        "file": b"x", "name": "n", "kind": "k", "message": "m", "roles": {"model": {"w": bytearray(4)}}, "writers": 1,
        "asynchronous": False, "wait": True, "status": 0, "value": 1, "run": "first-1", "rank": 0,
        "store": os.environ["PIOCHE_STORE"],
        "experiment": "e", "params": {"a": 1}}
wrong = {"values": (3, "ab", None), "step": ("5", 1.5, 2**64), "key": (3, None, b"k", "", "a\0"), "text": (3, None, b"t"),
         "image": (3, Odd(), "no/such/picture.png"), "table": (3, "ab", {"a": 3}), "file": (3, None, "no/such/file"),
         "name": (3, None, ""), "kind": (3, None), "message": (3, None), "roles": (3, {"model": 3}, {3: {"w": b"x"}}),
         "writers": ("1", 0, None), "asynchronous": (), "wait": (), "status": ("x", 1.5, None),
         "value": (), "run": (3, "no-9"), "rank": ("x", 1.5), "store": (3, "no/such/store"),
         "experiment": (3, b"e", "a\0"), "params": (3, [1], {3: 1})}
also = {"values": ("log()", "histogram", "params", "summary", "value of"), "key": ("name", "metric"), "text": ("note",),
        "name": ("key",), "roles": ("checkpoint", "role"), "file": ("file", "path"), "image": ("image",),
        "store": ("store",), "params": ("key 3",)}
calls = [getattr(run, name) for name in dir(type(run)) if not name.startswith("_")] + [
         pioche.init, pioche.read, pioche.log, pioche.finish]
seen = 0
for call in calls:
    if not callable(call) or call.__name__ in ("resume", "fail"): continue  # nothing to be wrong; called by the hook
    whole = getattr(type(run), call.__name__) if hasattr(type(run), call.__name__) else call
    names = [n for n in inspect.signature(whole).parameters if n != "self"]
    for name in names:
        values = wrong[name]
        if name == "values" and call.__name__ == "histogram": values = (3, "ab", ["x"])
        for value in values:
            arguments = {n: good[n] for n in names if n not in ("store",) or call is pioche.read}
            if call.__name__ == "histogram": arguments["values"] = [1.0]
            if call is pioche.read: arguments["key"] = "x"
            arguments[name] = value
            try: call(**arguments)
            except (TypeError, ValueError, OSError, pioche.Error) as error:
                said, seen = str(error), seen + 1
                assert any(word in said for word in (name, *also.get(name, ()))), (call, name, value, said)
                assert error.__context__ is None or error.__suppress_context__, (call, name, value)
            else: raise SystemExit("accepted: %r %s=%r" % (call, name, value))
    assert run._handle, call  # what was refused ended nothing
assert seen > 80, seen
""")

    def test_a_notebook_shows_a_run_and_its_state(self):
        self.run_program(r"""
run = pioche.init("<b>")
shown = run._repr_html_()
assert run.id in shown and run.dir in shown and "logging" in shown and "<th>newest step</th><td>-1</td>" in shown, shown
run.log({"x": 1.0}, step=41)
assert "<td>41</td>" in run._repr_html_()
run.finish()
shown = run._repr_html_()
assert "finished" in shown and shown.startswith("<table>") and "<b>" not in shown, shown
""")

    def test_what_is_refused_makes_no_metric_and_no_run(self):
        self.run_program("""
run = pioche.init()
for bad in ({"new": "x"}, {"new": 1.0, "other": None}, {"other": 1, "deep": {"new": [1]}}):
    try: run.log(bad)
    except TypeError: pass
    else: raise SystemExit("accepted")
run.finish()
for words in (("second", [1]), (3,)):
    try: pioche.init(*words)
    except TypeError: pass
    else: raise SystemExit("accepted")
""")
        self.assertEqual(self.heard().keys, {})

    def test_the_step_after_the_last_is_an_error(self):
        self.run_program("""
run = pioche.init()
for value in (1.0, True):
    run.log({"x": value}, step=2**63 - 1)
    try: run.log({"x": value})
    except ValueError as error: assert "step is 9223372036854775808 (int): an integer of 64 bits" in str(error), error
    else: raise SystemExit("accepted")
    run.log({"x": value}, step=5)
""")
        self.assertEqual([s for _, s, _ in self.heard().points], [2**63 - 1, 5, 2**63 - 1, 5])

    def test_ints_of_any_size_are_told_in_words(self):
        self.run_program("""
run = pioche.init()
def refused(error, text, call, *words, **more):
    try: call(*words, **more)
    except error as e: assert text in str(e), (text, e)
    else: raise SystemExit("accepted: %r" % (call,))
for digits in (400, 5000):
    refused(TypeError, "'x' is an int of ", run.log, {"x": 10**digits})
    refused(ValueError, "step is an int of ", run.log, {"x": 1.0}, step=10**digits)
    run.params({"p": 10**digits})
run.log({"x": 10**300})
""")
        heard = self.heard()
        self.assertEqual(heard.points, [("x", 0, 1e300)])
        self.assertEqual(int(heard.facts["p", "p"].strip('"'), 16), 10**5000)

    def test_a_wrong_status_leaves_the_run_open(self):
        self.run_program("""
run = pioche.init()
for bad in ("x", None, 1.5):
    try: run.finish(bad)
    except TypeError as error: assert "status is " in str(error) and "an integer expected" in str(error), error
    else: raise SystemExit("accepted")
run.log({"x": 1.0})
run.finish(2**32)
""")
        self.assertEqual(self.heard().exits, ['{"result":"failed"}'])

    def test_a_hook_for_exceptions_that_was_there_is_called(self):
        done = self.run_program("""
import sys
def theirs(kind, value, trace): print("theirs:", value)
sys.excepthook = theirs
pioche.init(); pioche.finish(); pioche.init()
raise RuntimeError("diverged")
""", expect=1)
        self.assertEqual(done.stdout, "theirs: diverged\n")
        self.assertEqual([client.Heard(a).exits for a in self.attempts()],
                         [['{"result":"ok"}'], ['{"result":"failed"}']])

    def test_a_tensor_is_detached_before_it_is_converted(self):
        self.run_program("""
class Tensor:
    detached = False
    def detach(self):
        other = Tensor(); other.detached = True
        return other
    def __float__(self):
        assert self.detached
        return 0.5
run = pioche.init(params={"p": Tensor()})
run.log({"loss": Tensor()})
""")
        heard = self.heard()
        self.assertEqual(heard.points, [("loss", 0, 0.5)])
        self.assertEqual(heard.facts["p", "p"], "0.5")

    def test_of_ranks_started_by_hand_the_first_keeps_the_run(self):
        said = [self.run_program("""
import os, pickle
rank = int(os.environ["RANK"])
run = pioche.init(params={"lr": 0.1})
assert (run.rank, run.world, run.local_rank) == (rank, 3, rank), run
for step in range(10): run.log({"loss": 1.0 / (rank + 1)}, step=step)
run.tag("kept"); run.event("x", "y"); run.note("n"); run.text("t", "u"); run.histogram("h", [1.0])
run.checkpoint(1, {"model": {"w": bytearray(4)}})
try: run.log(3)
except TypeError: pass
else: raise SystemExit("accepted")
assert rank == 0 or "rank 0 keeps it" in repr(run)
if rank: pickle.loads(pickle.dumps(run)).log({"loss": 1.0})
pioche.log({"loss": 0.5}, step=10)
pioche.finish()
""", RANK=str(rank), WORLD_SIZE="3", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1").stderr for rank in (1, 0, 2)]
        heard = self.heard()
        self.assertEqual(len(heard.points), 11)
        self.assertEqual(heard.points[0], ("loss", 0, 1.0))
        self.assertIn("rank 0 keeps the run", said[0])
        self.assertEqual(said[1:], ["", ""])

    def test_a_package_gives_its_name(self):
        os.mkdir(os.path.join(self.dir, "gpt"))
        with open(os.path.join(self.dir, "gpt", "__main__.py"), "w", encoding="utf-8") as file:
            file.write("import pioche\npioche.init()\n")
        self.run_program("import subprocess, sys; subprocess.run([sys.executable, '-m', 'gpt'], check=True)\n")
        self.assertIn('"experiment":"gpt"', self.heard().runs[0])

    def test_a_hundred_thousand_metrics_work(self):
        self.run_program("""
run = pioche.init()
for i in range(100001): run.log({"k%d" % i: i}, step=1)
""")
        heard = self.heard()
        self.assertEqual(len(heard.keys), 100001)
        self.assertEqual(heard.points, [("k%d" % i, 1, i) for i in range(100001)])
        self.assertEqual(heard.events, [])  # the fold warns

    def test_scalars_of_other_libraries_are_floats(self):
        self.run_program("""
class Scalar:
    def __float__(self): return 2.5
run = pioche.init()
class Double(float): pass  # as NumPy's float64
run.log({"x": Scalar()}); run.log({"x": Scalar(), "y": 1}); run.log({"x": Double(3.5)})
run.finish()
""")
        self.assertEqual([v for _, _, v in self.heard().points], [2.5, 2.5, 1.0, 3.5])

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
        self.assertEqual(len(self.rings()), 1)

    def test_a_checkpoint_of_buffers(self):
        self.run_program("""
import array
run = pioche.init()
run.checkpoint(3, {"model": {"w": array.array("f", [1, 2, 3]), "b": bytes(5)}})
try:
    run.checkpoint(4, {"model": {"w": {1, 2}}})
except TypeError as error:
    assert "'w' of role 'model' is a set" in str(error)
else:
    raise SystemExit("accepted")
""")
        heard = self.heard()
        self.assertEqual(heard.checkpoints, 1)
        name = os.path.basename(os.path.dirname(heard.attempt))
        folder = os.path.join(self.store, "staging", name, "step-3")
        written, = [name for name in os.listdir(folder) if name.startswith("rank-0.model.")]
        self.assertRegex(written, r"^rank-0\.model\.[0-9a-f]+-[0-9]+\.safetensors$")
        with open(os.path.join(folder, written), "rb") as file:
            data = file.read()
        self.assertEqual(data[-17:], struct.pack("<3f", 1, 2, 3) + bytes(5))

    def test_a_checkpoint_is_written_while_the_program_goes_on(self):
        self.run_program("""
import array
run = pioche.init()
w = array.array("f", [1]) * 1000
for step in range(4):
    run.checkpoint(step, {"model": {"w": w}}, asynchronous=True)
    w[0] += 1
run.finish()
""")
        heard = self.heard()
        self.assertEqual(heard.checkpoints, 4)
        store = os.path.join(self.store, "staging", os.path.basename(os.path.dirname(heard.attempt)))
        for step in range(4):
            name, = os.listdir(os.path.join(store, "step-%d" % step))
            with open(os.path.join(store, "step-%d" % step, name), "rb") as file:
                self.assertEqual(struct.unpack("<1000f", file.read()[-4000:]), (step + 1,) + 999 * (1,))

    def test_a_save_that_fails_is_raised_and_the_next_one_works(self):
        done = self.run_program("""
import os, shutil
run = pioche.init()
run.checkpoint(1, {"model": {"w": bytearray(9)}}, asynchronous=True)
run.checkpoint(2, {"model": {"w": bytearray(9)}})
staging = os.path.dirname(os.path.dirname(next(os.path.join(d, f) for d, _, fs in os.walk(os.environ["PIOCHE_STORE"])
                                               for f in fs if f.startswith("rank-0.model"))))
shutil.rmtree(staging)
open(staging, "w").close()
try:
    run.checkpoint(3, {"model": {"w": bytearray(9)}}, asynchronous=True, wait=False)
except pioche.Error as error:
    assert "staging" in str(error), error
else:
    raise SystemExit("accepted")
os.unlink(staging); os.mkdir(staging)
run.checkpoint(4, {"model": {"w": bytearray(9)}}, asynchronous=True)
""")
        self.assertEqual(self.heard().checkpoints, 3)
        self.assertEqual(done.stderr, "")

    def test_without_the_library_the_import_says_what_to_do(self):
        done = self.run_program("", expect=1, PIOCHE_LIB=os.path.join(self.dir, "absent.so"))
        self.assertIn("ImportError: pioche needs libpioche.so: run `make`", done.stderr)


client.main(Logging)
