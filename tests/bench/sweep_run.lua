-- What searches find on the functions of sweep_functions.lua, and how long a proposal
-- takes: lines of JSON for sweep.py. Environment: SEARCH, FUNCTION, SEEDS, BUDGETS; SPEED=1
-- for the times; CHECK=1 for each function's value at a few points; WORKERS=n: so many runs are
-- under way at a time, and each takes a while of its own.
local aims = require "pioche.aims"
local json = require "pioche.core.json"
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"
local sys = require "pioche.core.sys"

local functions = dofile((arg[0]:match("^.*/") or "") .. "sweep_functions.lua")
local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }
local words = {}
for _, word in ipairs(space_of.words) do words[word] = space_of[word] end

local none = 1e9               -- the value of no run yet

local function say(row) sys.write(1, json.encode(row) .. "\n") end

local workers = math.tointeger(os.getenv("WORKERS") or 1)

local function search(name, given, options, goals, constraints)
  local module = require("pioche.samplers." .. name)
  return module.new(space_of.compile(box, {}, given), module.check({ box = box, at = {} }, options),
    { goals = goals or 1, constraints = constraints or 0, workers = workers })
end

-- Points of a search in the order in which their runs end, one by one: number and parameters. The
-- time that each takes is of an exponential distribution.
local function ended(sampler, last, seed)
  local active, proposed, now = {}, 0, 0
  return function()
    while #active < workers and proposed < last do
      proposed = proposed + 1
      local takes = -math.log(1 - sweep.uniform(seed, proposed, "time"))
      active[#active + 1] = { number = proposed, params = sampler:propose(proposed), ends = now + takes }
    end
    local first
    for i, one in ipairs(active) do
      if not first or one.ends < active[first].ends then first = i end
    end
    if not first then return nil end
    local one = table.remove(active, first)
    now = one.ends
    return one.number, one.params
  end
end

-- What constraints give for parameters, and their violation; nil where there are none.
local function weigh(f, params)
  if not f.constraints then return nil end
  local list, violation = {}, 0
  for i, constraint in ipairs(f.constraints) do
    list[i] = constraint(params)
    violation = violation + math.max(0, list[i])
  end
  return list, violation
end

-- The regret after each budget, of what the function is without its noise.
local function run(f, name, seed, budgets)
  local last = budgets[#budgets]
  local sampler = search(name, f.space(words), { runs = last, seed = seed }, 1, #(f.constraints or {}))
  local best, regrets = none, {}
  local count = 0
  for n, params in ended(sampler, last, seed) do
    local value, list, violation = f.value(params, n + 1000 * seed), weigh(f, params)
    local is_outside = violation and violation > 0
    sampler:observe(n, is_outside and aims.penalty(violation) or value,
      { status = "finished", violation = violation, constraints = list, loss = value })
    if not is_outside then best = math.min(best, f.true_value(params)) end
    count = count + 1
    for i, budget in ipairs(budgets) do
      if count == budget then regrets[i] = best - (f.least or 0) end
    end
  end
  say { ["function"] = f.name, search = name, seed = seed, regrets = json.array(regrets) }
end

-- The volume that is missing after each budget, of what the best front covers.
local function run_front(f, name, seed, budgets)
  local last, rows, regrets = budgets[#budgets], {}, {}
  local sampler = search(name, f.space(words), { runs = last, seed = seed }, #f.reference)
  for n = 1, last do
    local values = f.values(sampler:propose(n))
    rows[n] = values
    sampler:observe(n, nil, { status = "finished", values = values })
    for i, budget in ipairs(budgets) do
      if n == budget then regrets[i] = f.most - sweep.hypervolume(rows, f.reference) end
    end
  end
  say { ["function"] = f.name, search = name, seed = seed, regrets = json.array(regrets) }
end

-- Milliseconds of a proposal with so many runs finished, the median of 30.
local function time(name, given, label, finished)
  local space = space_of.compile(box, {}, given)
  local sampler, times = search(name, given, { runs = finished + 100 }), {}
  for n = 1, finished do
    local params, value = space:complete(space:draw(7, n, 0)), 0
    for _, x in next, params do value = value + (type(x) == "number" and x % 7 or 0) end
    sampler:adopt(n, params)
    sampler:observe(n, value, { status = "finished" })
  end
  for i = 1, 30 do
    local began = sys.mono_ns()
    sampler:propose(finished + i)
    times[i] = (sys.mono_ns() - began) / 1e6
    sampler:observe(finished + i, 1 / i, { status = "finished" })
  end
  table.sort(times)
  say { name = ("%s, %s, %d finished"):format(name, label, finished), value = times[15] }
end

-- The value a part of the way from the low end of a domain.
local function at_part(axis, u)
  if axis.kind == "choice" then return math.floor(u * axis.high) + 1 end
  local value = axis.low + u * (axis.high - axis.low)
  if axis.log then value = math.exp(math.log(axis.low) + u * (math.log(axis.high) - math.log(axis.low))) end
  return axis.kind == "whole" and math.floor(value + 0.5) or value
end

local function check()
  for _, f in ipairs(functions) do
    local space, values = space_of.compile(box, {}, f.space(words)), {}
    for i, u in ipairs { 0.1, 0.35, 0.8 } do
      values[i] = f.true_value(space:complete(require("pioche.axes").of(space):raw(function(group)
        local list = {}
        for at, axis in ipairs(group.axes) do list[at] = at_part(axis, u) end
        return list
      end)))
    end
    say { ["function"] = f.name, values = json.array(values) }
  end
end

if os.getenv("CHECK") then
  check()
elseif os.getenv("SPEED") then
  local wide = {}
  for i = 1, 40 do wide[("x%02d"):format(i)] = space_of.uniform(0, 1) end
  for _, finished in ipairs { 100, 1000, 10000 } do
    time("tpe", functions[7].space(words), "10 mixed parameters", finished)
  end
  time("tpe", wide, "40 parameters", 10000)
  for _, finished in ipairs { 100, 300 } do
    time("gp", functions[7].space(words), "10 mixed parameters", finished)
  end
else
  local budgets = {}
  for budget in os.getenv("BUDGETS"):gmatch("%d+") do budgets[#budgets + 1] = math.tointeger(budget) end
  for _, f in ipairs(functions) do
    if f.name == os.getenv("FUNCTION") then
      local measure = f.values and run_front or run
      for seed = 1, math.tointeger(os.getenv("SEEDS")) do measure(f, os.getenv("SEARCH"), seed, budgets) end
    end
  end
end
