-- Searches that learn: what they find, and what they promise of their proposals.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local json = require "pioche.core.json"
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"
local test, equal = tap.test, tap.equal

local functions = dofile(arg[0]:match("^(.*)/[^/]*/[^/]*$") .. "/bench/sweep_functions.lua")

local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }
local words = {}
for _, word in ipairs(space_of.words) do words[word] = space_of[word] end

local function search(name, given, options, where, aims)
  local module = require("pioche.samplers." .. name)
  return module.new(space_of.compile(box, {}, given, where), module.check({ box = box, at = {} }, options), aims)
end

-- The best value of a search on a function of the bench; `delay`: an observation comes so
-- many proposals later.
local function best_of(name, f, seed, runs, delay)
  local sampler = search(name, f.space(words), { runs = runs, seed = seed }, nil,
    { goals = 1, constraints = 0, known = 0, workers = 1 + (delay or 0) })
  local best, values = math.huge, {}
  for n = 1, runs do
    local params = sampler:propose(n)
    values[n] = f.value(params, n)
    best = math.min(best, values[n])
    local due = n - (delay or 0)
    if due >= 1 then sampler:observe(due, values[due], { status = "finished" }) end
  end
  return best - (f.least or 0)
end

local function named(name)
  for _, f in ipairs(functions) do
    if f.name == name then return f end
  end
end

