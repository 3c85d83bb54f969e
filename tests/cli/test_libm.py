#!/usr/bin/env python3
"""No proposal, verdict or figure of a sweep hangs on the machine's libm: with one whose rounded
results are all off in the last place they are the same, bit for bit."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, ROOT, Project  # noqa: E402

# What searches propose, some time before they hear what came of it, and what is fitted to results;
# the functions themselves use nothing of libm.
SCRIPT = """
local core, json = require "pioche.core.sweep", require "pioche.core.json"
local space_of, sys = require "pioche.space", require "pioche.core.sys"
local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }
local function say(...) sys.write(1, json.encode(json.array { ... }) .. "\\n") end
local given = { lr = space_of.log_uniform(1e-5, 1), width = space_of.log_int(8, 4096), n = space_of.int(1, 9),
  x = space_of.uniform(-1, 1), act = { "a", "b", "c" },
  opt = space_of.one_of { adam = { beta = space_of.uniform(0.8, 1) }, sgd = {} } }

local function search(name, options, aims, own)
  local module = require("pioche.samplers." .. name)
  return module.new(space_of.compile(box, {}, own or given), module.check({ box = box, at = {} }, options), aims)
end

local function value_of(p)
  return (p.x - 0.3) * (p.x - 0.3) + p.width / 4096 + 3 * p.lr + p.n / 9 + (p["opt.beta"] or 0.5)
    + (p.act == "a" and 0 or 0.2)
end

local function run(name, options, aims)
  local sampler, list = search(name, options, aims), {}
  for n = 1, options.runs do
    list[n] = sampler:propose(n)
    say(name, n, list[n])
    local due = n - 3
    local p = list[due]
    if p and due % 7 == 0 then
      sampler:observe(due, nil, { status = "failed" })
    elseif p and aims.goals > 1 then
      sampler:observe(due, nil, { status = "finished", values = { value_of(p), -p.x } })
    elseif p then
      local value = value_of(p)
      local is_stopped = due % 4 == 0
      sampler:observe(due, is_stopped and value + 0.2 or value, { status = is_stopped and "stopped" or "finished",
        step = is_stopped and 3 or nil, rungs = { { step = 3, value = value + 0.2, loss = value + 0.2 } },
        violation = 0, loss = value, constraints = aims.constraints > 0 and { p.x - 0.8 - p.lr } or nil })
    end
  end
end

for _, case in ipairs { { "random", 30 }, { "sobol", 30 }, { "tpe", 60 }, { "gp", 40 }, { "cma_es", 60 },
  { "trust_region", 50 }, { "auto", 60 } } do
  run(case[1], { runs = case[2], seed = 3 }, { goals = 1, constraints = 0, known = 0, workers = 4 })
end
run("auto", { runs = 40, seed = 4 }, { goals = 1, constraints = 1, known = 0, workers = 1 })
run("nsga2", { runs = 60, seed = 3 }, { goals = 2, constraints = 0, known = 0, workers = 1 })
run("tpe", { runs = 60, seed = 3 }, { goals = 2, constraints = 0, known = 0, workers = 1 })
for _, name in ipairs { "pbt", "pb2" } do
  local sampler = search(name, { population = 6, interval = 10, steps = 60, seed = 2 }, nil,
    { lr = given.lr, x = given.x, n = given.n })
  local number, came = 0, {}
  while true do
    local params, lineage = sampler:propose(number + 1)
    if not params then break end
    number = number + 1
    say(name, params, lineage)
    came[number] = (came[lineage.parent or 0] or 9) * 0.9 + params.lr + params.x * params.x / 9
    sampler:observe(number, came[number], { status = "finished" })
  end
end

local rows, values, good = {}, {}, {}
local axes = { { kind = "real", low = 1e-5, high = 1, log = true }, { kind = "whole", low = 8, high = 4096, log = true },
  { kind = "choice", low = 1, high = 3 } }
for n = 1, 90 do
  local p = space_of.compile(box, {}, given):draw(5, n, 0)
  rows[n] = { p.lr, p.width, p.act == "a" and 1 or p.act == "b" and 2 or 3 }
  values[n] = 3 * p.lr + p.width / 4096
end
say("forest", core.forest(axes, rows, values, 8, 1))
for a, axis in ipairs(axes) do
  local all = {}
  for n, row in ipairs(rows) do all[n] = row[a] end
  say("divergence", core.divergence({ axis }, table.move(all, 1, 9, 1, {}), all))
end
say("race", core.chances({ 0.0, 0.4, 0.45 }, { 2, 3, 1 }, 2.2, 4), core.student(1.3, 5))
say("curve", core.forecast({ 0.05, 0.1, 0.2, 0.3 }, { 2.0, 1.5, 1.31, 1.2 }, 0.02, 0.03, 1.1))
local sizes, tokens, losses = {}, {}, {}
for i = 1, 12 do sizes[i], tokens[i], losses[i] = 1e6 * (i % 4 + 1), 2e7 * (i // 4 + 1), 3 + 1 / i end
say("law", core.law(sizes, tokens, losses, 5, 1))
say("libm", math.exp(1.1), math.log(1.1), math.sin(1.1), 1.1 ^ 1.1)
"""

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", search = pioche.auto { runs = 50, seed = 1 }, launch = { parallel = 3 },
  space = { lr = pioche.log_uniform(1e-5, 1), width = pioche.log_int(8, 4096), x = pioche.uniform(0, 1),
    derived = function(p) return math.exp(p.x) + math.log(p.lr) end },
  stop = pioche.curve { every = 4, max = 32 },
  program = pioche.objective(function(p)
    if p.width * p.x > 200 then return "oom" end
    local loss = {}
    for step = 1, 32 do loss[step] = (p.x - 0.3) * (p.x - 0.3) + p.width / 4096 + (1 + p.lr) / step end
    return { loss = loss }
  end),
}
"""


def other_libm(p):
    """The environment in which it is the other one."""
    library = p.path("other_libm.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", library,
                    os.path.join(ROOT, "tests", "cli", "other_libm.c"), "-lm"], check=True)
    # By its name: a path with a space is two.
    return {"LD_PRELOAD": os.path.basename(library), "LD_LIBRARY_PATH": p.dir,
            "ASAN_OPTIONS": "verify_asan_link_order=0"}


def test_searches_and_fits_come_to_the_same_bits():
    with Project(git=False) as p:
        p.write("script.lua", SCRIPT)

        def told(**env):
            done = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), p.path("script.lua")],
                                  env={**p.env, **env}, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout.splitlines()
        here, there = told(), told(**other_libm(p))
        assert len(here) == len(there) > 500
        assert here[-1] != there[-1] and '"libm"' in here[-1], "it is another one"
        for a, b in zip(here[:-1], there[:-1]):
            assert a == b, f"{a}\n{b}"


def test_a_sweep_is_derived_again_under_another_libm():
    with Project(git=False) as p:
        p.write("r.lua", RECIPE)
        p.pioche("run", "r.lua", expect=None)
        assert p.sql("SELECT count(*) AS n FROM proposal WHERE observation ->> 'status' = 'oom'")[0]["n"] > 0
        assert p.sql("SELECT count(*) AS n FROM rung WHERE verdict = 'stop'")[0]["n"] > 0
        said = p.pioche("sweep", "replay", "f", "--json", env=other_libm(p), expect=None).json
        assert said["same"] and said["proposals"] == 50, said


harness.main()
