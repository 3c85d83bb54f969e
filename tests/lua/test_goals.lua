-- Searches for several goals and within constraints: what they find, and what they promise.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local aims = require "pioche.aims"
local json = require "pioche.core.json"
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"
local test, equal = tap.test, tap.equal

local functions = dofile(arg[0]:match("^(.*)/[^/]*/[^/]*$") .. "/bench/sweep_functions.lua")

local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }
local words = {}
for _, word in ipairs(space_of.words) do words[word] = space_of[word] end

local function search(name, given, options, goals, constraints)
  local module = require("pioche.samplers." .. name)
  return module.new(space_of.compile(box, {}, given), module.check({ box = box, at = {} }, options),
    { goals = goals, constraints = constraints or 0, workers = 1 })
end

local function named(name)
  for _, f in ipairs(functions) do
    if f.name == name then return f end
  end
end

-- What a search leaves of the volume; `delay`: an observation comes so many proposals later.
local function missing(name, f, seed, runs, delay)
  local sampler, rows = search(name, f.space(words), { runs = runs, seed = seed }, #f.reference), {}
  for n = 1, runs do
    rows[n] = f.values(sampler:propose(n))
    local due = n - (delay or 0)
    if due >= 1 then sampler:observe(due, nil, { status = "finished", values = rows[due] }) end
  end
  return f.most - sweep.hypervolume(rows, f.reference)
end

local function median(name, f, runs, delay)
  local list = {}
  for seed = 1, 3 do list[seed] = missing(name, f, seed, runs, delay) end
  table.sort(list)
  return list[2]
end

test("nsga2 and tpe cover more than random draws, one run at a time and eight", function()
  for _, case in ipairs { { "ZDT1", 0.85 }, { "ZDT2", 0.94 }, { "DTLZ2", 0.85 } } do
    local f = named(case[1])
    local random = median("random", f, 150)
    for _, name in ipairs { "nsga2", "tpe" } do
      local one, eight = median(name, f, 150), median(name, f, 150, 8)
      assert(one < case[2] * random, ("%s: %s %g, random %g"):format(f.name, name, one, random))
      assert(eight < 0.97 * random, ("%s: eight of %s %g, random %g"):format(f.name, name, eight, random))
    end
  end
end)

local small = { a = { 1, 2, 3 }, b = space_of.int(1, 3), c = space_of.one_of {
  x = { k = { true, false }, r = space_of.log_int(1, 2) }, y = {} } }

test("of a finite space every point comes once, also of branches", function()
  for _, name in ipairs { "nsga2", "tpe" } do
    local sampler, seen = search(name, small, { runs = 1000, seed = 3 }, 2), {}
    for n = 1, 45 do
      local key = json.encode(sampler:propose(n))
      assert(not seen[key], key)
      seen[key] = true
      if n % 4 > 0 then sampler:observe(n, nil, { status = "finished", values = { n % 7, n % 5 } }) end
      if n % 4 == 0 then sampler:observe(n, nil, { status = "failed" }) end
    end
    equal(sampler:propose(46), nil)
  end
end)

local mixed = { x = space_of.uniform(-1, 1), lr = space_of.log_uniform(1e-5, 1),
  n = space_of.log_int(1, 4000),
  kind = space_of.one_of { a = { z = space_of.uniform(0, 1) }, b = { w = space_of.int(1, 100) } } }

-- Proposals, observations some time later; those of `adopted` are told again instead.
local function history(name, adopted)
  local sampler, list = search(name, mixed, { runs = 80, seed = 5 }, 2), {}
  for n = 1, 80 do
    if adopted and n <= #adopted then
      list[n] = adopted[n]
      sampler:adopt(n, adopted[n])
    else
      list[n] = sampler:propose(n)
    end
    local due = n - 1 - n * 7 % 5
    if due >= 1 then
      local p = list[due]
      local values = { p.x ^ 2 + p.lr, (p.x - 1) ^ 2 + p.n / 4000 + (p["kind.z"] or 0.5) }
      sampler:observe(due, nil, due % 6 > 0 and { status = "finished", values = values,
        violation = math.max(0, p.x - 0.5) } or { status = "failed" })
    end
  end
  return list
end

test("proposals are a function of the seed and of what was told, also where some are taken up", function()
  for _, name in ipairs { "nsga2", "tpe", "auto" } do
    local all = history(name)
    equal(history(name), all)
    equal(history(name, table.move(all, 1, 50, 1, {})), all)
  end
end)

test("what violates a constraint is left: its points become rare", function()
  for _, name in ipairs { "nsga2", "tpe" } do
    local outside = 0
    for n, p in ipairs(history(name)) do outside = outside + (n > 40 and p.x > 0.5 and 1 or 0) end
    assert(outside <= 8, ("%s: %d of 40"):format(name, outside)) -- a fourth would be 10
  end
end)

-- What a search leaves of the best value within the constraints of a function; `delay`: an observation
-- comes so many proposals later.
local function within(name, f, seed, runs, delay)
  local sampler = search(name, f.space(words), { runs = runs, seed = seed }, 1, #f.constraints)
  local best, given = math.huge, {}
  for n = 1, runs do
    given[n] = sampler:propose(n)
    local due = n - (delay or 0)
    if due >= 1 then
      local p, list, violation = given[due], {}, 0
      local value = f.value(p, due)
      for i, constraint in ipairs(f.constraints) do
        list[i] = constraint(p)
        violation = violation + math.max(0, list[i])
      end
      if violation == 0 then best = math.min(best, f.true_value(p)) end
      sampler:observe(due, violation > 0 and aims.penalty(violation) or value,
        { status = "finished", violation = violation, constraints = list, loss = value })
    end
  end
  return best - f.least
end

local function median_within(name, f, runs, delay)
  local list = {}
  for seed = 1, 3 do list[seed] = within(name, f, seed, runs, delay) end
  table.sort(list)
  return list[2]
end

test("one goal within a constraint: each search comes near to the border's best point", function()
  local f = { space = function() return { x = space_of.uniform(0, 1), y = space_of.uniform(0, 1) } end, least = 0.5,
    value = function(p) return p.x ^ 2 + p.y ^ 2 end, constraints = { function(p) return 1 - p.x - p.y end } }
  f.true_value = f.value
  for name, most in next, { tpe = 0.1, nsga2 = 0.1, gp = 1e-4, auto = 1e-4, trust_region = 1e-4 } do
    local left = median_within(name, f, 60)
    assert(left < most, ("%s: %g"):format(name, left))
  end
end)

-- By penalties alone, what is left is ten times as much and more.
test("what constraints give is modelled: borders, isles, and what is tuned under a limit of memory", function()
  for _, case in ipairs { { "constrained", "gp", 50, 2e-4 }, { "constrained", "auto", 40, 2e-5 },
    { "within isles", "gp", 50, 5e-4 }, { "within isles", "auto", 50, 2e-4 }, { "within a plane", "auto", 50, 0.04 },
    { "within memory", "auto", 60, 0.018 }, { "constrained", "gp", 60, 1e-3, 4 },
    { "constrained", "auto", 60, 1e-3, 4 } } do
    local name, search_name, runs, most, delay = table.unpack(case)
    local left = median_within(search_name, named(name), runs, delay)
    assert(left < most, ("%s: %s %g after %d"):format(name, search_name, left, runs))
  end
end)

-- Proposals within two constraints in a space of branches, some time before their observations: some
-- points fail, of some a constraint gives no number, some were stopped. Those of `adopted` are told again.
local function limited(name, adopted, constraints)
  local sampler, list = search(name, mixed, { runs = 60, seed = 5 }, 1, 2), {}
  for n = 1, 60 do
    if adopted and n <= #adopted then
      list[n] = adopted[n]
      sampler:adopt(n, adopted[n])
    else
      list[n] = sampler:propose(n)
    end
    local due = n - 1 - n * 7 % 4
    if due >= 1 and due % 7 == 0 then
      sampler:observe(due, nil, { status = due % 2 == 0 and "oom" or "failed" })
    elseif due >= 1 then
      local p = list[due]
      local loss, given = p.x + p.lr + (p["kind.z"] or 0.3), { p.n / 4000 - 0.2, -p.x }
      if due % 9 == 0 then given[1] = false end
      local violation = given[1] and math.max(0, given[1]) + math.max(0, given[2]) or math.huge
      local function told(value) return violation > 0 and aims.penalty(violation) or value end
      local rungs = { { step = 1, value = told(loss + 1), loss = loss + 1 } }
      local is_stopped = due % 5 == 0
      sampler:observe(due, is_stopped and rungs[1].value or told(loss), { violation = violation,
        status = is_stopped and "stopped" or "finished", step = is_stopped and 1 or nil, rungs = rungs,
        loss = is_stopped and loss + 1 or loss, constraints = constraints(given) })
    end
  end
  return list
end

test("proposals within constraints are a function of what was told, with branches, failures and stops", function()
  for _, name in ipairs { "gp", "auto", "trust_region" } do
    local all = limited(name, nil, function(given) return given end)
    equal(limited(name, nil, function(given) return given end), all)
    equal(limited(name, table.move(all, 1, 37, 1, {}), function(given) return given end), all)
    local outside = 0
    for n, p in ipairs(all) do outside = outside + (n > 30 and (p.n > 1200 or p.x < -0.3) and 1 or 0) end
    local most = name == "trust_region" and 15 or 8 -- which by itself begins elsewhere again
    assert(outside <= most, ("%s: %d of 30"):format(name, outside))
    -- what another sweep's constraints gave cannot be read: the points count as violating, no more
    equal(#limited(name, nil, function() return { 1, 2, 3 } end), 60)
    equal(#limited(name, nil, function() return nil end), 60)
  end
end)

test("a point that violates is told with its own losses, and one that gave no number is not met", function()
  local limits = require "pioche.limits"
  local axes = { { kind = "real", low = 0, high = 1 } }
  local told = limits.new(axes, 2)
  local value, how = told:observe(1, 1e60, { violation = 2, loss = 5, constraints = { 2, -1 }, status = "stopped",
    rungs = { { step = 3, value = 1e60, loss = 4 } } })
  equal(value, 5)
  equal(how.rungs, { { step = 3, value = 4 } })
  equal({ told:observe(2, 7, { violation = 0, loss = 7, constraints = { -1, -1 } }) },
    { 7, { violation = 0, loss = 7, constraints = { -1, -1 } } })
  equal((told:observe(3, 1e60, { violation = 2, loss = 5, constraints = { 2 } })), nil)
  told:observe(4, nil, nil)
  equal(told:apply({ 1, 2, 3, 4 }, { 1e60, 7, 1e60, false }), { false, 7, false, false }) -- 1 is not at its end
  told:observe(6, 1e60, { violation = 2, loss = 5, constraints = { 2, -1 } })
  equal(told:apply({ 6 }, { 1e60 }), { 5 })
  told:observe(5, 7, { violation = 0, loss = 7 })
  for i = 1, 4 do told:add { i / 5 } end
  local function prepare(model) model:set({ 1 }, 1e-3) end
  equal(told:know({ 1, 2, 3, 4 }, { 1, 2, 4, 5 }, { 5, 7, false, 7 }, {}, prepare).met, { false, true, false, false })
  equal(told:know({ 3, 4 }, { 4, 5 }, { false, 7 }, {}, prepare), nil)
end)

test("what violates says nothing of how the end of a run follows from its rung", function()
  local told = require("pioche.levels").new(3)
  local number = 0
  local function ended(rung, value)
    number = number + 1
    told:observe(number, value, { rungs = { { step = 1, value = rung } }, status = "finished" })
  end
  for rung = 1, 9 do ended(rung, 0.5 * rung - 0.5) end
  for _ = 1, 3 do ended(aims.penalty(1), aims.penalty(1)) end
  told:observe(99, nil, { rungs = { { step = 1, value = 7.0 } }, status = "stopped" })
  assert(math.abs(told:value(99) - 3) < 1e-9, told:value(99))
end)

test("a penalty grows with the violation, and is above all values", function()
  local last = 1e59
  for _, violation in ipairs { 1e-9, 1e-3, 0.5, 1, 1e6, 1e50, math.huge } do
    assert(aims.penalty(violation) > last, violation)
    last = aims.penalty(violation)
  end
  assert(last ^ 2 < math.huge)
end)

test("what violates has a price: the least with which it is not better than what does not", function()
  local price = require("pioche.price").new()
  for number, how in ipairs { { violation = 0, loss = 5 }, { violation = 2, loss = 1 },
    { violation = 1, loss = 4 }, { violation = 3 }, { violation = math.huge, loss = 1 },
    { violation = 0, loss = 7 } } do
    price:observe(number, how)
  end
  local big = 1e60
  equal(price:apply({ 1, 2, 3, 4, 5, 6 }, { 5.0, big, big, big, big, false }),
    { 5.0, 5.0, 6.0, false, false, false })
  equal(price:apply({ 2, 3, 5 }, { big, big, big }), { 2, 1, false })
end)

test("auto chooses by the number of runs, and says why", function()
  local auto, cube = require "pioche.samplers.auto", space_of.compile(box, {}, { x = space_of.uniform(0, 1) })
  equal({ auto.choose(cube, 100, { goals = 2 }) }, { "tpe", "2 goals, and no more than 250 runs" })
  equal({ auto.choose(cube, 300, { goals = 3 }) }, { "nsga2", "3 goals, and more than 250 runs" })
  equal(auto.choose(cube, 6, { goals = 2 }), "sobol")
end)

tap.done()
