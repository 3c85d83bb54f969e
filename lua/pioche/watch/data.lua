-- watch/data.lua: what `pioche watch` shows, read from the store. It reads anew only
-- when the store has changed; times that pass are reckoned from what was read.
local format = require "pioche.format"
local runs = require "pioche.runs"
local supervise = require "pioche.supervise"
local sys = require "pioche.core.sys"

local data = {}
local methods = {}
methods.__index = methods

local runs_max = 500          -- in the list: what runs, what waits, then the newest
local spark_columns = 12
local events_max = 500
local adopt_ns = 5000000000   -- between two folds of what runs without a supervisor

-- scope: { experiment = id or nil, run = id or nil }.
function data.new(store, scope)
  return setmetatable({ store = store, scope = scope, adopted_ns = sys.mono_ns(), known = {} }, methods)
end

-- What runs on its own has nobody else to fold it; where that is impossible, what is
-- there is shown. True when something may have come.
local function adopt(self)
  local now_ns = sys.mono_ns()
  if now_ns - self.adopted_ns < adopt_ns then return false end
  self.adopted_ns = now_ns
  return self.store:one("SELECT 1 FROM attempt WHERE state != 'ended' AND launcher = 'standalone' LIMIT 1")
    and pcall(self.store.adopt, self.store)
end

-- What make() gives, once for each state of the store.
local function remembered(self, key, make)
  if self.known[key] == nil then self.known[key] = make() or false end
  return self.known[key]
end

-- Has the store changed since the last call?
function methods:has_changed()
  local adopted = adopt(self)
  local version = self.store:one("PRAGMA data_version").data_version
  local holder = supervise.holder(self.store)
  local changed = adopted or version ~= self.version or (holder and holder.holder) ~= self.holder
  if changed then self.known = {} end
  self.version, self.holder = version, holder and holder.holder
  return changed
end

-- Is something open that nobody supervises, and that somebody could? A standalone program
-- looks after itself.
function methods:is_unattended()
  return not self.holder and remembered(self, "unattended", function()
    return self.store:one("SELECT 1 FROM run WHERE status IN ('running', 'queued', 'planned')"
      .. " AND identity IS NOT NULL LIMIT 1")
  end)
end

local list_sql = [[
  SELECT r.id AS id FROM run r
   WHERE (?1 IS NULL OR r.experiment_id = ?1) AND (?2 IS NULL OR r.id = ?2)
   ORDER BY CASE r.status WHEN 'running' THEN 0 WHEN 'queued' THEN 1 WHEN 'planned' THEN 2 ELSE 3 END,
            CASE WHEN r.status IN ('running', 'queued', 'planned') THEN r.id ELSE -r.id END
   LIMIT ]] .. runs_max

-- Where the newest attempt stands: its row, newest step, the step it came from.
local function add_attempts(store, list, by_id, ids)
  for row in store:each("SELECT a.*, c.step AS from_step FROM attempt a LEFT JOIN checkpoint c"
    .. " ON c.manifest_sha256 = a.resume_checkpoint WHERE a.run_id IN (SELECT value FROM json_each(?))"
    .. " ORDER BY a.number", ids) do
    by_id[row.run_id].attempt = row
  end
  for _, run in ipairs(list) do
    if run.status == "running" then
      run.step = store:one("SELECT max(last_step) AS step FROM series WHERE run_id = ?", run.id).step
    end
  end
end

-- The series that stands for the run: its goal's, else the first that its program logged.
local function add_series(store, list)
  for _, run in ipairs(list) do
    local sql = "SELECT id, key, last, last_step, count FROM series WHERE run_id = ?"
    run.series = run.goal_key and store:one(sql .. " AND key = ? ORDER BY rank LIMIT 1", run.id, run.goal_key)
      or not run.goal_key and store:one(sql .. " AND count > 0 AND (key < 'sys/' OR key >= 'sys0')"
        .. " ORDER BY key, rank LIMIT 1", run.id) or nil
    run.step = run.step or run.series and run.series.last_step
  end
end

