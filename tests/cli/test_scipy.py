#!/usr/bin/env python3
"""What pioche fits to results, beside SciPy: Student's t, chances of being the best, the end
of a learning curve, scaling laws, what a search within constraints expects, and what a run that was
stopped promises."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import optuna_venv  # noqa: E402
from harness import BUILD, Project, Skip  # noqa: E402


def check_agreed(ours, theirs):
    """What the Lua script prints, the Python script reads, works out by NumPy and SciPy, and agrees to."""
    python, why = optuna_venv.python()
    if not python:
        raise Skip(f"SciPy: {why}")
    with Project(git=False) as p:
        p.write("ours.lua", ours)
        told = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), p.path("ours.lua")], env=p.env,
                              capture_output=True, text=True, check=True).stdout
        done = subprocess.run([python, "-c", theirs], input=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout == "agreed\n", done.stderr


OURS = """
local core, json = require "pioche.core.sweep", require "pioche.core.json"
local out = { student = json.array {}, below = json.array {}, quantiles = json.array {} }
for _, freedom in ipairs { 1, 2, 3, 4, 7, 10, 33, 250, 5000 } do
  for _, t in ipairs { -40, -6, -2.5, -1, -0.01, 0, 0.3, 1.7, 12 } do
    table.insert(out.student, json.array { t, freedom, core.student(t, freedom) })
  end
end
out.chances = json.array(core.chances({ 0.0, 0.4, 0.45, 1.0, 3.0 }, { 2, 3, 1, 4, 1 }, 2.2, 6))
local x, y = { 0.05, 0.1, 0.2, 0.3, 0.35 }, { 2.0, 1.5, 1.31, 1.22, 1.2 }
for _, bound in ipairs { 0.8, 1.0, 1.1, 1.15, 1.2, 1.4 } do
  table.insert(out.below, json.array { bound, core.forecast(x, y, 0.02, 0.03, bound).below })
