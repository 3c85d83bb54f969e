-- scaling.lua: scaling laws of a ladder's points: fits, what they predict, and the sizes that
-- make the most of a computing budget, with intervals.
--
-- Hoffmann et al., "Training Compute-Optimal Large Language Models", arXiv:2203.15556: approach 3 is
-- the law L(N, D) = E + A N^-alpha + B D^-beta (core/sweep/law.h), approach 2 a parabola of the loss in
-- log N for each budget. Intervals are of 95 %, by a bootstrap of residuals; for few points they are
-- wider by what Student's distribution is wider than the normal one.
local core = require "pioche.core.sweep"
local stats = require "pioche.stats"

local scaling = {}

local numbers_of = { both = 5, size = 3, tokens = 3 } -- of a law with these terms
local normal95 = 1.959964

scaling.points_min = 4
scaling.flops_per_token = 6    -- of a parameter, for training: forward 2, backward 4

-- The value below which a part of a sorted list is, between two of it in proportion.
local function quantile(sorted, part)
  local at = 1 + (#sorted - 1) * part
  local low = math.floor(at)
  local above = sorted[math.min(low + 1, #sorted)]
  return sorted[low] + (above - sorted[low]) * (at - low)
end

-- The middle 95 % of these numbers, `wider` times as far from `center`.
local function interval(values, center, wider)
  table.sort(values)
  local low, high = quantile(values, 0.025), quantile(values, 0.975)
  return center + (low - center) * wider, center + (high - center) * wider
end

-- The law of points { size, tokens, loss }: { E, A, B, alpha, beta, terms, samples, count, wider };
-- nil and why, where there are too few or one is no point.
function scaling.fit(points, samples, seed)
  if #points < scaling.points_min then
    return nil, ("a law needs %d points, and there are %d"):format(scaling.points_min, #points)
  end
  local sizes, tokens, losses = {}, {}, {}
  for i, point in ipairs(points) do
    sizes[i], tokens[i], losses[i] = point.size, point.tokens, point.loss
  end
  local law, why = core.law(sizes, tokens, losses, samples, seed)
  if not law then return nil, why end
  law.count = #points
  law.wider = stats.t95(#points - numbers_of[law.terms]) / normal95
  return law
end

-- What a law says of a size and tokens, its noise with it: { value, low, high }.
function scaling.predict(law, size, tokens)
  local value, logs = core.law_at(law, size, tokens), {}
  for i, sample in ipairs(law.samples) do
    logs[i] = core.log(core.law_at(sample, size, tokens)) + sample.noise
  end
  local low, high = interval(logs, core.log(value), law.wider)
  return { value = value, low = core.exp(low), high = core.exp(high) }
end

-- An exponent or E of a law: { value, low, high }.
function scaling.number(law, name)
  local values = {}
  for i, sample in ipairs(law.samples) do values[i] = sample[name] end
  local low, high = interval(values, law[name], law.wider)
  return { value = law[name], low = math.max(0, low), high = high }
end

-- ---- what to make of a budget ------------------------------------------------------------

-- log N of the size that a law makes the most of `budget` with, which pays for
-- budget / (flops N) tokens: where both terms fall alike.
local function log_optimum(law, budget, flops)
  local factor = core.log(law.alpha * law.A / (law.beta * law.B))
  return (factor + law.beta * core.log(budget / flops)) / (law.alpha + law.beta)
end

-- The frontier at these budgets: { exponent (of N in the budget), rows = { { budget, size, tokens,
-- loss } } }, each { value, low, high } but the budget; nil where the law has one term alone.
function scaling.frontier(law, budgets, flops)
  if law.terms ~= "both" then return nil end
  local function exponent(one) return one.beta / (one.alpha + one.beta) end
  local values, result = {}, { rows = {} }
  for i, sample in ipairs(law.samples) do values[i] = exponent(sample) end
  local low, high = interval(values, exponent(law), law.wider)
  result.exponent = { value = exponent(law), low = math.max(0, low), high = math.min(1, high) }
  for i, budget in ipairs(budgets) do
    local center, logs = log_optimum(law, budget, flops), {}
    for k, sample in ipairs(law.samples) do logs[k] = log_optimum(sample, budget, flops) end
    local below, above = interval(logs, center, law.wider)
    local per_size = budget / flops
    local size = { value = core.exp(center), low = core.exp(below), high = core.exp(above) }
    local tokens = { value = per_size / size.value, low = per_size / size.high, high = per_size / size.low }
    result.rows[i] = { budget = budget, size = size, tokens = tokens,
      loss = scaling.predict(law, size.value, tokens.value) }
  end
  return result
end

-- ---- curves of one budget (approach 2) -----------------------------------------------------

-- Least squares of y = a + b x + c x^2 about the mean of x: a, b, c, that mean.
local function parabola(xs, ys)
  local n, mean = #xs, 0.0
  for _, x in ipairs(xs) do mean = mean + x / n end
  local s1, s2, s3, s4, t0, t1, t2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
  for i, x in ipairs(xs) do
    local z, y = x - mean, ys[i]
    s1, s2, s3, s4 = s1 + z, s2 + z * z, s3 + z * z * z, s4 + z * z * z * z
    t0, t1, t2 = t0 + y, t1 + z * y, t2 + z * z * y
  end
  local d = n * (s2 * s4 - s3 * s3) - s1 * (s1 * s4 - s3 * s2) + s2 * (s1 * s3 - s2 * s2)
  local a = (t0 * (s2 * s4 - s3 * s3) - s1 * (t1 * s4 - s3 * t2) + s2 * (t1 * s3 - s2 * t2)) / d
  local b = (n * (t1 * s4 - t2 * s3) - t0 * (s1 * s4 - s3 * s2) + s2 * (s1 * t2 - t1 * s2)) / d
  local c = (n * (s2 * t2 - s3 * t1) - s1 * (s1 * t2 - s2 * t1) + t0 * (s1 * s3 - s2 * s2)) / d
  return a, b, c, mean
end

-- Slope and height at 0 of the line through points, by least squares.
local function line(xs, ys)
  local n, mx, my, xx, xy = #xs, 0.0, 0.0, 0.0, 0.0
  for i, x in ipairs(xs) do mx, my = mx + x / n, my + ys[i] / n end
  for i, x in ipairs(xs) do xx, xy = xx + (x - mx) * (x - mx), xy + (x - mx) * (ys[i] - my) end
  return xy / xx, my - xy / xx * mx
end

-- Lowest points of the parabolas of these curves with losses ys(curve), { budget, log_size }; those
-- that open downwards have none.
local function valleys(curves, ys)
  local list = {}
  for _, curve in ipairs(curves) do
    local _, b, c, mean = parabola(curve.xs, ys(curve))
    if c > 0 then
      local at = mean - b / (2 * c)
      -- far outside of what was measured there is nothing to be seen
      local span = curve.xs[#curve.xs] - curve.xs[1]
      at = math.max(curve.xs[1] - span, math.min(curve.xs[#curve.xs] + span, at))
      list[#list + 1] = { curve = curve, log_size = at }
    end
  end
  return list
end

local function slope_of(list)
  local xs, ys = {}, {}
  for i, item in ipairs(list) do xs[i], ys[i] = core.log(item.curve.budget), item.log_size end
  if #xs < 2 then return nil end
  return line(xs, ys)
end

-- Residuals of all parabolas, scaled for the three numbers that each took.
local function residuals_of(curves)
  local list = {}
  for _, curve in ipairs(curves) do
    local a, b, c, mean = parabola(curve.xs, curve.ys)
    curve.fitted = {}
    for i, x in ipairs(curve.xs) do
      local z = x - mean
      curve.fitted[i] = a + b * z + c * z * z
      local grow = #curve.xs > 3 and math.sqrt(#curve.xs / (#curve.xs - 3)) or 0
      list[#list + 1] = grow > 0 and (curve.ys[i] - curve.fitted[i]) * grow or nil
    end
  end
  return list
end

-- Curves of at least three sizes each, by budget; those of fewer are left out.
local function curves_of(points)
  local by_budget, curves = {}, {}
  for _, point in ipairs(points) do
    if point.budget then
      local curve = by_budget[point.budget]
      if not curve then
        curve = { budget = point.budget, xs = {}, ys = {}, list = {} }
        by_budget[point.budget], curves[#curves + 1] = curve, curve
      end
      table.insert(curve.list, point)
    end
  end
  for i = #curves, 1, -1 do
    local curve = curves[i]
    table.sort(curve.list, function(a, b) return a.size < b.size end)
    for k, point in ipairs(curve.list) do curve.xs[k], curve.ys[k] = core.log(point.size), point.loss end
    if #curve.list < 3 or curve.xs[1] == curve.xs[#curve.xs] then table.remove(curves, i) end
  end
  table.sort(curves, function(a, b) return a.budget < b.budget end)
  return curves
end

-- Of points with a budget each: { rows = { { budget, size, tokens } }, exponent = { value, low, high }
-- (of N in the budget, nil where fewer than two budgets have a lowest point) }; low and high are
-- nil where no budget has more than three sizes. nil where no budget has three.
function scaling.isoflop(points, flops, samples, seed)
  local curves = curves_of(points)
  if #curves == 0 then return nil end
  local found = valleys(curves, function(curve) return curve.ys end)
  local result = { rows = {} }
  for i, item in ipairs(found) do
    local size = core.exp(item.log_size)
    result.rows[i] = { budget = item.curve.budget, size = size, tokens = item.curve.budget / (flops * size) }
  end
  local slope = slope_of(found)
  if not slope then return result end
  result.exponent = { value = slope }
  local residuals, slopes = residuals_of(curves), {}
  for k = 1, #residuals > 0 and samples or 0 do
    local at = 0
    local again = valleys(curves, function(curve)
      local ys = {}
      for i, value in ipairs(curve.fitted) do
        at = at + 1
        ys[i] = value + residuals[core.integer(seed, k, "isoflop " .. at, 1, #residuals)]
      end
      return ys
    end)
    slopes[#slopes + 1] = slope_of(again)
  end
  if #slopes > 10 then result.exponent.low, result.exponent.high = interval(slopes, slope, 1) end
  return result
end

return scaling
