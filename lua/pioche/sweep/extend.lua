-- sweep/extend.lua: `pioche run --extend`: a recipe whose space was changed goes on from its
-- experiment's newest sweep, all of whose points its search knows.
local errors = require "pioche.errors"
local find = require "pioche.sweep.find"
local plan = require "pioche.plan"
local warm = require "pioche.sweep.warm"

local extend = {}
local check = errors.check

-- What the sweep `id` is to be told (warm.of); nil where an earlier session has told it.
function extend.of(store, sweep, id, is_new)
  local function blame(format, ...) errors.raise("invalid", "--extend: " .. format, ...) end
  local other = check(store:one("SELECT ulid FROM sweep WHERE experiment_id = (SELECT experiment_id FROM sweep"
    .. " WHERE id = ?1) AND id < ?1 ORDER BY id DESC LIMIT 1", id))
  if not is_new then
    local known = check(store:one("SELECT 1 AS x FROM sweep_change WHERE sweep_id = ? AND kind = 'warm'"
      .. " AND detail ->> '$.sweep' = ?", id, other and other.ulid or ""))
    if known then return nil end
    blame("the recipe is what it was, and its sweep of '%s' goes on without; `pioche sweep extend %s runs=N` makes"
      .. " its budget larger", sweep.name, sweep.name)
  elseif not other then
    blame("there is no earlier sweep of '%s' to go on from", sweep.name)
  elseif sweep.search.name ~= "auto" and not plan.sampler(sweep).adaptive then
    blame("search = pioche.%s learns nothing from results; without --extend what is missing runs", sweep.search.name)
  end
  return warm.of(store, find.one(store, other.ulid), sweep, {}, blame)
end

return extend
