-- sweep/outcomes.lua: what the points of a sweep came to, and which of them are best.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local sweep_core = require "pioche.core.sweep"

local outcomes = {}
local methods = {}
methods.__index = methods

local check = errors.check

-- A run counts unless it is set aside. What a point's first run is called stands in the row of the lowest id.
local points_sql = [[
  SELECT p.number AS number, min(r.id) AS id, count(*) AS runs, e.name || '-' || r.number AS name, %s
    FROM proposal_run p JOIN run r ON r.id = p.run_id JOIN experiment e ON e.id = r.experiment_id
    %s
   WHERE p.sweep_id = ?1 AND r.status = 'finished' AND r.id NOT IN (SELECT run_id FROM tag WHERE name = 'aside')
   GROUP BY p.number ORDER BY 2, p.number < 0, abs(p.number)]]

-- The mean of a goal over the runs that logged it, NULL where that is no finite number.
local value_sql = "iif(count(s%d.last) = count(s%d.rank) AND abs(avg(s%d.last)) < 9e999, avg(s%d.last), NULL)"
  .. " AS value%d"
local series_sql = "LEFT JOIN series s%d ON s%d.run_id = r.id AND s%d.key = ?%d AND s%d.rank ="
  .. " (SELECT min(rank) FROM series t WHERE t.run_id = r.id AND t.key = ?%d)"

local function rows_of(store, sweep, goals)
  local keys, values, joins = {}, {}, {}
  for g, goal in ipairs(goals) do
    keys[g] = goal.key
    values[g] = value_sql:gsub("%%d", g)
    joins[g] = series_sql:gsub("%?%%d", "?" .. g + 1):gsub("%%d", g)
  end
  if sweep.spec.constraints then
    values[#values + 1] = "json_extract(q.observation, '$.violation') AS violation"
    joins[#joins + 1] = "JOIN proposal q ON q.sweep_id = p.sweep_id AND q.number = p.number"
  end
  return check(store:columns(points_sql:format(table.concat(values, ", "), table.concat(joins, " ")), sweep.id,
    table.unpack(keys)))
end

-- The points whose runs finished, but for runs that are set aside, in the order in which they were
-- made; only those that have every goal. A run counts once, whoever proposed its point again. count: how
-- many there are; losses: of each goal a list, the lower the better; violations (nil: no
-- constraint): a list.
function outcomes.of(store, sweep)
  local goals, count, last_id = aims.goals(sweep.spec), 0, nil
  local self = setmetatable({ goals = goals, places = {}, losses = {}, violations = sweep.spec.constraints and {} },
    methods)
  for g in ipairs(goals) do self.losses[g] = {} end
  self.rows = #goals > 0 and rows_of(store, sweep, goals) or { id = {} }
  local rows, columns = self.rows, {}
  for g in ipairs(goals) do columns[g] = rows["value" .. g] end
  for place = 1, #rows.id do
    local id, is_whole = rows.id[place], true
    for g, goal in ipairs(goals) do
      local value = columns[g][place]
      self.losses[g][count + 1], is_whole = aims.loss(goal, value), is_whole and value ~= nil
    end
    if is_whole and id ~= last_id then
      count = count + 1
      self.places[count] = place
      if self.violations then
        local violation = rows.violation[place]
        self.violations[count] = type(violation) == "number" and violation or math.huge
      end
    end
    last_id = id
  end
  for g in ipairs(goals) do self.losses[g][count + 1] = nil end
  self.count = count
  return self
end

-- One of them: { number, id and name (of its first run), runs (how many), values (a list, the mean of
-- each goal), losses, violation (nil: no constraint; math.huge: unknown) }.
function methods:get(i)
  local rows, place = self.rows, self.places[i]
  local point = { number = rows.number[place], id = rows.id[place], name = rows.name[place], runs = rows.runs[place],
    values = {}, losses = {}, violation = self.violations and self.violations[i] }
  for g in ipairs(self.goals) do
    point.values[g], point.losses[g] = rows["value" .. g][place], self.losses[g][i]
  end
  return point
end

-- All of them, a list.
function methods:list()
  local list = {}
  for i = 1, self.count do list[i] = self:get(i) end
  return list
end

-- Does one meet the constraints?
function methods:is_feasible(i)
  return not self.violations or self.violations[i] <= 0
end

-- How many do.
function methods:feasible_count()
  local count = 0
  for i = 1, self.count do count = count + (self:is_feasible(i) and 1 or 0) end
  return count
end

-- Those of a list that do.
function outcomes.feasible(points)
  local list = {}
  for _, point in ipairs(points) do
    if not point.violation or point.violation <= 0 then list[#list + 1] = point end
  end
  return list
end

-- A list of those that nothing beats in every goal, among those that meet the constraints; by the
-- first goal, the best first.
function methods:front()
  local fine, rows, list = outcomes.feasible(self:list()), {}, {}
  for i, point in ipairs(fine) do rows[i] = point.losses end
  for i, rank in ipairs(check(sweep_core.ranks(rows))) do
    if rank == 1 then list[#list + 1] = fine[i] end
  end
  table.sort(list, function(a, b)
    for g, loss in ipairs(a.losses) do
      if loss ~= b.losses[g] then return loss < b.losses[g] end
    end
    return a.number < b.number
  end)
  return list
end

return outcomes
