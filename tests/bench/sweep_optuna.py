"""What Optuna's samplers find on the functions of sweep_functions.lua: lines of JSON for
sweep.py, which runs it in Optuna's own environment. Environment: SEARCH, FUNCTION, SEEDS,
BUDGETS; CHECK=1 prints each function's value at a few points, for comparison."""
import json
import math
import os
import warnings

import numpy as np
import optuna
from optuna._hypervolume import compute_hypervolume

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)

HARTMANN_A = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8),
              (17, 8, 0.05, 10, 0.1, 14))
HARTMANN_P = ((1312, 1696, 5569, 124, 8283, 5886), (2329, 4135, 8307, 3736, 1004, 9991),
              (2348, 1451, 3522, 2883, 3047, 6650), (4047, 8828, 8732, 5743, 1091, 381))


def cube(count, low, high):
    return lambda t: [t.suggest_float(f"x{i:02d}", low, high) for i in range(1, count + 1)]


def shift(i):
    return ((i * 37) % 19) / 19 - 0.5


def branin(p):
    x, y = p
    bow = y - 5.1 / (4 * math.pi ** 2) * x ** 2 + 5 / math.pi * x - 6
    return bow ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann(x):
    return -sum(c * math.exp(-sum(a[j] * (x[j] - p[j] / 10000) ** 2 for j in range(6)))
                for c, a, p in zip((1, 1.2, 3, 3.2), HARTMANN_A, HARTMANN_P))


def rosenbrock(x):
    return sum(100 * (b - a ** 2) ** 2 + (a - 1) ** 2 for a, b in zip(x, x[1:]))


def levy(x):
    w = [1 + (v - 1) / 4 for v in x]
    return (math.sin(math.pi * w[0]) ** 2 + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
            + sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1]))


def rastrigin(x):
    z = [v - 5 * shift(i) for i, v in enumerate(x, 1)]
    return sum(10 + v ** 2 - 10 * math.cos(2 * math.pi * v) for v in z)


def ackley(x):
    z = [v - 32 * shift(i) for i, v in enumerate(x, 1)]
    n = len(z)
    return (20 + math.e - 20 * math.exp(-0.2 * math.sqrt(sum(v ** 2 for v in z) / n))
            - math.exp(sum(math.cos(2 * math.pi * v) for v in z) / n))


def mixed_space(t):
    return {"lr": t.suggest_float("lr", 1e-5, 1e-1, log=True),
            "decay": t.suggest_float("decay", 1e-6, 1e-1, log=True),
            "depth": t.suggest_int("depth", 1, 24), "width": t.suggest_int("width", 16, 2048, log=True),
            "act": t.suggest_categorical("act", ["relu", "gelu", "silu", "tanh"]),
            "norm": t.suggest_categorical("norm", [True, False]),
            "drop": t.suggest_float("drop", 0, 0.5), "mix": t.suggest_float("mix", 0, 1),
            "beta": t.suggest_float("beta", 0.8, 0.99), "other": t.suggest_float("other", 0, 1)}


def mixed(p):
    kind = {"relu": 0, "gelu": 0.3, "silu": 0.1, "tanh": 1}[p["act"]]
    return ((math.log10(p["lr"]) + 2.7) ** 2 + (math.log10(p["decay"]) + 4.2) ** 2 / 4
            + (p["depth"] - 7) ** 2 / 9 + (math.log2(p["width"]) - 7.6) ** 2 / 2 + kind
            + (0 if p["norm"] else 0.4) + 3 * (p["drop"] - 0.12) ** 2
            + (0.8 * abs(p["mix"] - 0.7) if p["act"] == "relu" else abs(p["mix"] - 0.2))
            + (p["beta"] - 0.9) ** 2)


def trap_space(t):
    p = {"scale": t.suggest_float("scale", 0, 1),
         "kind": t.suggest_categorical("kind", ["flat", "plain", "sharp"])}
    for name in {"flat": "c", "plain": "ab", "sharp": "ab"}[p["kind"]]:
        p[name] = t.suggest_float(f"{p['kind']}.{name}", 0, 1)
    return p


def trap(p):
    if p["kind"] == "plain":
        return 1 + 0.5 * ((p["a"] - 0.3) ** 2 + (p["b"] - 0.6) ** 2)
    if p["kind"] == "flat":
        return 2 + p["c"]
    far = (p["a"] - 0.15) ** 2 + (p["b"] - 0.85) ** 2 + (p["scale"] - 0.5) ** 2
    return 3 - 3 * math.exp(-6 * far)


def griewank(x):
    z = [v - 60 * shift(i) for i, v in enumerate(x, 1)]
    return (1 + sum(v ** 2 for v in z) / 4000
            - math.prod(math.cos(v / math.sqrt(i)) for i, v in enumerate(z, 1)))