local function median(name, f, seeds, runs, delay)
  local list = {}
  for seed = 1, seeds do list[seed] = best_of(name, f, seed, runs, delay) end
  table.sort(list)
  return list[(seeds + 1) // 2]
end

test("tpe is far better than random draws, one run at a time and eight", function()
  for _, case in ipairs { { "Branin", 0.2 }, { "Hartmann-6", 0.3 }, { "mixed", 0.7 }, { "conditional", 0.5 } } do
    local f = named(case[1])
    local random = median("random", f, 5, 100)
    local tpe, eight = median("tpe", f, 5, 100), median("tpe", f, 5, 100, 8)
    assert(tpe < case[2] * random, ("%s: tpe %g, random %g"):format(f.name, tpe, random))
    assert(eight < math.min(1, 2 * case[2]) * random, ("%s: eight %g, random %g"):format(f.name, eight, random))
  end
end)

test("gp is far better still where runs are few, also with four under way", function()
  for _, case in ipairs { { "Branin", 30, 0.05 }, { "mixed", 40, 0.3 }, { "noisy", 40, 0.3 } } do
    local f, runs = named(case[1]), case[2]
    local random = median("random", f, 3, runs)
    local gp, four = median("gp", f, 3, runs), median("gp", f, 3, runs, 4)
    assert(gp < case[3] * random, ("%s: gp %g, random %g"):format(f.name, gp, random))
    assert(four < 2 * case[3] * random, ("%s: four %g, random %g"):format(f.name, four, random))
  end
end)

test("cma_es follows a narrow valley, one run at a time and eight, and finds a choice", function()
  for _, case in ipairs { { "Rosenbrock-10", 200, 0.1 }, { "mixed", 200, 0.4 } } do
    local f, runs = named(case[1]), case[2]
    local random = median("random", f, 3, runs)
    local one, eight = median("cma_es", f, 3, runs), median("cma_es", f, 3, runs, 8)
    assert(one < case[3] * random, ("%s: cma_es %g, random %g"):format(f.name, one, random))
    assert(eight < 2 * case[3] * random, ("%s: eight %g, random %g"):format(f.name, eight, random))
  end
end)

test("trust_region finds all digits where a function is smooth, also with four under way", function()
  -- regrets of one run at a time and, where that is another, of four
  for _, case in ipairs { { "Branin", 50, 1e-5 }, { "Hartmann-6", 80, 1e-3, 0.13 }, { "Levy-8", 80, 1 },
    { "Dixon-Price-8", 100, 10 } } do
    local f, runs = named(case[1]), case[2]
    local one, four = median("trust_region", f, 3, runs), median("trust_region", f, 3, 2 * runs, 4)
    assert(one < case[3], ("%s: one %g"):format(f.name, one))
    assert(four < (case[4] or case[3]), ("%s: four %g"):format(f.name, four))
  end
end)

test("trust_region finds all digits also where the least is on a bound", function()
  local unit, best = space_of.uniform(0, 1), math.huge
  local sampler = search("trust_region", { x = unit, y = unit, z = unit }, { runs = 45, seed = 1 })
  for n = 1, 45 do
    local p = sampler:propose(n)
    local value = (p.x - 0.35) ^ 2 + (p.y - 0.5) ^ 2 + p.z
    assert(n < 20 or value < 0.1, "it stays there")
    best = math.min(best, value)
    sampler:observe(n, value, { status = "finished" })
  end
  assert(best < 1e-9, best)
end)

test("trust_region begins again elsewhere where there is no more to find", function()
  local f = named "Rastrigin-5"
  local sampler = search("trust_region", f.space(words), { runs = 600, seed = 1 })
  local best, values = math.huge, {}
  for n = 1, 600 do
    values[n] = f.value(sampler:propose(n), n)
    sampler:observe(n, values[n], { status = "finished" })
  end
  assert(sampler.places[1].since > 50, "it never began again")
  for n = 1, 150 do best = math.min(best, values[n]) end
  local later = math.huge
  for n = 151, 600 do later = math.min(later, values[n]) end
  assert(later < best, ("first %g, then %g"):format(best, later))
end)

test("cma_es begins again where there is no more to find, with more points", function()
  local f = named "Rastrigin-5"
  local sampler, best = search("cma_es", f.space(words), { runs = 3000, seed = 1 }), math.huge
  for n = 1, 3000 do
    local value = f.value(sampler:propose(n), n)
    best = math.min(best, value)
    sampler:observe(n, value, { status = "finished" })
  end
  assert(sampler.restarts >= 1, "it never began again")
  assert(sampler.population >= 16, sampler.population)
  assert(best < 2, best)
end)

test("auto goes downhill, and is not led astray by what is rugged, noisy or a trap", function()
  for _, case in ipairs { { "Branin", 40, 1e-3 }, { "Rosenbrock-10", 80, 0.01 }, { "Rastrigin-5", 60, 0.8 },
    { "noisy", 60, 0.1 }, { "conditional", 100, 0.01 } } do
    local f, runs = named(case[1]), case[2]
    local random, auto = median("random", f, 3, runs), median("auto", f, 3, runs, 2)
    assert(auto < case[3] * random, ("%s: auto %g, random %g"):format(f.name, auto, random))
  end
end)

test("trust_region goes nowhere before it knows half as many points as there are axes", function()
  local given = {}
  for i = 1, 8 do given["x" .. i] = space_of.uniform(0, 1) end
  local sampler, kinds = search("trust_region", given, { runs = 20, seed = 1 }), {}
  for n = 1, 6 do
    local p, sum = sampler:propose(n), 0
    for i = 1, 8 do sum = sum + i * (p["x" .. i] - 0.2) ^ 2 end
    kinds[n] = sampler.kinds[n]
    sampler:observe(n, sum, { status = "finished" })
  end
  equal(kinds, { [2] = "geometry", [3] = "geometry", [4] = "geometry", [5] = "geometry", [6] = "descent" })
end)

test("auto of sixteen at a time goes downhill from what is under way, by several steps at a time", function()
  for _, case in ipairs { { "Rosenbrock-10", 0.05 }, { "Levy-8", 0.1 }, { "mixed", 0.5 } } do
    local f = named(case[1])
    local random, auto = median("random", f, 3, 48), median("auto", f, 3, 48, 15)
    assert(auto < case[2] * random, ("%s: auto %g, random %g"):format(f.name, auto, random))
  end
  local given = {}
  for i = 1, 4 do given["x" .. i] = space_of.uniform(0, 1) end
  local function near_middle(workers)
    local sampler, near = search("auto", given, { runs = 60, seed = 1 }, nil,
      { goals = 1, constraints = 0, known = 0, workers = workers }), 0
    for n = 1, 16 do
      local p, is_near = sampler:propose(n), true
      for i = 1, 4 do is_near = is_near and math.abs(p["x" .. i] - 0.5) <= 0.1 end
      near = near + (is_near and 1 or 0)
    end
    for n = 1, 16 do sampler:observe(n, n / 16, { status = "finished" }) end
    local kinds, descents = sampler.region.kinds, 0
    for n = 17, 40 do
      sampler:propose(n)
      descents = descents + (kinds[n] == "descent" and 1 or 0)
    end
    return near, descents
  end
  local near, descents = near_middle(16)
  assert(near >= 8 and near < 16, near)
  assert(descents > 3 and descents <= 12, descents)
  near, descents = near_middle(1)
  assert(near >= 8 and descents <= 3, descents)
end)

test("auto chooses by space, budget and workers, and says why", function()
  local auto = require "pioche.samplers.auto"
  local function chosen(given, runs, workers)
    return auto.choose(space_of.compile(box, {}, given), runs, { goals = 1, known = 0, workers = workers or 1 })
  end
  local cube, wide = { x = space_of.uniform(0, 1) }, {}
  for i = 1, 50 do wide["x" .. i] = space_of.uniform(0, 1) end
  equal({ chosen({ a = { 1, 2, 3 } }, 3) }, { "grid", "3 runs are enough for all 3 points" })
  equal({ chosen(cube, 6) }, { "sobol", "6 runs are too few to learn from" })
  equal({ chosen(wide, 100) }, { "tpe", "50 parameters are too many for a Gaussian process" })
  equal({ chosen(cube, 100) }, { nil, "trust_region around the best point, gp and tpe by turns" })
  equal({ chosen(cube, 1000) },
    { nil, "trust_region around the best point, gp and tpe by turns, tpe alone after 400 runs" })
  equal({ chosen(cube, 100, 16) }, { nil, "trust_region around the best point, gp and tpe by turns, 16 at a time" })
  equal({ chosen(cube, 32, 32) }, { "sobol", "all 32 runs are under way before there is one to learn from" })
  local list = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }
  equal({ chosen({ a = list, b = list }, 50) }, { nil, "gp and tpe by turns" })
  local sampler = search("auto", { a = { 1, 2, 3 } }, { runs = 9 })
  equal(sampler.adaptive, nil)
  equal(sampler.size, 3)
end)

