-- sweep/outcomes.lua: what the points of a sweep came to, and which of them are best.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local sweep_core = require "pioche.core.sweep"

local outcomes = {}
local check = errors.check

local counts = "NOT EXISTS (SELECT 1 FROM tag t WHERE t.run_id = r.id AND t.name = 'aside')"

local points_sql = [[SELECT x.number AS number, x.id AS id, x.runs AS runs, e.name || '-' || f.number AS name,
    json_extract(q.observation, '$.violation') AS violation
  FROM (SELECT p.number AS number, min(r.id) AS id, count(*) AS runs FROM proposal_run p
      JOIN run r ON r.id = p.run_id
      WHERE p.sweep_id = ?1 AND r.status = 'finished' AND ]] .. counts .. [[
      GROUP BY p.number) x
  JOIN proposal q ON q.sweep_id = ?1 AND q.number = x.number
  JOIN run f ON f.id = x.id JOIN experiment e ON e.id = f.experiment_id
  ORDER BY x.id, x.number < 0, abs(x.number)]]

local values_sql = [[SELECT p.number AS number, avg(s.last) AS value, count(s.last) AS known, count(*) AS runs
  FROM proposal_run p JOIN run r ON r.id = p.run_id JOIN series s ON s.run_id = r.id AND s.key = ?
  WHERE p.sweep_id = ? AND r.status = 'finished' AND ]] .. counts .. [[
    AND s.rank = (SELECT min(rank) FROM series t WHERE t.run_id = s.run_id AND t.key = s.key)
  GROUP BY p.number]]

local function violation_of(sweep, row)
  if not sweep.spec.constraints then return nil end
  return type(row.violation) == "number" and row.violation or math.huge
end

-- Of each point whose runs finished, but for runs that are set aside: { number, id and name (of
-- its first run), runs (how many), values (a list, the mean of each goal), losses (the lower the
-- better), violation (nil: no constraint; math.huge: unknown) }, in the order in which they were
-- made; only those that have every goal. A run counts once, whoever proposed its point again.
function outcomes.of(store, sweep)
  local goals, columns = aims.goals(sweep.spec), {}
  for g, goal in ipairs(goals) do
    columns[g] = {}
    for _, row in ipairs(check(store:rows(values_sql, goal.key, sweep.id))) do
      local is_finite = row.value and row.known == row.runs and row.value - row.value == 0
      columns[g][row.number] = is_finite and row.value or nil
    end
  end
  local list, last_id = {}, nil
  for _, row in ipairs(check(store:rows(points_sql, sweep.id))) do
    local point = { number = row.number, id = row.id, name = row.name, runs = row.runs, values = {},
      losses = {}, violation = violation_of(sweep, row) }
    for g, goal in ipairs(goals) do
      point.values[g] = columns[g][row.number]
      point.losses[g] = aims.loss(goal, point.values[g])
    end
    if #point.values == #goals and #goals > 0 and row.id ~= last_id then list[#list + 1] = point end
    last_id = row.id
  end
  return list
end

function outcomes.is_feasible(point)
  return not point.violation or point.violation <= 0
end

-- Those that meet the constraints.
function outcomes.feasible(points)
  local list = {}
  for _, point in ipairs(points) do
    if outcomes.is_feasible(point) then list[#list + 1] = point end
  end
  return list
end

-- Those that nothing beats in every goal, among those that meet the constraints; by the first
-- goal, the best first.
function outcomes.front(points)
  local fine, rows, list = outcomes.feasible(points), {}, {}
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
