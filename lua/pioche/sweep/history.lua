-- sweep/history.lua: the search of a sweep, brought to any moment of it.
--
-- What a sampler knows follows from rows alone: its proposals in order, each with how many
-- observations came before it, the observations in order, and what was changed, each change
-- with how many of both came before (core/store/change.h). A change makes a new sampler,
-- of the space and the budget as they are from then on, which is told all that came before, in
-- its order. So it does not matter who made what in which session, and every proposal can be
-- derived again.
--
-- Changes, and what their detail is:
--   runs     { runs }                    points that it is to have
--   workers  { workers }                 points are under way at a time, by its session; 1 at first
--   freeze   { values = { name = value } }   proposals have this value from then on
--   thaw     { names }                   or are free again
--   drop     { run, ulid, points = { { number, observation } } }   a run is set aside: what its proposals
--   restore  the same                    come to without it, or with it again; nil: nothing
--   warm     { sweep, told, missed }     points of another sweep are known from the beginning (warm.lua)
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local plan = require "pioche.plan"

local history = {}
local methods = {}
methods.__index = methods

local check = errors.check
local prior_numbers = -(1 << 40) -- a point of another sweep has a number below this for its sampler

-- The search of a sweep at its beginning. sweep: of the recipe; tell: sweeps.tell.
function history.new(store, sweep_id, sweep, tell)
  return setmetatable({ store = store, id = sweep_id, sweep = sweep, tell_sampler = tell, number = 0, seen = 0,
    changed = 0, workers = 1, frozen = {}, aside = {}, priors = 0, stale = true }, methods)
end

-- ---- what is on record -----------------------------------------------------------------

local function decoded(rows, name)
  for _, row in ipairs(rows) do row[name] = check(json.decode(row[name])) end
  return rows
end

-- Observations are read when they are asked for: of a long sweep whose search learns nothing most
-- never are.
local late = { __index = function(row, key)
  local text = key == "observation" and rawget(row, "came_to")
  if not text then return nil end
  row.observation = check(json.decode(text))
  return row.observation
end }

-- What `status` of an observation is, without the rest: no other string in it has that name.
local function status_of(row)
  local text = rawget(row, "came_to")
  return text and text:match('"status":"(%a+)"') or row.observation.status
end

-- The proposals of a sweep, in order, with `observed`: those that came to something, in the
-- order in which that was heard, their observations tables; `changes`, their details tables.
function history.read(store, sweep_id)
  local rows = check(store:rows("SELECT number, params, seen, observed, observation AS came_to, forecast, lineage"
    .. " FROM proposal WHERE sweep_id = ? ORDER BY number", sweep_id))
  rows.observed = {}
  for _, row in ipairs(rows) do
    row.lineage = row.lineage and check(json.decode(row.lineage))
    if row.observed then rows.observed[row.observed] = setmetatable(row, late) end
  end
  rows.changes = history.changes(store, sweep_id, 0)
  return rows
end

-- What was changed of a sweep after the change `after`.
function history.changes(store, sweep_id, after)
  return decoded(check(store:rows("SELECT number, proposed, seen, kind, detail, reason, time_ns"
    .. " FROM sweep_change WHERE sweep_id = ? AND number > ? ORDER BY number", sweep_id, after)), "detail")
end

-- ---- changes ---------------------------------------------------------------------------------

local apply = {}

function apply.runs(self, detail)
  self.runs = detail.runs
end

function apply.workers(self, detail)
  self.workers = detail.workers
end

function apply.freeze(self, detail)
  for name, value in next, detail.values do self.frozen[name] = value end
end

function apply.thaw(self, detail)
  for _, name in ipairs(detail.names) do self.frozen[name] = nil end
end

function apply.drop(self, detail)
  for _, point in ipairs(detail.points) do self.aside[point.number] = point end
end

apply.restore = apply.drop

function apply.warm(self, detail)
  self.priors = self.priors + detail.told
