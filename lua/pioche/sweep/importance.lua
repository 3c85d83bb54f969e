-- sweep/importance.lua: pioche sweep importance, slice: which parameters matter, and how.
local aims = require "pioche.aims"
local axes = require "pioche.axes"
local csv = require "pioche.csv"
local domain = require "pioche.sweep.domain"
local errors = require "pioche.errors"
local find = require "pioche.sweep.find"
local format = require "pioche.format"
local json = require "pioche.core.json"
local outcomes = require "pioche.sweep.outcomes"
local recipe = require "pioche.recipe"
local runs = require "pioche.runs"
local space = require "pioche.space"
local tables = require "pioche.table"
local term = require "pioche.term"
local weights = require "pioche.sweep.weights"

local importance = {}

local bar_cells = 20
local bins_max = 8             -- of a range
local compared_min = 20        -- points, for a comparison to speak of it unasked

local function or_null(value)
  if value == nil then return json.null end
  return value
end

-- The goal that --goal names, of one that is asked for; else nil: all.
local function chosen_goal(ctx, sweep)
  local key, names = ctx.options.goal, {}
  for g, goal in ipairs(aims.goals(sweep.spec)) do
    if goal.key == key then return g end
    names[g] = goal.key
  end
  if #names == 0 then
    errors.raise("invalid", "%s: the sweep has no goal: expected one, as goal = pioche.minimize \"loss\"",
      sweep.experiment)
  elseif key then
    errors.raise("not_found", "--goal: '%s' is no goal of %s%s", key, sweep.experiment,
      errors.suggestion(key, names))
  end
  return nil
end

-- The points with their parameters, by one goal or by all; raises where they are too few.
local function load(ctx, store, sweep, least)
  local goal = chosen_goal(ctx, sweep)
  local points = outcomes.of(store, sweep):list()
  if #points < least then
    errors.raise("not_found", "%s: %d finished point%s %s logged %s: expected at least %d", sweep.experiment,
      #points, #points == 1 and "" or "s", #points == 1 and "has" or "have", aims.text(sweep.spec), least)
  end
  domain.add_params(store, sweep, points)
  for _, point in ipairs(goal and points or {}) do
    point.losses, point.values = { point.losses[goal] }, { point.values[goal] }
  end
  return points, goal and aims.goals(sweep.spec)[goal]
end

-- ---- importance ----------------------------------------------------------------------------------

local function good_text(item)
  local good = item.good
  if not good then return "" end
  if good.part then
    return ("%s (%.0f %%)"):format(runs.value_text(good.value), 100 * good.part)
  end
  return ("%s to %s"):format(format.value(good.low), format.value(good.high))
end

local function say(ctx, sweep, view)
  if ctx.json then
    local list = json.array {}
    for i, item in ipairs(view.list) do
      list[i] = { name = item.name, when = or_null(item.when), importance = item.importance,
        points = item.points, good = or_null(item.good) }
    end
    return ctx.out(ctx.encode { experiment = sweep.experiment, id = sweep.ulid, method = view.method,
      goal = view.goal, points = view.points, good = or_null(view.good), importance = list } .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "parameter", "when", "importance", "points" })
    for _, item in ipairs(view.list) do
      ctx.out(csv.line({ item.name, item.when, item.importance, item.points }, 4))
    end
    return
  end
  local rows = {}
  for i, item in ipairs(view.list) do
    local cells = math.floor(math.min(1, item.importance) * bar_cells + 0.5)
    rows[i] = { { item.name, "bold" }, ("%.3f"):format(item.importance), ("█"):rep(cells), good_text(item),
      item.when or "" }
  end
  tables.print(ctx, { { title = "parameter" }, { title = "importance", align = "right" },
    { title = "", drop = 2 }, { title = "the best have" }, { title = "when", drop = 1 } }, rows)
  ctx.out(view.text .. "\n")
end

local function all_same(points)
  for _, point in ipairs(points) do
    for g, loss in ipairs(point.losses) do
      if loss ~= points[1].losses[g] or (point.violation or 0) ~= (points[1].violation or 0) then
        return false
      end
    end
  end
  return true
end

