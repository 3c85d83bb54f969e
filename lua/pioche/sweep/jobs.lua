-- sweep/jobs.lua: the jobs of a sweep that a driver has open, in order, each once.
--
-- Of a run that was over before, nothing is held but its place in columns, until somebody asks for
-- its job: of a long sweep that is opened again hardly any is ever asked for. A run is its content,
-- and of that all but the parameters and the seed is the same for the whole sweep: so where the first
-- of these runs is what it would be today, they all are.
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local plan = require "pioche.plan"

local jobs = {}
local methods = {}
methods.__index = methods

local check = errors.check

-- What is stopped is over where it was this sweep's rule that said so. Of a run that was made
-- anew the newest one counts. Of the runs that are over, nearly all, none is looked at: those that are
-- not are told by indexes.
local over = [[
  SELECT q.number AS number, q.seed AS seed, q.run_id AS id
    FROM proposal_run q
   WHERE q.sweep_id = ?1 AND q.asked IS NULL AND q.run_id NOT IN (
           SELECT id FROM run WHERE status IN ('planned', 'queued', 'running', 'failed', 'cancelled')
           UNION ALL
           SELECT r.id FROM run r WHERE r.status = 'stopped' AND NOT EXISTS (SELECT 1 FROM rung g
             WHERE g.sweep_id = ?1 AND g.run_id = r.id AND g.verdict = 'stop')
           UNION ALL
           SELECT r.id FROM run n JOIN run r ON r.identity = n.identity AND r.generation < n.generation
            WHERE n.generation > 1)
   ORDER BY q.number, q.seed]]

local run_sql = "SELECT e.name || '-' || r.number AS name, r.status AS status, r.identity AS identity"
  .. " FROM run r JOIN experiment e ON e.id = r.experiment_id WHERE r.id = ?"

-- The parameters of a proposal on record, JSON.
local function params_of(self, number)
  return check(self.store:one("SELECT params FROM proposal WHERE sweep_id = ? AND number = ?", self.sweep_id,
    number)).params
end

-- What a job has that few ask for. shared: what all have.
local function late_job(self, shared)
  return { __index = function(job, key)
    if key ~= "run" then return shared[key] end
    local progress = self.progress
    job.run = plan.run_of(progress.sweep, check(json.decode(params_of(self, job.number))), progress.prepared,
      job.seed)
    return job.run
  end }
end

-- Likewise a proposal that is not observed.
local function late_entry(self)
  return { __index = function(entry, key)
    if key == "params" then
      entry.params = params_of(self, entry.number)
    elseif key == "jobs" then
      entry.jobs = {}
      for i, offset in ipairs(self.offsets) do entry.jobs[i] = self:get(self.rows.id[entry.first + offset]) end
    end
    return rawget(entry, key)
  end }
end

-- The seeds of a point in their order on record, and for each of the recipe's its place among them.
local function ordered(seeds)
  local sorted, place_of, offsets = table.move(seeds, 1, #seeds, 1, {}), {}, {}
  table.sort(sorted)
  for i, seed in ipairs(sorted) do place_of[seed] = i - 1 end
  for i, seed in ipairs(seeds) do offsets[i] = place_of[seed] end
  return sorted, offsets
end

-- progress: sweeps.lua's; shared: the fields that are the same for all jobs of runs that are over.
function jobs.new(progress, shared)
  local self = setmetatable({ progress = progress, store = progress.session.store,
    sweep_id = progress.spec.sweep_id,
    ids = {},      -- of the runs, in order
    by_id = {},    -- their jobs, or their places in the columns
    known = {},    -- those that were made by the identity of their run
    at = 1 }, methods)
  self.seeds, self.offsets = ordered(progress.sweep.seeds or { 0 })
  self.late_job, self.late_entry = late_job(self, shared), late_entry(self)
  self.rows = not progress.session.again and check(self.store:columns(over, self.sweep_id)) or { number = {} }
  return self
end

-- ---- what was over before ------------------------------------------------------------------

-- Are runs what they would be today? place: of the first one.
local function is_same(self, place)
  if self.checked == nil then
    local progress, rows = self.progress, self.rows
    local run = plan.run_of(progress.sweep, check(json.decode(params_of(self, rows.number[place]))),
      progress.prepared, progress.sweep.seeds and rows.seed[place] or nil)
    self.checked = run.identity == check(self.store:one(run_sql, rows.id[place])).identity
  end
  return self.checked
end

-- The place of the first run of a proposal; nil where one of them is not over, or is another one by
-- now. Numbers are asked for as they rise.
function methods:over(number)
  local numbers, seeds, first = self.rows.number, self.rows.seed, self.at
  local found = numbers[first]
  while found and found < number do
    first = first + 1
    found = numbers[first]
  end
  self.at = first
  for i, seed in ipairs(found == number and self.seeds or {}) do
    if i > 1 and numbers[first + i - 1] ~= number or seeds[first + i - 1] ~= seed then return nil end
  end
  return found == number and is_same(self, first) and first or nil
end

-- Take up the runs of the proposal whose first one has this place; gives how many no other has.
function methods:add_over(first)
  local by_id, count = self.by_id, 0
  for _, offset in ipairs(self.offsets) do
    local id = self.rows.id[first + offset]
    if not by_id[id] then by_id[id], self.ids[#self.ids + 1], count = first + offset, id, count + 1 end
  end
  return count
end

-- That proposal as one that is not observed: { number, params, jobs }.
function methods:entry(first)
  return setmetatable({ number = self.rows.number[first], first = first }, self.late_entry)
end

-- ---- all of them ---------------------------------------------------------------------------

-- The job of the run of this identity, nil where the sweep has none so far.
function methods:find(identity)
  if self.known[identity] or #self.rows.number == 0 then return self.known[identity] end
  local row = plan.find(self.store, identity)
  return row and self:get(row.id)
end

-- A job that was made; true where its run is new here.
function methods:add(job, identity)
  self.known[identity] = job
  if self.by_id[job.id] then return false end
  self.by_id[job.id], self.ids[#self.ids + 1] = job, job.id
  return true
end

-- The job of one of its runs; nil where it is none.
function methods:get(id)
  local place, rows = self.by_id[id], self.rows
  if math.type(place) ~= "integer" then return place end
  local run = check(self.store:one(run_sql, id))
  self.by_id[id] = setmetatable({ id = id, name = run.name, status = run.status, number = rows.number[place],
    seed = self.progress.sweep.seeds and rows.seed[place] or nil }, self.late_job)
  return self.by_id[id]
end

function methods:count()
  return #self.ids
end

-- Those that were made, and how many others there are, all of them over.
function methods:made()
  local list, others = {}, 0
  for _, id in ipairs(self.ids) do
    local job = self.by_id[id]
    if math.type(job) == "integer" then others = others + 1 else list[#list + 1] = job end
  end
  return list, others
end

-- All of them, a list.
function methods:list()
  local list = {}
  for i, id in ipairs(self.ids) do list[i] = self:get(id) end
  return list
end

return jobs
