-- Learning curves that are functions of six parameters: how good the end is, is Hartmann's
-- function of them (0 is the best), and how fast it is come to differs.
--   parallel    all fall alike: what leads early leads late
--   crossing    a parameter of its own decides on the speed, and on nothing else
--   misleading  the better the end, the slower: at a third of the way the worst lead
local curves = { steps = 81 }

local a = { { 10, 3, 17, 3.5, 1.7, 8 }, { 0.05, 10, 17, 0.1, 8, 14 }, { 3, 3.5, 1.7, 10, 17, 8 },
  { 17, 8, 0.05, 10, 0.1, 14 } }
local p = { { 1312, 1696, 5569, 124, 8283, 5886 }, { 2329, 4135, 8307, 3736, 1004, 9991 },
  { 2348, 1451, 3522, 2883, 3047, 6650 }, { 4047, 8828, 8732, 5743, 1091, 381 } }
local c = { 1, 1.2, 3, 3.2 }

-- 0 at the optimum, 1 far away.
local function quality(params)
  local sum = 0
  for i = 1, 4 do
    local inner = 0
    for j = 1, 6 do inner = inner + a[i][j] * (params["x" .. j] - p[i][j] / 10000) ^ 2 end
    sum = sum + c[i] * math.exp(-inner)
  end
  return 1 - sum / 3.32236801141551
end

function curves.space(space)
  local result = { speed = space.uniform(0, 1) }
  for j = 1, 6 do result["x" .. j] = space.uniform(0, 1) end
  return result
end

-- Nearly normal, a function of run and step.
local function noise(run, step)
  local sum = 0
  for i = 1, 4 do sum = sum + (math.sin(run * 12.9898 + step * 4.1414 + i * 78.233) * 43758.5453) % 1 end
  return (sum - 2) * 1.7
end

local function add(name, rate)
  local function smooth(params, step)
    local q = quality(params)
    return q + 2 * math.exp(-rate(q, params) * step ^ 0.8)
  end
  curves[name] = {
    worth = function(params) return smooth(params, curves.steps) end,
    loss = function(params, step, run) return smooth(params, step) + 0.005 * noise(run, step) end,
  }
end

add("parallel", function() return 0.3 end)
add("crossing", function(_, params) return 0.08 * 10 ^ params.speed end)
add("misleading", function(q) return 0.12 + 0.6 * q end)

return curves