function importance.run(ctx, words)
  local store = ctx.reading()
  local sweep = find.one(store, words[1])
  local points, goal = load(ctx, store, sweep, weights.points_min)
  local view = { points = #points, goal = goal and goal.goal .. " " .. goal.key or aims.text(sweep.spec) }
  if ctx.options.fanova then
    if not goal and sweep.spec.goals then
      errors.raise("usage", "--fanova weighs one goal, and %s has %d: expected --goal KEY", sweep.experiment,
        #sweep.spec.goals)
    end
    view.method, view.list = "fanova", weights.fanova(sweep, points)
    view.text = ("the part of the variance that is due to each alone; %d points, %d trees (fANOVA)"):format(
      #points, weights.trees)
  else
    view.method = "ped-anova"
    view.list, view.good = weights.ped(sweep, points)
    view.text = ("how far the best %d of %d points differ from all, by %s (PED-ANOVA)%s"):format(view.good,
      #points, term.clean(view.goal), view.good < 5 and "; fewer than 5: a hint, no more" or "")
  end
  if all_same(points) then view.text = view.text .. "\nall points came to the same: nothing can be told" end
  return say(ctx, sweep, view)
end

-- For compare: what matters among these parameters of the sweep, { { name, importance } }, and of
-- how many points; nil where nothing can be told, or so little that it would mislead.
function importance.of(store, sweep)
  if #aims.goals(sweep.spec) == 0 then return nil end
  local points = outcomes.of(store, sweep):list()
  if #points < compared_min or all_same(points) then return nil end
  domain.add_params(store, sweep, points)
  return weights.ped(sweep, points), #points
end

-- ---- slice ---------------------------------------------------------------------------------------

-- The groups of a parameter's name: several where branches have it each.
local function groups_of(sweep, name)
  local list, names = {}, {}
  for _, group in ipairs(domain.axes(sweep, true).groups) do
    local own = group.parameters[1].name
    names[#names + 1] = own
    if own == name then list[#list + 1] = group end
  end
  if #list == 0 then
    errors.raise("not_found", "%s: no parameter '%s' varies%s", sweep.experiment, name,
      recipe.suggestion(name, names))
  end
  return list
end

-- Which part of a domain a value is in, from 1 on, and how many there are.
local function bin_of(d, value)
  if d.kind == "choice" then return value, #d.values end
  local count = bins_max
  if d.kind == "int" then count = math.min(count, d.high - d.low + 1) end
  return math.max(1, math.min(count, math.floor(space.part_of(d, value) * count) + 1)), count
end

local function ends_of(parameter, i, count)
  local d = parameter.domain
  if d.kind == "choice" then return domain.value(parameter, i), nil end
  local low = space.at_part(d, (i - 1) / count)
  if i == count then return low, d.high end
  return low, space.at_part(d, i / count)
end

-- The bins of a parameter: { value or low and high, points, best, median, worst } for each goal.
local function bins_of(group, points, goals)
  local parameter, lists, count = group.parameters[1], {}, nil
  for _, point in ipairs(points) do
    local values = axes.values(group, point.params)
    if values then
      local i, n = bin_of(parameter.domain, values[1])
      count, lists[i] = n, lists[i] or {}
      table.insert(lists[i], point)
    end
  end
  local bins = {}
  for i = 1, count or 0 do
    local low, high = ends_of(parameter, i, count)
    local bin = { points = #(lists[i] or {}), goals = {} }
    if high == nil then bin.value = low else bin.low, bin.high = low, high end
    for g, goal in ipairs(goals) do
      local list = {}
      for k, point in ipairs(lists[i] or {}) do list[k] = point.losses[g] end
      table.sort(list)
      local function back(loss) return loss and aims.loss(goal, loss) end
      bin.goals[g] = { best = back(list[1]), median = back(list[(#list + 1) // 2]),
        worst = back(list[#list]) }
    end
    bins[i] = bin
  end
  return bins
end

local function bin_text(bin)
  if bin.low == nil then return runs.value_text(bin.value) end
  return ("%s to %s"):format(format.value(bin.low), format.value(bin.high))
end

local function slice_json(ctx, sweep, name, goals, slices)
  local list = json.array {}
  for s, slice in ipairs(slices) do
    local bins = json.array {}
    for i, bin in ipairs(slice.bins) do
      local by_goal = {}
      for g, goal in ipairs(goals) do
        by_goal[goal.key] = { best = or_null(bin.goals[g].best), median = or_null(bin.goals[g].median),
          worst = or_null(bin.goals[g].worst) }
      end
      bins[i] = { value = bin.value, low = bin.low, high = bin.high, points = bin.points, goals = by_goal }
    end
    list[s] = { when = or_null(slice.when), bins = bins }
  end
  ctx.out(ctx.encode { experiment = sweep.experiment, id = sweep.ulid, parameter = name,
    slices = list } .. "\n")
end

local function slice_table(ctx, goals, slices)
  for s, slice in ipairs(slices) do
    if s > 1 then ctx.out("\n") end
    if slice.when then ctx.out(("when %s\n"):format(term.clean(slice.when))) end
    local columns = { { title = "value" }, { title = "points", align = "right" } }
    local cells = { {}, {} }
    for i, bin in ipairs(slice.bins) do cells[1][i], cells[2][i] = bin_text(bin), tostring(bin.points) end
    for g, goal in ipairs(goals) do
      for _, what in ipairs { "best", "median", "worst" } do
        local values = {}
        for i, bin in ipairs(slice.bins) do values[i] = bin.goals[g][what] end
        columns[#columns + 1] = { title = #goals > 1 and what .. " " .. goal.key or what, align = "right",
          drop = what == "worst" and 1 or nil }
        cells[#cells + 1] = format.column(values, #slice.bins)
      end
    end
    local rows = {}
    for i in ipairs(slice.bins) do
      rows[i] = {}
      for c in ipairs(columns) do rows[i][c] = cells[c][i] end
    end
    tables.print(ctx, columns, rows)
  end
end

function importance.slice(ctx, words)
  local store = ctx.reading()
  local sweep = find.one(store, words[1])
  local groups = groups_of(sweep, words[2])
  local points, goal = load(ctx, store, sweep, 1)
  local goals, slices = goal and { goal } or aims.goals(sweep.spec), {}
  for s, group in ipairs(groups) do
    slices[s] = { when = domain.when(group.parameters[1]),
      bins = bins_of(group, outcomes.feasible(points), goals) }
  end
  if ctx.json then return slice_json(ctx, sweep, words[2], goals, slices) end
  return slice_table(ctx, goals, slices)
end

return importance