end
local said = core.forecast(x, y, 0.02, 0.03)
out.quantiles = json.array { said.low, said.value, said.high }
local sizes, tokens, losses = {}, {}, {}
for i = 0, 19 do
  sizes[i + 1], tokens[i + 1] = 1e6 * 3 ^ (i % 5), 2e7 * 5 ^ (i // 5)
  losses[i + 1] = (1.7 + 400 * sizes[i + 1] ^ -0.34 + 410 * tokens[i + 1] ^ -0.28)
    * (1 + 0.01 * (core.uniform(1, i, "n") - 0.5))
end
out.law, out.points = core.law(sizes, tokens, losses, 0, 1), json.array {}
for i in ipairs(sizes) do out.points[i] = json.array { sizes[i], tokens[i], losses[i] } end
print(json.encode(out))
"""

THEIRS = """
import json, sys
import numpy as np
from scipy import optimize, special, stats
ours = json.load(sys.stdin)

for t, freedom, value in ours["student"]:
    assert abs(value - stats.t.cdf(t, freedom)) <= 2e-12, (t, freedom, value)

# By drawing: the variance, then each mean.
rng, n = np.random.default_rng(1), 2000000
variance = 2.2 / rng.chisquare(6, n)
means, repeats = np.array([0, 0.4, 0.45, 1, 3]), np.array([2, 3, 1, 4, 1])
drawn = means[:, None] + rng.standard_normal((5, n)) * np.sqrt(variance / repeats[:, None])
share = np.bincount(drawn.argmin(0), minlength=5) / n
assert np.abs(share - ours["chances"]).max() < 2e-3, (share, ours["chances"])

# Bayesian linear regression on each shape, written with matrices.
x, y = np.array([0.05, 0.1, 0.2, 0.3, 0.35]), np.array([2.0, 1.5, 1.31, 1.22, 1.2])
powers = (0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.4, 2, 3)
shapes = [lambda x, p=p: x ** -p for p in powers]
shapes += [lambda x, p=p, k=k: (1 + k * x) ** -p for k in (5, 20, 80) for p in powers]
shapes += [lambda x, r=r: np.exp(-r * x) for r in (0.7, 1.2, 2, 3, 4.5, 6.5, 9, 12, 17, 25, 40)]
shapes += [lambda x, r=r: np.exp(-r * np.sqrt(x)) for r in (1, 1.7, 2.7, 4, 6, 9, 13, 20)]
shapes += [lambda x: -np.log(x)]
unit, origin = y.max() - y.min(), y[-1]
z, freedom = (y - origin) / unit, 2 + len(y)
parts = []
for f in shapes:
    design = np.column_stack([np.ones(len(x)), (f(x) - f(1)) / (f(x[0]) - f(1))])
    prior, mean = np.eye(2) / 1e4, np.array([0.0, 1.0])
    precision = prior + design.T @ design
    posterior = np.linalg.solve(precision, prior @ mean + design.T @ z)
    left = z @ z + mean @ prior @ mean - posterior @ precision @ posterior + 2 * 0.01 ** 2
    evidence = -0.5 * np.linalg.slogdet(precision)[1] - freedom / 2 * np.log(left)
    spread = np.sqrt(left / freedom * (1 + np.linalg.inv(precision)[0, 0]))
    parts.append((evidence, origin + unit * posterior[0] + 0.02, np.hypot(unit * spread, 0.03)))
evidence, center, scale = map(np.array, zip(*parts))
weight = special.softmax(0.5 * evidence)
cdf = lambda bound: float(weight @ stats.t.cdf((bound - center) / scale, freedom))
for bound, below in ours["below"]:
    assert abs(below - cdf(bound)) < 1e-6, (bound, below, cdf(bound))
for p, value in zip((0.05, 0.5, 0.95), ours["quantiles"]):
    theirs = optimize.brentq(lambda b: cdf(b) - p, 0, 3, xtol=1e-12)
    assert abs(value - theirs) < 1e-6, (p, value, theirs)

# The law: what SciPy makes of the same loss, from the paper's kind of starts, is not better.
points = np.log(np.array(ours["points"]))
def loss(theta):
    a, b, e, alpha, beta = theta
    parts = np.stack([a - alpha * points[:, 0], b - beta * points[:, 1], np.full(len(points), e)])
    return special.huber(1e-3, special.logsumexp(parts, axis=0) - points[:, 2]).sum()
law = ours["law"]
mine = loss([np.log(law["A"]), np.log(law["B"]), np.log(law["E"]), law["alpha"], law["beta"]])
best = min((optimize.minimize(loss, [a, b, e, s, t], method="Nelder-Mead",
                              options={"maxiter": 6000, "maxfev": 6000, "xatol": 1e-9, "fatol": 1e-14})
            for a, b in ((4, 4), (8, 8)) for e in (0, 0.5) for s, t in ((0.2, 0.2), (0.5, 0.5))),
           key=lambda found: found.fun)
assert mine <= best.fun * 1.001, (mine, best.fun, best.x, law)
print("agreed")
"""


def test_what_is_fitted_is_what_scipy_makes_of_it():
    check_agreed(OURS, THEIRS)


# A goal within two constraints at 24 points: what the search finds, and what is expected there;
# then the same while none of the points meets the second one.
WITHIN = """
local core, json = require "pioche.core.sweep", require "pioche.core.json"
local axes = { { kind = "real", low = 0, high = 1 }, { kind = "real", low = -1, high = 1 } }
local lengths, noises = { { 0.4, 0.3 }, { 0.5, 0.35 }, { 0.3, 0.6 } }, { 1e-4, 1e-3, 1e-6 }
local out = json.array {}
for case = 1, 2 do
  local models, values, points, slots, met = {}, { {}, {}, {} }, {}, {}, {}
  for m = 1, 3 do
    models[m] = core.gp(axes)
    models[m]:look { plain = true }
    models[m]:set(lengths[m], noises[m])
  end
  for n = 1, 24 do
    local x, y = core.uniform(1, n, "x"), 2 * core.uniform(1, n, "y") - 1
    points[n] = json.array { x, y }
    for m = 1, 3 do slots[n] = models[m]:add { x, y } end
    values[1][n], values[2][n] = x + 0.7 * y + 3, 0.6 - x - math.sin(3 * y) / 2
    values[3][n] = case == 1 and x * y - 0.3 or x * y + 1.2
    met[n] = values[2][n] <= 0 and values[3][n] <= 0
  end
  for m = 1, 3 do models[m]:know(slots, values[m], {}) end
  local limits = { models = { models[2], models[3] }, met = met }
  models[1]:search(1, 1, { candidates = 2000, starts = 6, calls = 60 }, nil, limits)
  out[case] = { points = json.array(points), values = json.array { json.array(values[1]),
    json.array(values[2]), json.array(values[3]) }, met = json.array(met), found = json.array(models[1]:candidate(1)),
    gain = case == 1 and models[1]:gain(1, limits) or nil }
end
print(json.encode(out))
"""

EXPECTED = """
import json, sys
import numpy as np
from scipy import stats
LENGTHS, NOISES = np.array([[0.4, 0.3], [0.5, 0.35], [0.3, 0.6]]), (1e-4, 1e-3, 1e-6)

def kernel(a, b, lengths):
    r = np.sqrt(5 * (((a[:, None] - b[None]) / lengths) ** 2).sum(2))
    return (1 + r + r * r / 3) * np.exp(-r)

for case in json.load(sys.stdin):
    x = np.array(case["points"])
    x[:, 1] = (x[:, 1] + 1) / 2
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101)), 2).reshape(-1, 2)
    at = np.vstack([[case["found"][0], (case["found"][1] + 1) / 2], grid])
    told = []
    for values, lengths, noise in zip(np.array(case["values"]), LENGTHS, NOISES):
        n, ones = len(values), np.ones(len(values))
        z = (values - values.mean()) / values.std()
        inverse = np.linalg.inv(kernel(x, x, lengths) + noise * np.eye(n))
        mean = ones @ inverse @ z / (ones @ inverse @ ones)
        variance = (z - mean) @ inverse @ (z - mean) / n
        k = kernel(at, x, lengths)
        deviation = np.sqrt(variance * np.maximum(1 - ((k @ inverse) * k).sum(1), 1e-10))
        fitted = mean + kernel(x, x, lengths) @ inverse @ (z - mean)
        told.append((mean + k @ inverse @ (z - mean), deviation, -values.mean() / values.std(), fitted, values.std()))
    chance = sum(stats.norm.logcdf((zero - mean) / deviation) for mean, deviation, zero, *_ in told[1:])
    score = chance
    if any(case["met"]):
        mean, deviation, _, fitted, unit = told[0]
        best = fitted[np.array(case["met"])].min()
        u = (best - mean) / deviation
        improvement = deviation * (u * stats.norm.cdf(u) + stats.norm.pdf(u))
        gain = unit * improvement[0] * np.exp(chance[0])
        assert abs(case["gain"] / gain - 1) < 1e-6, (case["gain"], gain)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(u > -6, np.log(improvement), -np.inf) + chance
    else:
        assert "gain" not in case
    assert score[0] >= score[1:].max() - 1e-3, (score[0], score[1:].max(), case["found"])
