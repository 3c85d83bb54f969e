#!/usr/bin/env python3
"""`sweep.py BUILD`: what searches find, and what a proposal costs: prints tables.

Each function of sweep_functions.lua is searched with SEEDS seeds (20); a cell is the median
of the regret at a budget, with its quartiles. Where pip can install Optuna, in build/optuna,
its samplers are run beside, on the same functions. FILTER=text takes the functions whose
name has the text, SEARCHES="tpe optuna-tpe" those searches alone, SHORT=1 fewer seeds and
no budget of 200. WORKERS=16: own searches alone, with so many runs under way at a time, each of
which takes a while of its own."""
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
SHORT = bool(os.environ.get("SHORT"))
SEEDS = os.environ.get("SEEDS") or ("5" if SHORT else "20")
FRONT_SEEDS = os.environ.get("SEEDS") or "5"  # the peer's take minutes
BUDGETS = [50, 100] if SHORT else [50, 100, 200]
FUNCTIONS = ["Branin", "Hartmann-6", "Rosenbrock-10", "Levy-8", "Rastrigin-5", "Ackley-10", "mixed",
             "conditional", "noisy"]
WITHIN = ["constrained", "within waves", "within isles", "within a plane", "within memory"]  # constraints
HELD_OUT = ["Griewank-6", "Styblinski-5", "Michalewicz-5", "Dixon-Price-8", "sphere-10", "ellipsoid-8",
            "Zakharov-6", "training"]
FRONTS = ["ZDT1", "ZDT2", "DTLZ2"]
OWN = ["random", "sobol", "tpe", "cma_es", "gp", "trust_region", "auto"]
PEERS = ["optuna-tpe", "optuna-cmaes", "optuna-gp"]
FRONT_OWN = ["random", "nsga2", "tpe", "auto"]
FRONT_PEERS = ["optuna-tpe", "optuna-nsga2"]
GOALS = {"tpe, 10 mixed parameters, 100 finished": 0.1, "tpe, 10 mixed parameters, 1000 finished": 0.3,
         "tpe, 10 mixed parameters, 10000 finished": 3, "tpe, 40 parameters, 10000 finished": 10,
         "gp, 10 mixed parameters, 100 finished": 20, "gp, 10 mixed parameters, 300 finished": 50}


def host(**env):
    done = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), os.path.join(HERE, "sweep_run.lua")],
                          env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def peer(python, **env):
    done = subprocess.run([python, os.path.join(HERE, "sweep_optuna.py")], env={**os.environ, **env},
                          capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"skipped: {env.get('SEARCH')} on {env.get('FUNCTION')}: {done.stderr.strip().splitlines()[-1]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_same(python):
    """Both sides mean the same functions."""
    rows = (sorted(rows, key=lambda row: row["function"]) for rows in (host(CHECK="1"), peer(python, CHECK="1")))
    for own, other in zip(*rows, strict=True):
        assert own["function"] == other["function"], (own, other)
        for a, b in zip(own["values"], other["values"], strict=True):
            assert abs(a - b) <= 1e-9 * (1 + abs(b)), (own, other)


def cell(values):
    values = sorted(values)
    if len(values) < 2:
        return f"{values[0]:9.3g}" if values else ""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:9.3g} [{low:7.2g} {high:7.2g}]"


def main():
    wanted = os.environ.get("SEARCHES", "").split()
    every = dict.fromkeys(OWN + FRONT_OWN + PEERS + FRONT_PEERS)
    searches = [s for s in every if not wanted or s in wanted]
    is_alone = os.environ.get("WORKERS", "1") != "1"
    has_peer = any(s.startswith("optuna-") for s in searches) and not is_alone
    python, why = optuna_venv.python() if has_peer else (None, "not asked for")
    if not python:
        print(f"skipped: Optuna: {why}")
        searches = [s for s in searches if not s.startswith("optuna-")]
    else:
        check_same(python)

    def measure(job):
        name, search = job
        seeds = SEEDS if name not in FRONTS else FRONT_SEEDS
        env = {"FUNCTION": name, "SEARCH": search, "SEEDS": seeds, "BUDGETS": " ".join(map(str, BUDGETS))}
        return job, peer(python, **env) if search.startswith("optuna-") else host(**env)

    def table(names, known, title):
        names = [name for name in names if os.environ.get("FILTER", "").lower() in name.lower()]
        jobs = [(n, s) for n in names for s in searches
                if s in known and not (n in WITHIN and s == "optuna-cmaes")]  # which knows of none
        if jobs:
            print(f"{title} [quartiles], after {', '.join(map(str, BUDGETS))} runs")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for (name, search), rows in pool.map(measure, jobs):
                cells = [cell([row["regrets"][i] for row in rows]) for i in range(len(BUDGETS))]
                print(f"{name:14} {search:13} {'  '.join(cells)}", flush=True)

    table(FUNCTIONS + WITHIN + HELD_OUT, OWN + PEERS, f"regret, the median of {SEEDS} seeds")
    table(FRONTS, FRONT_OWN + FRONT_PEERS,
          f"\nseveral goals: volume that no point covers, the median of {FRONT_SEEDS} seeds")
    print("\none proposal, ms                              p50    goal")
    for row in host(SPEED="1"):
        print(f"{row['name']:42} {row['value']:8.3f} {GOALS[row['name']]:7.3g}")


main()
