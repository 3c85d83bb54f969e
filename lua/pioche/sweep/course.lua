-- sweep/course.lua: how far a sweep has come: the best so far against its points, and what is
-- still expected of more of them.
local aims = require "pioche.aims"
local axes = require "pioche.axes"
local domain = require "pioche.sweep.domain"
local errors = require "pioche.errors"
local fronts = require "pioche.fronts"
local limits = require "pioche.limits"
local sweep_core = require "pioche.core.sweep"

local course = {}
local check = errors.check

local known_max = 150          -- points that the model is told
local axes_max = 100
local learn_calls = 50         -- of the likelihood
local points_min = 10          -- before it says anything
local little = 0.01            -- what is expected, in parts of what was found, that is not worth a run
local steps_max = 12           -- of the course of several goals

-- Of one goal { { points, value, id } }, each time that the best changed. Points count in the
-- order in which they were made, whether or not they meet the constraints.
local function records(sweep, points)
  local list, best = {}, math.huge
  local goal = aims.goals(sweep.spec)[1]
  for n, loss in ipairs(points.losses[1] or {}) do
    if loss < best and points:is_feasible(n) then
      best = loss
      list[#list + 1] = { points = n, value = aims.loss(goal, best), id = points:get(n).name }
    end
  end
  return list
end

-- Of several goals { { points, part } }: the volume that was covered after so many points, in
-- parts of what all of them cover.
local function volumes(points)
  local rows, at = {}, {}
  for n = 1, points.count do
    if points:is_feasible(n) then
      rows[#rows + 1] = points:get(n).losses
      at[n] = #rows
    end
  end
  if #rows == 0 then return {} end
  local scaled, reference = fronts.scaled(rows)
  local whole, list, count = check(sweep_core.hypervolume(scaled, reference)), {}, 0
  local steps, n = math.min(steps_max, points.count), 0
  for step = 1, steps do
    for k = n + 1, points.count * step // steps do count = at[k] or count end
    n = points.count * step // steps
    local some = table.move(scaled, 1, count, 1, {})
    local volume = check(sweep_core.hypervolume(some, reference))
    list[step] = { points = n, part = whole > 0 and volume / whole or 1.0 }
  end
  return list
end

-- The course of a sweep so far. points: of sweep/outcomes.lua.
function course.so_far(sweep, points)
  if sweep.spec.goals then return volumes(points) end
  return records(sweep, points)
end

-- The best `count` of the points, in their order: a list of places.
local function best_of(points, count)
  local losses, violations, order = points.losses[1], points.violations, {}
  local function is_before(a, b)
    local x, y = violations and violations[a] or 0, violations and violations[b] or 0
    if x ~= y then return x < y end
    if losses[a] ~= losses[b] then return losses[a] < losses[b] end
    return a < b
  end
  for i = 1, points.count do
    local at = #order
    if at < count or is_before(i, order[at]) then
      while at > 0 and is_before(i, order[at]) do at = at - 1 end
      table.insert(order, at + 1, i)
      order[count + 1] = nil
    end
  end
  return order
end

-- At most so many of these points, a list: the best half of them, and the newest.
local function some_of(points)
  if points.count <= known_max then return points:list() end
  local places, kept = best_of(points, known_max // 2), {}
  for _, i in ipairs(places) do kept[i] = true end
  for i = points.count, 1, -1 do
    if #places == known_max then break end
    if not kept[i] then places[#places + 1] = i end
  end
  table.sort(places)
  for k, i in ipairs(places) do places[k] = points:get(i) end
  return places
end

-- What a Gaussian process of these points expects the next one to improve the best by, where
-- it expects most; nil where it cannot tell.
local function expected(sweep, points)
  local space = domain.axes(sweep)
  local list = space:flat()
  if #list == 0 or #list > axes_max then return nil end
  local model, slots, losses, numbers = check(sweep_core.gp(list)), {}, {}, {}
  local told = limits.new(list, #(sweep.spec.constraints or {}))
  for i, point in ipairs(points) do
    local values = axes.flat_values(list, point.params)
    numbers[i], losses[i], slots[i] = i, point.losses[1], check(model:add(values))
    told:add(values)
    told:observe(i, losses[i], { violation = point.violation, loss = losses[i],
      constraints = point.constraints })
  end
  told:apply(numbers, losses)
  check(model:learn(slots, losses, learn_calls))
  check(model:know(slots, losses, {}))
  told:learn(slots, numbers, learn_calls)
  local within = sweep.spec.constraints and told:know(slots, numbers, losses, {}) or nil
  if check(model:search(1, 1, { candidates = 1000, starts = 6, calls = 40 }, nil, within)) == 0 then return nil end
  return model:gain(1, within)
end

local function left_of_one(store, sweep, points)
  local losses = {}
  for i, loss in ipairs(points.losses[1] or {}) do
    if points:is_feasible(i) then losses[#losses + 1] = loss end
  end
  if #losses < points_min then return nil end
  table.sort(losses)
  local found = losses[(#losses + 1) // 2] - losses[1]
  if not (found > 0 and found < math.huge) then return nil end
  local some = some_of(points)
  domain.add_params(store, sweep, some)
  local gain = expected(sweep, some)
  if not gain or gain - gain ~= 0 then return nil end
  return { gain = gain, part = gain / found, is_little = gain < little * found }
end

local function left_of_several(points)
  if points.count < points_min then return nil end
  local list = volumes(points)
  if #list == 0 then return nil end
  local before = 0.0
  for _, item in ipairs(list) do
    if item.points <= points.count * 3 // 4 then before = item.part end
  end
  return { part = 1 - before, is_little = 1 - before < little }
end

-- What is left: of one goal { gain (of the next point), part (of what the best is below the
-- median), is_little }, of several { part (of the volume, which the last quarter of the points
-- added), is_little }; nil where that cannot be told.
function course.left(store, sweep, points)
  if sweep.spec.goals then return left_of_several(points) end
  return left_of_one(store, sweep, points)
end

return course
