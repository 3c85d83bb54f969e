#!/usr/bin/env python3
"""What a Python program does to itself or has done to it: every way to end, to
fork and to spawn, a disk that is full, a store that is deleted. Training goes
on, nothing acknowledged is lost, and what is lost is told. Prints TAP."""

import os
import signal
import shutil
import subprocess

import client
import harness
import places


class Faults(client.Client):
    def shown(self):
        """The only run, by a command: that takes in what a dead program left."""
        runs = harness.json.loads(self.pioche("ls", "--json"))
        self.assertEqual(len(runs), 1)
        return harness.json.loads(self.pioche("show", runs[0]["id"], "--json"))

    def count(self, key):
        run = self.shown()
        run = run[0] if isinstance(run, list) else run
        return run["metrics"][key]["count"], run["status"]

    # ---- ends

    def test_os_exit_loses_nothing(self):
        self.run_program("import os; run = pioche.init()\n"
                         "for i in range(50000): run.log({'x': i * 0.5})\nos._exit(0)\n")
        self.assertEqual(self.count("x"), (50000, "failed"))

    def test_exec_loses_nothing(self):
        self.run_program("import os; run = pioche.init()\n"
                         "for i in range(50000): run.log({'x': i * 0.5})\nos.execlp('true', 'true')\n")
        self.assertEqual(self.count("x")[0], 50000)

    def test_a_library_that_is_unloaded_ends_well(self):
        library = os.path.join(client.BUILD, "lib", "libpioche.so")
        self.run_program("""
import ctypes, _ctypes, os, sys
if "loaded" not in sys.argv:  # anew, where nothing else holds the library
    os.execv(sys.executable, [sys.executable, "-c", open(sys.argv[0]).read().replace("import pioche", ""), "loaded"])
lib, run = ctypes.CDLL(%r), ctypes.c_void_p()
assert lib.pio_open(ctypes.byref(run), b"plugin") == 0 and lib.pio_close(ctypes.byref(run), 0) == 0
_ctypes.dlclose(lib._handle)
""" % library)
        self.assertEqual(self.heard().exits, ['{"result":"ok"}'])

    def test_a_kill_loses_nothing(self):
        self.run_program("import os; run = pioche.init()\n"
                         "for i in range(50000): run.log({'x': i * 0.5})\nos.kill(os.getpid(), 9)\n",
                         expect=-signal.SIGKILL)
        self.assertEqual(self.count("x")[0], 50000)

    def test_a_run_that_is_never_closed_ends_well(self):
        self.run_program("run = pioche.init()\nfor i in range(50000): run.log({'x': i * 0.5})\n")
        self.assertEqual(self.count("x"), (50000, "finished"))

    # ---- processes

    def test_a_forked_child_logs_on_its_parents_run(self):
        self.run_program("""
import os
run = pioche.init()
run.log({"parent": 1.0})
child = os.fork()
if child == 0:
    for i in range(40000): run.log({"child": i * 1.0}, step=i)
    run.text("from", "a child"); run.finish(); os._exit(0)
os.waitpid(child, 0)
run.log({"parent": 2.0})
""")
        heard = self.heard()
        self.assertEqual([v for k, _, v in heard.points if k == "parent"], [1.0, 2.0])
        self.assertEqual([s for k, s, _ in heard.points if k == "child"], list(range(40000)))
        self.assertEqual(heard.texts, [("from", "a child", 39999)])
        self.assertEqual(heard.exits, ['{"result":"ok"}'])

    def test_a_fork_amid_calls_of_another_thread(self):
        self.run_program("""
import os, threading
run = pioche.init()
go = True
def talk():
    while go: run.text("t", "x" * 100)
thread = threading.Thread(target=talk); thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        run.log({"child": 1.0}, step=1); run.text("c", "y"); os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
go = False
thread.join()
""")
        heard = self.heard()
        self.assertEqual(len(heard.points), 20)
        self.assertEqual(len([t for t in heard.texts if t[0] == "c"]), 20)

    def test_multiprocessing_by_fork_and_spawn(self):
        for method in ("fork", "spawn"):
            with self.subTest(method):
                self.run_program("""
import multiprocessing
def work(run, me):
    for i in range(1000): run.log({"worker/%%d" %% me: i}, step=i)
    run.finish()
if __name__ == "__main__":
    run = pioche.init()
    pool = multiprocessing.get_context(%r)
    workers = [pool.Process(target=work, args=(run, n)) for n in range(3)]
    for w in workers: w.start()
    for w in workers: w.join(); assert w.exitcode == 0
    run.log({"done": True})
""" % method)
                heard = self.heard()
                for n in range(3):
                    mine = [(s, v) for k, s, v in heard.points if k == "worker/%d" % n]
                    self.assertEqual(mine, [(i, i) for i in range(1000)])
                self.assertEqual(heard.exits, ['{"result":"ok"}'])
                shutil.rmtree(self.store)

    def test_runs_and_their_log_are_sent_to_a_pool(self):
        self.run_program("""
import multiprocessing, threading
def work(arguments):
    run, log, n = arguments
    log({"n": n}, step=n); run.log({"m": n}, step=n)
    with open("/proc/self/maps") as maps: return sum(".ring" in line for line in maps)
if __name__ == "__main__":
    run = pioche.init()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        mapped = pool.map(work, [(run, run.log, n) for n in range(50)], chunksize=1)
    assert max(mapped) == 1, mapped
""")
        heard = self.heard()
        self.assertEqual(sorted(heard.points), [(k, n, n) for k in "mn" for n in range(50)])

    def test_a_run_that_ended_can_be_kept_with_a_trainer(self):
        self.run_program("""
import pickle
run = pioche.init()
early = pickle.dumps(run)
run.log({"x": 1.0}); run.finish()
for kept in (early, pickle.dumps(run), pickle.dumps({"log": run.log})):
    back = pickle.loads(kept)
    log = back["log"] if isinstance(back, dict) else back.log
    assert isinstance(back, dict) or (back.id, repr(back)) == (run.id, repr(run))
    try: log({"x": 2.0})
    except pioche.Error as error: assert str(error) == "run %s is finished" % run.id, error
    else: raise SystemExit("accepted")
""")
        self.assertEqual(self.heard().points, [("x", 0, 1.0)])

    def test_a_long_call_keeps_no_thread_waiting(self):
        self.run_program("""
import threading
run = pioche.init()
said = threading.Event()
class Tensors(dict):
    def items(self):
        assert said.wait(60)
        return super().items()
saver = threading.Thread(target=lambda: run.checkpoint(1, {"model": Tensors(w=bytearray(4))}))
saver.start()
run.text("t", "meanwhile"); run.log({"x": True}); said.set()
run.finish()
assert not saver.is_alive() or saver.join() is None
""")
        heard = self.heard()
        self.assertEqual(heard.points, [("x", 0, 1)])
        self.assertEqual(heard.checkpoints, 1)
        self.assertEqual(heard.exits, ['{"result":"ok"}'])

    def test_a_signal_amid_a_call_may_finish(self):
        self.run_program("""
import signal, os, sys
run = pioche.init()
def stop(number, frame):
    run.finish(); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
class Tensors(dict):
    def items(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().items()
run.checkpoint(1, {"model": Tensors(w=bytearray(4))})
""")
        heard = self.heard()
        self.assertEqual((heard.checkpoints, heard.exits), (0, ['{"result":"ok"}']))

    # ---- interruptions

    def test_an_interrupted_script_has_failed(self):
        self.run_program("""
with pioche.init() as run:
    run.log({"x": 1.0})
    raise KeyboardInterrupt
""", expect=-signal.SIGINT)
        self.assertEqual(self.heard().exits, ['{"result":"failed"}'])

    def test_an_interrupted_cell_has_not(self):
        self.run_program("""
import sys
sys.ps1 = ">>> "
try:
    with pioche.init() as run:
        run.log({"x": 1.0})
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
second = pioche.init("second")
sys.excepthook(ValueError, ValueError("at the prompt"), None)
second.log({"y": 1.0})
""")
        heard = [client.Heard(attempt) for attempt in self.attempts()]
        self.assertEqual([h.exits for h in heard], [['{"result":"ok"}']] * 2)
        self.assertEqual(heard[0].events, [("interrupt", "stopped by a person")])
        self.assertEqual([k for k, _, _ in heard[1].points], ["y"])

    # ---- disks

    def on_a_full_disk(self, ending, until):
        try:
            with places.small_disk(self.dir, 8 << 20) as disk:
                self.store = os.path.join(disk, "store")
                done = self.run_program("""
import os, time
run = pioche.init()
run.log({"x": 0.0, "n": 0})
time.sleep(0.05)
fill = open(%r, "wb", buffering=0)
try:
    while True: fill.write(bytes(4096) )
except OSError: pass
for i in range(1, 40000): run.log({"x": i * 1.0, "n": i})
run.image("large", b"\\x89PNG\\r\\n\\x1a\\n" + bytes(100000))
run.text("t", "meanwhile")
%s
print("trained")
""" % (os.path.join(disk, "fill"), ending))
                self.assertIn("trained", done.stdout)
                self.assertEqual(done.stderr.count("training goes on"), 1, done.stderr)
                os.truncate(os.path.join(disk, "fill"), 0)
                for key in ("x", "n"):
                    self.assertEqual(self.count(key), (40000, "finished"))
                shown = self.pioche("show", harness.json.loads(self.pioche("ls", "--json"))[0]["id"], "--events")
                self.assertIn('image "large" is missing', shown)
                self.assertIn("meanwhile", shown)
                self.assertNotIn("log.lost", shown)
                self.assertRegex(shown, r"log\.waited .*No space left on device: for [1-9]\.[0-9] s the log waited in "
                                        "memory, " + until)
                left = [n for n in os.listdir(self.dir) if ".ring" in n]
                self.assertEqual(left, [])
                return done
        except harness.Skip as why:
            raise self.skipTest(str(why))

    def test_a_full_disk_that_gets_room_loses_nothing(self):
        done = self.on_a_full_disk("fill.truncate(0); time.sleep(1.5); run.finish()", "until there was room")
        self.assertNotIn("waits in memory", done.stderr)
        self.assertRegex(done.stderr, r"pioche: the disk was full for [1-9]\.[0-9] s; nothing of the log is lost\n$")

    def test_a_disk_that_stays_full_loses_nothing_either(self):
        done = self.on_a_full_disk("time.sleep(1.2); run.finish()", "and still did when the program ended")
        self.assertIn("waits in memory for the next command", done.stderr)

    def test_a_quota_that_is_raised_loses_nothing(self):
        self.run_program("""
import resource, time
run = pioche.init()
run.log({"x": 0.5}); time.sleep(0.1)
none = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, none[1]))  # what statfs does not tell
for i in range(200000): run.log({"x": float(i)}, step=i)
time.sleep(1.5)
for i in range(200000, 300000): run.log({"x": float(i)}, step=i)
resource.setrlimit(resource.RLIMIT_FSIZE, none)
""")
        self.assertEqual(self.count("x"), (300001, "finished"))
        self.assertNotIn("log.lost", self.pioche("show", "train-1"))

    def test_a_quota_that_ends_is_told_and_loses_nothing(self):
        done = self.run_program("""
import time
run = pioche.init()
for k in range(40):  # each time something is written
    for i in range(1000): run.log({"x": float(i)}, step=1000 * k + i)
    time.sleep(0.02)
""", PIOCHE_FS_FAULT="w:20:122")  # EDQUOT, once it is going
        self.assertRegex(done.stderr, r"^pioche: cannot write \S+/journal.0: Disk quota exceeded; training goes on, "
                                      r"logging goes on when there is room\n"
                                      r"pioche: the disk was full for \d+\.\d s; nothing of the log is lost\n$")
        self.assertEqual(self.count("x"), (40000, "finished"))
        self.assertNotIn("log.lost", self.pioche("show", "train-1"))

    def test_beyond_the_backlog_points_are_counted_as_lost(self):
        try:
            with places.small_disk(self.dir, 8 << 20) as disk:
                self.store = os.path.join(disk, "store")
                self.run_program("""
run = pioche.init()
fill = open(%r, "wb", buffering=0)
try:
    while True: fill.write(bytes(4096))
except OSError: pass
for i in range(600000): run.log({"x": 1.0, "y": 2.0, "z": 3.0}, step=i)
fill.truncate(0); fill.close()
import os; os.unlink(fill.name)
""" % os.path.join(disk, "fill"))
                subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
                kept = self.count("x")[0] + self.count("y")[0] + self.count("z")[0]
                shown = self.pioche("show", harness.json.loads(self.pioche("ls", "--json"))[0]["id"])
                lost = sum(int(line.split(": ")[1].split()[0]) for line in shown.splitlines()
                           if "log.lost" in line)
                self.assertGreater(lost, 0)
                self.assertEqual(kept + lost, 1800000)
                self.assertIn("points are missing", self.pioche("ls"))
        except harness.Skip as why:
            raise self.skipTest(str(why))

    def test_a_store_that_is_deleted_is_told(self):
        done = self.run_program("""
import os, shutil, time
run = pioche.init()
run.log({"x": 1.0})
shutil.rmtree(os.environ["PIOCHE_STORE"])
for i in range(100000): run.log({"x": 1.0})
run.file("f", b"bytes")
time.sleep(1.3)
for i in range(100000): run.log({"x": 1.0})
run.finish()
print("trained")
""")
        self.assertIn("trained", done.stdout)
        self.assertIn("was deleted while its run was going", done.stderr)
        for name in self.rings():
            os.unlink(os.path.join(self.dir, name))
        self.assertFalse(os.path.exists(os.path.join(self.store, "pioche.db")))


client.main(Faults)
