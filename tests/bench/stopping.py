#!/usr/bin/env python3
"""`stopping.py BUILD`: what searches find where a rule stops runs, beside the same without a rule.

The curves are those of stopping_curves.lua; the budget counts steps, in whole runs. A cell is the
median of SEEDS seeds (5) of what the run that would be taken is worth, with quartiles, after a
third of the budget and after all of it. Where pip can install Optuna, its searches are run beside,
with its pruners and without, on the same curves by as many workers in the same time. Below each table:
is a pair of search and rule ever worse than random search without a rule, and with a third of the budget as
good as the best search without one with all of it, of the others and of our own? FILTER=text takes the
curves whose name has the text, SEARCHES="tpe auto optuna-tpe" those searches, RULES="none asha" those
rules."""
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import optuna_venv  # noqa: E402

BUILD = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = os.environ.get("SEEDS") or "5"
BUDGETS = ["20", "60"]
CURVES = ["parallel", "crossing", "misleading", "power", "tempting"]
RULES = ["none", "asha", "hyperband", "median", "curve"]
OWN = [(search, rule) for search in ("random", "tpe", "gp", "auto") for rule in RULES]
PEERS = [(f"optuna-{search}", "none") for search in ("random", "tpe", "cmaes", "gp")] + [
    ("optuna-random", "hyperband"), ("optuna-tpe", "hyperband"), ("optuna-tpe", "halving"), ("optuna-tpe", "median")]


def is_peer(search):
    return search.startswith("optuna-")


def lines_of(python=None, **env):
    """What a side says, and why it does not."""
    command = [python, os.path.join(HERE, "stopping_optuna.py")] if python else \
        [os.path.join(BUILD, "tests", "lua_host"), os.path.join(HERE, "stopping_run.lua")]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode and why


def check_same(python):
    """Both sides mean the same curves."""
    for own, other in zip(lines_of(CHECK="1")[0], lines_of(python, CHECK="1")[0], strict=True):
        assert own["curve"] == other["curve"], (own, other)
        for a, b in zip(own["values"], other["values"], strict=True):
            assert abs(a - b) <= 1e-9 * (1 + abs(b)), (own, other)


def cell(values):
    if len(values) < 2:
        return f"{values[0]:7.4f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:7.4f} [{low:.4f} {high:.4f}]"


def claims(found):
    """Of each pair: where it keeps what is claimed of it, by medians."""
    medians = {key: [statistics.median(v) for v in ends] for key, ends in found.items()}
    stopped = {(s, r): ends for (s, r), ends in medians.items() if r != "none"}
    if ("random", "none") in medians:
        random = medians["random", "none"][-1]
        worse = [f"{s}+{r}" for (s, r), ends in stopped.items() if ends[-1] > random]
        print(f"  worse than random without a rule ({random:.4f}): {', '.join(worse) or 'none'}")
    for name, is_their in (("others'", True), ("own", False)):
        unstopped = [(ends[-1], s) for (s, r), ends in medians.items() if r == "none" and is_peer(s) == is_their]
        if unstopped:
            bound, search = min(unstopped)
            third = [f"{s}+{r}" for (s, r), ends in stopped.items() if ends[0] <= bound]
            print(f"  with a third as good as the {name} best without a rule ({search}, {bound:.4f}):"
                  f" {', '.join(third) or 'none'}")


def main():
    wanted, rules = os.environ.get("SEARCHES", "").split(), os.environ.get("RULES", "").split()
    pairs = [(s, r) for s, r in OWN + PEERS if (not wanted or s in wanted) and (not rules or r in rules)]
    names = [name for name in CURVES if os.environ.get("FILTER", "").lower() in name]
    python, why = optuna_venv.python() if any(is_peer(s) for s, _ in pairs) else (None, "not asked for")
    if python:
        check_same(python)
    else:
        print(f"skipped: Optuna: {why}")
        pairs = [(s, r) for s, r in pairs if not is_peer(s)]

    def measure(job):
        curve, search, rule = job
        return job, *lines_of(python if is_peer(search) else None, CURVES=curve, SEARCH=search, RULE=rule,
                              SEEDS=SEEDS, BUDGETS=" ".join(BUDGETS))

    print(f"\ncurves that are stopped: median of {SEEDS} seeds [quartiles] of what is taken, after the steps of"
          f" {' and '.join(BUDGETS)} whole runs; 0 is the best")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = {}
        for (name, search, rule), rows, problem in pool.map(measure, [(n, *pair) for n in names for pair in pairs]):
            if problem and not is_peer(search):
                sys.exit(problem)
            if problem:
                print(f"skipped: {search} on {name}: {problem}")
            else:
                ends = found[search, rule] = [[row["ends"][i] for row in rows] for i in range(len(BUDGETS))]
                points = statistics.median(row["points"] for row in rows)
                print(f"{name:11} {search:13} {rule:10} {'  '.join(map(cell, ends))}  {points:5.0f} points", flush=True)
            if (search, rule) == pairs[-1]:
                claims(found)
                found = {}


main()
