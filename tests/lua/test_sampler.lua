-- Samplers and stopping rules: the interfaces that a lab's own ones keep, and what all searches that learn
-- make of runs that fail.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local state = require "pioche.core.state"
local core = require "pioche.core.sweep"
local json = require "pioche.core.json"
local space_of = require "pioche.space"
local test, equal = tap.test, tap.equal

test("every sampler and rule in the executable keeps its interface", function()
  local seen = 0
  for _, name in ipairs(state.modules()) do
    local folder = name:match("^pioche%.(%l+)%.")
    if folder == "samplers" or folder == "stopping" then
      local module = require(name)
      equal(module.name, name:match("[^.]+$"))
      equal(type(module.summary), "string")
      equal(type(module.check), "function")
      equal(type(module.new), "function")
      seen = seen + 1
    end
  end
  assert(seen >= 3)
end)

test("none lets every run go on", function()
  local rule = require("pioche.stopping.none").new({}, nil)
  equal(rule:next_rung(0), nil)
  equal(rule:decide({}, 10, 1.5), "go")
end)

test("core draws: range, exactness, errors", function()
  for i = 1, 1000 do
    local u = core.uniform(1, i, "x")
    assert(u >= 0 and u < 1)
    local n = core.integer(1, i, "x", -3, 3)
    assert(n >= -3 and n <= 3)
  end
  equal(core.uniform(1, 2, "x"), core.uniform(1, 2, "x"))
  equal(core.integer(1, 1, "x", 5, 5), 5)
  tap.contains(tap.raises(core.integer, 1, 1, "x", 5, 4), "smaller than the low end")
  local shuffled, sum = core.shuffle(1, 100), 0
  for _, value in ipairs(shuffled) do sum = sum + value end
  equal(#shuffled, 100)
  equal(sum, 5050)
  assert(math.abs(core.exp(1) - math.exp(1)) < 1e-15)
  assert(math.abs(core.log(10) - math.log(10)) < 1e-15)
end)

local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }

local function search(name, given, options)
  local module = require("pioche.samplers." .. name)
  return module.new(space_of.compile(box, {}, given), module.check({ box = box, at = {} }, options))
end

test("what comes to no number is the worst, for each search that learns", function()
  local unit = space_of.uniform(0, 1)
  for _, name in ipairs { "tpe", "gp", "cma_es", "trust_region", "auto", "nsga2" } do
    local late = 0
    for seed = 1, 3 do
      local sampler = search(name, { x = unit, y = unit, z = unit }, { runs = 60, seed = seed })
      for n = 1, 60 do
        local p = sampler:propose(n)
        local is_bad = p.x > 0.5
        late = late + (n > 30 and is_bad and 1 or 0)
        sampler:observe(n, not is_bad and (p.x - 0.35) ^ 2 + (p.y - 0.5) ^ 2 + p.z or nil, { status = is_bad and "failed" or "finished" })
      end
    end
    assert(late <= 30, ("%s: %d of 90, where half of the space is"):format(name, late)) -- by chance 45
  end
end)

test("trust_region goes on downhill under a rule that stops runs", function()
  local axes_given = {}
  for i = 1, 6 do axes_given["x" .. i] = space_of.uniform(0, 1) end
  local sampler, at, best = search("trust_region", axes_given, { runs = 100, seed = 1 }), { [3] = {}, [9] = {} }, math.huge
  for n = 1, 100 do
    local p, rungs, stopped, whole = sampler:propose(n), {}, nil, 0
    for i = 1, 6 do whole = whole + i * (p["x" .. i] - 0.1 * i - 0.05) ^ 2 end
    for _, step in ipairs { 3, 9 } do
      local value, better = whole + 1 / step, 0
      rungs[#rungs + 1] = { step = step, value = value }
      for _, other in ipairs(at[step]) do better = better + (other < value and 1 or 0) end
      table.insert(at[step], value)
      if better * 3 >= #at[step] then stopped = step break end  -- the best third goes on
    end
    if not stopped then best = math.min(best, whole) end
    sampler:observe(n, stopped and rungs[#rungs].value or whole,
      { status = stopped and "stopped" or "finished", step = stopped, rungs = rungs })
  end
  assert(best < 1e-6, best)
end)

test("where all fails each search goes on to its end, and proposes nothing twice", function()
  for _, name in ipairs { "tpe", "gp", "cma_es", "trust_region", "auto", "nsga2" } do
    local seen = {}
    local sampler = search(name, { x = space_of.uniform(0, 1), lr = space_of.log_uniform(1e-5, 1), n = space_of.int(1, 9),
      kind = space_of.one_of { a = { z = space_of.uniform(0, 1) }, b = {} } }, { runs = 40, seed = 1 })
    for n = 1, 40 do
      local key = json.encode(sampler:propose(n))
      assert(not seen[key], name)
      seen[key] = true
      sampler:observe(n, nil, { status = n % 2 == 0 and "failed" or "oom" })
    end
    equal(sampler:propose(41), nil)
  end
end)

tap.done()
