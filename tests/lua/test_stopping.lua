-- Stopping rules: what they say of hand-made arrivals, and where their rungs are.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local rungs = require "pioche.rungs"
local sweep = require "pioche.core.sweep"
local test, equal = tap.test, tap.equal
local huge = math.huge

local function new(name, options, goal)
  local module = require("pioche.stopping." .. name)
  local box = { blame = function(_, _, field, format, ...)
    error(("%s: " .. format):format(field, ...), 0)
  end }
  local where = { box = box, at = { display = "r.lua", line = 1 }, path = "stop" }
  return module.new(module.check(where, options), goal or { key = "loss", goal = "minimize" })
end

local function steps_of(rule, run)
  local list, step = {}, 0
  repeat
    step = rule:next_rung(run, step)
    list[#list + 1] = step
  until not step or #list == 20
  return list
end

-- Losses arrive at one rung in this order: "g" or "s" for each.
local function arrive(rule, losses, rung)
  local earlier, said = {}, {}
  for i, loss in ipairs(losses) do
    local at = type(loss) == "table" and loss or { loss = loss, best = loss, mean = loss }
    at.number = at.number or i
    at.verdict = rule:decide({ number = at.number, params = {} }, rung or 1, at, earlier)
    earlier[i], said[i] = at, at.verdict:sub(1, 1)
  end
  return table.concat(said)
end

test("asha: rungs are min * eta^k, and none is at max or beyond", function()
  local run = { number = 1, params = {} }
  equal(steps_of(new("asha", { min = 50, max = 400, eta = 2 }), run), { 50, 100, 200 })
  equal(steps_of(new("asha", { min = 1, max = 81 }), run), { 1, 3, 9, 27 })
  equal(steps_of(new("asha", { min = 4, max = 30, eta = 2.5 }), run), { 4, 10, 25 })
  equal(new("asha", { min = 50, max = 400, eta = 2 }):next_rung(run, 130), 200)
end)

test("asha: one goes on if it is among the best 1/eta of those so far, itself counted", function()
  local rule = new("asha", { min = 1, max = 9, eta = 3 })
  -- Of 1 to 5 that came one goes on; the sixth makes room for two.
  equal(arrive(rule, { 5, 6, 4, 7, 3, 3.5, 3.6, 1 }), "gsgsggsg")
  equal(arrive(rule, { 2, 2, 2 }), "ggg", "equals are no worse")
  local _, why = rule:decide({ number = 3 }, 1, { loss = 4 }, { { loss = 5 }, { loss = 3 }, { loss = 2 } })
  equal(why, "3rd of 4, of which 1 goes on")
end)

test("asha: a NaN never goes on, and nobody is stopped by one", function()
  local rule = new("asha", { min = 1, max = 9, eta = 2 })
  equal(arrive(rule, { huge, 5, huge, 6 }), "sgsg")
end)

test("asha that promotes: the best floor(n / eta) go on, others wait until they are among them", function()
  local rule = new("asha", { min = 1, max = 9, eta = 3, promote = true })
  equal(arrive(rule, { 5, 6, 4, 7, 3, 3.5, huge }), "ppgpggs")
  local function promoted(losses, waiting)
    local list, set = {}, {}
    for i, loss in ipairs(losses) do list[i] = { loss = loss, verdict = "pause" } end
    for _, i in ipairs(waiting) do set[i] = true end
    return rule:promote(1, list, function(i) return set[i] == true end)
  end
  equal(promoted({ 5, 6 }, { 1, 2 }), nil, "of two none")
  equal(promoted({ 5, 6, 7 }, { 1, 2, 3 }), 1)
  equal(promoted({ 5, 6, 7 }, { 2, 3 }), nil, "the best one went on already")
  equal(promoted({ 5, 5, 7, 8, 9, 9 }, { 1, 2, 3 }), 1, "of equals the first")
  equal(promoted({ 5, 5, 7, 8, 9, 9 }, { 2, 3 }), 2)
end)

-- Histories by chance in which losses are often equal or rise, runs take a while to stop, some never come to it,
-- and each that is promoted is gone: what it decides must be what one decides that sorts all of them.
test("asha that promotes: decisions are those of one that sorts all arrivals each time", function()
  local function sorted_choice(arrivals, eta, waits)
    local order = {}
    for i in ipairs(arrivals) do order[i] = i end
    table.sort(order, function(a, b)
      if arrivals[a].loss ~= arrivals[b].loss then return arrivals[a].loss < arrivals[b].loss end
      return a < b
    end)
    for i = 1, #order // eta do
      if waits(order[i]) then return order[i] end
    end
    return nil
  end
  local made = 0
  for seed = 1, 12 do
    local draws = 0
    local function draw(high)
      draws = draws + 1
      return sweep.integer(seed, draws, "history", 1, high)
    end
    local eta, kinds = 1 + draw(4) % 3 + 1, ({ 5, 40, 100000 })[draw(3)]
    local rule = new("asha", { min = 1, max = 9, eta = eta, promote = true })
    local arrivals, stopping, waiting = {}, {}, {}
    for _ = 1, 400 do
      local loss = draw(20) == 1 and huge or draw(kinds) / 7 + seed % 3 * (#arrivals // 9)
      local at = { number = #arrivals + 1, loss = loss }
      at.best, at.mean = at.loss, at.loss
      at.verdict = rule:decide({ number = at.number }, 1, at, arrivals)
      arrivals[#arrivals + 1] = at
      if at.verdict == "pause" and draw(9) > 1 then stopping[#stopping + 1] = at.number end
      while #stopping > draw(6) do waiting[table.remove(stopping, draw(#stopping))] = true end
      local function waits(place) return waiting[place] == true end
      for _ = 1, draw(3) do
        local place = rule:promote(1, arrivals, waits)
        equal(place, sorted_choice(arrivals, eta, waits))
        if place and draw(8) > 1 then -- now and then whoever asked did not go on with it
          arrivals[place].is_promoted, waiting[place], made = true, nil, made + 1
        end
      end
    end
  end
  assert(made > 500, made)
end)

-- What is read of arrivals is counted: all of them at each decision would be millions of times.
test("a decision reads what came since the last one, however many there are", function()
  local reads
  local function watched(item)
    return setmetatable({}, { __newindex = item, __index = function(_, key)
      reads = reads + 1
      return item[key]
    end })
  end
  local function reads_of(rule)
    local arrivals, curve = {}, {}
    local function of_rung() return arrivals end
    for step = 1, 8 do curve[step] = { step = step, loss = 1 / step } end
    reads = 0
    for i = 1, 3000 do
      local at = { number = i, run_id = i, loss = i * 7919 % 1009 + 0.5 }
      at.best, at.mean = at.loss, at.loss
      at.verdict = rule:decide({ number = i, curve = curve }, 8, at, arrivals, of_rung)
      arrivals[i] = watched(at)
      local place = rule.promote and rule:promote(8, arrivals, function(n) return arrivals[n].verdict == "pause" end)
      if place then arrivals[place].is_promoted = true end
    end
    return reads
  end
  for name, options in pairs { asha = { min = 8, max = 16, eta = 2, promote = true }, hyperband = { min = 8, max = 16 },
    median = { every = 8 }, curve = { every = 1, max = 16 } } do
    local count = reads_of(new(name, options))
    assert(count < 100 * 3000, ("%s: %d"):format(name, count))
  end
end)

test("percentile and median: the best so far against the means of the others, after a start", function()
  local median = new("median", { every = 10, startup = 3 })
  local function others(...)
    local list = {}
    for i, mean in ipairs { ... } do list[i] = { loss = 0, best = 0, mean = mean } end
    return list
  end
  local function says(rule, best, list, loss)
    return (rule:decide({ number = 9 }, 10, { loss = loss or 9, best = best, mean = 0 }, list))
  end
  equal(says(median, 100, others(1, 2)), "go", "two are not three")
  equal(says(median, 2, others(1, 2, 3)), "go", "the median is not worse than itself")
  equal(says(median, 2.01, others(1, 2, 3)), "stop")
  equal(says(median, 2.4, others(1, 2, 3, 4)), "go")
  equal(says(median, 2.6, others(1, 2, 3, 4)), "stop")
  equal(says(median, 1, others(1, 2, 3), huge), "stop", "a NaN now, whatever it was")
  local quarter = new("percentile", { every = 10, percent = 25, startup = 0 })
  equal(says(quarter, 2, others(1, 2, 3, 4, 5)), "go")
  equal(says(quarter, 2.1, others(1, 2, 3, 4, 5)), "stop")
  equal(says(quarter, 2, {}), "go", "the first has nobody before it")
  local _, why = new("median", { every = 10, startup = 1 }, { key = "acc", goal = "maximize" })
    :decide({ number = 9 }, 10, { loss = -0.5, best = -0.5, mean = -0.5 }, others(-0.75))
  equal(why, "its best is 0.5, and of 1 before it 50 % have means better than 0.75")
end)

test("percentile: rungs every so many steps, from min to max", function()
  local run = { number = 1, params = {} }
  equal(steps_of(new("median", { every = 10, min = 25, max = 60 }), run), { 25, 35, 45, 55 })
  equal(new("median", { every = 10 }):next_rung(run, 0), 10)
  equal(new("median", { every = 10 }):next_rung(run, 10), 20)
  equal(new("median", { every = 10, min = 25 }):next_rung(run, 44), 45)
end)

test("percentiles are those of NumPy", function()
  local function of(values, percent)
    local arrivals = {}
    for i, value in ipairs(values) do arrivals[i] = { mean = value } end
    return rungs.percentile(rungs.rankings(nil, "mean")(arrivals), percent)
  end
  equal(of({ 3, 1, 2 }, 50), 2)
  equal(of({ 4, 1, 3, 2 }, 50), 2.5)
  equal(of({ 10, 20 }, 75), 17.5)
  equal(of({ 7 }, 10), 7)
  equal(of({ 1, huge, 2, 3 }, 100), huge)
end)

test("hyperband: brackets of the paper, in its proportions, fixed by number and seed", function()
  local rule = new("hyperband", { min = 1, max = 81, eta = 3, seed = 4 })
  local counts, other = {}, 0
  local again = new("hyperband", { min = 1, max = 81, eta = 3, seed = 4 })
  local moved = new("hyperband", { min = 1, max = 81, eta = 3, seed = 5 })
  for n = 1, 4000 do
    local key = table.concat(steps_of(rule, { number = n }), " ")
    counts[key] = (counts[key] or 0) + 1
    equal(table.concat(steps_of(again, { number = n }), " "), key)
    if table.concat(steps_of(moved, { number = n }), " ") ~= key then other = other + 1 end
  end
  -- JMLR 18(185), table 1: n_s = 81, 34, 15, 8, 5 for R = 81 and eta = 3.
  local expected = { ["1 3 9 27"] = 81, ["3 9 27"] = 34, ["9 27"] = 15, ["27"] = 8, [""] = 5 }
  local total = 81 + 34 + 15 + 8 + 5
  for key, share in pairs(expected) do
    local mean = 4000 * share / total
    assert(math.abs((counts[key] or 0) - mean) < 4 * math.sqrt(mean), key .. ": " .. tostring(counts[key]))
    counts[key] = nil
  end
  equal(next(counts), nil)
  assert(other > 1000)
end)

test("hyperband: a run is ranked among those of its bracket alone", function()
  local rule = new("hyperband", { min = 1, max = 9, eta = 3, seed = 1 })
  local by_steps, list = {}, {}
  for n = 1, 200 do
    local key = table.concat(steps_of(rule, { number = n }), " ")
    by_steps[key] = by_steps[key] or {}
    table.insert(by_steps[key], n)
  end
  local low, middle = by_steps["1 3"], by_steps["3"]
  for i = 1, 6 do list[i] = { loss = i, number = low[i] } end
  equal((rule:decide({ number = low[7] }, 3, { loss = 6 }, list)), "stop")
  equal((rule:decide({ number = middle[1] }, 3, { loss = 6 }, list)), "go")
end)

local function curve_options(more)
  local options = { every = 10, max = 80, startup = 2 }
  for name, value in pairs(more or {}) do options[name] = value end
  return options
end

-- Runs whose curves come to each rung in their order: what is said of each, "g" or "s", at its
-- last rung, with why and the forecast.
local function curves(rule, shapes)
  local rungs_seen, said = {}, {}
  local function of_rung(step)
    rungs_seen[step] = rungs_seen[step] or {}
    return rungs_seen[step]
  end
  for n, shape in ipairs(shapes) do
    local run, step = { number = n, params = {}, curve = {} }, 0
    repeat
      step = rule:next_rung(run, step)
      if not step then break end
      local at = { loss = shape(step), number = n, run_id = n }
      run.curve[#run.curve + 1] = { step = step, loss = at.loss }
      local verdict, why, forecast = rule:decide(run, step, at, of_rung(step), of_rung)
      table.insert(of_rung(step), at)
      said[n] = { verdict = verdict, why = why, forecast = forecast, step = step }
    until verdict == "stop"
  end
  return said
end

local function falling(floor, speed)
  return function(step) return floor + (1 - floor) * (1 + speed * step) ^ -1 end
end

test("curve: the first go to their end; what cannot come near the best stops, once enough is known", function()
  local said = curves(new("curve", curve_options()), { falling(0.3, 1), falling(0.4, 1), falling(0.9, 1),
    falling(0.1, 0.06), function() return huge end })
  equal({ said[1].step, said[2].step, said[3].step, said[4].step, said[5].step }, { 80, 80, 40, 80, 10 })
  equal(said[3].verdict, "stop")
  tap.contains(said[3].why, "better than 0.30864 with probability")
  local f = said[3].forecast
  assert(f.low < f.value and f.value < f.high and f.below < 0.05 and f.bound == falling(0.3, 1)(80))
  -- A slow one that will be the best is worse than both for long, and goes on.
  assert(falling(0.1, 0.06)(30) > falling(0.4, 1)(30) and said[4].verdict == "go")
  equal(said[5].why, "no finite number")
end)

test("curve: what is maximized is told in its own sign", function()
  local function rising(top) return function(step) return -top + (1 + step) ^ -1 end end
  local said = curves(new("curve", curve_options(), { key = "acc", goal = "maximize" }),
    { rising(0.9), rising(0.8), rising(0.2) })
  local f = said[3].forecast
  assert(said[3].verdict == "stop" and f.value > 0.1 and f.value < 0.3 and f.low < f.high)
  tap.contains(said[3].why, "better than 0.88765")
end)

test("curve: where all curves bend down at the end, forecasts learn it", function()
  -- The learning rate falls to nothing over the last quarter, and every loss by 0.3 with it.
  local function bent(floor)
    return function(step) return floor + (1 + step) ^ -1 - (step > 60 and 0.3 * (step - 60) / 20 or 0) end
  end
  local said = curves(new("curve", curve_options { startup = 3 }), { bent(0.5), bent(0.52), bent(0.54),
    bent(0.48), bent(0.9) })
  equal(said[4].step, 80)
  equal(said[5].verdict, "stop")
  assert(math.abs(said[5].forecast.value - bent(0.9)(80)) < 0.11, said[5].forecast.value)
end)

test("curve: the end is a rung, and options are checked", function()
  local run = { number = 1, params = {} }
  equal(steps_of(new("curve", { every = 30, max = 100 }), run), { 30, 60, 90, 100 })
  equal(steps_of(new("curve", { every = 30, min = 50, max = 80 }), run), { 50, 80 })
  tap.contains(tap.raises(new, "curve", { every = 50, max = 50 }), "stop.max: expected more than the first rung")
  tap.contains(tap.raises(new, "curve", { every = 5, max = 50, chance = 0.7 }), "a number between 0 and 0.5")
  tap.contains(tap.raises(new, "asha", { min = 1, max = 9, audit = 1 }), "a number between 0 and 1")
end)

test("rungs: a ranking has all values in order", function()
  local ranked, arrivals, sorted = rungs.rankings(), {}, {}
  for i = 1, 2500 do
    arrivals[i] = { loss = i * 7919 % 1009 }
    sorted[i] = arrivals[i].loss
  end
  table.sort(sorted)
  local ranking = ranked(arrivals)
  for n = 1, #sorted, 7 do equal(ranking:at(n), sorted[n]) end
  equal({ ranking:at(#sorted), ranking:at(#sorted + 1) }, { sorted[#sorted] })
end)

test("rungs: a ranking counts as one that goes through all of them", function()
  local ranked, arrivals = rungs.rankings(function(arrival) return arrival.number % 2 end), {}
  for i = 1, 3000 do
    local loss = i % 97 == 0 and huge or i * 7919 % 1009 -- many are equal
    local counts, better = { [0] = 0, 0 }, { [0] = 0, 0 }
    if i % 50 == 0 then
      for _, other in ipairs(arrivals) do
        local kind = other.number % 2
        counts[kind] = counts[kind] + 1
        if other.loss < loss then better[kind] = better[kind] + 1 end
      end
      for kind = 0, 1 do
        local ranking = ranked(arrivals, kind)
        equal({ ranking.count, ranking:better(loss) }, { counts[kind], better[kind] })
      end
    end
    arrivals[i] = { number = i, loss = loss }
  end
end)

test("wrong options name the key and what was expected", function()
  local function wrong(name, options, part)
    tap.contains(tap.raises(new, name, options), part)
  end
  wrong("asha", { max = 9 }, "min is missing")
  wrong("asha", { min = 9, max = 9 }, "stop.max: expected more than min, which is 9, got 9")
  wrong("asha", { min = 1, max = 9, eta = 1 }, "stop.eta: expected a number, at least 2, got 1")
  wrong("asha", { min = 1, max = 9, by = "hours" }, "stop.by: expected step, got \"hours\"")
  wrong("hyperband", { min = 1, max = 9, brackets = 2 }, "there is no such key")
  wrong("median", {}, "every is missing")
  wrong("median", { every = 1, percent = 10 }, "there is no such key")
  wrong("percentile", { every = 1, percent = 100 }, "a number between 0 and 100")
end)

tap.done()
