-- naming.lua: what a person may call a run, a set of runs or a metric.
--
-- RUN is `gpt-17`, a unique prefix of a ULID (4 characters or more), `gpt/best`
-- (by the experiment's goal; of points with several seeds by their mean, best.lua) or
-- `gpt/last`. Where several runs are wanted, an experiment's name stands for all of
-- its runs, also written `gpt/all`.
-- pioche.runs has these functions too.
local best = require "pioche.best"
local errors = require "pioche.errors"
local infeasible = require "pioche.infeasible"
local metric = require "pioche.query.metric"
local parse = require "pioche.query.parse"
local resolve = require "pioche.query.resolve"

local naming = { metric_keys = resolve.metric_keys, stats = resolve.stats }

local function experiment_names(store)
  local names = {}
  for i, row in ipairs(store:rows("SELECT name FROM experiment ORDER BY name")) do
    names[i] = row.name
  end
  return names
end

local function find_experiment(store, name)
  return store:one("SELECT id, name, goal_key, goal FROM experiment WHERE name = ?", name)
end

local function need_experiment(store, name)
  local found = find_experiment(store, name)
  if not found then
    errors.raise("not_found", "no experiment '%s'%s", name,
      errors.suggestion(name, experiment_names(store)))
  end
  return found
end

-- A metric as written by a person: KEY, then maybe @RANK or a reduction across
-- ranks, then maybe a statistic (pioche.query.resolve). A key that exists with
-- such an ending means itself, and so does one in quotes.
function naming.metric(store, text)
  local spec = resolve.metric(store, { { text = text } })
  if not spec.known and text:find("^[\"']") then
    spec = resolve.metric(store, parse.name(text).parts)
    if not spec then
      errors.raise("usage", "%s: expected a key, quoted or not, and its ending", text)
    end
  end
  if spec.unknown then errors.raise("usage", "%s: %s", text, resolve.unknown_reduction(spec.unknown)) end
  spec.text = text
  return spec
end

local best_looked_at = 100

-- What makes runs the same point but for their seed, as compare sees it; NULL of runs of no sweep.
local point_sql = [[(SELECT json_array(p.params, n.tree_id, r.program, r.launch, r.from_checkpoint)
  FROM proposal_run q JOIN proposal p USING (sweep_id, number) JOIN run r ON r.id = q.run_id
  LEFT JOIN snapshot n ON n.id = r.snapshot_id WHERE q.run_id = s.run_id ORDER BY q.sweep_id DESC LIMIT 1)]]

local seeded_sql = [[SELECT EXISTS (SELECT 1 FROM sweep WHERE experiment_id = ?
  AND (json_type(spec, '$.race') = 'object' OR json_array_length(spec, '$.seeds') > 1)) AS x]]

-- Of the runs that `sql`, without its end, finds by a key: the best, an id; nil where there is none.
-- It is nearly always among the first few of all that have the key, and then no other is looked at.
local function best_run(store, experiment, spec, sql)
  local stat = metric.stat_expr[spec.stat]
  if store:one(seeded_sql, experiment.id).x == 0 then
    local order = ("ORDER BY %s %s, s.run_id LIMIT"):format(stat, experiment.goal == "maximize" and "DESC" or "ASC")
    local best_known = ("(s.run_id, s.rank) IN (SELECT s.run_id, s.rank FROM series s WHERE s.key = ?1"
      .. " AND %s IS NOT NULL %s %d)"):format(stat, order, best_looked_at)
    local all = ("SELECT s.run_id AS id %s"):format(sql)
    local row = store:one(("%s AND %s %s 1"):format(all, best_known, order), spec.key, experiment.id)
      or store:one(("%s %s 1"):format(all, order), spec.key, experiment.id)
    return row and row.id
  end
  local list = store:rows(("SELECT s.run_id AS id, %s(%s) AS loss, %s AS point %s ORDER BY s.run_id"):format(
    experiment.goal == "maximize" and "-" or "", stat, point_sql, sql), spec.key, experiment.id)
  local found = best.of(list)
  return found and found.id
end

local function best_of(store, experiment)
  if not experiment.goal_key then
    errors.raise("invalid", "%s/best: experiment '%s' has no goal", experiment.name,
      experiment.name)
  end
  local spec = naming.metric(store, experiment.goal_key)
  -- A run that failed counts only where there is no other.
  local sql = "FROM series s WHERE s.key = ?1 AND "
    .. metric.stat_expr[spec.stat] .. " IS NOT NULL AND " .. metric.lowest_rank
    .. " AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.run_id = s.run_id AND t.name = 'aside')"
    .. " AND run_set_has((SELECT run_set(id) FROM run WHERE experiment_id = ?2%s), s.run_id)"
  local good, meets = " AND status NOT IN ('failed', 'cancelled')", ""
  if infeasible.any(store) then meets = " AND id NOT IN (" .. infeasible.sql .. ")" end
  local id = best_run(store, experiment, spec, sql:format(good .. meets))
    or best_run(store, experiment, spec, sql:format(meets))
  if not id then
    errors.raise("not_found", "%s/best: no run of '%s'%s has logged '%s'", experiment.name, experiment.name,
      meets ~= "" and " that meets its constraints" or "", spec.key)
  end
  return id
end

local function last_of(store, experiment)
  local row = store:one("SELECT id FROM run WHERE experiment_id = ? ORDER BY number DESC LIMIT 1",
    experiment.id)
  if not row then
    errors.raise("not_found", "%s/last: experiment '%s' has no runs", experiment.name,
      experiment.name)
  end
  return row.id
end

-- Id of run NUMBER of an experiment, or nil.
local function by_number(store, word)
  local name, number = word:match("^(.+)%-(%d+)$")
  number = number and math.tointeger(tonumber(number))
  if not number then return nil end
  local row = store:one("SELECT r.id FROM run r JOIN experiment e ON e.id = r.experiment_id"
    .. " WHERE e.name = ? AND r.number = ?", name, number)
  return row and row.id
end

local function by_ulid(store, word)
  local prefix = word:upper()
  if #word < 4 or #word > 26 or not prefix:match("^[0-9A-HJKMNP-TV-Z]+$") then return nil end
  local rows = store:rows("SELECT r.id, r.ulid, e.name || '-' || r.number AS name FROM run r"
    .. " JOIN experiment e ON e.id = r.experiment_id"
    .. " WHERE r.ulid >= ? AND r.ulid < ? ORDER BY r.ulid LIMIT 9", prefix, prefix .. "~")
  if #rows > 1 then
    local list = {}
    for i = 1, math.min(8, #rows) do list[i] = rows[i].ulid .. " (" .. rows[i].name .. ")" end
    if #rows > 8 then list[9] = "..." end
    errors.raise("invalid", "'%s' is the beginning of several runs: %s", word,
      table.concat(list, ", "))
  end
  return rows[1] and rows[1].id
end

local function not_found(store, word, kind)
  local name, number = word:match("^(.+)%-(%d+)$")
  local experiment = name and find_experiment(store, name)
  if experiment then
    local row = store:one("SELECT count(*) AS n, max(number) AS last FROM run"
      .. " WHERE experiment_id = ?", experiment.id)
    if row.n == 0 then
      errors.raise("not_found", "no run '%s': experiment '%s' has no runs", word, name)
    end
    errors.raise("not_found", "no run '%s': '%s' has %d run%s, the newest is %s-%d", word, name,
      row.n, row.n == 1 and "" or "s", name, row.last)
  end
  local names = experiment_names(store)
  local near = errors.nearest(name or word, names)
  local suggestion = near
    and "; did you mean '" .. near .. (number and "-" .. number or "") .. "'?" or ""
  if #names == 0 then suggestion = "; the store is empty" end
  errors.raise("not_found", "no %s '%s'%s", kind, word, suggestion)
end

local function by_suffix(store, word)
  local name, suffix = word:match("^(.+)/(%l+)$")
  if suffix == "best" then return best_of(store, need_experiment(store, name)) end
  if suffix == "last" then return last_of(store, need_experiment(store, name)) end
  return nil
end

-- Id of the one run that `word` names; raises when there is none or several.
function naming.find(store, word)
  local id = by_suffix(store, word) or by_number(store, word) or by_ulid(store, word)
  if id then return id end
  local experiment = find_experiment(store, word)
  if experiment then
    errors.raise("invalid", "'%s' is an experiment, a run is expected: %s/best, %s/last or %s-1",
      word, word, word, word)
  end
  not_found(store, word, "run")
end

-- Ids of the experiments that the words name when all of them are names of
-- experiments and of nothing else, so that their runs need not be listed.
function naming.only_experiments(store, words)
  local ids = {}
  for i, word in ipairs(words) do
    local experiment = find_experiment(store, word:match("^(.+)/all$") or word)
    if not experiment or by_number(store, word) then return nil end
    ids[i] = experiment.id
  end
  return ids
end

-- Ids of all runs that the words name, in their order, each once; and the
-- experiments among the words.
function naming.select(store, words)
  local ids, seen, experiments = {}, {}, {}
  local function add(id)
    if not seen[id] then
      seen[id] = true
      ids[#ids + 1] = id
    end
  end
  local function add_experiment(experiment)
    experiments[#experiments + 1] = experiment
    for _, id in ipairs(store:column("SELECT id FROM run WHERE experiment_id = ? ORDER BY number",
      experiment.id)) do
      add(id)
    end
  end
  for _, word in ipairs(words) do
    local whole = word:match("^(.+)/all$")
    local experiment = not whole and find_experiment(store, word)
    local id = not whole and (by_suffix(store, word) or by_number(store, word))
    if experiment and id then
      errors.raise("invalid", "'%s' is a run and an experiment; write %s/all or the run's ULID",
        word, word)
    elseif whole then
      add_experiment(need_experiment(store, whole))
    elseif experiment then
      add_experiment(experiment)
    else
      add(id or by_ulid(store, word) or not_found(store, word, "run or experiment"))
    end
  end
  return ids, experiments
end

return naming