-- Rows of the list, and how many runs of each status there are.
function methods:list()
  local ids, list, by_id = {}, {}, {}
  local experiment, run = self.scope.experiment, self.scope.run
  for i, row in ipairs(self.store:rows(list_sql, experiment, run)) do ids[i] = row.id end
  local loaded = runs.load(self.store, ids, { params = true })
  for i, item in ipairs(loaded) do list[i], by_id[item.id] = item, item end
  add_attempts(self.store, list, by_id, "[" .. table.concat(ids, ",") .. "]")
  add_series(self.store, list)
  local counts = {}
  for _, row in ipairs(self.store:rows("SELECT status, count(*) AS n FROM run"
    .. " WHERE (?1 IS NULL OR experiment_id = ?1) AND (?2 IS NULL OR id = ?2) GROUP BY status",
    experiment, run)) do
    counts[row.status] = row.n
  end
  return list, counts
end

-- A line of blocks: the course of the run's series.
function methods:spark(run)
  if not run.series or run.series.count == 0 then return "" end
  local values = {}
  for _, bucket in ipairs(self.store:buckets(run.series.id, spark_columns, {})) do
    if bucket.count > 0 then values[#values + 1] = bucket.mean end
  end
  return format.sparkline(values)
end

-- Nanoseconds until a running run has taken all its steps; nil where nobody knows.
function data.eta_ns(run)
  local steps, attempt = math.tointeger(tonumber(run.params.steps)), run.attempt
  if run.status ~= "running" or not steps or not run.step or not attempt or not attempt.started_ns then
    return nil
  end
  local from = attempt.from_step or 0
  if run.step <= from then return nil end
  local passed_ns = (run.seen_ns or sys.now_ns()) - attempt.started_ns
  return math.max(0, (steps - run.step) * passed_ns // (run.step - from))
end

-- Keys that a run logged, and the series of one.
function methods:keys(run)
  return runs.keys(self.store, run.id, 1000)
end

local function curve_of(self, run, key, columns)
  local series = self.store:one("SELECT id, last, last_step FROM series WHERE run_id = ? AND key = ?"
    .. " ORDER BY rank LIMIT 1", run.id, key)
  if not series then return nil end
  local x, y = {}, {}
  for _, bucket in ipairs(self.store:buckets(series.id, columns, {})) do
    if bucket.count > 0 then
      x[#x + 1] = bucket.first_step / 2 + bucket.last_step / 2
      y[#y + 1] = bucket.mean
    end
  end
  return { x = x, y = y, label = ("%s  last %s at step %s"):format(run.name,
    format.number(series.last), format.count(series.last_step)) }
end

function methods:curve(run, key, columns)
  return remembered(self, ("curve %d %d %s"):format(run.id, columns, key), function()
    return curve_of(self, run, key, columns)
  end)
end

local function events_of(self, run)
  local list, count = {}, 0
  for row in self.store:each("SELECT time_ns, kind, rank, step, message FROM event WHERE run_id = ?"
    .. " ORDER BY id DESC LIMIT " .. events_max, run.id) do
    count = count + 1
    list[count] = row
  end
  for i = 1, count // 2 do list[i], list[count + 1 - i] = list[count + 1 - i], list[i] end
  return list
end

-- The newest events of a run, oldest first.
function methods:events(run)
  return remembered(self, "events " .. run.id, function() return events_of(self, run) end)
end

local function ranks_of(self, run)
  local list, attempt = {}, run.attempt
  if not attempt then return list end
  for rank = 0, attempt.world_size - 1 do list[rank + 1] = { rank = rank } end
  for row in self.store:each("SELECT rank, max(last_step) AS step FROM series WHERE run_id = ?"
    .. " GROUP BY rank", run.id) do
    if list[row.rank + 1] then list[row.rank + 1].step = row.step end
  end
  for row in self.store:each("SELECT * FROM rank WHERE attempt_id = ?", attempt.id) do
    local item = list[row.rank + 1]
    if item then
      item.node, item.exit_code, item.signal = row.node, row.exit_code, row.signal
      item.stalls = row.stalls
    end
  end
  return list
end

-- Of each rank of the newest attempt: { rank, step, exit_code, signal, node, stalls }.
function methods:ranks(run)
  return remembered(self, "ranks " .. run.id, function() return ranks_of(self, run) end)
end

return data
