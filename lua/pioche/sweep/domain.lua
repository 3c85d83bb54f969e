-- sweep/domain.lua: the space of a sweep as its row tells it, for what looks at it later: the
-- same groups and axes as the search had.
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"

local domain = {}
local check = errors.check

-- Parameters as axes.lua reads them.
local function parameters_of(spec)
  local list = {}
  for i, item in ipairs(spec.space) do
    local conditions = {}
    for k, name in ipairs(fields.sorted(item.when or {})) do
      conditions[k] = { name = name, value = item.when[name] }
    end
    list[i] = { name = item.name, path = item.name, conditions = conditions,
      domain = { kind = item.kind == "one_of" and "choice" or item.kind, low = item.low, high = item.high,
        value = item.value, values = item.values } }
  end
  return list
end

-- The axes of a sweep (axes.of), each parameter a group of its own where is_apart.
function domain.axes(sweep, is_apart)
  return axes.of({ parameters = parameters_of(sweep.spec) }, is_apart)
end

-- Give these points (sweep/outcomes.lua) their parameters, and what constraints gave of them.
function domain.add_params(store, sweep, points)
  for _, point in ipairs(points) do
    local row = check(store:one("SELECT params, json_extract(observation, '$.constraints') AS constraints"
      .. " FROM proposal WHERE sweep_id = ? AND number = ?", sweep.id, point.number))
    point.params = check(json.decode(row.params))
    point.constraints = row.constraints and check(json.decode(row.constraints))
  end
end

-- "opt = adam", where a parameter is there; nil where it always is.
function domain.when(parameter)
  local words = {}
  for i, condition in ipairs(parameter.conditions) do
    words[i] = condition.name .. " = " .. tostring(condition.value)
  end
  return #words > 0 and table.concat(words, ", ") or nil
end

-- The value of an axis as people write it.
function domain.value(parameter, given)
  local d = parameter.domain
  if d.kind == "choice" then return d.values[given] end -- which may be false
  return given
end

return domain
