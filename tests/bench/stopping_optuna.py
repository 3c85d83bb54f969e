"""What Optuna's samplers find on the curves of stopping_curves.lua, with its pruners and without:
lines of JSON for stopping.py, which runs it in Optuna's own environment. Environment: SEARCH, RULE,
CURVES, SEEDS, BUDGETS, as stopping_run.lua has them; CHECK=1 prints each curve's losses at a few
points, for comparison."""
import json
import math
import os
import warnings

import optuna
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)

STEPS, WORKERS, EVERY = 81, 4, 3
HARTMANN_A = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8),
              (17, 8, 0.05, 10, 0.1, 14))
HARTMANN_P = ((1312, 1696, 5569, 124, 8283, 5886), (2329, 4135, 8307, 3736, 1004, 9991),
              (2348, 1451, 3522, 2883, 3047, 6650), (4047, 8828, 8732, 5743, 1091, 381))


def hartmann(p):
    return 1 - sum(c * math.exp(-sum(a[j] * (p[f"x{j + 1}"] - q[j] / 10000) ** 2 for j in range(6)))
                   for c, a, q in zip((1, 1.2, 3, 3.2), HARTMANN_A, HARTMANN_P)) / 3.32236801141551


def rosenbrock(p):
    x = [4 * p[f"x{j}"] - 2 for j in range(1, 5)]
    return math.log(1 + sum(100 * (b - a * a) ** 2 + (a - 1) ** 2 for a, b in zip(x, x[1:]))) / math.log(1 + 3 * 3609)


def branin(p):
    x, y = 15 * p["x1"] - 5, 15 * p["x2"]
    bow = y - 5.1 / (4 * math.pi ** 2) * x * x + 5 / math.pi * x - 6
    return (bow * bow + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.39788735772973816) / 307.7


def exponential(rate):
    def smooth(p, step):
        q = hartmann(p)
        return q + 2 * math.exp(-rate(q, p) * step ** 0.8)
    return smooth


def power(p, step):
    return rosenbrock(p) + (1 + p["height"]) * step ** -(0.5 + 1.5 * p["speed"])


def tempting(p, step):
    return (branin(p) + 0.2 * p["speed"] ** 2 + 0.1 * (p["other"] - 0.3) ** 2
            + 1.5 * math.exp(-0.06 * 20 ** p["speed"] * step ** 0.8))


SEVEN = ["speed", "x1", "x2", "x3", "x4", "x5", "x6"]
# name: the parameters, and the loss without noise
CURVES = {
    "parallel": (SEVEN, exponential(lambda q, p: 0.3)),
    "crossing": (SEVEN, exponential(lambda q, p: 0.08 * 10 ** p["speed"])),
    "misleading": (SEVEN, exponential(lambda q, p: 0.12 + 0.6 * q)),
    "power": (["height", "speed", "x1", "x2", "x3", "x4"], power),
    "tempting": (["speed", "other", "x1", "x2"], tempting),
}
SAMPLERS = {
    "optuna-random": optuna.samplers.RandomSampler, "optuna-tpe": optuna.samplers.TPESampler,
    "optuna-cmaes": optuna.samplers.CmaEsSampler, "optuna-gp": optuna.samplers.GPSampler,
}
PRUNERS = {
    "none": NopPruner,
    "hyperband": lambda: HyperbandPruner(min_resource=3, max_resource=STEPS, reduction_factor=3),
    "halving": lambda: SuccessiveHalvingPruner(min_resource=3, reduction_factor=3),
    "median": lambda: MedianPruner(n_warmup_steps=6, interval_steps=EVERY),
}


def noise(run, step):
    return 1.7 * (sum((math.sin(run * 12.9898 + step * 4.1414 + i * 78.233) * 43758.5453) % 1
                      for i in range(1, 5)) - 2)


def loss(smooth, p, step, run):
    return smooth(p, step) + 0.005 * noise(run, step)


class Run:
    """One that is under way."""

    def __init__(self, study, names, number, now):
        self.trial, self.number, self.time, self.step = study.ask(), number, now, 0
        self.params = {name: self.trial.suggest_float(name, 0, 1) for name in names}

    def advance(self, smooth, seed, is_pruned):
        """To where it may be stopped next: how many steps, and is it over?"""
        steps = EVERY if is_pruned else STEPS
        for step in range(self.step + 1, self.step + steps + 1) if is_pruned else ():
            self.trial.report(loss(smooth, self.params, step, self.number + 1000 * seed), step)
        self.step += steps
        self.time += steps
        return steps, self.step == STEPS or is_pruned and self.trial.should_prune()


def run(names, smooth, search, rule, seed, budgets):
    # the name decides on Hyperband's brackets
    study = optuna.create_study(study_name=f"{seed}", sampler=SAMPLERS[search](seed=seed), pruner=PRUNERS[rule]())
    active, results, best = [], [], (0, math.inf, 1e9)
    number = spent = now = 0
    while len(results) < len(budgets):
        while len(active) < WORKERS:
            number += 1
            active.append(Run(study, names, number, now))
        one = min(active, key=lambda run: (run.time, run.number))
        steps, is_over = one.advance(smooth, seed, rule != "none")
        spent, now = spent + steps, one.time
        if is_over:
            active.remove(one)
            told = loss(smooth, one.params, one.step, one.number + 1000 * seed)
            is_whole = one.step == STEPS
            study.tell(one.trial, told if is_whole else None,
                       state=None if is_whole else optuna.trial.TrialState.PRUNED)
            best = min(best, (-one.step, told, smooth(one.params, STEPS)))
        while len(results) < len(budgets) and spent >= budgets[len(results)] * STEPS:
            results.append(best[2])
    print(json.dumps({"seed": seed, "ends": results, "points": number}), flush=True)


if os.environ.get("CHECK"):
    for name, (names, smooth) in CURVES.items():
        points = [{n: (0.13 + 0.29 * i + u) % 1 for i, n in enumerate(names)} for u in (0, 0.35, 0.8)]
        print(json.dumps({"curve": name, "values": [loss(smooth, p, step, 7) for p in points for step in (3, 27, 81)]}))
else:
    for seed in range(1, int(os.environ["SEEDS"]) + 1):
        run(*CURVES[os.environ["CURVES"]], os.environ["SEARCH"], os.environ["RULE"], seed,
            [int(n) for n in os.environ["BUDGETS"].split()])