test("a branch that is better on average is left for the one with the best point", function()
  assert(median("tpe", named "conditional", 5, 200) < 0.02)
end)

-- A finite space with a `where`: 4 * 3 * 2 points and two of a branch, less those it excludes.
local function small(name, seed)
  return search(name, { a = { 1, 2, 3, 4 }, b = space_of.int(1, 3), c = space_of.one_of {
    x = { k = { true, false } }, y = {} } }, { runs = 1000, seed = seed },
    function(p) return p.a ~= p.b end)
end

test("of a finite space every point comes once, and then no more", function()
  for _, name in ipairs { "tpe", "random", "sobol", "cma_es", "gp", "trust_region", "auto" } do
    local sampler, seen, count = small(name, 3), {}, 0
    while true do
      local params = sampler:propose(count + 1)
      if not params then break end
      count = count + 1
      local key = json.encode(params)
      assert(not seen[key], key)
      assert(params.a ~= params.b)
      seen[key] = true
      if count % 3 > 0 then sampler:observe(count, params.a * params.b, {}) end
    end
    equal(count, (12 - 3) * 3)
    equal(sampler:propose(count + 1), nil)
  end
end)

-- What comes of calls in this order: proposals, and observations some time later.
local function history(sampler, f, runs, adopted)
  local list = {}
  for n = 1, runs do
    if adopted and n <= #adopted then
      list[n] = adopted[n]
      sampler:adopt(n, adopted[n])
    else
      list[n] = sampler:propose(n)
    end
    local due = n - 1 - n * 7 % 5
    if due >= 1 then
      local value = due % 6 > 0 and f.value(list[due], due) or nil
      sampler:observe(due, value, { status = value and "finished" or "failed" })
    end
  end
  return list
end

