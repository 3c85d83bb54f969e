-- promotions.lua: were runs that a rule had paused let on in the order that the rule gives?
--
-- Each promotion is on record with the newest arrival before it. Of the arrivals up to that one
-- the rule must let this run on, if it alone waits: which others had ended by then and waited,
-- too, is the machine's affair. Where all that had been made waited or had failed, the best that
-- waits may go on all the same (judge.lua, rescue).
local errors = require "pioche.errors"

local check = errors.check
local sql = [[
  SELECT g.id AS id, g.run_id AS run_id, e.name || '-' || r.number AS run, g.step AS step, g.value AS value,
         g.verdict AS verdict, g.promoted_ns AS promoted_ns, g.promoted_after AS promoted_after
    FROM rung g JOIN run r ON r.id = g.run_id JOIN experiment e ON e.id = r.experiment_id
   WHERE g.sweep_id = ? ORDER BY g.id]]

-- Had every run that was made by then failed, or did it wait, this one the best of the highest
-- rung? made: the runs of the sweep.
local function is_rescue(made, list, row)
  local waiting = {}
  for step, arrivals in next, list do
    for _, other in ipairs(arrivals) do
      local waits = other.verdict == "pause" and not other.is_promoted
      if waits and (step > row.step or step == row.step and other.loss < row.loss) then return false end
      if waits then waiting[other.run_id] = true end
    end
  end
  for _, run in ipairs(made) do
    local has_failed = run.status == "failed" or run.status == "cancelled"
    if run.created_ns < row.promoted_ns and not has_failed and not waiting[run.id] then return false end
  end
  return true
end

local function is_due(rule, made, list, row)
  local arrivals = list[row.step]
  return rule:promote(row.step, arrivals, function(place) return arrivals[place] == row end) ~= nil
    or is_rescue(made, list, row)
end

-- Those that went on, in their order.
local function promoted(rows)
  local list = {}
  for _, row in ipairs(rows) do
    if row.promoted_after then list[#list + 1] = row end
  end
  table.sort(list, function(a, b)
    if a.promoted_after ~= b.promoted_after then return a.promoted_after < b.promoted_after end
    if a.promoted_ns ~= b.promoted_ns then return a.promoted_ns < b.promoted_ns end
    return a.id < b.id
  end)
  return list
end

-- The first promotion that the rule would not have made: { run, step, recorded, derived }, nil
-- where there is none; and how many there are. rule: of pioche.stopping; goal: of its sweep.
return function(store, sweep_id, rule, goal)
  local rows, list, came = check(store:rows(sql, sweep_id)), {}, 0
  local made = check(store:rows("SELECT id, status, created_ns FROM run WHERE id IN (SELECT run_id"
    .. " FROM proposal_run WHERE sweep_id = ?)", sweep_id))
  local order = promoted(rows)
  for i, row in ipairs(order) do
    while rows[came + 1] and rows[came + 1].id <= row.promoted_after do
      came = came + 1
      local other = rows[came]
      other.loss = not other.value and math.huge or goal.goal == "maximize" and -other.value or other.value
      list[other.step] = list[other.step] or {}
      table.insert(list[other.step], other)
    end
    if row.verdict ~= "pause" or not row.loss or not is_due(rule, made, list, row) then
      return { run = row.run, step = row.step, recorded = "promoted", derived = row.verdict }, i - 1
    end
    row.is_promoted = true
  end
  return nil, #order
end
