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

-- The runs of a sweep's points whose numbers are within first..last: { number, params, seed, run_id,
-- asked, seen, changed, observed, value, status, name, ulid, observation (of the point, maybe nil) },
-- in order.
function repeats.rows(store, sweep_id, first, last)
  return check(store:rows([[
    SELECT q.number AS number, p.params AS params, q.seed AS seed, q.run_id AS run_id, q.asked AS asked,
           p.observation AS observation, q.seen AS seen, q.changed AS changed, q.observed AS observed,
           q.value AS value, r.status AS status, r.ulid AS ulid,
           e.name || '-' || r.number AS name
      FROM proposal_run q JOIN proposal p ON p.sweep_id = q.sweep_id AND p.number = q.number
      JOIN run r ON r.id = q.run_id JOIN experiment e ON e.id = r.experiment_id
     WHERE q.sweep_id = ?1 AND q.number BETWEEN ?2 AND ?3 ORDER BY q.number, q.seed]], sweep_id,
    first or math.mininteger, last or math.maxinteger))
end

-- The runs that are set aside after the first so many of these changes: a set of ULIDs.
function repeats.aside(changes, count)
  local set = {}
  for _, change in ipairs(changes) do
    local is_known = change.number <= count and (change.kind == "drop" or change.kind == "restore")
    if is_known then set[change.detail.ulid] = change.kind == "drop" or nil end
  end
  return set
end

-- ---- the points at a moment of it ---------------------------------------------------------

local course = {}
course.__index = course

-- A race in which nothing is known so far. aside: of repeats.aside.
function course.new(goal, aside)
  return setmetatable({ goal = goal, aside = aside, points = {}, board = race.board(), unweighed = {},
    first_of = {} }, course)     -- of each run the number under which it was seen first
end

-- What violates constraints is out of the race as soon as all that was planned of it has ended.
local function weigh(self, point, observation)
  local violation = observation and aims.violation(check(json.decode(observation)))
  if violation and violation > 0 then point.failed = true end
  self.unweighed[point.number] = not observation and point or nil
  self.board:touch(point)
end

-- A run that is planned, or that a decision asked for.
function course:add(row)
  local point = self.points[row.number]
  if not point then
    point = { number = row.number, params = row.params, observation = row.observation, values = {}, pending = 0,
      seed = 0, planned = 0, ended = 0 }
    self.points[row.number] = point
  end
  point.seed = math.max(point.seed, row.seed)
  if not row.asked then
    point.planned = point.planned + 1
  elseif not self.aside[row.ulid] then
    point.pending = point.pending + 1
  end
end

-- What came of it.
function course:see(row)
  local point, is_aside = self.points[row.number], self.aside[row.ulid]
  local first = self.first_of[row.run_id] or row.number
  self.first_of[row.run_id], point.is_double = first, point.is_double or first ~= row.number
  point.ended = point.ended + (row.value and 1 or 0)
  if not is_aside then
    if row.asked then point.pending = point.pending - 1 end
    if not row.value then
      point.failed = true
    else
      table.insert(point.values, self.goal.goal == "maximize" and -row.value or row.value)
    end
  end
  self.board:touch(point)
  if point.ended >= point.planned then weigh(self, point, point.observation) end
end

