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

-- What was changed of a sweep after the change `after`.
function history.changes(store, sweep_id, after)
  local rows = check(store:rows("SELECT number, proposed, seen, kind, detail, reason, time_ns"
    .. " FROM sweep_change WHERE sweep_id = ? AND number > ? ORDER BY number", sweep_id, after))
  for _, row in ipairs(rows) do row.detail = check(json.decode(row.detail)) end
  return rows
end

-- The proposals of a sweep, in order, as columns: number, params, seen, observation, forecast and
-- lineage, of which what is JSON is as it is on record. With them `order`: the place of each observation, in the
-- order in which they were heard; and `changes`.
function history.read(store, sweep_id)
  local rows = check(store:columns("SELECT number, params, seen, observed, observation, forecast, lineage"
    .. " FROM proposal WHERE sweep_id = ? ORDER BY number", sweep_id))
  rows.order, rows.changes = {}, history.changes(store, sweep_id, 0)
  for place = 1, #rows.number do
    local heard = rows.observed[place]
    if heard then rows.order[heard] = place end
  end
  return rows
end

-- Observations are tables, or JSON that is decoded when it is asked for: of a long sweep whose search
-- learns nothing most never is.
local function table_of(observation)
  return type(observation) == "string" and check(json.decode(observation)) or observation
end

-- Of an observation its status, without the rest: no other string in it has that name.
local function status_of(observation)
  return type(observation) == "string" and observation:match('"status":"(%a+)"')
    or table_of(observation).status
end

-- How many of these numbers, which rise, are above 0.
local function count_proposed(numbers)
  local low, high = 1, #numbers + 1
  while low < high do
    local middle = (low + high) // 2
    if numbers[middle] > 0 then high = middle else low = middle + 1 end
  end
  return #numbers + 1 - low
end

-- What came out of a bundle of some of its runs is not gone on with, nor derived again: not all that was
-- known is here. numbers: of its proposals, in order.
function history.check_whole(store, sweep_id, numbers)
  local row = check(store:one([[
    SELECT (SELECT coalesce(max(observed), 0) = count(*) FROM proposal
             WHERE sweep_id = ?1 AND observed IS NOT NULL) AS observed,
           CASE WHEN json_extract(s.spec, '$.race') IS NULL THEN 1 ELSE
             (SELECT coalesce(max(asked), 0) = count(asked) AND coalesce(max(observed), 0) = count(observed)
                FROM proposal_run WHERE sweep_id = ?1) END AS repeats,
           e.name AS experiment
      FROM sweep s JOIN experiment e ON e.id = s.experiment_id WHERE s.id = ?1]], sweep_id))
  local proposed = count_proposed(numbers)
  if proposed > 0 and numbers[#numbers] ~= proposed or row.observed == 0 or row.repeats == 0 then
    errors.raise("unsupported", "%s: not all of its points are in this store, which has them out of a bundle of some"
      .. " of its runs: expected a bundle of the whole sweep, or a sweep of another name", row.experiment)
  end
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
  self.changed, self.stale, self.untold = row.number, true, nil
end

-- What was changed since is heard; a list of it.
function methods:hear()
  local rows = history.changes(self.store, self.id, self.changed)
  for _, row in ipairs(rows) do change(self, row) end
  return rows
end

-- ---- the sampler -----------------------------------------------------------------------------

local function tell(self, sampler, number, params, observation)
  local aside = self.aside[number]
  if aside then observation = aside.observation end
  if not observation then return end
  local status = status_of(observation)
  if self.region and (status == "oom" or status == "finished" or status == "stopped") then
    self.region:learn(params, status == "oom")
  end
  if not sampler.adaptive then return end -- it goes by nothing that it is told
  self.tell_sampler(sampler, self.sweep, { number = number, params = params,
    observation = table_of(observation) })
end

local function adopt(self, sampler, number, params, lineage)
  local aside = self.aside[number]
  if sampler.adopt then
    sampler:adopt(number, sampler.reads_late and params or check(json.decode(params)),
      aside ~= nil and aside.observation == nil or nil, lineage and check(json.decode(lineage)))
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

-- Tell a new sampler all that came before, in its order.
local function retell(self, sampler)
  local rows, seen = history.read(self.store, self.id), 0
  local function tell_until(count)
    while seen < count do
      seen = seen + 1
      local place = rows.order[seen]
      tell(self, sampler, rows.number[place], rows.params[place], rows.observation[place])
    end
  end
  for place = 1, #rows.number do
    local number = rows.number[place]
    if number > 0 and number <= self.number then
      tell_until(rows.seen[place])
      adopt(self, sampler, number, rows.params[place], rows.lineage[place])
    end
  end
  tell_until(self.seen)
end

local function renew(self)
  local sampler = self.untold
  self.region, self.untold = self.space.region, nil
  if self.priors > 0 then
    history.tell_priors(sampler, self.sweep, check(self.store:rows("SELECT params, observation FROM sweep_prior"
      .. " WHERE sweep_id = ? AND change <= ? ORDER BY number", self.id, self.changed)), self.tell_sampler)
  end
  if self.number + self.seen > 0 then retell(self, sampler) end
  self.sampler, self.stale = sampler, false
end

-- The sampler as it is now; where it is to propose nothing more, one that was told nothing.
function methods:current()
  if not self.stale then return self.sampler end
  if not self.untold then self.untold, self.space = plan.sampler(self.sweep, self) end
  if self.number >= (self.untold.last or math.huge) then return self.untold end
  renew(self)
  return self.sampler
end

-- It was under way, and is no more: to the sampler it is as if it had never been.
local function set_aside(self, number)
  self.aside[number], self.stale = self.aside[number] or { number = number }, true
end

-- The next observation.
function methods:tell(number, params, observation)
  self.seen = self.seen + 1
  if status_of(observation) == "aside" then set_aside(self, number) end
  if not self.stale then tell(self, self.sampler, number, params, observation) end
end

-- To what was known when the proposal after `number` was made, of the rows of history.read.
function methods:advance(rows, number, seen)
  local function tell_until(count)
    while self.seen < count do
      local place = rows.order[self.seen + 1]
      self:tell(rows.number[place], rows.params[place], rows.observation[place])
    end
  end
  local next_change = rows.changes[self.changed + 1]
  while next_change and next_change.proposed <= number do
    tell_until(next_change.seen)
    change(self, next_change)
    next_change = rows.changes[self.changed + 1]
  end
  tell_until(seen)
end

-- From its beginning to the end of what is on record. Gives the proposals, in order, as columns number,
-- observed and lineage.
function methods:resume()
  local rows = check(self.store:columns([[SELECT number, observed, lineage,
      nullif(instr(observation, '"status":"aside"'), 0) AS aside
    FROM proposal WHERE sweep_id = ? ORDER BY number]], self.id))
  history.check_whole(self.store, self.id, rows.number)
  self:hear()
  for place = 1, #rows.number do
    if rows.aside[place] then set_aside(self, rows.number[place]) end
  end
  self.number = math.max(0, rows.number[#rows.number] or 0)
  self.seen = check(self.store:one("SELECT coalesce(max(observed), 0) AS seen FROM proposal WHERE sweep_id = ?"
    .. " AND observed IS NOT NULL", self.id)).seen
  return rows
end

return history
