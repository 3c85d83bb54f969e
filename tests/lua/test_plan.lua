-- `pioche plan`: prints the plan, the same bytes each time, and writes nothing.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local sys = require "pioche.core.sys"
local json = require "pioche.core.json"
local cli = require "pioche.cli"
local test, equal, contains = tap.test, tap.equal, tap.contains

local dir = (os.getenv("TMPDIR") or "/tmp") .. "/test-plan-" .. sys.pid()
assert(sys.mkdirs(dir))

local function pioche(...)
  local said, write = { "", "" }, sys.write
  sys.write = function(fd, text)
    said[fd] = said[fd] .. text
    return true
  end
  local ok, status = pcall(cli.main, { ... })
  sys.write = write
  assert(ok, status)
  return status, said[1], said[2]
end

assert(sys.write_file(dir .. "/r.lua", [[
local pioche = require "pioche"
return pioche.sweep {
  name = "x",
  program = pioche.program { command = { "true" } },
  space = {
    lr = pioche.log_uniform(1e-4, 1e-2),
    optimizer = pioche.one_of { adamw = { beta2 = pioche.uniform(0.9, 0.999) }, sgd = {} },
    half = function(p) return p.lr / 2 end,
  },
  goal = pioche.minimize "loss",
  seeds = 2,
  launch = { ranks_per_node = 2 },
}
]]))

local options = { "--store", dir .. "/none" }

test("a plan names the space, the sampler and why, the runs, the points", function()
  local status, out = pioche("plan", dir .. "/r.lua", table.unpack(options))
  equal(status, 0)
  for _, part in ipairs { "experiment x", "log_uniform(0.0001, 0.01)", "when optimizer is adamw",
    "infinitely many points", "search   auto (runs=32, seed=1): none was asked for, and the space is continuous:"
      .. " trust_region around the best point, gp and tpe by turns",
    "goal     minimize loss", "1 node x 2 ranks", "runs     64 (32 points x 2 seeds)", "... and 24 more" } do
    contains(out, part)
  end
end)

test("a plan in JSON; the same bytes each time", function()
  local status, out = pioche("plan", dir .. "/r.lua", "--json", table.unpack(options))
  equal(status, 0)
  local plan = assert(json.decode(out))
  equal(plan.runs_total, 64)
  equal(plan.cardinality, json.null)
  equal(#plan.points, 8) -- the others are not known before there are results
  equal(plan.runs[1].command[1], "true")
  equal(plan.runs[1].params.half, plan.points[1].lr / 2)
  local _, again = pioche("plan", dir .. "/r.lua", "--json", table.unpack(options))
  equal(again, out)
end)

test("overrides change the plan; a wrong one says so", function()
  local _, out = pioche("plan", dir .. "/r.lua", "lr=1e-3,1e-2", "optimizer=sgd", "seeds=1", table.unpack(options))
  contains(out, "runs     2")
  local status, _, err = pioche("plan", dir .. "/r.lua", "lrr=1", table.unpack(options))
  equal(status, 1)
  contains(err, "pioche: lrr=1: there is no parameter or setting 'lrr'; did you mean 'lr'?")
end)

test("a function recipe is followed up to the first unknown result", function()
  assert(sys.write_file(dir .. "/lab.lua", [[
local pioche = require "pioche"
local p = pioche.program { command = { "true" } }
return function(lab)
  local best = lab:sweep(pioche.sweep { name = "s", program = p, space = { a = { 1, 2 } },
    goal = pioche.minimize "loss" }):best()
  lab:run { program = p, params = best.params:with { a = 3 } }
end
]]))
  local status, out = pioche("plan", dir .. "/lab.lua", table.unpack(options))
  equal(status, 0)
  contains(out, "1  line 4: sweep s: 2 runs, 0 finished already")
  contains(out, "depends on results that are not known yet")
end)

test("nothing was written", function()
  equal(sys.list(dir), { "lab.lua", "r.lua" })
end)

assert(sys.remove_tree(dir))
tap.done()
