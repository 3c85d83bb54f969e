#!/usr/bin/env python3
"""Many users of one store: what 64 processes log at once is there, whole, while
others list it, on a local disk, in the mode for network file systems and through
FUSE; and nobody hears of a lock."""
import contextlib
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import places  # noqa: E402
from harness import PIOCHE, Project  # noqa: E402

PROCESSES, STEPS = 64, 150

LOGGER = """
import os, sys, time
import pioche
number = int(sys.argv[1])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.005)
with pioche.init("many", params={"number": number}) as run:
    for step in range(%d):
        run.log({"loss": number + step / 1000, "square": float(step * step)}, step=step)
""" % STEPS


def logger(p, number, **options):
    return subprocess.Popen([sys.executable, "-c", LOGGER, str(number), p.path("go")], cwd=p.dir,
                            env={**p.env, "PYTHONPATH": harness.python_library(),
                                 **options.pop("env", {})},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **options)


class Watcher(threading.Thread):
    """`pioche VERB` again and again, until told to stop."""

    def __init__(self, p, *args, **options):
        super().__init__()
        self.p, self.args, self.options = p, args, options
        self.stop, self.count, self.wrong = threading.Event(), 0, []

    def run(self):
        while not self.stop.is_set():
            done = subprocess.run([PIOCHE, *self.args], cwd=self.p.dir, env=self.p.env,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                  **self.options)
            self.count += 1
            if done.returncode or done.stderr:
                self.wrong.append(f"exit status {done.returncode}: {done.stderr}")


def check_whole(p, numbers):
    """Every run of these numbers is there, finished, with all its points."""
    runs = p.pioche("ls", "many", "--json", "--all").json
    assert sorted(r["params"]["number"] for r in runs) == sorted(numbers)
    for run in runs:
        number, loss = run["params"]["number"], run["metrics"]["loss"]
        assert run["status"] == "finished", run
        assert loss["count"] == STEPS and run["metrics"]["square"]["count"] == STEPS, run
        assert loss["last"] == number + (STEPS - 1) / 1000 and loss["min"] == number, run
        assert run["metrics"]["square"]["max"] == float((STEPS - 1) ** 2), run
    assert os.listdir(os.path.join(p.store, "staging")) == []
    p.check_store()


def log_at_once(p):
    p.pioche("doctor")  # before there is a store
    processes = [logger(p, n) for n in range(PROCESSES)]
    p.write("go", "")
    harness.wait_for(lambda: os.path.isdir(os.path.join(p.store, "staging")), 60, "a store")
    watchers = [Watcher(p, "ls", "--json"), Watcher(p, "compare", "many"), Watcher(p, "ls", "--csv")]
    watchers[0].start()
    harness.wait_for(lambda: watchers[0].count > 1 and os.path.exists(
        os.path.join(p.store, "pioche.db")), 60, "a database")
    for watcher in watchers[1:]:
        watcher.start()
    wrong = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        if process.returncode or out or err:
            wrong.append(f"exit status {process.returncode}: {out}{err}")
    for watcher in watchers:
        watcher.stop.set()
        watcher.join()
        # Before the first run is taken in, there is nothing to compare.
        wrong += [w for w in watcher.wrong if "no experiment" not in w and "no run" not in w.lower()]
    assert not wrong, wrong[:5]
    check_whole(p, range(PROCESSES))


@contextlib.contextmanager
def project_at(path):
    with Project(git=False) as p:
        kept, p.dir = p.dir, path
        try:
            yield p
        finally:
            p.dir = kept


def test_64_processes_on_a_local_disk():
    with Project(git=False) as p:
        log_at_once(p)
        assert p.sql("PRAGMA journal_mode") == [{"journal_mode": "wal"}]


def test_64_processes_in_the_mode_for_network_file_systems():
    with Project(git=False) as p:
        p.env["PIOCHE_FS"] = "network"
        log_at_once(p)
        assert not os.path.exists(os.path.join(p.store, "pioche.db-shm"))
        assert not os.path.exists(os.path.join(p.store, "pioche.db-wal"))


def test_64_processes_through_fuse():
    with Project(git=False) as outer, places.fuse(outer.dir) as mount, project_at(mount) as p:
        log_at_once(p)
        assert not os.path.exists(os.path.join(p.store, "pioche.db-shm"))
        found = {c["check"]: c for c in p.pioche("doctor", "--json").json}
        assert "fuse" in found["file system"]["message"], found["file system"]


harness.main()
