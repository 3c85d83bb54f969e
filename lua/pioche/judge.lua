-- judge.lua: the stopping rule of a sweep at work: what its runs had come to as they
-- passed a rung, and what the rule said, on record in the table rung.
--
-- A rule knows nothing but the arrivals before this one, in their order; both are rows,
-- so a sweep that is gone on with decides as it would have. A run passes each rung once,
-- also where it is tried again; what it does after the rung at which it is told to stop
-- is never an arrival, however late it heard.
--
-- With audit = 0.05 in its options one run in twenty is let on whatever the rule says, as long
-- as its value is a number: what came of those that would have stopped tells what the rule
-- costs. Which runs these are is a draw that their proposals' numbers fix.
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local launcher = require "pioche.launcher"
local runs = require "pioche.runs"
local sweep = require "pioche.core.sweep"

local judge = {}
local methods = {}
methods.__index = methods

local check = errors.check
local nan = 0 / 0

-- The lower the better, NaN the worst.
local function loss_of(goal, value)
  if value ~= value then return math.huge end
  return goal.goal == "maximize" and -value or value
end

-- rule: of the module `name` of pioche.stopping, made with these options; sweep_id, goal: of
-- its sweep.
function judge.new(store, sweep_id, name, rule, goal, options)
  return setmetatable({ store = store, sweep_id = sweep_id, name = name, rule = rule, goal = goal,
    audit = options and options.audit or 0, seen = {}, runs = {} }, methods)
end

-- What a rule reads of a run at a rung, the lower the better.
local function arrival(self, number, row)
  return { number = number, loss = loss_of(self.goal, row.value), best = loss_of(self.goal, row.best),
    mean = loss_of(self.goal, row.mean) }
end

