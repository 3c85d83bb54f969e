-- Learning curves that are functions of a few parameters: `worth` is what their end is without
-- noise, and how fast it is come to differs. 0 is about the best of all of them.
--   parallel    all fall alike: what leads early leads late
--   crossing    a parameter of its own decides on the speed, and on nothing else
--   misleading  the better the end, the slower: at a third of the way the worst lead
-- whose ends are Hartmann's function of six parameters; and two of other ends and other shapes, by
-- which nothing was chosen:
--   power       power laws, whose height and exponent are parameters, over Rosenbrock's valley
--   tempting    as of a learning rate: the faster, the higher the floor, over Branin's function
local curves = { steps = 81 }

local a = { { 10, 3, 17, 3.5, 1.7, 8 }, { 0.05, 10, 17, 0.1, 8, 14 }, { 3, 3.5, 1.7, 10, 17, 8 },
  { 17, 8, 0.05, 10, 0.1, 14 } }
local p = { { 1312, 1696, 5569, 124, 8283, 5886 }, { 2329, 4135, 8307, 3736, 1004, 9991 },
  { 2348, 1451, 3522, 2883, 3047, 6650 }, { 4047, 8828, 8732, 5743, 1091, 381 } }
local c = { 1, 1.2, 3, 3.2 }

-- 0 at the optimum, 1 far away.
local function hartmann(params)
  local sum = 0
  for i = 1, 4 do
    local inner = 0
    for j = 1, 6 do inner = inner + a[i][j] * (params["x" .. j] - p[i][j] / 10000) ^ 2 end
    sum = sum + c[i] * math.exp(-inner)
  end
  return 1 - sum / 3.32236801141551
end

-- 0 at the optimum, 1 in the far corner.
local function rosenbrock(params)
  local sum = 0
  for j = 1, 3 do
    local x, y = 4 * params["x" .. j] - 2, 4 * params["x" .. j + 1] - 2
    sum = sum + 100 * (y - x * x) ^ 2 + (x - 1) ^ 2
  end
  return math.log(1 + sum) / math.log(1 + 3 * 3609)
end

-- 0 at the three optima, 1 in the far corner.
local function branin(params)
  local x, y = 15 * params.x1 - 5, 15 * params.x2
  local bow = y - 5.1 / (4 * math.pi ^ 2) * x * x + 5 / math.pi * x - 6
  return (bow * bow + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.39788735772973816) / 307.7
end

-- Nearly normal, a function of run and step.
local function noise(run, step)
  local sum = 0
  for i = 1, 4 do sum = sum + (math.sin(run * 12.9898 + step * 4.1414 + i * 78.233) * 43758.5453) % 1 end
  return (sum - 2) * 1.7
end

-- names: of the parameters, each from 0 to 1; smooth(params, step).
local function add(name, names, smooth)
  curves[name] = {
    space = function(space)
      local result = {}
      for _, parameter in ipairs(names) do result[parameter] = space.uniform(0, 1) end
      return result
    end,
    names = names,
    worth = function(params) return smooth(params, curves.steps) end,
    loss = function(params, step, run) return smooth(params, step) + 0.005 * noise(run, step) end,
  }
end

local function add_exponential(name, rate)
  add(name, { "speed", "x1", "x2", "x3", "x4", "x5", "x6" }, function(params, step)
    local q = hartmann(params)
    return q + 2 * math.exp(-rate(q, params) * step ^ 0.8)
  end)
end

add_exponential("parallel", function() return 0.3 end)
add_exponential("crossing", function(_, params) return 0.08 * 10 ^ params.speed end)
add_exponential("misleading", function(q) return 0.12 + 0.6 * q end)
add("power", { "height", "speed", "x1", "x2", "x3", "x4" }, function(params, step)
  return rosenbrock(params) + (1 + params.height) * step ^ -(0.5 + 1.5 * params.speed)
end)
add("tempting", { "speed", "other", "x1", "x2" }, function(params, step)
  return branin(params) + 0.2 * params.speed ^ 2 + 0.1 * (params.other - 0.3) ^ 2
    + 1.5 * math.exp(-0.06 * 20 ^ params.speed * step ^ 0.8)
end)

return curves
