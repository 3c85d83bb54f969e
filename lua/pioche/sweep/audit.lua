-- sweep/audit.lua: what became of the runs that a rule would have stopped and that were let on
-- to their end: what the rule costs, and how good its forecasts were.
local errors = require "pioche.errors"
local format = require "pioche.format"
local json = require "pioche.core.json"

local audit = {}
local check = errors.check

local ends = [[
  SELECT e.name || '-' || r.number AS name, s.last AS value, max(g.audited) AS audited,
         (SELECT forecast FROM rung a WHERE a.sweep_id = g.sweep_id AND a.run_id = g.run_id AND a.audited
           ORDER BY a.step LIMIT 1) AS forecast
    FROM rung g JOIN run r ON r.id = g.run_id JOIN experiment e ON e.id = r.experiment_id
    JOIN series s ON s.run_id = r.id AND s.key = ?
     AND s.rank = (SELECT min(rank) FROM series t WHERE t.run_id = s.run_id AND t.key = s.key)
   WHERE g.sweep_id = ? AND r.status = 'finished' AND s.last IS NOT NULL
   GROUP BY r.id ORDER BY r.id]]

-- { runs (audited and ended), better (than the best of the others), regret (by how much at most),
-- best (of the others, nil: none ended), forecasts, within (of these, whose end was within what
-- the rule was 90 % sure of) }; nil where none was audited.
function audit.of(store, sweep)
  local goal = sweep.spec.goal
  if not goal then return nil end
  local sign = goal.goal == "maximize" and -1 or 1
  local result = { runs = 0, better = 0, regret = 0, forecasts = 0, within = 0 }
  local rows, best = check(store:rows(ends, goal.key, sweep.id)), math.huge
  for _, row in ipairs(rows) do
    if row.audited == 0 then best = math.min(best, sign * row.value) end
  end
  for _, row in ipairs(rows) do
    if row.audited == 1 then
      result.runs = result.runs + 1
      local gain = best < math.huge and best - sign * row.value or 0
      if gain > 0 then result.better, result.regret = result.better + 1, math.max(result.regret, gain) end
      local forecast = row.forecast and check(json.decode(row.forecast))
      if forecast then
        result.forecasts = result.forecasts + 1
        local is_within = row.value >= forecast.low and row.value <= forecast.high
        result.within = result.within + (is_within and 1 or 0)
      end
    end
  end
  result.best = best < math.huge and sign * best or nil
  return result.runs > 0 and result or nil
end

-- The same in words.
function audit.text(found)
  local words = ("%d that would have stopped went on: "):format(found.runs)
  if found.best then
    words = words .. (found.better == 0 and "none ended better than the best of the others, %s"
      or ("%d ended better than the best of the others, %%s, by at most %s"):format(found.better,
        format.value(found.regret))):format(format.value(found.best))
  else
    words = words .. "no other has ended"
  end
  return found.forecasts == 0 and words
    or ("%s; %d of %d forecasts were right (to 90 %%)"):format(words, found.within, found.forecasts)
end

return audit