-- The arrivals at a rung so far, in their order.
local function arrivals(self, step)
  local list = self.seen[step]
  if list then return list end
  list = {}
  for _, row in ipairs(check(self.store:rows([[
    SELECT g.run_id AS run_id, g.value AS value, g.best AS best, g.mean AS mean, g.verdict AS verdict,
           g.promoted_ns IS NOT NULL AS is_promoted,
           (SELECT max(number) FROM proposal_run p WHERE p.sweep_id = g.sweep_id
             AND p.run_id = g.run_id) AS number
      FROM rung g WHERE g.sweep_id = ? AND g.step = ? ORDER BY g.id]], self.sweep_id, step))) do
    local item = arrival(self, row.number, { value = row.value or nan, best = row.best or nan,
      mean = row.mean or nan })
    item.verdict, item.run_id, item.is_promoted = row.verdict, row.run_id, row.is_promoted == 1
    list[#list + 1] = item
  end
  self.seen[step] = list
  return list
end

-- What the rule knows of a run, and the last rung that it has passed with what was said
-- there: { number, params, seed, curve, step, verdict, reason }.
local function known(self, job)
  local run = self.runs[job.id]
  if not run then
    local number = check(self.store:one("SELECT number FROM proposal_run WHERE sweep_id = ? AND run_id = ?"
      .. " ORDER BY number DESC LIMIT 1", self.sweep_id, job.id))
    local last = check(self.store:one("SELECT step, verdict, reason, promoted_ns FROM rung WHERE sweep_id = ?"
      .. " AND run_id = ? ORDER BY step DESC LIMIT 1", self.sweep_id, job.id)) or { step = 0 }
    run = { number = number and number.number or 0, params = job.run.params, seed = job.run.seed,
      curve = {}, step = last.step, reason = last.reason,
      verdict = last.promoted_ns and "go" or last.verdict }
    for i, row in ipairs(check(self.store:rows("SELECT step, value FROM rung WHERE sweep_id = ?"
      .. " AND run_id = ? ORDER BY step", self.sweep_id, job.id))) do
      run.curve[i] = { step = row.step, loss = loss_of(self.goal, row.value or nan) }
    end
    self.runs[job.id] = run
  end
  return run
end

local newest = "SELECT step, value FROM point WHERE run = ? AND key = ? AND rank = ? AND step <= ?"
  .. " ORDER BY step DESC LIMIT 1"
local over_all = "SELECT min(value) AS low, max(value) AS high, avg(value) AS mean, count(value) AS known,"
  .. " count(*) AS points FROM point WHERE run = ? AND key = ? AND rank = ? AND step <= ?"

-- What a run had come to at a rung: { at_step, value, best, mean }; nil while that may
-- still change, or where nothing was logged.
local function reached(self, job, rung, step, is_over)
  local series = check(self.store:one(
    "SELECT rank, last_step FROM series WHERE run_id = ? AND key = ? ORDER BY rank LIMIT 1", job.id,
    self.goal.key))
  -- The goal may be logged after other metrics of its step.
  if not series or (series.last_step < rung and step <= rung and not is_over) then return nil end
  local point = check(self.store:one(newest, job.name, self.goal.key, series.rank, rung))
  if not point then return nil end
  local all = check(self.store:one(over_all, job.name, self.goal.key, series.rank, rung))
  return { at_step = point.step, value = point.value or nan, -- NULL: a NaN
    best = (self.goal.goal == "maximize" and all.high or all.low) or nan,
    mean = all.known == all.points and all.mean or nan }
end

-- What the rule says of a run that has come to a rung as `item`: the verdict, why, whether it
-- is one that goes on to be audited, and what the rule expects of its end. The rung becomes part
-- of the run's curve.
local function ask(self, run, rung, item, of_rung)
  run.curve[#run.curve + 1] = { step = rung, loss = item.loss }
  local verdict, why, forecast = self.rule:decide(run, rung, item, of_rung(rung), of_rung)
  if verdict == "stop" and item.loss < math.huge
    and sweep.uniform(0, run.number, "audit") < self.audit then
    return "go", "audited, else it would stop: " .. (why or "it says so"), true, forecast
  end
  return verdict, why, false, forecast
end

-- The rungs at which a run was paused, the highest first.
local function pausing(self)
  if not self.steps then
    self.steps = check(self.store:column("SELECT DISTINCT step FROM rung WHERE sweep_id = ?"
      .. " AND verdict = 'pause' ORDER BY step DESC", self.sweep_id))
  end
  return self.steps
end

local function add_pausing(self, step)
  local steps = pausing(self)
  for _, known_step in ipairs(steps) do
    if known_step == step then return end
  end
  steps[#steps + 1] = step
  table.sort(steps, function(a, b) return a > b end)
end

local function decide(self, job, run, rung, row)
  local list, item = arrivals(self, rung), arrival(self, run.number, row)
  local verdict, why, audited, forecast = ask(self, run, rung, item, function(step)
    return arrivals(self, step)
  end)
  run.step, run.verdict = rung, verdict
  run.reason = ("by %s at step %d%s"):format(self.name, rung, why and ": " .. why or "")
  row.verdict, row.reason, row.audited = verdict, run.reason, audited
  row.forecast = forecast and check(json.encode(forecast)) or nil
  check(self.store:rung_add(self.sweep_id, job.id, rung, row))
  item.verdict, item.run_id = verdict, job.id
  list[#list + 1] = item
  if verdict == "pause" then add_pausing(self, rung) end
end

-- The first rung of a run above `step`, nil where there is none.
function methods:next_rung(job, step)
  return self.rule:next_rung(known(self, job), step)
end

-- Was it this sweep's rule that told the run to stop?
function methods:has_stopped(run_id)
  return check(self.store:one("SELECT EXISTS (SELECT 1 FROM rung WHERE sweep_id = ? AND run_id = ?"
    .. " AND verdict = 'stop') AS x", self.sweep_id, run_id)).x == 1
end

-- Why the run was told to stop, nil where it was not.
function methods:stopped(job)
  local run = known(self, job)
  return run.verdict == "stop" and run.reason or nil
end

-- Why the run was paused and may not go on yet, nil where that is not so.
function methods:paused(job)
  local run = known(self, job)
  return run.verdict == "pause" and run.reason or nil
end

-- The launch of the run's next attempt: that of its sweep, or what the rule says of a run that was
-- promoted before.
function methods:launch(run_id, options)
  local shape = self.rule.launch
  if not shape or check(self.store:one("SELECT EXISTS (SELECT 1 FROM rung WHERE sweep_id = ? AND run_id = ?"
    .. " AND promoted_ns IS NOT NULL) AS x", self.sweep_id, run_id)).x == 0 then
    return options
  end
  return launcher.reshaped(options, shape)
end

-- A run that was paused at a rung, which it came to as `at`, goes on from there.
local function let_on(self, at, step)
  check(self.store:rung_promote(self.sweep_id, at.run_id, step))
  at.is_promoted, self.runs[at.run_id].verdict = true, "go"
end

-- One of these paused runs, { [id] = job }, that may go on now, which is on record from here
-- on; nil where none may.
function methods:promote(paused)
  for _, step in ipairs(pausing(self)) do
    local list = arrivals(self, step)
    local at = self.rule:promote(step, list, function(place)
      local job = paused[list[place].run_id]
      return job ~= nil and job.spec.judge == self and known(self, job).step == step
    end)
    if at then
      let_on(self, list[at], step)
      return paused[list[at].run_id]
    end
  end
  return nil
end

-- Where no run of the sweep has finished: the best of these paused runs at the highest rung
-- that has any, which may go on from here on though it is not among the best there.
function methods:rescue(paused)
  if check(self.store:one("SELECT 1 AS x FROM proposal_run p JOIN run r ON r.id = p.run_id"
    .. " WHERE p.sweep_id = ? AND r.status = 'finished' LIMIT 1", self.sweep_id)) then return nil end
  for _, step in ipairs(pausing(self)) do
    local best
    for _, at in ipairs(arrivals(self, step)) do
      local job = paused[at.run_id]
      local waits = job and job.spec.judge == self and known(self, job).step == step
      local is_better = waits and (not best or at.loss < best.loss or at.loss == best.loss and at.run_id < best.run_id)
      if is_better then best = at end
    end
    if best then
      let_on(self, best, step)
      return paused[best.run_id]
    end
  end
  return nil
end

-- A run is at `step`, or it is over: at each rung that it passed meanwhile the rule is
-- asked. Why it is to stop or to pause, nil where it is not, and which of the two. at(rung, step):
-- what it had come to at a rung, as reached() tells, where that is known without its points.
function methods:look(job, step, is_over, at)
  local run = known(self, job)
  while step and run.verdict ~= "stop" and run.verdict ~= "pause" do
    local rung = self.rule:next_rung(run, run.step)
    if not rung or rung > step then break end
    local row
    if at then row = at(rung, step) else row = reached(self, job, rung, step, is_over) end
    if not row then break end
    decide(self, job, run, rung, row)
  end
  if run.verdict == "pause" then return run.reason, "pause" end
  return self:stopped(job)
end

-- The same of one run, which is known.
local function rungs_of(self, job)
  local list, sign = {}, self.goal.goal == "maximize" and -1.0 or 1.0
  for i, at in ipairs(known(self, job).curve) do
    list[i] = { step = at.step, value = at.loss - at.loss == 0 and sign * at.loss + 0.0 or nil }
  end
  return list
end

-- What runs had come to, of the rungs that all of them passed: { step, value }, where value
-- is the mean of the goal, nil where it is no finite number.
function methods:rungs(jobs)
  if #jobs == 1 then return rungs_of(self, jobs[1]) end
  local ids = {}
  for i, job in ipairs(jobs) do ids[i] = job.id end
  local list, rows = {}, check(self.store:rows([[
    SELECT g.step AS step, avg(g.value) AS value, count(g.value) AS known, count(*) AS passed
      FROM json_each(?) i JOIN rung g ON g.run_id = i.value AND g.sweep_id = ?
     GROUP BY g.step ORDER BY g.step]], json.encode(json.array(ids)), self.sweep_id))
  for _, row in ipairs(rows) do
    local is_finite = row.known == #jobs and row.value - row.value == 0
    if row.passed == #jobs then
      list[#list + 1] = { step = row.step, value = is_finite and row.value or nil }
    end
  end
  return list
end

-- Derive every verdict again: the first that comes out differently, { run, step, recorded,
-- derived }, nil where none does; and how many come to the same.
function methods:replay()
  local same, earlier, curves = 0, {}, {}
  local function of_rung(step)
    earlier[step] = earlier[step] or {}
    return earlier[step]
  end
  for row in self.store:each([[
    SELECT g.run_id AS run_id, e.name || '-' || r.number AS run, g.step AS step, g.value AS value,
           g.best AS best, g.mean AS mean, g.verdict AS verdict, r.seed AS seed,
           (SELECT max(number) FROM proposal_run p WHERE p.sweep_id = g.sweep_id
             AND p.run_id = g.run_id) AS number
      FROM rung g JOIN run r ON r.id = g.run_id JOIN experiment e ON e.id = r.experiment_id
     WHERE g.sweep_id = ? ORDER BY g.id]], self.sweep_id) do
    local at = arrival(self, row.number, { value = row.value or nan, best = row.best or nan,
      mean = row.mean or nan })
    local params = runs.load(self.store, { row.run_id }, { params = true })[1].params
    curves[row.run_id] = curves[row.run_id] or {}
    local verdict = ask(self, { number = row.number, params = params, seed = row.seed,
      curve = curves[row.run_id] }, row.step, at, of_rung)
    if verdict ~= row.verdict then
      return { run = row.run, step = row.step, recorded = row.verdict, derived = verdict }, same
    end
    at.verdict, at.run_id, same = verdict, row.run_id, same + 1
    table.insert(of_rung(row.step), at)
  end
  return nil, same
end

return judge
