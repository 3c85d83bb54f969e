#!/usr/bin/env python3
"""`stopping.py BUILD`: what searches find where a rule stops runs, beside the same without a rule.

The curves are those of stopping_curves.lua; the budget counts steps, in whole runs. A cell is the
median of SEEDS seeds (5) of what the run that would be taken is worth, with quartiles, after a
third of the budget and after all of it. Below each table: is a pair of search and rule ever worse than random search
without a rule, and with a third of the budget as good as the best search without one with all
of it? FILTER=text takes the curves whose name has the text, SEARCHES="tpe auto" those searches."""
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

BUILD = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = os.environ.get("SEEDS") or "5"
BUDGETS = ["20", "60"]
CURVES = ["parallel", "crossing", "misleading"]
SEARCHES = ["random", "tpe", "auto"]
RULES = ["none", "asha", "hyperband", "median", "curve"]


def measure(job):
    curve, search, rule = job
    done = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), os.path.join(HERE, "stopping_run.lua")],
                          env={**os.environ, "CURVES": curve, "SEARCH": search, "RULE": rule, "SEEDS": SEEDS,
                               "BUDGETS": " ".join(BUDGETS)}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return job, [[row["ends"][i] for row in rows] for i in range(len(BUDGETS))], \
        statistics.median(row["points"] for row in rows)


def cell(values):
    if len(values) < 2:
        return f"{values[0]:7.4f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:7.4f} [{low:.4f} {high:.4f}]"


def claims(found):
    """Of each rule: where it keeps what is claimed of it, by medians."""
    medians = {key: [statistics.median(v) for v in ends] for key, ends in found.items()}
    if ("random", "none") not in medians:
        return
    random = medians["random", "none"]
    unstopped = min(ends[-1] for (_, rule), ends in medians.items() if rule == "none")
    worse = [f"{s}+{r}" for (s, r), ends in medians.items() if r != "none" and ends[-1] > random[-1]]
    third = [f"{s}+{r}" for (s, r), ends in medians.items() if r != "none" and ends[0] <= unstopped]
    print(f"  worse than random without a rule: {', '.join(worse) or 'none'}")
    print(f"  with a third as good as the best without a rule ({unstopped:.4f}): {', '.join(third) or 'none'}")


def main():
    wanted = os.environ.get("SEARCHES", "").split()
    searches = [s for s in SEARCHES if not wanted or s in wanted]
    names = [name for name in CURVES if os.environ.get("FILTER", "").lower() in name]
    jobs = [(n, s, r) for n in names for s in searches for r in RULES]
    if not jobs:
        return
    print(f"\ncurves that are stopped: median of {SEEDS} seeds [quartiles] of what is taken, after the steps of"
          f" {' and '.join(BUDGETS)} whole runs; 0 is the best")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = {}
        for (name, search, rule), ends, points in pool.map(measure, jobs):
            print(f"{name:11} {search:7} {rule:10} {'  '.join(map(cell, ends))}  {points:5.0f} points", flush=True)
            found[search, rule] = ends
            if (search, rule) == (searches[-1], RULES[-1]):
                claims(found)
                found = {}


main()
