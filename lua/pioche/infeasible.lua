-- infeasible.lua: which runs violate a constraint, by the newest sweep that they are of.
local errors = require "pioche.errors"
local json = require "pioche.core.json"

local infeasible = {}

-- A query of their ids, in one column run_id. What a point came to is on record with its
-- observation (aims.lua); an index knows those that violate something.
infeasible.sql = [[SELECT p.run_id AS run_id FROM proposal q JOIN proposal_run p USING (sweep_id, number)
  WHERE json_extract(q.observation, '$.violation') <> 0
    AND NOT EXISTS (SELECT 1 FROM proposal_run n JOIN proposal o USING (sweep_id, number)
      WHERE n.run_id = p.run_id AND n.sweep_id > p.sweep_id AND o.observation IS NOT NULL)]]

-- Those of these runs: a set of ids.
function infeasible.of(store, ids)
  local set = {}
  if not infeasible.any(store) then return set end
  for _, row in ipairs(errors.check(store:rows("SELECT run_id FROM (" .. infeasible.sql .. ") WHERE run_id IN"
    .. " (SELECT value FROM json_each(?))", json.encode(json.array(ids))))) do
    set[row.run_id] = true
  end
  return set
end

-- Is there any in the store?
function infeasible.any(store)
  return errors.check(store:one("SELECT EXISTS (SELECT 1 FROM proposal"
    .. " WHERE json_extract(observation, '$.violation') <> 0) AS x")).x == 1
end

return infeasible
