-- What searches find with rules that stop runs, on learning curves that are functions: lines
-- of JSON for stopping.py. Environment: SEARCH, RULE, CURVES, SEEDS, BUDGETS (in whole runs); CHECK=1
-- for each curve's losses at a few points.
--
-- Nothing is launched and no store is there: four workers walk along their curves from rung to
-- rung, each step taking one unit of time, and search and rule are told what a session tells.
local json = require "pioche.core.json"
local space_of = require "pioche.space"
local sys = require "pioche.core.sys"

local curves = dofile((arg[0]:match("^.*/") or "") .. "stopping_curves.lua")
local workers, steps = 4, curves.steps
local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }

local rules = {
  none = {}, asha = { min = 3, max = steps, eta = 3 }, hyperband = { min = 3, max = steps, eta = 3 },
  median = { every = 3, min = 6, max = steps }, curve = { every = 3, max = steps },
}

local function rule_of(name)
  local module = require("pioche.stopping." .. name)
  return module.new(module.check({ box = box, at = {}, path = "stop" }, rules[name]),
    { key = "loss", goal = "minimize" })
end

local function sampler_of(curve, name, seed, runs)
  local module = require("pioche.samplers." .. name)
  local space = space_of.compile(box, {}, curve.space(space_of))
  return module.new(space, module.check({ box = box, at = {} }, { runs = runs, seed = seed }),
    { goals = 1, constraints = 0, workers = workers })
end

-- One sweep: the true end of what would be taken for the best, after each budget.
local function run(curve, search, rule_name, seed, budgets)
  local last = budgets[#budgets] * steps
  local sampler, rule = sampler_of(curve, search, seed, 40 * budgets[#budgets]), rule_of(rule_name)
  local arrivals, active, number, spent = {}, {}, 0, 0
  local best, results = { told = math.huge, far = 0 }, {}
  local function of_rung(step)
    arrivals[step] = arrivals[step] or {}
    return arrivals[step]
  end
  local function start()
    number = number + 1
    local params = sampler:propose(number)
    active[#active + 1] = { number = number, params = params, step = 0, curve = {}, rungs = {}, best = math.huge,
      sum = 0, time = active.now or 0, worth = curve.worth(params) }
  end
  local function over(one, status)
    local told = curve.loss(one.params, one.step, one.number + 1000 * seed)
    -- what has ended is preferred to what was stopped, and that by how far it came
    if one.step > best.far or one.step == best.far and told < best.told then
      best = { told = told, far = one.step, worth = one.worth }
    end
    sampler:observe(one.number, told, { status = status, step = status == "stopped" and one.step or nil,
      rungs = one.rungs })
  end
  local function advance(one)
    local rung = rule:next_rung({ number = one.number }, one.step)
    local to = math.min(rung or steps, steps)
    for step = one.step + 1, to do
      local loss = curve.loss(one.params, step, one.number + 1000 * seed)
      one.best, one.sum = math.min(one.best, loss), one.sum + loss
    end
    one.time, spent, one.step = one.time + to - one.step, spent + to - one.step, to
    local verdict = "go"
    if rung == to then
      local loss = curve.loss(one.params, to, one.number + 1000 * seed)
      table.insert(one.curve, { step = to, loss = loss })
      local at = { loss = loss, best = one.best, mean = one.sum / to, number = one.number, run_id = one.number }
      verdict = rule:decide(one, to, at, of_rung(to), of_rung)
      at.verdict = verdict
      table.insert(of_rung(to), at)
      table.insert(one.rungs, { step = to, value = loss })
    end
    if verdict == "stop" and to < steps then return "stopped" end
    return to == steps and "finished" or nil
  end
  while spent < last do
    while #active < workers do start() end
    table.sort(active, function(a, b) return a.time < b.time or a.time == b.time and a.number < b.number end)
    local one = active[1]
    active.now = one.time
    local status = advance(one)
    active.now = one.time
    if status then
      table.remove(active, 1)
      over(one, status)
    end
    for i, budget in ipairs(budgets) do
      if spent >= budget * steps and not results[i] then results[i] = best.worth or 1e9 end
    end
  end
  sys.write(1, json.encode { seed = seed, ends = json.array(results), points = number } .. "\n")
end

local function check(name)
  local curve, values = curves[name], {}
  for _, shift in ipairs { 0, 0.35, 0.8 } do
    local params = {}
    for i, parameter in ipairs(curve.names) do params[parameter] = (0.13 + 0.29 * (i - 1) + shift) % 1 end
    for _, step in ipairs { 3, 27, 81 } do values[#values + 1] = curve.loss(params, step, 7) end
  end
  sys.write(1, json.encode { curve = name, values = json.array(values) } .. "\n")
end

if os.getenv("CHECK") then
  for _, name in ipairs { "parallel", "crossing", "misleading", "power", "tempting" } do check(name) end
  return
end
local budgets = {}
for budget in os.getenv("BUDGETS"):gmatch("[%d.]+") do budgets[#budgets + 1] = tonumber(budget) end
for seed = 1, math.tointeger(os.getenv("SEEDS")) do
  run(curves[os.getenv("CURVES")], os.getenv("SEARCH"), os.getenv("RULE"), seed, budgets)
end