def ellipsoid(x):
    z = [v - 5 * shift(i) for i, v in enumerate(x, 1)]
    c, s = math.cos(0.7), math.sin(0.7)
    for i in range(len(z) - 1):
        z[i], z[i + 1] = c * z[i] - s * z[i + 1], s * z[i] + c * z[i + 1]
    return sum(1000 ** (i / (len(z) - 1)) * v ** 2 for i, v in enumerate(z))


def zakharov(x):
    line = sum(0.5 * i * v for i, v in enumerate(x, 1))
    return sum(v ** 2 for v in x) + line ** 2 + line ** 4


def training_space(t):
    return {"lr": t.suggest_float("lr", 1e-5, 1, log=True), "decay": t.suggest_float("decay", 1e-5, 1, log=True),
            "width": t.suggest_int("width", 16, 512, log=True), "depth": t.suggest_int("depth", 1, 8),
            "batch": t.suggest_int("batch", 8, 512, log=True), "drop": t.suggest_float("drop", 0, 0.5),
            "warmup": t.suggest_float("warmup", 0, 0.2),
            "optimizer": t.suggest_categorical("optimizer", ["adamw", "sgd"])}


def training(p):
    width, batch = math.log2(p["width"]), math.log2(p["batch"])
    off = math.log10(p["lr"]) - (-2.3 - 0.5 * (width - 7) / 2 + 0.25 * (batch - 6) / 2)
    if off > 1.1:
        return 8 + off
    return (1.6 + 1.9 * (p["width"] * p["depth"] / 64) ** -0.25 + (0.25 if off < 0 else 0.9) * off ** 2
            + 0.05 * (math.log10(p["decay"]) + 2.5) ** 2 + 0.8 * (p["drop"] - 0.1 * p["depth"] / 8) ** 2
            + (0 if p["optimizer"] == "adamw" else 0.12) + 0.03 * abs(batch - 6)
            + 0.02 * (p["warmup"] - 0.06) ** 2 / 0.01)


def noise(number):
    return sum((math.sin(number * 12.9898 + i * 78.233) * 43758.5453) % 1 for i in range(1, 13)) - 6


def noisy(x, number):
    return rosenbrock(x) * (1 + 0.1 * noise(number)) + noise(number + 7)


def trained(p, number):
    return training(p) + 0.01 * noise(number)


def memory(p):
    return p["depth"] * p["width"] ** 2 / 40000 + p["batch"] * p["depth"] * p["width"] / 20000 - 8


def square(t):
    return [t.suggest_float("x", 0, 6), t.suggest_float("y", 0, 6)]


def zdt(shape):
    def values(x):
        g = 1 + 9 * sum(x[1:]) / (len(x) - 1)
        return x[0], g * (1 - shape(x[0] / g))
    return values


def dtlz2(x):
    g = sum((v - 0.5) ** 2 for v in x[2:])
    a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
    return (1 + g) * math.cos(a) * math.cos(b), (1 + g) * math.cos(a) * math.sin(b), (1 + g) * math.sin(a)