print("agreed")
"""


def test_a_search_within_constraints_expects_what_scipy_does():
    check_agreed(WITHIN, EXPECTED)


# Curves whose speed is a parameter's: links from rung 3 to 9 and from there to the end, and what runs
# that came to the one or the other promise.
STOPPED = """
local core, json = require "pioche.core.sweep", require "pioche.core.json"
local axes = { { kind = "real", low = 0, high = 1 }, { kind = "real", low = -1, high = 1 } }
local promise, runs = require("pioche.promise").new(axes), {}
local out = { links = json.array {}, runs = json.array {}, asked = json.array {} }
for n = 1, 40 do
  local x, y = core.uniform(1, n, "x"), 2 * core.uniform(1, n, "y") - 1
  local final, slow = (x - 0.3) ^ 2, 1.5 + y
  local at = { [3] = final + 2 / (3 * slow), [9] = n <= 30 and 1.3 * final + 1 / (9 * slow) + 0.02 * x or nil,
    [math.huge] = n <= 18 and final or nil }
  runs[n] = { values = { x, y }, at = at }
  out.runs[n] = json.array { x, y, at[3], at[9] or false, at[math.huge] or false }
end
promise:draw(runs, { 3, 9 }, math.huge)
for i, rung in ipairs { 3, 9 } do
  local link = promise.links[rung]
  out.links[i] = { lengths = json.array(link.lengths), noise = link.noise }
