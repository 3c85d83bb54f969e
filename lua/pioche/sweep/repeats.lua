-- sweep/repeats.lua: a race (race.lua) as a session runs it: what runs came to, in the order
-- in which that was seen, decisions with how many values and how many changes of the sweep came
-- before, and the runs of these. Runs that a person has set aside count in no decision after that.
--
-- A repeat is stopped by no rule: values of those that had luck at a rung would tell nothing.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local history = require "pioche.sweep.history"
local json = require "pioche.core.json"
local plan = require "pioche.plan"
local race = require "pioche.race"

local repeats = {}
local methods = {}
methods.__index = methods

local check = errors.check

-- ---- what is on record -----------------------------------------------------------------

-- The runs of a sweep's points: { number, params, seed, run_id, asked, seen, changed, observed, value,
-- status, name, ulid, observation (of the point, maybe nil) }, in order, with `changes` of the sweep.
function repeats.rows(store, sweep_id)
  local rows = check(store:rows([[
    SELECT q.number AS number, p.params AS params, q.seed AS seed, q.run_id AS run_id, q.asked AS asked,
           p.observation AS observation, q.seen AS seen, q.changed AS changed, q.observed AS observed,
           q.value AS value, r.status AS status, r.ulid AS ulid,
           e.name || '-' || r.number AS name
      FROM proposal_run q JOIN proposal p ON p.sweep_id = q.sweep_id AND p.number = q.number
      JOIN run r ON r.id = q.run_id JOIN experiment e ON e.id = r.experiment_id
     WHERE q.sweep_id = ? ORDER BY q.number, q.seed]], sweep_id))
  rows.changes = history.changes(store, sweep_id, 0)
  return rows
end

-- The runs that are set aside after so many changes: a set of ULIDs.
function repeats.aside(rows, changed)
  local set = {}
  for _, change in ipairs(rows.changes) do
    local is_known = change.number <= changed and (change.kind == "drop" or change.kind == "restore")
    if is_known then set[change.detail.ulid] = change.kind == "drop" or nil end
  end
  return set
end

-- The points of a race, in the order of their numbers, before anything was seen.
local function points_of(rows)
  local list, by_number = {}, {}
  for _, row in ipairs(rows) do
    local point = by_number[row.number]
    if not point then
      point = { number = row.number, params = row.params, values = {}, pending = 0, seed = 0,
        planned = 0, ended = 0 }
      local violation = row.observation and aims.violation(check(json.decode(row.observation)))
      point.violates = violation ~= nil and violation > 0
      by_number[row.number], list[#list + 1] = point, point
    end
    if not row.asked then
      point.seed, point.planned = math.max(point.seed, row.seed), point.planned + 1
    end
  end
  return list, by_number
end

local function see(point, value, goal, is_aside)
  point.ended = point.ended + (value and 1 or 0)
  if is_aside then return end
  if not value then
    point.failed = true
  else
    table.insert(point.values, goal.goal == "maximize" and -value or value)
  end
end

-- A race by its rows: the points as they were when it came to a decision, nil: as they are.
function repeats.points(rows, goal, decision)
  local list, by_number = points_of(rows)
  local at = decision or { seen = math.huge, asked = math.huge, changed = math.huge }
  local aside, observed = repeats.aside(rows, at.changed or 0), {}
  for _, row in ipairs(rows) do
    local is_seen = row.observed and row.observed <= at.seen
    if is_seen then observed[#observed + 1] = row end
    if row.asked and row.asked < at.asked then
      local point = by_number[row.number]
      point.seed = math.max(point.seed, row.seed)
      point.pending = point.pending + ((is_seen or aside[row.ulid]) and 0 or 1)
    end
  end
  table.sort(observed, function(a, b) return a.observed < b.observed end)
  for _, row in ipairs(observed) do see(by_number[row.number], row.value, goal, aside[row.ulid]) end
  -- What violates constraints is out of the race as soon as all that was planned of it has ended.
  for _, point in ipairs(list) do
    point.failed = point.failed or point.violates and point.ended >= point.planned
  end
  return list
end

-- ---- a session's ---------------------------------------------------------------------------

-- progress: of a sweep (sweeps.lua), whose race it is.
function repeats.new(progress)
  local spec = {}
  for name, value in next, progress.spec do spec[name] = value end
  spec.judge, spec.stop = nil, { name = "none", options = {} }
  return setmetatable({ progress = progress, spec = spec, asked = 0, seen = 0 }, methods)
end

local function job_of(self, point, seed)
  local progress = self.progress
  local run = plan.run_of(progress.sweep, check(json.decode(point.params)), progress.prepared, seed)
  local job = progress.jobs:find(run.identity) or progress.session:job(self.spec, run)
  progress.jobs:add(job, run.identity)
  return job
end

-- The runs of what earlier sessions decided, within a transaction.
function methods:resume()
  for _, row in ipairs(repeats.rows(self.progress.session.store, self.spec.sweep_id)) do
    self.seen = math.max(self.seen, row.observed or 0)
    if row.asked then
      self.asked = math.max(self.asked, row.asked)
      job_of(self, row, row.seed)
    end
  end
end

local over = { finished = true, stopped = true, failed = true, cancelled = true }

-- The points, once what ended since is seen, within a transaction. What a rule stopped has no
-- value at the end.
local function observe(self)
  local progress, goal = self.progress, self.progress.sweep.goal
  local rows = repeats.rows(progress.session.store, self.spec.sweep_id)
  for _, row in ipairs(rows) do
    if not row.observed and over[row.status] then
      local value = row.status == "finished"
        and progress.session:newest_value { id = row.run_id, goal_key = goal.key } or nil
      row.value = value and value - value == 0 and value or nil
      check(progress.session.store:repeat_observe(self.spec.sweep_id, row.number, row.seed,
        row.value or 0 / 0))
      self.seen = self.seen + 1
      row.observed = self.seen
    end
  end
  return repeats.points(rows, goal)
end

-- The jobs of the next decision, nil where there is none now.
function methods:next()
  local point = race.choose(observe(self), self.progress.sweep.race, self.asked)
  if not point then return nil end
  self.asked = self.asked + 1
  local job = job_of(self, point, point.seed + 1)
  check(self.progress.session.store:repeat_add(self.spec.sweep_id, point.number, point.seed + 1, job.id,
    self.seen))
  return { job }
end

-- What ended last is seen, too.
function methods:settle()
  observe(self)
end

-- ---- afterwards ------------------------------------------------------------------------------

-- Derive every decision again: the first that comes out differently, { asked, recorded, derived }, nil
-- where none does; and how many come to the same.
function repeats.replay(store, sweep_id, goal, options)
  local rows, decisions = repeats.rows(store, sweep_id), {}
  for _, row in ipairs(rows) do
    if row.asked then decisions[row.asked] = row end
  end
  for i, row in ipairs(decisions) do
    local point = race.choose(repeats.points(rows, goal, row), options, i - 1)
    local derived = point and ("point %d, seed %d"):format(point.number, point.seed + 1) or "nothing"
    local recorded = ("point %d, seed %d"):format(row.number, row.seed)
    if derived ~= recorded then return { asked = i, recorded = recorded, derived = derived }, i - 1 end
  end
  return nil, #decisions
end

return repeats
