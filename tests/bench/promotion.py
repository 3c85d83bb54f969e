#!/usr/bin/env python3
"""`promotion.py BUILD`: successive halving of the language model on this machine, once with runs that
are stopped at a rung and once with runs that are paused there and promoted later from their checkpoint:
what is found, steps and whole runs' worth of them (epochs here are parts of a text, and go with the
steps), checkpoints, attempts and wall time. SHORT=1: fewer runs."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
os.environ.setdefault("PIOCHE_BUILD", os.path.abspath(sys.argv.pop(1)))
from harness import GPT, Project  # noqa: E402

RUNS = 9 if os.environ.get("SHORT") else 27
STEPS, CONTEXT, BATCH = 270, 32, 8
RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "halving",
  program = pioche.program { command = { "%s" }, sources = { "halving.lua" }, inputs = { text = "text.txt" },
    env = { OPENBLAS_NUM_THREADS = 1 } },
  space = { width = 16, heads = 2, depth = 1, context = %d, batch = %d, steps = %d, warmup = 10,
    lr = pioche.log_uniform(1e-4, 1), ["eval-every"] = 10, ["eval-batches"] = 2, ["log-every"] = 10, ["step-ms"] = 10,
    ["sample-bytes"] = 0 },
  goal = pioche.minimize "val/loss",
  search = pioche.random { runs = %d, seed = 1 },
  stop = pioche.asha { min = 30, max = %d, eta = 3%s },
  launch = { parallel = 2 },
}
"""


def measure(more):
    with Project() as p:
        p.write("text.txt", "".join(f"{i}: the quick brown fox jumps over the lazy dog, {i * i} times\n"
                                    for i in range(2000)))
        p.write("halving.lua", RECIPE % (GPT, CONTEXT, BATCH, STEPS, RUNS, STEPS, more))
        began = time.monotonic()
        p.pioche("run", "halving.lua", timeout=1800)
        wall = time.monotonic() - began
        shown = p.pioche("sweep", "show", "halving", "--json").json
        count = {name: p.sql(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in ("checkpoint", "attempt")}
        text = os.path.getsize(p.path("text.txt")) * 0.9
        return shown["best"]["value"], shown["steps"], shown["steps"] * CONTEXT * BATCH / text, count, wall


def main():
    print(f"{RUNS} learning rates of a small language model, {STEPS} steps each, halved at 30 and 90")
    print("form         best    steps  of all without  epochs  checkpoints  attempts   wall s")
    for name, more in (("stopping", ""), ("promotion", ", promote = true")):
        best, steps, epochs, count, wall = measure(more)
        print(f"{name:10} {best:7.4f} {steps:8} {100 * steps / (RUNS * STEPS):13.0f} % {epochs:8.1f}"
              f" {count['checkpoint']:12} {count['attempt']:9} {wall:8.1f}", flush=True)


main()
