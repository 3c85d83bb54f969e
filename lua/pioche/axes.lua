-- axes.lua: the free parameters of a space as models see them: groups of axes.
--
-- Parameters that always occur together are a group: those of no condition, and those of
-- each branch. A point of a group is a list of values, one an axis: a number, or of a
-- choice which one of its list, from 1 on.
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"

local axes = {}
local methods = {}
methods.__index = methods

-- The axis of a domain as the models take it; nil where there is nothing to choose.
local function axis_of(d)
  if d.kind == "fixed" or d.kind == "derived" then return nil end
  if d.kind == "choice" then
    return #d.values > 1 and { kind = "choice", low = 1, high = #d.values } or nil
  end
  if d.low == d.high then return nil end
  local is_whole = d.kind == "int" or d.kind == "log_int"
  return { kind = is_whole and "whole" or "real", low = d.low, high = d.high,
    log = d.kind:find("^log_") ~= nil }
end

local function signature(conditions)
  local words = {}
  for i, condition in ipairs(conditions) do words[i] = condition.name .. "=" .. condition.value end
  return table.concat(words, ";")
end

-- Those of a space: { space, groups }; a group is { key, conditions, parameters, axes },
-- and stands behind the groups whose choices it depends on. is_apart: each axis is a group of
-- its own.
function axes.of(space, is_apart)
  local self = setmetatable({ space = space, groups = {}, place = {} }, methods)
  local known = {}
  for _, parameter in ipairs(space.parameters) do
    local axis = axis_of(parameter.domain)
    if axis then
      local key = is_apart and parameter.path or signature(parameter.conditions)
      local group = known[key]
      if not group then
        group = { key = key, conditions = parameter.conditions, parameters = {}, axes = {} }
        known[key], self.groups[#self.groups + 1] = group, group
      end
      group.parameters[#group.parameters + 1] = parameter
      group.axes[#group.axes + 1] = axis
      self.place[parameter] = { group = group, at = #group.axes }
    end
  end
  return self
end

-- All axes in one list, with their parameters; that of a parameter of a branch has `parent`,
-- which axis decides whether it is there, and `when`, by which choice.
function methods:flat()
  local list, at = {}, {}
  for _, group in ipairs(self.groups) do
    local last = group.conditions[#group.conditions]
    local above = table.move(group.conditions, 1, #group.conditions - 1, 1, {})
    local parent = last and at[signature(above) .. ":" .. last.name]
    local when
    for i, value in ipairs(parent and list[parent].parameter.domain.values or {}) do
      if value == last.value then when = i end
    end
    for i, parameter in ipairs(group.parameters) do
      local axis = group.axes[i]
      list[#list + 1] = { kind = axis.kind, low = axis.low, high = axis.high, log = axis.log,
        parent = parent, when = when, parameter = parameter, group = group, at = i }
      at[group.key .. ":" .. parameter.name] = #list
    end
  end
  return list
end

-- Is there anything to choose?
function methods:is_empty()
  return #self.groups == 0
end

local function value_of(d, given)
  if d.kind == "choice" then return d.values[given] end -- which may be false
  return given
end

-- A raw point of the space: `pick(group)` gives the values of a group that is there, and
-- is asked once for each, those that decide on others first.
function methods:raw(pick)
  local raw, picked = {}, {}
  for _, parameter in ipairs(self.space.parameters) do
    local d, place = parameter.domain, self.place[parameter]
    if not space_of.active(parameter, raw) then goto continue end
    if place then
      picked[place.group] = picked[place.group] or pick(place.group)
      raw[parameter.name] = value_of(d, picked[place.group][place.at])
    elseif d.kind == "fixed" then
      raw[parameter.name] = d.value
    elseif d.kind == "choice" then
      raw[parameter.name] = d.values[1]
    elseif d.kind ~= "derived" then
      raw[parameter.name] = d.low
    end
    ::continue::
  end
  return raw
end

-- The values of a group in a point's parameters; nil where the group is not there, or
-- where one of them is outside of its domain.
function axes.values(group, params)
  for _, condition in ipairs(group.conditions) do
    if params[condition.name] ~= condition.value then return nil end
  end
  local values = {}
  for i, parameter in ipairs(group.parameters) do
    local d, given = parameter.domain, params[parameter.name]
    if d.kind == "choice" then
      for at, value in ipairs(d.values) do
        if value == given then values[i] = at end
      end
    elseif type(given) == "number" and given >= d.low and given <= d.high then
      values[i] = given
    end
    if values[i] == nil then return nil end
  end
  return values
end

-- The values of a point's parameters for a list of axes (flat); false for what is not there.
function axes.flat_values(list, params)
  local values, by_group = {}, {}
  for i, axis in ipairs(list) do
    if by_group[axis.group] == nil then by_group[axis.group] = axes.values(axis.group, params) or false end
    values[i] = by_group[axis.group] and by_group[axis.group][axis.at] or false
  end
  return values
end

-- Where a number is in the range of its axis: 0 to 1.
function axes.part(axis, value)
  if not axis.log then return (value - axis.low) / (axis.high - axis.low) end
  local low = sweep.log(axis.low)
  return (sweep.log(value) - low) / (sweep.log(axis.high) - low)
end

-- The value of an axis that is there, of a choice in its order.
function axes.at_part(axis, u)
  local value = axis.low + u * (axis.high - axis.low)
  if axis.log then
    local low = sweep.log(axis.low)
    value = math.max(axis.low, math.min(axis.high, sweep.exp(low + u * (sweep.log(axis.high) - low))))
    return axis.kind == "whole" and math.floor(value + 0.5) or value
  elseif axis.kind ~= "real" then
    return math.min(axis.high, axis.low + math.floor(u * (axis.high - axis.low + 1)))
  end
  return value
end

-- The raw point of such values.
function methods:raw_of(list, values)
  local by_group = {}
  for i, axis in ipairs(list) do
    by_group[axis.group] = by_group[axis.group] or {}
    by_group[axis.group][axis.at] = values[i]
  end
  return self:raw(function(group) return by_group[group] end)
end

return axes
