-- sweep/compared.lua: what a comparison of runs asks of the sweep that they are of.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local find = require "pioche.sweep.find"
local importance = require "pioche.sweep.importance"
local infeasible = require "pioche.infeasible"
local sweep_core = require "pioche.core.sweep"

local compared = {}
local check = errors.check

local shown_max = 5
local points_max = 10000       -- of a sweep with more, `pioche sweep importance` tells

local function ids_of(loaded)
  local ids = {}
  for i, run in ipairs(loaded) do ids[i] = run.id end
  return ids
end

-- The newest sweep that these runs are of, all of one experiment; nil where there is none.
function compared.sweep(store, loaded)
  for _, run in ipairs(loaded) do
    if run.experiment_id ~= loaded[1].experiment_id then return nil end
  end
  local row = check(store:one("SELECT max(sweep_id) AS id FROM proposal_run WHERE run_id IN"
    .. " (SELECT value FROM json_each(?))", "[" .. table.concat(ids_of(loaded), ",") .. "]"))
  return row and row.id and find.by_id(store, row.id)
end

-- Its goals as { [key] = "minimize" or "maximize" } and in order, where there are several and no
-- other is asked for.
function compared.goals(sweep)
  local by_key, keys = {}, {}
  for i, goal in ipairs(sweep and sweep.spec.goals or {}) do
    by_key[goal.key], keys[i] = goal.goal, goal.key
  end
  return by_key, keys
end

-- Mark the rows (compare.lua) that violate a constraint.
function compared.mark_violating(store, loaded, rows)
  local outside = infeasible.of(store, ids_of(loaded))
  for _, row in ipairs(rows) do
    row.violates = false
    for _, run in ipairs(row.runs) do row.violates = row.violates or outside[run.id] or false end
  end
end

-- Where several of the columns are goals, mark the rows that no other beats in all of them; true there.
function compared.mark_front(rows, columns)
  local goals = {}
  for _, column in ipairs(columns) do
    if column.is_goal then goals[#goals + 1] = column end
  end
  if #goals < 2 then return false end
  local losses, places = {}, {}
  for i, row in ipairs(rows) do
    local list, is_whole = {}, not row.bad and not row.violates
    for g, column in ipairs(goals) do
      local mean = column.means[i]
      is_whole = is_whole and mean and mean - mean == 0
      list[g] = is_whole and aims.loss({ goal = column.goal }, mean) or nil
    end
    row.on_front = false
    if is_whole then
      losses[#losses + 1], places[#places + 1] = list, row
    end
  end
  for k, rank in ipairs(check(sweep_core.ranks(losses))) do places[k].on_front = rank == 1 end
  return true
end

-- One line on which of these parameters, those that differ, matter; nil where nothing is known.
function compared.line(store, sweep, params)
  if find.points(store, sweep) > points_max then return nil end
  local list, points = importance.of(store, sweep)
  local differs, words = {}, {}
  for _, param in ipairs(params) do differs[param.name] = true end
  for _, item in ipairs(list or {}) do
    if differs[item.name] and #words < shown_max and item.importance >= 0.01 then
      words[#words + 1] = ("%s %.0f %%"):format(item.name, 100 * item.importance)
    end
  end
  if #words == 0 then return nil end
  return ("matters: %s (PED-ANOVA, %d points of the sweep)"):format(table.concat(words, ", "), points)
end

return compared
