-- sweep/words.lua: NAME=VALUE of a sweep's parameters as a person writes it, checked against
-- the space that is on record.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local recipe = require "pioche.recipe"
local space = require "pioche.space"

local words = {}

-- Is it there in a point with these raw choices?
function words.is_active(parameter, raw)
  for name, value in next, parameter.when or {} do
    if raw[name] ~= value then return false end
  end
  return true
end

function words.domain_text(parameter)
  local is_branch = parameter.kind == "one_of"
  return space.text { kind = is_branch and "choice" or parameter.kind, branches = is_branch or nil,
    low = parameter.low, high = parameter.high, value = parameter.value, values = parameter.values }
end

function words.when_text(parameter)
  local list = {}
  for _, name in ipairs(fields.sorted(parameter.when)) do
    list[#list + 1] = ("%s is %s"):format(name, tostring(parameter.when[name]))
  end
  return table.concat(list, " and ")
end

-- The value of a parameter that is written so; nil where it is outside of its domain.
function words.value_of(parameter, text)
  local number = tonumber(text)
  for _, value in ipairs(parameter.values or { parameter.value }) do
    if value == text or tostring(value) == text or type(value) == "number" and value == number then
      return value
    end
  end
  if not parameter.low or not number or not (number >= parameter.low and number <= parameter.high) then
    return nil
  end
  if parameter.kind == "int" or parameter.kind == "log_int" then return math.tointeger(number) end
  return number + 0.0
end

-- The only value that it can have, nil where there are more.
function words.only_value(parameter)
  local values = parameter.values
  if values and #values == 1 then return values[1] end
  return parameter.value
end

-- The names of a space's parameters: a list, and a set.
function words.names(parameters)
  local names, known = {}, {}
  for _, parameter in ipairs(parameters) do
    if not known[parameter.name] then names[#names + 1] = parameter.name end
    known[parameter.name] = true
  end
  return names, known
end

-- The words NAME=VALUE as { name = text }, each a parameter of the space.
function words.read(verb, parameters, list)
  local given = {}
  local names, known = words.names(parameters)
  for _, word in ipairs(list) do
    local name, text = word:match("^([^=]+)=(.*)$")
    if not name then errors.raise("usage", "sweep %s: '%s': expected NAME=VALUE, as lr=3e-4", verb, word) end
    if not known[name] then
      errors.raise("invalid", "%s: there is no parameter '%s'%s", word, name, recipe.suggestion(name, names))
    elseif given[name] then
      errors.raise("invalid", "%s: '%s' is there twice", word, name)
    end
    given[name] = text
  end
  return given
end

return words