end
for n = 19, 40 do
  local value, deviation = promise:of(runs[n].at, runs[n].values)
  out.asked[#out.asked + 1] = json.array { n, value or false, deviation or false }
end
print(json.encode(out))
"""

PROMISED = """
import json, sys
import numpy as np
ours = json.load(sys.stdin)

def kernel(a, b, lengths):
    r = np.sqrt(5 * (((a[:, None] - b[None]) / lengths) ** 2).sum(2))
    return (1 + r + r * r / 3) * np.exp(-r)

def unit(runs, x, ends):
    low, high = ends
    u = np.clip((x - (low + high) / 2) / ((high - low) / 2), -3, 3)
    return np.column_stack([runs[:, 0], (runs[:, 1] + 1) / 2, (u + 3) / 6])

runs = ours["runs"]
links = []
for at, to, said in ((2, 3, ours["links"][0]), (3, 4, ours["links"][1])):
    both = np.array([run for run in runs if run[at] is not False and run[to] is not False], float)
    x, y, n = both[:, at], both[:, to], len(both)
    xx, xy, yy = ((x - x.mean()) ** 2).sum(), ((x - x.mean()) * (y - y.mean())).sum(), ((y - y.mean()) ** 2).sum()
    variance = (yy - xy ** 2 / xx) / (n - 2)
    slope = (xy + variance) / (xx + variance)          # a slope of 1 +- 1 is what is known before
    off = y - y.mean() - slope * (x - x.mean())
    width = np.sqrt((off ** 2).mean())
    lengths, noise, ends = np.array(said["lengths"]), said["noise"], (x.min(), x.max())
    points, z, ones = unit(both, x, ends), off / width, np.ones(n)
    inverse = np.linalg.inv(kernel(points, points, lengths) + noise * np.eye(n))
    mean = ones @ inverse @ z / (ones @ inverse @ ones)
    spread = (z - mean) @ inverse @ (z - mean) / n

    def follow(run, value, x=x, y=y, slope=slope, width=width, points=points, z=z, inverse=inverse, mean=mean,
               spread=spread, lengths=lengths, noise=noise, ends=ends):
        k = kernel(unit(np.array([run[:2]]), np.array([value]), ends), points, lengths)[0]
        line = y.mean() + slope * (value - x.mean())
        return (line + width * (mean + k @ inverse @ (z - mean)),
                width * np.sqrt(spread * max(1 - k @ inverse @ k, 1e-10) + noise))

    links.append((follow, y.std(), y.min()))

promised = 0
for number, value, deviation in ours["asked"]:
    run = runs[number - 1]
    at, square = (3, 0) if run[3] is not False else (2, 0)
    expected = run[at]
    for follow, *_ in links[at - 2:]:
        expected, step = follow(run, expected)
        square += step ** 2
    if value is False:
        assert square > 0.64 * links[1][1] ** 2, (number, square)
        continue
    promised += 1
    assert abs(value - max(expected, links[1][2])) < 1e-6, (number, value, expected)
    assert abs(deviation - np.sqrt(square)) < 1e-6, (number, deviation, np.sqrt(square))
assert promised > 10, promised
print("agreed")
"""


def test_what_was_stopped_promises_what_numpy_makes_of_it():
    check_agreed(STOPPED, PROMISED)


harness.main()