# name: the space, the value without noise, the least one, and the value that is told
FUNCTIONS = {
    "Branin": (lambda t: [t.suggest_float("x", -5, 10), t.suggest_float("y", 0, 15)], branin,
               0.39788735772973816),
    "Hartmann-6": (cube(6, 0, 1), hartmann, -3.32236801141551),
    "Rosenbrock-10": (cube(10, -5, 10), rosenbrock, 0), "Levy-8": (cube(8, -10, 10), levy, 0),
    "Rastrigin-5": (cube(5, -5.12, 5.12), rastrigin, 0),
    "Ackley-10": (cube(10, -32.768, 32.768), ackley, 0),
    "mixed": (mixed_space, mixed, 0), "conditional": (trap_space, trap, 0),
    "noisy": (cube(4, -5, 10), rosenbrock, 0, noisy),
    "constrained": (lambda t: [t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)], sum, 0.599787),
    "within waves": (square, lambda p: math.cos(2 * p[0]) * math.cos(p[1]) + math.sin(p[0]), -2),
    "within isles": (square, lambda p: math.sin(p[0]) + p[1], math.asin(0.95) - 1),
    "within a plane": (cube(6, 0, 1), hartmann, -2.5951082937),
    "Griewank-6": (cube(6, -60, 60), griewank, 0),
    "Styblinski-5": (cube(5, -5, 5), lambda x: sum(v ** 4 - 16 * v ** 2 + 5 * v for v in x) / 2,
                     -195.83082851885710),
    "Michalewicz-5": (cube(5, 0, math.pi),
                      lambda x: -sum(math.sin(v) * math.sin(i * v ** 2 / math.pi) ** 20
                                     for i, v in enumerate(x, 1)), -4.687658179),
    "Dixon-Price-8": (cube(8, -10, 10),
                      lambda x: (x[0] - 1) ** 2 + sum(i * (2 * b ** 2 - a) ** 2
                                                      for i, (a, b) in enumerate(zip(x, x[1:]), 2)), 0),
    "sphere-10": (cube(10, -5, 5), lambda x: sum((v - 5 * shift(i)) ** 2 for i, v in enumerate(x, 1)), 0),
    "ellipsoid-8": (cube(8, -5, 5), ellipsoid, 0), "Zakharov-6": (cube(6, -5, 10), zakharov, 0),
    "training": (training_space, training, 2.2717514421272202, trained),
    "within memory": (training_space, training, 2.5135651327658204, trained),
}
# name: the space, the values, the reference, and the most that can be covered
FRONTS = {
    "ZDT1": (cube(30, 0, 1), zdt(math.sqrt), (11, 11), 121 - 1 / 3),
    "ZDT2": (cube(30, 0, 1), zdt(lambda y: y ** 2), (11, 11), 121 - 2 / 3),
    "DTLZ2": (cube(12, 0, 1), dtlz2, (2, 2, 2), 8 - math.pi / 6),
}
# of a name what is to be 0 or less
CONSTRAINTS = {
    "constrained": lambda p: [1.5 - p[0] - 2 * p[1] - 0.5 * math.sin(2 * math.pi * (p[0] ** 2 - 2 * p[1])),
                              p[0] ** 2 + p[1] ** 2 - 1.5],
    "within waves": lambda p: [math.cos(p[0]) * math.cos(p[1]) - math.sin(p[0]) * math.sin(p[1]) - 0.5],
    "within isles": lambda p: [math.sin(p[0]) * math.sin(p[1]) + 0.95],
    "within a plane": lambda p: [sum(p) - 1.5], "within memory": lambda p: [memory(p)],
}
SAMPLERS = {
    "optuna-random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "optuna-tpe": lambda seed, **more: optuna.samplers.TPESampler(seed=seed, **more),
    "optuna-cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
    "optuna-nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "optuna-gp": lambda seed, **more: optuna.samplers.GPSampler(seed=seed, **more),
}


class Fixed:
    """A point in the middle of everything, or a part of the way from the low ends."""

    def __init__(self, part):
        self.part = part

    def suggest_float(self, _, low, high, log=False):
        if log:
            return math.exp(math.log(low) + self.part * (math.log(high) - math.log(low)))
        return low + self.part * (high - low)

    def suggest_int(self, name, low, high, log=False):
        return round(self.suggest_float(name, low, high, log))

    def suggest_categorical(self, _, choices):
        return choices[int(self.part * len(choices))]


def run(name, search, seed, budgets):
    space, value, least, *told = FUNCTIONS[name]
    best, regrets = math.inf, []
    limits = CONSTRAINTS.get(name)
    more = {"constraints_func": lambda trial: trial.user_attrs["limits"]} if limits else {}
    study = optuna.create_study(sampler=SAMPLERS[search](seed, **more))
    best = 1e9 if limits else best
    for n in range(1, budgets[-1] + 1):
        trial = study.ask()
        p = space(trial)
        outside = limits(p) if limits else [0]
        trial.set_user_attr("limits", outside)
        study.tell(trial, told[0](p, n + 1000 * seed) if told else value(p))
        best = min(best, value(p)) if max(outside) <= 0 else best
        if n in budgets:
            regrets.append(best - least)
    print(json.dumps({"function": name, "search": search, "seed": seed, "regrets": regrets}), flush=True)


def run_front(name, search, seed, budgets):
    space, values, reference, most = FRONTS[name]
    study = optuna.create_study(directions=["minimize"] * len(reference), sampler=SAMPLERS[search](seed))
    rows, regrets = [], []
    for n in range(1, budgets[-1] + 1):
        trial = study.ask()
        rows.append(values(space(trial)))
        study.tell(trial, rows[-1])
        if n in budgets:
            inside = np.array([row for row in rows if all(a < b for a, b in zip(row, reference))])
            volume = compute_hypervolume(inside, np.array(reference, float)) if len(inside) else 0
            regrets.append(most - volume)
    print(json.dumps({"function": name, "search": search, "seed": seed, "regrets": regrets}), flush=True)


if os.environ.get("CHECK"):
    for name, (space, value, *_) in FUNCTIONS.items():
        print(json.dumps({"function": name, "values": [value(space(Fixed(u))) for u in (0.1, 0.35, 0.8)]}))
    for name, (space, values, *_) in FRONTS.items():
        print(json.dumps({"function": name, "values": [values(space(Fixed(u)))[1] for u in (0.1, 0.35, 0.8)]}))
else:
    measure = run_front if os.environ["FUNCTION"] in FRONTS else run
    for seed in range(1, int(os.environ["SEEDS"]) + 1):
        measure(os.environ["FUNCTION"], os.environ["SEARCH"], seed,
                [int(n) for n in os.environ["BUDGETS"].split()])
