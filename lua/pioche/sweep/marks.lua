-- sweep/marks.lua: which of listed runs no other beats, of sweeps with several goals.
local errors = require "pioche.errors"
local find = require "pioche.sweep.find"
local json = require "pioche.core.json"
local outcomes = require "pioche.sweep.outcomes"

local marks = {}
local methods = {}
methods.__index = methods

local check = errors.check

function marks.new(store)
  return setmetatable({ store = store, fronts = {} }, methods)
end

-- Ids of those sweeps of the store that have several goals.
local function several(self)
  self.sweeps = self.sweeps or json.array(check(self.store:column(
    "SELECT id FROM sweep WHERE json_type(spec, '$.goals') = 'array' ORDER BY id")))
  return self.sweeps
end

-- The runs of the points on the front of a sweep: a set of ids.
local function front_of(self, sweep_id)
  if self.fronts[sweep_id] then return self.fronts[sweep_id] end
  local numbers, set = {}, {}
  for _, point in ipairs(outcomes.of(self.store, find.by_id(self.store, sweep_id)):front()) do
    numbers[point.number] = true
  end
  for row in self.store:each("SELECT number, run_id FROM proposal_run WHERE sweep_id = ?", sweep_id) do
    if numbers[row.number] then set[row.run_id] = true end
  end
  self.fronts[sweep_id] = set
  return set
end

-- Give those of these runs that are of such a sweep, the newest one, `on_front`, true or false; tells
-- whether there is any. Where no run is of a sweep, nothing is asked.
function methods:add(loaded)
  local ids, by_id = json.array {}, {}
  for _, run in ipairs(loaded) do
    if run.sweep_id and #several(self) > 0 then ids[#ids + 1], by_id[run.id] = run.id, run end
  end
  if #ids == 0 then return false end
  local rows = check(self.store:rows("SELECT run_id AS id, max(sweep_id) AS sweep_id FROM proposal_run"
    .. " WHERE run_id IN (SELECT value FROM json_each(?)) AND sweep_id IN (SELECT value FROM json_each(?))"
    .. " GROUP BY 1", json.encode(ids), json.encode(several(self))))
  for _, row in ipairs(rows) do
    local run = by_id[row.id]
    run.on_front = run.status == "finished" and not run.aside and front_of(self, row.sweep_id)[run.id] or false
  end
  return #rows > 0
end

return marks