end

local function change(self, row)
  apply[row.kind](self, row.detail)
  self.changed, self.stale = row.number, true
end

-- What was changed since is heard; a list of it.
function methods:hear()
  local rows = history.changes(self.store, self.id, self.changed)
  for _, row in ipairs(rows) do change(self, row) end
  return rows
end

-- ---- the sampler -----------------------------------------------------------------------------

local function tell(self, sampler, row)
  local aside = self.aside[row.number]
  if aside and not aside.observation then return end
  local status = aside and aside.observation.status or status_of(row)
  if self.region and (status == "oom" or status == "finished" or status == "stopped") then
    self.region:learn(row.params, status == "oom")
  end
  if not sampler.adaptive then return end -- it goes by nothing that it is told
  self.tell_sampler(sampler, self.sweep, { number = row.number, params = row.params,
    observation = aside and aside.observation or row.observation })
end

local function adopt(self, sampler, number, params, lineage)
  local aside = self.aside[number]
  if sampler.adopt then
    sampler:adopt(number, sampler.reads_late and params or check(json.decode(params)),
      aside ~= nil and aside.observation == nil or nil, lineage)
  else
    sampler:propose(number)
  end
end

-- Tell a new sampler points of other sweeps, { params, observation }, both JSON.
function history.tell_priors(sampler, sweep, rows, tell_sampler)
  for i, row in ipairs(rows) do
    tell_sampler(sampler, sweep, { number = prior_numbers - i, params = row.params,
      observation = check(json.decode(row.observation)) })
  end
end

-- A new sampler, told all that came before in its order.
local function renew(self)
  local sampler, space = plan.sampler(self.sweep, self)
  self.region = space.region
  if self.priors > 0 then
    history.tell_priors(sampler, self.sweep, check(self.store:rows("SELECT params, observation FROM sweep_prior"
      .. " WHERE sweep_id = ? AND change <= ? ORDER BY number", self.id, self.changed)), self.tell_sampler)
  end
  local rows, seen = self.rows or self.number + self.seen > 0 and history.read(self.store, self.id)
    or { observed = {} }, 0
  self.rows = nil
  local function tell_until(count)
    while seen < count do
      seen = seen + 1
      tell(self, sampler, rows.observed[seen])
    end
  end
  for _, row in ipairs(rows) do
    if row.number > 0 and row.number <= self.number then
      tell_until(row.seen)
      adopt(self, sampler, row.number, row.params, row.lineage)
    end
  end
  tell_until(self.seen)
  self.sampler, self.stale = sampler, false
end

-- The sampler as it is now.
function methods:current()
  if self.stale then renew(self) end
  return self.sampler
end

-- The next observation: row is { number, params, observation }.
function methods:tell(row)
  self.seen = self.seen + 1
  -- It was under way, and is no more: to the sampler it is as if it had never been.
  if status_of(row) == "aside" then
    self.aside[row.number], self.stale = self.aside[row.number] or { number = row.number }, true
  end
  if not self.stale then tell(self, self.sampler, row) end
end

-- The next proposal is on record already, with these parameters, JSON, and of a population with
-- this lineage.
function methods:adopt(number, params, lineage)
  self.number = number
  if not self.stale then adopt(self, self.sampler, number, params, lineage) end
end

-- To what was known when the proposal after `number` was made, of the rows of history.read.
function methods:advance(rows, number, seen)
  local function tell_until(count)
    while self.seen < count do self:tell(rows.observed[self.seen + 1]) end
  end
  local next_change = rows.changes[self.changed + 1]
  while next_change and next_change.proposed <= number do
    tell_until(next_change.seen)
    change(self, next_change)
    next_change = rows.changes[self.changed + 1]
  end
  tell_until(seen)
end

-- The search stands at the end of these rows of history.read: its sampler is made of them.
function methods:take(rows)
  if self.stale then self.rows = rows end
end

return history
