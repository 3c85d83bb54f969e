-- sweep/weights.lua: how much each parameter of a sweep matters.
--
-- ped: how far the best tenth of the points differs from all of them in that parameter
-- (core/sweep/pedanova.h); milliseconds. fanova: the part of the variance over the whole space
-- that is due to it alone, by a random forest (core/sweep/forest.h). Both see logarithmic
-- parameters on their logarithm; those of a branch are weighed among the points that have them.
local axes = require "pioche.axes"
local domain = require "pioche.sweep.domain"
local errors = require "pioche.errors"
local fronts = require "pioche.fronts"
local sweep_core = require "pioche.core.sweep"

local weights = { good_part = 0.1, points_min = 4, trees = 64 }
local check = errors.check

local forest_points_max = 2000 -- a forest of more takes long, and says no more
local choices_max = 64         -- of an axis of a forest

-- ---- which points are good -------------------------------------------------------------------

local function violation_of(point)
  return point.violation or 0
end

-- Numbers of the points from the best on: what violates constraints is last.
local function by_loss(points)
  local order = {}
  for i in ipairs(points) do order[i] = i end
  table.sort(order, function(a, b)
    local x, y = points[a], points[b]
    if violation_of(x) ~= violation_of(y) then return violation_of(x) < violation_of(y) end
    if x.losses[1] ~= y.losses[1] then return x.losses[1] < y.losses[1] end
    return a < b
  end)
  return order
end

-- Of one goal the best tenth, with all that are as good as the last of it.
local function best_of_one(points, wanted)
  local order, set = by_loss(points), {}
  local last = points[order[wanted]]
  for _, i in ipairs(order) do
    local point = points[i]
    if violation_of(point) < violation_of(last) or violation_of(point) == violation_of(last)
      and point.losses[1] <= last.losses[1] then set[i] = true end
  end
  return set
end

-- The good ones of these points: a set of their places.
function weights.good(points)
  local wanted = math.ceil(weights.good_part * #points)
  if #points[1].losses == 1 then return best_of_one(points, wanted) end
  local told, set = fronts.new(weights.good_part), {}
  for i, point in ipairs(points) do
    told:observe(i, nil, { values = point.losses, violation = violation_of(point) })
  end
  told:changes()
  for i in ipairs(points) do set[i] = told:value(i) and true or nil end
  return set
end

-- ---- the two ways ------------------------------------------------------------------------------

-- In parts of their sum; as they are where that is 0.
local function scale(list)
  local sum = 0
  for _, item in ipairs(list) do sum = sum + item.importance end
  for _, item in ipairs(list) do item.importance = sum > 0 and item.importance / sum or 0.0 end
  table.sort(list, function(a, b)
    if a.importance ~= b.importance then return a.importance > b.importance end
    if a.name ~= b.name then return a.name < b.name end
    return (a.when or "") < (b.when or "")
  end)
  return list
end

local function count(set)
  local n = 0
  for _ in next, set do n = n + 1 end
  return n
end

-- What the good points have of a parameter: { low, high }, or of a choice { value, part }.
local function seen_in(parameter, good)
  if #good == 0 then return nil end
  if parameter.domain.kind ~= "choice" then
    return { low = math.min(table.unpack(good)), high = math.max(table.unpack(good)) }
  end
  local counts, best = {}, nil
  for _, value in ipairs(good) do
    counts[value] = (counts[value] or 0) + 1
    if not best or counts[value] > counts[best] or counts[value] == counts[best] and value < best then
      best = value
    end
  end
  return { value = domain.value(parameter, best), part = counts[best] / #good }
end

-- Values of a parameter in these points: all, and those of the good ones.
local function values_of(group, points, good)
  local all, fine = {}, {}
  for i, point in ipairs(points) do
    local values = axes.values(group, point.params)
    if values then
      all[#all + 1] = values[1]
      if good[i] then fine[#fine + 1] = values[1] end
    end
  end
  return all, fine
end

-- Of each parameter { name, when, importance, good, points }, the most important first.
function weights.ped(sweep, points)
  local good, list = weights.good(points), {}
  local good_count = count(good)
  for _, group in ipairs(domain.axes(sweep, true).groups) do
    local parameter = group.parameters[1]
    local all, fine = values_of(group, points, good)
    local importance = 0.0
    if #all >= 2 and #fine > 0 then
      -- of a branch: how likely it is among the good ones counts, too
      local here, there = #fine / good_count, #all / #points
      importance = here * here / there * check(sweep_core.divergence(group.axes, fine, all))
    end
    list[#list + 1] = { name = parameter.name, when = domain.when(parameter), importance = importance,
      good = seen_in(parameter, fine), points = #all }
  end
  return scale(list), good_count
end

-- The groups that are there wherever `group` is, itself among them.
local function groups_with(all, group)
  local list = {}
  for _, other in ipairs(all) do
    local is_there = true
    for _, condition in ipairs(other.conditions) do
      local is_met = false
      for _, own in ipairs(group.conditions) do
        is_met = is_met or own.name == condition.name and own.value == condition.value
      end
      is_there = is_there and is_met
    end
    if is_there then list[#list + 1] = other end
  end
  return list
end

-- Points with what a forest of these groups reads of them; at most so many, evenly spread.
local function rows_of(groups, points)
  local rows, values = {}, {}
  for _, point in ipairs(points) do
    local row = {}
    for _, group in ipairs(groups) do
      local own = row and axes.values(group, point.params)
      row = own and table.move(own, 1, #own, #row + 1, row) or nil
      if not row then break end
    end
    if row then rows[#rows + 1], values[#values + 1] = row, point.losses[1] end
  end
  if #rows <= forest_points_max then return rows, values end
  local some, their = {}, {}
  for i = 1, forest_points_max do
    local at = 1 + (i - 1) * (#rows - 1) // (forest_points_max - 1)
    some[i], their[i] = rows[at], values[at]
  end
  return some, their
end

function weights.fanova(sweep, points)
  local groups, list = domain.axes(sweep).groups, {}
  for _, group in ipairs(groups) do
    local with, flat, first = groups_with(groups, group), {}, 0
    for _, other in ipairs(with) do
      if other == group then first = #flat end
      table.move(other.axes, 1, #other.axes, #flat + 1, flat)
    end
    for _, axis in ipairs(flat) do
      if axis.kind == "choice" and axis.high > choices_max then
        errors.raise("unsupported", "--fanova: a parameter has %d choices, at most %d are weighed", axis.high,
          choices_max)
      end
    end
    local rows, values = rows_of(with, points)
    local found = #rows > 1 and check(sweep_core.forest(flat, rows, values, weights.trees, 1)) or {}
    for i, parameter in ipairs(group.parameters) do
      list[#list + 1] = { name = parameter.name, when = domain.when(parameter),
        importance = found[first + i] or 0.0, points = #rows }
    end
  end
  table.sort(list, function(a, b)
    if a.importance ~= b.importance then return a.importance > b.importance end
    return a.name < b.name
  end)
  return list
end

return weights