test("a search that is told again what was on record goes on with the identical points", function()
  for _, case in ipairs { { "tpe", 80 }, { "cma_es", 80 }, { "gp", 36 }, { "trust_region", 60 },
    { "auto", 60 } } do
    for _, name in ipairs { "mixed", "conditional" } do
      local f, runs = named(name), case[2]
      local function new() return search(case[1], f.space(words), { runs = runs, seed = 5 }) end
      local whole = history(new(), f, runs)
      equal(history(new(), f, runs), whole)
      for _, cut in ipairs { 5, runs // 2, runs - 1 } do
        equal(history(new(), f, runs, table.move(whole, 1, cut, 1, {})), whole)
      end
    end
  end
end)

-- Wells in four parameters: that of the middle is wide, another one is twice as deep.
local function wells(p)
  local sum = 0
  for _, well in ipairs { { 0.5, 0.5, 0.5, 0.5, depth = 1, width = 0.25 },
    { 0.85, 0.15, 0.5, 0.8, depth = 2, width = 0.2 }, { 0.15, 0.8, 0.2, 0.5, depth = 1.2, width = 0.2 } } do
    local square = 0
    for i, name in ipairs { "a", "b", "c", "d" } do square = square + (p[name] - well[i]) ^ 2 end
    sum = sum - well.depth * math.exp(-square / (2 * well.width ^ 2))
  end
  return sum
end

test("auto leaves the bottom of a basin for a deeper one, and finds its digits", function()
  local unit = space_of.uniform(0, 1)
  local function new(seed)
    return search("auto", { a = unit, b = unit, c = unit, d = unit }, { runs = 150, seed = seed })
  end
  for seed = 1, 2 do
    local sampler = new(seed)
    local best, leaps = 0, 0
    for n = 1, 150 do
      local value = wells(sampler:propose(n))
      best, leaps = math.min(best, value), leaps + (sampler.region.kinds[n] == "leap" and 1 or 0)
      sampler:observe(n, value, { status = "finished" })
    end
    assert(leaps > 0, "it did not look elsewhere")
    assert(best < -2.00, ("seed %d: %.6f"):format(seed, best))
  end
  -- and so it does again, told what was on record, with several under way
  local whole = history(new(3), { value = wells }, 130)
  for _, cut in ipairs { 70, 110 } do
    equal(history(new(3), { value = wells }, 130, table.move(whole, 1, cut, 1, {})), whole)
  end
end)

-- Curves that cross: what is best at the end is slow to begin with.
local function crossing(p, step)
  local slow = p.x > 0.7
  return slow and 2 - 1.9 * (step / 27) ^ 2 + (p.x - 0.85) ^ 2 or 1 + 0.3 * (p.x - 0.3) ^ 2 - step / 100
end

test("runs that a rule stopped do not teach what survives the first rung alone", function()
  local found, gone_on = 0, 0
  for seed = 1, 5 do
    local sampler = search("tpe", { x = space_of.uniform(0, 1), y = space_of.uniform(0, 1) },
      { runs = 90, seed = seed })
    local at, best, slow = { [3] = {}, [9] = {} }, math.huge, 0
    for n = 1, 90 do
      local p, rungs, stopped = sampler:propose(n), {}, nil
      for _, step in ipairs { 3, 9 } do
        local value, better = crossing(p, step), 0
        rungs[#rungs + 1] = { step = step, value = value }
        for _, other in ipairs(at[step]) do better = better + (other < value and 1 or 0) end
        at[step][#at[step] + 1] = value
        if not stopped and better * 3 > #at[step] * 2 then stopped = step break end -- two thirds go on
      end
      local value = stopped and rungs[#rungs].value or crossing(p, 27)
      if not stopped then best = math.min(best, value) end
      if n > 45 and p.x > 0.7 then slow = slow + 1 end
      sampler:observe(n, value, { status = stopped and "stopped" or "finished", step = stopped, rungs = rungs })
    end
    if best < 0.2 then found = found + 1 end
    if slow > 22 then gone_on = gone_on + 1 end
  end
  assert(found >= 3, found .. " of 5 found the slow ones")
  -- ranked by how far they came, those that were stopped would keep it from them: 11 of 45 at most
  assert(gone_on >= 2, gone_on .. " of 5 went on with the slow ones")
end)

test("one level is learned from: the furthest that enough runs have come to", function()
  local known = require("pioche.levels").new(3)
  local function stop(number, ...)
    local rungs = {}
    for i, value in ipairs { ... } do rungs[i] = { step = 10 ^ i // 1 | 0, value = value } end
    return known:observe(number, rungs[#rungs].value, { status = "stopped", step = rungs[#rungs].step,
      rungs = rungs })
  end
  local function finish(number, value, ...)
    local rungs = {}
    for i, at in ipairs { ... } do rungs[i] = { step = 10 ^ i // 1 | 0, value = at } end
    return known:observe(number, value, { status = "finished", rungs = rungs })
  end
  equal(stop(1, 5.0), true)
  equal({ known.level, known:value(1) }, { 10, 5.0 })
  finish(2, 0.1, 3.0, 1.0)
  stop(3, 4.0)
  equal({ known.level, known:value(2), known:value(3) }, { 10, 3.0, 4.0 })
  finish(4, 0.2, 3.5, 2.0)
  finish(5, 0.3, 3.6, 2.5)
  equal({ known.level, known:value(1), known:value(2) }, { math.huge, nil, 0.1 })
  equal(known:observe(6, nil, { status = "failed" }), false)
  equal(known:value(6), false)
end)

test("what was stopped counts by what its rung promises, where rungs tell of the level", function()
  local function told(follows)
    local known = require("pioche.levels").new(4)
    for i = 1, 6 do
      local at = follows and i or (i * 5) % 7
      local value = 1.0 + at / 2 * (follows and 1 or i % 3)
      known:observe(i, at / 10, { status = "finished", rungs = { { step = 10, value = value } } })
    end
    known:observe(7, 4.5, { status = "stopped", step = 10, rungs = { { step = 10, value = 4.5 } } })
    known:observe(8, 0.5, { status = "stopped", step = 10, rungs = { { step = 10, value = 0.5 } } })
    known:observe(9, 0.8, { status = "finished", rungs = { { step = 10, value = 5.0 } } })
    known:observe(10, 0.9, { status = "finished", rungs = { { step = 10, value = 5.5 } } })
    return known:value(7), known:value(8)
  end
  local worse, better = told(true)
  assert(math.abs(worse - 0.7) < 1e-9, worse)
  equal(better, 0.1, "but never better than what is known to have come of any")
  equal(told(false), nil)
end)

-- Curves of two parameters: x decides on the end, speed on the way there alone.
local function speedy(x, speed, step)
  return (x - 0.3) ^ 2 + 3 * (1 - speed) ^ 2 / step
end

-- What is told of a run that came to so many of the rungs 3 and 9, or to its end; nil: it failed.
local function tell_speedy(known, number, x, speed, came)
  local rungs = {}
  for i, step in ipairs { 3, 9 } do
    if i <= came then rungs[i] = { step = step, value = speedy(x, speed, step) } end
  end
  local is_stopped = came < 3
  return known:observe(number, is_stopped and rungs[#rungs].value or (x - 0.3) ^ 2,
    { status = is_stopped and "stopped" or "finished", rungs = rungs })
end

test("a parameter that decides on the speed alone is told apart from what a run promises", function()
  local list = { { kind = "real", low = 0, high = 1 }, { kind = "real", low = 0, high = 1 } }
  local function promises(with_axes)
    local known, worst, wide, count = require("pioche.levels").new(8, with_axes and list or nil), 0, 0, 0
    for n = 1, 60 do
      local x, speed = sweep.uniform(3, n, "x"), sweep.uniform(3, n, "speed")
      known:add(n, { x, speed })
      tell_speedy(known, n, x, speed, n <= 45 and 3 or 1 + n % 2)
    end
    for n = 46, 60 do
      local value, deviation = known:value(n)
      if value then
        local off = math.abs(value - (sweep.uniform(3, n, "x") - 0.3) ^ 2)
        count, worst, wide = count + 1, math.max(worst, off), math.max(wide, deviation)
      end
    end
    return count, worst, wide
  end
  local count, worst, wide = promises(true)
  assert(count == 15 and worst < 0.02 and wide < 0.03, ("%d %.4g %.4g"):format(count, worst, wide))
  assert(promises(false) == 0, "a line cannot tell")
end)

test("values of any size promise something, or nothing", function()
  local list = { { kind = "real", low = 0, high = 1 }, { kind = "real", low = 0, high = 1 } }
  for _, scale in ipairs { 1e-300, 1, 1e150, 1e300 } do
    local known = require("pioche.levels").new(4, list)
    for n = 1, 20 do
      local x, way = n / 21, (n * 8 % 21) / 21
      known:add(n, { x, way })
      local rungs = { { step = 3, value = n % 6 > 0 and scale * (x + way * way) or nil } }
      known:observe(n, n % 4 > 0 and n % 5 > 0 and scale * x or nil, { rungs = rungs,
        status = n % 4 > 0 and "finished" or "stopped" })
      for i = 1, n do
        local value = known:value(i)
        assert(not value or value - value == 0, value)
      end
    end
  end
end)

-- Runs of `crossing` under successive halving: told again what is on record, with what came of it before or
-- after others, a search goes on as it would have.
test("where a rule stops runs, a search that takes up its own proposals goes on alike", function()
  local given = { speed = space_of.uniform(0, 1), x = space_of.uniform(0, 1), kind = { "a", "b" } }
  for _, name in ipairs { "gp", "auto", "tpe" } do
    local function new() return search(name, given, { runs = 70, seed = 5 }, nil, { goals = 1, constraints = 0 }) end
    local sampler, record, at = new(), {}, { [3] = {}, [9] = {} }
    local function tell(one, n, row) one:observe(n, row.value, row.how) end
    for n = 1, 56 do
      local p = sampler:propose(n)
      local row = { params = p, how = { status = "finished", rungs = {} } }
      record[n] = row
      for _, step in ipairs { 3, 9 } do
        local better, value = 0, speedy(p.x, p.speed, step) + (p.kind == "a" and 0.2 or 0)
        row.how.rungs[#row.how.rungs + 1], row.value = { step = step, value = value, loss = value }, value
        for _, other in ipairs(at[step]) do better = better + (other < value and 1 or 0) end
        table.insert(at[step], value)
        if 3 * better > #at[step] then row.how.status, row.how.step = "stopped", step break end
      end
      if row.how.status == "finished" then row.value = (p.x - 0.3) ^ 2 + (p.kind == "a" and 0.2 or 0) end
      if n > 2 then tell(sampler, n - 2, record[n - 2]) end
      if n % 9 == 2 then
        local again = new()
        for k = 1, n do
          again:adopt(k, record[k].params)
          if k > 2 then tell(again, k - 2, record[k - 2]) end
        end
        local saved = json.encode(again:propose(n + 1))
        local other = new()
        for k = 1, n do
          other:propose(k)
          if k > 2 then tell(other, k - 2, record[k - 2]) end
        end
        equal(json.encode(other:propose(n + 1)), saved, name .. " after " .. n)
      end
    end
    assert(sampler.size == 70)
  end
end)

test("of the points that promise most those come first that the rule lets go on", function()
  local survival = require("pioche.survival").new { { kind = "real", low = 0, high = 1 } }
  local numbers, known = {}, {}
  for n = 1, 30 do
    local x = n * 7 % 31 / 31
    numbers[n], known[n] = n, { [3] = x, [math.huge] = x < 0.4 and 1.0 or nil }
    survival:add(n, { x })
    if n == 4 then
      survival:learn(numbers, known)
      equal(survival:know(numbers, known), nil, "too few were stopped")
    end
  end
  equal(survival:know(numbers, known), nil, "it learns where it is told to")
  survival:learn(numbers, known)
  local model = survival:know(numbers, known)
  assert(model:predict { 0.1 } < model:predict { 0.39 } and model:predict { 0.41 } < model:predict { 0.9 })
  local goal = require("pioche.core.sweep").gp { { kind = "real", low = 0, high = 1 } }
  local slots, values, met = {}, {}, {}
  for i = 1, 9 do -- both ends promise the same
    slots[i], values[i], met[i] = goal:add { (i - 1) / 8 }, math.abs(i - 5) * -0.1, true
  end
  goal:learn(slots, values, 60)
  goal:know(slots, values, {})
  goal:search(1, 1, { candidates = 300, starts = 4, calls = 40 }, nil, { models = { model }, met = met })
  assert(goal:candidate(1)[1] < 0.4, goal:candidate(1)[1])
end)

test("values are of their domains, and bad options are told", function()
  local given = { n = space_of.int(-3, 3), m = space_of.log_int(1, 9), x = space_of.log_uniform(1e-3, 1),
    c = { "a", true, 2 }, fixed = 4, one = { 7 }, same = space_of.int(5, 5) }
  local sampler = search("tpe", given, { runs = 60, seed = 2, startup = 5 })
  for n = 1, 60 do
    local p = sampler:propose(n)
    equal(math.type(p.n), "integer")
    equal(math.type(p.m), "integer")
    assert(p.n >= -3 and p.n <= 3 and p.m >= 1 and p.m <= 9 and p.x >= 1e-3 and p.x <= 1)
    assert(p.c == "a" or p.c == true or p.c == 2)
    equal({ p.fixed, p.one, p.same }, { 4, 7, 5 })
    sampler:observe(n, n % 4 > 0 and p.x or nil, {})
  end
  tap.contains(tap.raises(search, "tpe", given, { gamma = 2 }), "gamma: expected a number above 0")
  tap.contains(tap.raises(search, "cma_es", given, { population = 3 }),
    "population: expected a whole number from 4")
  local wide = {}
  for i = 1, 201 do wide["x" .. i] = space_of.uniform(0, 1) end
  local _, why = pcall(search, "cma_es", wide, {})
  tap.contains(require("pioche.errors").is(why) and why.message or tostring(why),
    "at most 200 parameters, the space has 201")
  tap.contains(tap.raises(search, "tpe", given, { seeds = 2 }), "seeds: there is no such key")
end)

test("sobol fills a space evenly, also of choices and whole numbers", function()
  local sampler = search("sobol", { c = { "a", "b", "c", "d" }, n = space_of.int(1, 8),
    m = space_of.log_int(1, 255), x = space_of.log_uniform(1e-4, 1) }, { runs = 256, seed = 4 })
  local seen = {}
  for n = 1, 256 do
    local p = sampler:propose(n)
    local decade = math.floor(math.log(p.x, 10))
    for _, key in ipairs { p.c, "n" .. p.n, p.c .. p.n, "x" .. decade, "x" .. decade .. p.c } do
      seen[key] = (seen[key] or 0) + 1
    end
  end
  equal(sampler:propose(257), nil)
  for _, c in ipairs { "a", "b", "c", "d" } do
    equal(seen[c], 64)
    for n = 1, 8 do equal(seen[c .. n], 8) end
    for decade = -4, -1 do assert(math.abs(seen["x" .. decade .. c] - 16) <= 2) end
  end
  for n = 1, 8 do equal(seen["n" .. n], 32) end
end)

test("a `where` that is never true is told, of a finite space and of any other", function()
  local function never() return false end
  tap.contains(tap.raises(function()
    search("random", { a = { 1, 2 } }, {}, never):propose(1)
  end), "where: not true for any of the grid's 2 points")
  tap.contains(tap.raises(function()
    search("tpe", { x = space_of.uniform(0, 1) }, { runs = 2 }, never):propose(1)
  end), "where: not true for any of 2000 random points")
end)

test("a space without a choice is one point", function()
  local sampler = search("tpe", { x = 3 }, {})
  equal(sampler:propose(1), { x = 3 })
  sampler:observe(1, 1, {})
  equal(sampler:propose(2), nil)
end)

-- What is left of a small space is looked for again and again, and not the whole space.
test("random exhausts a small space, each point once, and looks at each a few times", function()
  local points, seen, encode, looks = 1500, {}, json.encode, 0
  json.encode = function(...)
    looks = looks + 1
    return encode(...)
  end
  local sampler = search("random", { a = words.int(1, 30), b = words.int(1, 50) }, { runs = points + 9 })
  for n = 1, points do
    local params = sampler:propose(n)
    local key = params.a .. " " .. params.b
    assert(not seen[key], key)
    seen[key] = true
  end
  json.encode = encode
  equal(sampler:propose(points + 1), nil)
  assert(looks < 20 * points, looks)
end)

tap.done()
