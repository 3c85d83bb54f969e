-- sweep/done.lua: the runs of a sweep that are over, as a session that goes on with it takes them
-- up: all of them by one query, and each asked no more than it has to be.
--
-- A run is its content, and of that all but the parameters and the seed is the same for the whole
-- sweep: so where the first of these runs is what it would be today, they all are.
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local plan = require "pioche.plan"

local done = {}
local methods = {}
methods.__index = methods

local check = errors.check

-- What is stopped is over where it was this sweep's rule that said so. Of a run that was made
-- anew the newest one counts.
local over = [[
  SELECT q.number AS number, q.seed AS seed, r.id AS id, e.name || '-' || r.number AS name, r.status AS status,
         r.stop_requested_ns AS stop_ns, r.identity AS identity
    FROM proposal_run q JOIN run r ON r.id = q.run_id JOIN experiment e ON e.id = r.experiment_id
   WHERE q.sweep_id = ?1 AND q.asked IS NULL
     AND (r.status = 'finished' OR r.status = 'stopped' AND EXISTS (SELECT 1 FROM rung g
           WHERE g.sweep_id = ?1 AND g.run_id = r.id AND g.verdict = 'stop'))
     AND NOT EXISTS (SELECT 1 FROM run n WHERE n.identity = r.identity AND n.generation > r.generation)]]

-- What a job has that few ask for is made when it is asked for. shared: what all have.
local function late_fields(progress, shared)
  return { __index = function(job, key)
    if key == "run" then
      job.run = plan.run_of(progress.sweep, check(json.decode(job.text)), progress.prepared, job.seed)
      return job.run
    end
    return shared[key]
  end }
end

-- shared: the fields that are the same for all jobs of the sweep. progress: sweeps.lua's.
function done.new(progress, shared)
  local self = setmetatable({ progress = progress, by_number = {}, late = late_fields(progress, shared) }, methods)
  if progress.session.again then return self end
  for _, row in ipairs(check(progress.session.store:rows(over, progress.spec.sweep_id))) do
    local seeds = self.by_number[row.number] or {}
    self.by_number[row.number], seeds[row.seed] = seeds, row
  end
  return self
end

-- Are runs what they would be today? params: JSON; row: of the first one.
local function is_same(self, params, seed, row)
  if self.checked == nil then
    local progress = self.progress
    self.checked = plan.run_of(progress.sweep, check(json.decode(params)), progress.prepared, seed).identity
      == row.identity
  end
  return self.checked
end

-- Those of the runs of a proposal, { identity, job }, in the order of their seeds; nil where one is not
-- over, or is another one by now.
function methods:of(number, params)
  local known, list = self.by_number[number], {}
  for i, seed in ipairs(known and (self.progress.sweep.seeds or { false }) or {}) do
    local row = known[seed or 0]
    if not row or not is_same(self, params, seed or nil, row) then return nil end
    list[i] = { identity = row.identity, job = setmetatable({ id = row.id, name = row.name, status = row.status,
      stop_ns = row.stop_ns, text = params, seed = seed or nil }, self.late) }
  end
  return known and list
end

return done
