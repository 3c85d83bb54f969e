-- aims.lua: what a sweep is after: its goals, of which there may be several, and its
-- constraints, which what a run came to has to meet.
--
-- A constraint is a function of the recipe, of what a run came to; it is met where that gives 0
-- or less. The violation of a point is the sum of what its constraints give above 0, each at
-- the worst of its runs. One that gives no number is not met, and that is told; the point then
-- comes behind all others. What a point came to is on record with its observation.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local runs = require "pioche.runs"

local aims = {}
local check = errors.check

-- ---- goals -----------------------------------------------------------------------------

-- The goals of a sweep, or of its spec: a list of { key, goal }, maybe empty.
function aims.goals(sweep)
  return sweep.goals or sweep.goal and { sweep.goal } or {}
end

-- How many goals and constraints there are, as samplers are told, of how many points of other
-- sweeps they are to hear, and how many points are under way at a time.
function aims.of(sweep, known, workers)
  return { goals = #aims.goals(sweep), constraints = #(sweep.constraints or {}), known = known or 0,
    workers = workers }
end

-- The lower the better.
function aims.loss(goal, value)
  return value and goal and goal.goal == "maximize" and -value or value
end

-- "minimize val/loss, maximize tokens/s"
function aims.text(sweep)
  local words = {}
  for i, goal in ipairs(aims.goals(sweep)) do words[i] = goal.goal .. " " .. goal.key end
  return table.concat(words, ", ")
end

-- ---- constraints -------------------------------------------------------------------------

local penalty = 1e60           -- above any value of a goal
local penalty_max = 1e120      -- its square is a number still

-- What stands for the value of a point that violates constraints: above all others, the more
-- the more it does.
function aims.penalty(violation)
  return math.min(penalty * (1 + violation), penalty_max)
end

function aims.is_penalty(value)
  return value >= penalty
end

-- What a constraint reads of a run: m.loss, m["memory_gb@max"], m["summary/note"].
local function view(box, store, job)
  local known, names = {}, nil
  local function get(_, name)
    if type(name) ~= "string" then
      box:complain("expected the name of a metric, as m.memory_gb, got %s", fields.show(name))
    end
    if known[name] ~= nil then return known[name] end
    local ok, spec = pcall(runs.metric, store, name)
    local value = ok and runs.values(store, { job }, spec)[job.id]
    if value == nil then
      value = runs.load(store, { job.id }, { params = true })[1].params["summary/" .. name]
    end
    if value == nil then
      names = names or runs.keys(store, job.id, 40)
      box:complain("%s logged no '%s'%s", job.name, name, errors.suggestion(name, names))
    end
    known[name] = value
    return value
  end
  return setmetatable({}, { __index = get, __metatable = false,
    __newindex = function() box:complain("what a run came to cannot be changed") end })
end

-- What a constraint gives for a run; nil and what is wrong.
local function value_of(session, constraint, job)
  local box = constraint.box
  local left = box.left
  box.left = box.budget
  local ok, value = box:try(constraint.fn, view(box, session.store, job))
  box.left = left
  if not ok then return nil, value.message:match("[^\n]*") end
  if type(value) ~= "number" or value ~= value then
    return nil, ("%s:%d: the constraint gave %s for %s: expected a number, 0 or less where it is met"):format(
      constraint.at.display, constraint.at.line, type(value) == "number" and "NaN" or fields.show(value),
      job.name)
  end
  return value
end

-- What constraints give for runs of one point: { constraints = list (false: no number),
-- violation = number, or "unknown" } to be put on record.
function aims.weigh(session, sweep, jobs)
  local list, violation = {}, 0.0
  for i, constraint in ipairs(sweep.constraints) do
    local worst = -math.huge
    for _, job in ipairs(jobs) do
      local value, problem = value_of(session, constraint, job)
      if problem then
        session:note("%s; it counts as violated", problem)
        worst = nil
        break
      end
      worst = math.max(worst, value)
    end
    list[i] = worst and math.max(-penalty, math.min(penalty, worst)) or false
    violation = worst and violation and violation + math.max(0, list[i]) or nil
  end
  return { constraints = list, violation = violation or "unknown" }
end

-- The violation of an observation as samplers are told: nil where there is no constraint.
function aims.violation(observation)
  local violation = observation.violation
  return violation == "unknown" and math.huge or violation
end

-- ---- what runs came to --------------------------------------------------------------------

local newest = "SELECT last AS value FROM series WHERE run_id = ? AND key = ? ORDER BY rank LIMIT 1"

-- The newest value of each goal of a run; nil where one has none that is a finite number.
local function values_of(store, goals, job)
  local list = {}
  for g, goal in ipairs(goals) do
    local row = check(store:one(newest, job.id, goal.key))
    if not row or not row.value or row.value - row.value ~= 0 then return nil end
    list[g] = row.value
  end
  return list
end

-- The mean of each goal over those of these runs that have all of them; nil where none has.
function aims.values(store, goals, jobs)
  local sums, count = {}, 0
  for _, job in ipairs(jobs) do
    local values = values_of(store, goals, job)
    for g, value in ipairs(values or {}) do sums[g] = (sums[g] or 0) + value end
    count = count + (values and 1 or 0)
  end
  for g, sum in ipairs(sums) do sums[g] = sum / count end
  return count > 0 and sums or nil
end

return aims
