#!/usr/bin/env python3
"""The numeric kernels of searches, held against independent implementations of the same
papers; skipped by name where pip cannot bring them."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import optuna_venv  # noqa: E402
from harness import BUILD, Project, Skip  # noqa: E402

# Twelve generations of the strategy on three reals, whole numbers of a line and a log, and
# of two choices: what each drew, what came of it, and what it is afterwards.
STRATEGY = """
local json, sweep = require "pioche.core.json", require "pioche.core.sweep"
local sys = require "pioche.core.sys"
local axes = { { kind = "real", low = 0, high = 1 }, { kind = "real", low = 0, high = 1 },
  { kind = "whole", low = 1, high = 8 }, { kind = "real", low = 0, high = 1 },
  { kind = "whole", low = 0, high = 1 }, { kind = "choice", low = 1, high = 4 },
  { kind = "choice", low = 1, high = 3 } }
local model = sweep.cma(axes, 0)
local generations = {}
for generation = 1, 12 do
  local rows, values = {}, {}
  for i = 1, model:population() do
    local p = model:draw(3, (generation - 1) * model:population() + i, "test")
    local value = (p[1] - 0.9) ^ 2 + 30 * (p[2] - p[1] ^ 2) ^ 2 + (p[3] - 6) ^ 2 / 9 + (p[4] - 0.2) ^ 2
      + 0.3 * p[5] + (p[6] - 2) ^ 2 / 5 + (p[7] == 3 and 0 or 0.2)
    local slot = model:keep()
    rows[i], values[i] = json.array { json.array(model:latent(slot)), json.array(p) }, value
    model:tell(slot, value)
  end
  local state = model:state()
  for name, list in next, state do state[name] = json.array(list) end
  state.sigma = model:sigma()
  generations[generation] = { rows = json.array(rows), values = json.array(values), state = state }
end
sys.write(1, json.encode(json.array(generations)))
"""

COMPARE = """
import json, sys
import numpy as np
from cmaes import CMAwM, CatCMA
count = {2: 8, 4: 2}
numbers, choices = range(5), (5, 6)
generations = json.load(sys.stdin)
population = len(generations[0]["values"])
bounds = np.array([[0.5 / count[i], 1 - 0.5 / count[i]] if i in count else [0, 1] for i in numbers], dtype=float)
steps = np.array([1 / count[i] if i in count else 0 for i in numbers], dtype=float)
plain = CMAwM(np.full(5, 0.5), 1 / 6, bounds, steps, population_size=population)
other = CatCMA(np.full(5, 0.5), 1 / 6, np.array([4, 3]), population_size=population)
for g in generations:
    latents = np.array([[row[0][i] for i in numbers] for row in g["rows"]])
    for x, (_, p) in zip(latents, g["rows"]):
        cells = plain._encode_discrete_params(x[[2, 4]])
        assert np.allclose(cells, [(p[2] - 0.5) / 8, (p[4] + 0.5) / 2]), (cells, p)
    plain.tell([(x.copy(), v) for x, v in zip(latents, g["values"])])
    shown = [np.array([[k == row[1][c] - 1 for k in range(4)] for c in choices]) for row in g["rows"]]
    other.tell([((x, c), v) for x, c, v in zip(latents, shown, g["values"])])
    own = g["state"]
    for name, a, b in (("mean", own["mean"], plain._cma._mean), ("sigma", own["sigma"], plain._cma._sigma),
                       ("covariance", own["covariance"], plain._cma._C.ravel()),
                       ("margin", own["margin"], plain._A),
                       ("probabilities", own["probabilities"], np.r_[other._q[0], other._q[1, :3]])):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-9), (name, a, b)
print("same")
"""


def test_evolution_with_margin():
    python, why = optuna_venv.python()
    if not python:
        raise Skip(f"cmaes: {why}")
    with Project(git=False) as p:
        path = p.write("strategy.lua", STRATEGY)
        told = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), p.path("strategy.lua")],
                              capture_output=True, text=True, check=False)
        assert told.returncode == 0, (path, told.stderr)
        generations = json.loads(told.stdout)
        assert len(generations) == 12
        done = subprocess.run([python, "-c", COMPARE], input=told.stdout, capture_output=True, text=True,
                              check=False)
        assert done.stdout == "same\n", done.stderr


harness.main()
