#!/usr/bin/env python3
"""How fast a session goes through runs that cost nothing: one JSON object a line.

The runs are calls of a function of the recipe (pioche.objective), so what is measured is the
search, the rows of each run and its points. A client is a slot: 64 of them ask at once where 64
runs are under way. SHORT=1 makes it small."""
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time

PIOCHE = os.path.join(os.environ.get("PIOCHE_BUILD", "build"), "pioche")
SHORT = bool(os.environ.get("SHORT"))
RUNS, KNOWN = (500, 2000) if SHORT else (2000, 20000)

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", search = pioche.%s { runs = %d, seed = 1 }, launch = { parallel = %d }, %s
  space = { a = pioche.uniform(0, 1), b = pioche.uniform(0, 1), c = pioche.uniform(0, 1),
    d = pioche.log_uniform(1e-5, 1), e = pioche.int(1, 99) },
  program = pioche.objective(function(p) %s end),
}
"""
CURVE = "local l = {} for i = 1, 50 do l[i] = p.a + p.b / i end return { loss = l }"


def row(name, value, unit, goal):
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "limit": None,
                      "peer": None}), flush=True)


def run(folder):
    """Seconds that a session takes."""
    began = time.monotonic()
    subprocess.run([PIOCHE, "--store", os.path.join(folder, ".pioche"), "run", os.path.join(folder, "r.lua")],
                   check=True, capture_output=True)
    return time.monotonic() - began


def worst_wait_s(folder):
    """The longest time in which no run ended."""
    with sqlite3.connect(os.path.join(folder, ".pioche", "pioche.db")) as db:
        ends = [ns for (ns,) in db.execute("SELECT ended_ns FROM run ORDER BY 1")]
    return max(b - a for a, b in zip(ends, ends[1:])) / 1e9


def measure(search, runs, parallel, fields="", body="return p.a + p.b"):
    """Trials a second of a new sweep, the longest wait of it, and the seconds to open it again."""
    folder = tempfile.mkdtemp(prefix="pioche-bench-")
    try:
        with open(os.path.join(folder, "r.lua"), "w", encoding="utf-8") as f:
            f.write(RECIPE % (search, runs, parallel, fields, body))
        seconds = run(folder)
        return runs / seconds, worst_wait_s(folder), run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    for search in ("random", "tpe"):
        rate, wait, _ = measure(search, RUNS, 64)
        row(f"64 clients, {search}, {RUNS} trials", rate, "trials/s", 500)
        row(f"64 clients, {search}, {RUNS} trials: the worst wait", wait, "s", 1)
    rate, _, _ = measure("random", RUNS // 2, 8, "stop = pioche.asha { min = 1, max = 50, eta = 2 },", CURVE)
    row("8 clients, 50 reports a trial, asha", rate, "trials/s", 400)
    _, _, again = measure("random", KNOWN, 64)
    row(f"a sweep of {KNOWN} runs is opened again", again, "s", KNOWN / 100000)


main()
