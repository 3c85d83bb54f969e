#!/usr/bin/env python3
"""pioche beside MLflow, trackio, TensorBoard and W&B, on this machine, now.

Each does the same tasks (peers/tracker.py), each task in a process of its own.
A row's value is pioche's, `peers` has the others', `peer` is the best of them.
The peers live in the virtual environment of tests/peers.py. Where pip cannot
install one, the row goes without it and says so."""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "peers"), os.path.dirname(HERE)]
import harness  # noqa: E402
import tracker  # noqa: E402
from peers import python  # noqa: E402

SHORT = bool(os.environ.get("SHORT"))
SCRATCH = os.environ.get("BENCH_SCRATCH") or tempfile.mkdtemp(prefix="pioche-bench-")
MODULES = {"mlflow_sqlite": ["mlflow"], "trackio_local": ["trackio"],
           "tensorboard_files": ["tensorboard", "tensorboardX"], "wandb_offline": ["wandb"]}
LOG_S, INGEST_S, KILLS = (0.5, 1, 1) if SHORT else (2, 3, 2)
FILTER_RUNS = 50 if SHORT else 500
TASK_S_MAX = 300


class Failed(Exception):
    pass


def python_of(driver):
    """The interpreter that has what the driver needs, installed if it can be."""
    if driver == "pioche_store":
        return sys.executable
    try:
        return python(*MODULES[driver])
    except harness.Skip as why:
        raise Failed(str(why)) from None


def command(driver, task, folder, *rest):
    return [python_of(driver), os.path.join(HERE, "peers", driver + ".py"), task, folder,
            *map(str, rest)]


def environment():
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}


def ask(driver, task, folder, *rest):
    done = subprocess.run(command(driver, task, folder, *rest), capture_output=True, text=True,
                          env=environment(), timeout=TASK_S_MAX, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise Failed(f"{driver} {task}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
    answer = json.loads(lines[-1])
    if "missing" in answer:
        raise Failed(f"{driver}: {answer['missing']}")
    return answer


def kept(driver, task, folder, *rest):
    """A folder that is made once in a run of the benchmarks."""
    if not os.path.exists(folder + ".made"):
        ask(driver, task, folder, *rest)
        open(folder + ".made", "w", encoding="utf-8").close()
    return folder


def lost_by_kill(driver, seed):
    """Points whose call had returned and that no reader finds after a SIGKILL."""
    with tempfile.TemporaryDirectory(prefix="kill-", dir=SCRATCH, ignore_cleanup_errors=True) as top:
        ack, folder = os.path.join(top, "ack"), os.path.join(top, "store")
        with open(ack, "wb") as f:
            f.write(bytes(8))
        victim = subprocess.Popen(command(driver, "kill", folder, ack), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=environment(),
                                  start_new_session=True)
        deadline = time.monotonic() + 60
        try:
            while not acknowledged(ack):
                if victim.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{driver} kill: it does not log")
                time.sleep(0.002)
            time.sleep(random.Random(seed).uniform(0.6, 1.2))
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            time.sleep(2)  # helpers that outlive it may still write
            return acknowledged(ack) - ask(driver, "survivors", folder)["points"]
        finally:
            try:
                os.killpg(victim.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            victim.wait()


def acknowledged(ack):
    with open(ack, "rb") as f:
        return struct.unpack("<q", f.read(8))[0]


def measure(driver, seed):
    """{row: value} of one tracker."""
    found = {}
    with tempfile.TemporaryDirectory(prefix=driver + "-", dir=SCRATCH,
                                     ignore_cleanup_errors=True) as top:
        found.update(ask(driver, "log", os.path.join(top, "log"), LOG_S))
        found.update(ask(driver, "ingest", os.path.join(top, "ingest"), INGEST_S))
        read = ask(driver, "read", os.path.join(top, "ingest"))
        if not read["exact"]:
            raise Failed(f"{driver} read: values differ from what was logged")
        found["read_per_s"] = read["points_per_s"]
    runs = kept(driver, "fill", os.path.join(SCRATCH, f"fill-{driver}"), FILTER_RUNS)
    chosen = ask(driver, "filter", runs)
    if chosen["names"] is not None:
        if chosen["names"] != tracker.best_runs(FILTER_RUNS):
            raise Failed(f"{driver} filter: {chosen['names']}")
        found["filter_ms"] = chosen["ms"]
    found["lost"] = max(lost_by_kill(driver, seed * KILLS + i) for i in range(KILLS))
    return found


# what is measured, its row, its unit, whether more is better, and how many
# times better than the best peer it should be
ROWS = [
    ("one_p50_us", "log 1 scalar from Python, p50", "us", False, 5),
    ("one_p99_us", "log 1 scalar from Python, p99", "us", False, 10),
    ("many_p50_us", "log 20 scalars from Python, p50", "us", False, 10),
    ("points_per_s", "log until queryable", "points/s", True, 10),
    ("bytes_per_point", "at rest", "bytes/point", False, 10),
    ("read_per_s", "read a series back", "points/s", True, 10),
    ("filter_ms", f"filter {FILTER_RUNS} runs", "ms", False, 10),
    ("lost", f"points lost by SIGKILL, worst of {KILLS}", "points", False, None),
]


def main():
    seed = time.time_ns()
    print(f"seed of the kills: {seed}", file=sys.stderr)
    found = {}
    for driver in ["pioche_store", *MODULES]:
        try:
            found[driver] = measure(driver, seed)
        except (Failed, subprocess.SubprocessError, OSError) as why:
            if driver == "pioche_store":
                raise
            print(f"skipped {driver}: {why}", file=sys.stderr)
    own = found.pop("pioche_store")
    for measured, name, unit, more, times in ROWS:
        peers = {each["name"]: each[measured] for each in found.values() if measured in each}
        best = (max if more else min)(peers.values(), default=None)
        goal = 0 if times is None else None if best is None else best * times if more else best / times
        print(json.dumps({"name": name, "value": own[measured], "unit": unit, "goal": goal,
                          "limit": None, "peer": best, "peers": peers}), flush=True)
    if "BENCH_SCRATCH" not in os.environ:
        shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    main()
