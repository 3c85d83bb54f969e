"""What one run.log() costs, from Python: one JSON object a line.

PIOCHE_BUILD names the build directory ("build" without it). The limit is the call
of a builtin function that does nothing, in the same run."""

import ctypes
import json
import os
import shutil
import sys
import tempfile
import time

STORE = tempfile.mkdtemp(prefix="pioche-bench-")
os.environ["PIOCHE_STORE"] = STORE
os.environ.pop("PIOCHE_RING", None)

sys.path.insert(0, os.path.join(os.environ.get("PIOCHE_BUILD", "build"), "lib", "pioche"))

import pioche  # noqa: E402  (the store is chosen first)

CALLS, BATCH = 20000, 10


def p50_us(call):
    """Median over batches: reading the clock costs as much as a call."""
    samples = []
    clock = time.perf_counter_ns
    for i in range(CALLS // BATCH):
        start = clock()
        for step in range(BATCH):
            call(step)
        samples.append((clock() - start) / BATCH / 1000)
        if i % 50 == 0:
            time.sleep(0.005)  # as a training step would: the ring is not measured full
    samples.sort()
    return samples[len(samples) // 2]


def report(name, value, goal, limit):
    print(json.dumps({"name": name, "value": round(value, 3), "unit": "us", "goal": goal,
                      "limit": round(limit, 3), "peer": None}), flush=True)


def main():
    nothing = ctypes.PyDLL(None).getpid
    empty = p50_us(lambda step: len(()))
    print(json.dumps({"name": "limit: an empty call from Python by ctypes", "value": round(
        p50_us(lambda step: nothing()), 3), "unit": "us", "goal": None, "limit": None, "peer": None}), flush=True)
    run = pioche.init("bench")
    for count, goal in ((1, 1), (20, 4)):
        values = {"metric/%d" % i: i * 0.5 for i in range(count)}
        plural = "s" if count > 1 else ""
        report("run.log p50, %d scalar%s" % (count, plural),
               p50_us(lambda step: run.log(values, step=step)), goal, empty)
    values = {"metric/%d" % i: i for i in range(20)}
    report("run.log p50, 20 integers", p50_us(lambda step: run.log(values, step=step)), 4, empty)
    run.finish()


try:
    main()
finally:
    shutil.rmtree(STORE, ignore_errors=True)
