-- sweep/find.lua: the sweep that a person names, and what its row says.
local aims = require "pioche.aims"
local best = require "pioche.best"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local runs = require "pioche.runs"
local term = require "pioche.term"

local find = {}
local check = errors.check

local sql = [[
  SELECT w.id AS id, w.ulid AS ulid, e.name AS experiment, w.spec AS spec, w.identity AS identity,
         w.recipe_path AS recipe_path, w.state AS state, w.created_ns AS created_ns, w.ended_ns AS ended_ns,
         w.runs AS extended
    FROM sweep w JOIN experiment e ON e.id = w.experiment_id]]

local function opened(row)
  row.spec = check(json.decode(row.spec))
  return row
end

-- All of them, the newest first.
function find.all(store)
  local list = check(store:rows(sql .. " ORDER BY w.id DESC"))
  for _, row in ipairs(list) do opened(row) end
  return list
end

-- The one of an id.
function find.by_id(store, id)
  return opened(check(store:one(sql .. " WHERE w.id = ?", id)))
end

-- The newest sweep of an experiment, maybe but for one, or the one whose ULID begins so.
function find.one(store, name, except)
  local row = check(store:one(sql .. " WHERE e.name = ? AND w.id != ? ORDER BY w.id DESC LIMIT 1", name,
    except or 0))
  if row then return opened(row) end
  local upper = #name >= 4 and name:upper() or ""
  local list = check(store:rows(sql .. " WHERE substr(w.ulid, 1, ?) = ? ORDER BY w.id", #upper, upper))
  if upper ~= "" and #list == 1 then return opened(list[1]) end
  if upper ~= "" and #list > 1 then
    errors.raise("invalid", "sweep: '%s' is the beginning of %d ULIDs: expected more of it", name, #list)
  end
  local names = {}
  for i, item in ipairs(check(store:rows("SELECT DISTINCT e.name AS name FROM sweep w JOIN experiment e"
    .. " ON e.id = w.experiment_id ORDER BY 1"))) do names[i] = item.name end
  errors.raise("not_found", "sweep: there is no sweep '%s'%s", name, errors.suggestion(name, names))
end

-- "asha (eta=3, max=400, min=50)"; the options of a plug-in may be none.
function find.text(plugin)
  local words = {}
  for _, name in ipairs(fields.sorted(plugin.options or {})) do
    local value = plugin.options[name]
    local is_digest = type(value) == "string" and #value == 64 and value:match("^%x+$")
    words[#words + 1] = name .. "=" .. (is_digest and value:sub(1, 12) or type(value) == "string" and value
      or type(value) == "table" and json.encode(value) or fields.show(value))
  end
  return plugin.name .. (#words > 0 and (" (%s)"):format(table.concat(words, ", ")) or "")
end

-- How many points its sampler proposed, is to propose (nil: it says itself), and how many a
-- person put in.
function find.points(store, sweep)
  local row = check(store:one("SELECT count(*) FILTER (WHERE number > 0) AS made,"
    .. " count(*) FILTER (WHERE number < 0) AS enqueued FROM proposal WHERE sweep_id = ?", sweep.id))
  local options = sweep.spec.search.options or {}
  local wanted = options.runs and math.max(options.runs, sweep.extended or 0)
  return row.made, wanted, row.enqueued
end

-- Its runs by status: an array of { status, n }, and their sum.
function find.counts(store, sweep)
  local list, total = check(store:rows([[SELECT r.status AS status, count(*) AS n FROM run r
    WHERE r.id IN (SELECT run_id FROM proposal_run WHERE sweep_id = ?) GROUP BY 1 ORDER BY 1]], sweep.id)), 0
  for _, item in ipairs(list) do total = total + item.n end
  return list, total
end

local best_looked_at = 100
local best_sql = [[SELECT r.id AS id, e.name || '-' || r.number AS name, s.last AS value, q.number AS point
    FROM %s s JOIN proposal_run p ON p.run_id = s.run_id AND p.sweep_id = ?2
    JOIN run r ON r.id = p.run_id JOIN experiment e ON e.id = r.experiment_id
    JOIN proposal q ON q.sweep_id = p.sweep_id AND q.number = p.number
    WHERE s.key = ?1 AND r.status = 'finished' AND s.last IS NOT NULL
      AND coalesce(json_extract(q.observation, '$.violation'), 0) = 0
      AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.run_id = r.id AND t.name = 'aside')
      AND s.rank = (SELECT min(rank) FROM series t WHERE t.run_id = s.run_id AND t.key = s.key)
    ORDER BY s.last %s, r.id LIMIT %d]]

-- The finished run that is best by the goal, of several by the first, and violates nothing
-- (best.lua): { id, name, value, mean and seeds where its point has several }; nil where none is.
function find.best(store, sweep)
  local goal, has_seeds = sweep.spec.goal, best.has_seeds(sweep.spec)
  if not goal then return nil end
  local order = goal.goal == "maximize" and "DESC" or "ASC"
  -- It is nearly always among the first few of all that have the key, whose ever they are.
  local first = "(SELECT run_id, key, rank, last FROM series WHERE key = ?1 AND last IS NOT NULL"
    .. (" ORDER BY last %s, run_id LIMIT %d)"):format(order, best_looked_at)
  local rows = has_seeds and {} or check(store:rows(best_sql:format(first, order, 1), goal.key, sweep.id))
  if #rows == 0 then
    rows = check(store:rows(best_sql:format("series", order, has_seeds and -1 or 1), goal.key, sweep.id))
  end
  for _, row in ipairs(rows) do row.loss = aims.loss(goal, row.value) end
  local found, mean, seeds = best.of(rows)
  if not found then return nil end
  return { id = found.id, name = found.name, value = found.value, seeds = seeds > 1 and seeds or nil,
    mean = seeds > 1 and aims.loss(goal, mean) or nil }
end

-- Of each rung: { step, came, go, promoted (of those that went on, after a pause), paused (and
-- not promoted), stop, best, bound (the worst that went on) }.
function find.rungs(store, sweep)
  local up = sweep.spec.goal and sweep.spec.goal.goal == "maximize"
  return check(store:rows(([[SELECT step, count(*) AS came,
      count(*) FILTER (WHERE verdict = 'go' OR promoted_ns IS NOT NULL) AS go,
      count(promoted_ns) AS promoted,
      count(*) FILTER (WHERE verdict = 'pause' AND promoted_ns IS NULL) AS paused,
      count(*) FILTER (WHERE verdict = 'stop') AS stop, %s(value) AS best,
      %s(value) FILTER (WHERE verdict = 'go' OR promoted_ns IS NOT NULL) AS bound
    FROM rung WHERE sweep_id = ? GROUP BY step ORDER BY step]]):format(up and "max" or "min",
    up and "min" or "max"), sweep.id))
end

-- Steps that its runs came to, and those they would have come to if each had gone as far as
-- the furthest: nil where nothing was logged.
function find.steps(store, sweep)
  local goal = sweep.spec.goal
  if not goal then return nil end
  local row = check(store:one([[SELECT sum(step) AS taken, max(step) * count(*) AS whole FROM (
    SELECT max(s.last_step) AS step FROM series s WHERE s.key = ? AND s.run_id IN
      (SELECT run_id FROM proposal_run WHERE sweep_id = ?) GROUP BY s.run_id)]], goal.key, sweep.id))
  return row.taken, row.whole
end

-- The parameters of a run by name.
function find.params(store, run_id)
  return runs.load(store, { run_id }, { params = true })[1].params
end

-- What was changed of a sweep, as the value, or in words with what goes on with it.
function find.say(ctx, sweep, value, text)
  if ctx.json then
    ctx.out(ctx.encode(value) .. "\n")
  else
    ctx.out(term.clean(("%s: %s; `pioche run %s` goes on with it"):format(sweep.experiment, text,
      sweep.recipe_path)) .. "\n")
  end
end

return find