-- The rows that were observed until then, in the order in which they were.
local function observed(rows, seen)
  local list = {}
  for _, row in ipairs(rows) do
    if row.observed and row.observed <= seen then list[#list + 1] = row end
  end
  table.sort(list, function(a, b) return a.observed < b.observed end)
  return list
end

-- A race as it is on record, of which the first `seen` values and the decisions before `asked` are
-- known.
local function course_of(rows, goal, aside, seen, asked)
  local self = course.new(goal, aside)
  for _, row in ipairs(rows) do
    if not row.asked or row.asked < asked then self:add(row) end
  end
  for _, row in ipairs(observed(rows, seen)) do self:see(row) end
  return self
end

-- The board (race.lua) of a race by its rows, without what is set aside.
function repeats.board(rows, goal, aside)
  return course_of(rows, goal, aside, math.huge, math.huge).board
end

-- ---- a session's ---------------------------------------------------------------------------

-- progress: of a sweep (sweeps.lua), whose race it is. What it knows of it is read once, and then what
-- is new: { course, open (rows that are not observed), first and last (numbers of points), changed, seen,
-- asked }.
function repeats.new(progress)
  local spec = {}
  for name, value in next, progress.spec do spec[name] = value end
  spec.judge, spec.stop = nil, { name = "none", options = {} }
  return setmetatable({ progress = progress, spec = spec }, methods)
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
  for _, row in ipairs(check(self.progress.session.store:rows([[
    SELECT p.params AS params, q.seed AS seed
      FROM proposal_run q JOIN proposal p ON p.sweep_id = q.sweep_id AND p.number = q.number
     WHERE q.sweep_id = ? AND q.asked IS NOT NULL ORDER BY q.number, q.seed]], self.spec.sweep_id))) do
    job_of(self, row, row.seed)
  end
end

-- What it knows was undone: it is on record otherwise, or not at all.
function methods:forget()
  self.course = nil
end

local function take_in(self, rows)
  for _, row in ipairs(rows) do
    self.course:add(row)
    self.first, self.last = math.min(self.first, row.number), math.max(self.last, row.number)
    self.asked, self.seen = math.max(self.asked, row.asked or 0), math.max(self.seen, row.observed or 0)
    if not row.observed then self.open[#self.open + 1] = row end
  end
  for _, row in ipairs(observed(rows, math.huge)) do self.course:see(row) end
end

-- Read what is new of it, or all where what is set aside has changed.
local function read(self)
  local store, id = self.progress.session.store, self.spec.sweep_id
  local changes = history.changes(store, id, self.course and self.changed or 0)
  for _, change in ipairs(changes) do
    self.changed = change.number
    if change.kind == "drop" or change.kind == "restore" then self.course = nil end
  end
  if not self.course then
    changes = history.changes(store, id, 0)
    self.course = course.new(self.progress.sweep.goal, repeats.aside(changes, math.huge))
    self.open, self.first, self.last, self.seen, self.asked, self.changed = {}, 1, 0, 0, 0, #changes
  end
  take_in(self, repeats.rows(store, id, math.mininteger, self.first - 1))
  take_in(self, repeats.rows(store, id, self.last + 1, math.maxinteger))
end

-- The value of a run that is over; nil where it failed. What a rule stopped has none at the end.
local function value_of(self, row)
  local value = row.status == "finished" and self.progress.session:newest_value { id = row.run_id,
    goal_key = self.progress.sweep.goal.key }
  return value and value - value == 0 and value or nil
end

local over = { finished = true, stopped = true, failed = true, cancelled = true }

local function is_earlier(a, b)
  if a.number ~= b.number then return a.number < b.number end
  return a.seed < b.seed
end

-- See what ended since, within a transaction.
local function observe(self)
  read(self)
  local store, id, open = self.progress.session.store, self.spec.sweep_id, {}
  table.sort(self.open, is_earlier)
  for _, row in ipairs(self.open) do
    if not over[row.status] then
      row.status = check(store:one("SELECT status FROM run WHERE id = ?", row.run_id)).status
    end
    if over[row.status] then
      self.seen, row.value = self.seen + 1, value_of(self, row)
      check(store:repeat_observe(id, row.number, row.seed, self.seen, row.value or 0 / 0))
      self.course:see(row)
    else
      open[#open + 1] = row
    end
  end
  self.open = open
  for number, point in next, self.course.unweighed do
    point.observation = check(store:one("SELECT observation FROM proposal WHERE sweep_id = ? AND number = ?", id,
      number)).observation
    if point.observation then weigh(self.course, point, point.observation) end
  end
end

-- The jobs of the next decision, nil where there is none now.
function methods:next()
  observe(self)
  local point = race.choose(self.course.board, self.progress.sweep.race, self.asked)
  if not point then return nil end
  local seed, asked = point.seed + 1, self.asked + 1
  local job = job_of(self, point, seed)
  check(self.progress.session.store:repeat_add(self.spec.sweep_id, point.number, seed, job.id, asked, self.seen))
  take_in(self, { { number = point.number, seed = seed, run_id = job.id, asked = asked } })
  return { job }
end

-- What ended last is seen, too.
function methods:settle()
  observe(self)
end

-- ---- afterwards ------------------------------------------------------------------------------

-- The races of decisions on record, in their order: each goes on from that before it, unless what is
-- set aside is another then.
local function courses(store, sweep_id, goal)
  local rows, changes = repeats.rows(store, sweep_id), history.changes(store, sweep_id, 0)
  local list, asked, self, place, changed = observed(rows, math.huge), {}, nil, 1, nil
  for _, row in ipairs(rows) do
    if row.asked then asked[row.asked] = row end
  end
  return asked, function(decision)
    if not self or decision.changed ~= changed then
      self, place = course_of(rows, goal, repeats.aside(changes, decision.changed or 0), 0, decision.asked), 1
    else
      self:add(asked[decision.asked - 1])
    end
    while list[place] and list[place].observed <= decision.seen do
      self:see(list[place])
      place = place + 1
    end
    changed = decision.changed
    return self
  end
end

-- Derive every decision again: the first that comes out differently, { asked, recorded, derived }, nil
-- where none does; and how many come to the same.
function repeats.replay(store, sweep_id, goal, options)
  local decisions, course_at = courses(store, sweep_id, goal)
  for i, row in ipairs(decisions) do
    local known = course_at(row)
    local point = race.choose(known.board, options, i - 1)
    local derived = point and ("point %d, seed %d"):format(point.number, point.seed + 1) or "nothing"
    local recorded = ("point %d, seed %d"):format(row.number, row.seed)
    if derived ~= recorded then return { asked = i, recorded = recorded, derived = derived }, i - 1 end
  end
  return nil, #decisions
end

return repeats
