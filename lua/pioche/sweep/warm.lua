-- sweep/warm.lua: a sweep that begins with what others have found.
--
-- Points of another sweep are observations of this one's search, before its first proposal,
-- as far as they are of its space. Parameters are the same by their names:
--   - what a point has and this space has not is left out: it is whatever it was;
--   - what this space chooses must be one of its values, and what it fixes must be that value
--     where the other sweep chose it; else the point is left out;
--   - what this space chooses and the point has not is told by `params`, or the point is left out;
--   - what is derived is derived anew, and `where` must be true.
-- What was told is on record (sweep_prior): it stays, however the other sweep goes on.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local find = require "pioche.sweep.find"
local history = require "pioche.sweep.history"
local json = require "pioche.core.json"
local space_of = require "pioche.space"

local warm = {}
local check = errors.check

-- ---- one point ----------------------------------------------------------------------------

-- Names that a recorded space chooses: a set.
local function chosen(parameters)
  local set = {}
  for _, parameter in ipairs(parameters) do
    local is_one = parameter.kind == "fixed" or parameter.kind == "derived"
      or parameter.values and #parameter.values == 1
    if not is_one then set[parameter.name] = true end
  end
  return set
end

-- The parameters in this space of a point of another; nil and why it is none.
local function mapped(space, params, was_chosen, added)
  local raw = {}
  for _, parameter in ipairs(space.parameters) do
    local d, name = parameter.domain, parameter.name
    if d.kind ~= "derived" and space_of.active(parameter, raw) then
      local value = params[name]
      if value == nil then value = added[name] end
      if d.kind == "fixed" and (value == nil or not was_chosen[name]) then value = d.value end
      if value == nil then return nil, ("%s is missing"):format(name) end
      if math.type(value) == "integer" and (d.kind == "uniform" or d.kind == "log_uniform") then
        value = value + 0.0
      end
      if not space_of.has(d, value) then
        return nil, ("%s is not in %s"):format(name, space_of.text(d))
      end
      raw[name] = value
    end
  end
  local result = space:complete(raw)
  return result, not result and "`where` is not true" or nil
end

-- ---- a sweep -------------------------------------------------------------------------------

-- What another sweep has come to, in order: { params, observation }, the first JSON; its own
-- priors first.
local function results(store, sweep)
  local list = check(store:rows("SELECT params, observation FROM sweep_prior WHERE sweep_id = ? ORDER BY number",
    sweep.id))
  for _, row in ipairs(list) do row.observation = check(json.decode(row.observation)) end
  local rows, aside = history.read(store, sweep.id), {}
  for _, change in ipairs(rows.changes) do
    for _, point in ipairs(change.detail.points or {}) do aside[point.number] = point end
  end
  for _, place in ipairs(rows.order) do
    local point = aside[rows.number[place]]
    local observation = check(json.decode(rows.observation[place]))
    if point then observation = point.observation end
    local status = observation and observation.status or "aside"
    if status ~= "refused" and status ~= "aside" then
      list[#list + 1] = { params = rows.params[place], observation = observation }
    end
  end
  return list
end

-- Has another sweep the constraints of this one? By the text of their functions.
local function has_same_constraints(other, sweep)
  local theirs, ours = other.spec.constraints or {}, sweep.constraints or {}
  for i = 1, math.max(#theirs, #ours) do
    if not ours[i] or theirs[i] ~= space_of.function_digest(sweep.box, ours[i].fn) then return false end
  end
  return true
end

-- The points of another sweep as this one is to be told of them. Enqueued points are raw: what is
-- derived is not in them, and not asked for. What other constraints gave says nothing of these; that
-- they were violated is kept, as a reason to look elsewhere.
local function points_of(store, other, sweep, added)
  local told, missed, was_chosen, count = {}, {}, chosen(other.spec.space), 0
  local is_same = has_same_constraints(other, sweep)
  for _, row in ipairs(results(store, other)) do
    count = count + 1
    local params, why = mapped(sweep.space, check(json.decode(row.params)), was_chosen, added)
    if params then
      if not is_same then row.observation.constraints = nil end
      told[#told + 1] = { params = check(json.encode(params)), observation = check(json.encode(row.observation)) }
    else
      missed[why] = (missed[why] or 0) + 1
    end
  end
  return told, missed, count
end

-- The three reasons that most points were left out for, in words.
function warm.missed_text(missed)
  local list = fields.sorted(missed)
  table.sort(list, function(a, b)
    if missed[a] ~= missed[b] then return missed[a] > missed[b] end
    return a < b
  end)
  local texts = {}
  for i = 1, math.min(3, #list) do texts[i] = ("%s (%d)"):format(list[i], missed[list[i]]) end
  if #list > 3 then texts[4] = "and so on" end
  return table.concat(texts, ", ")
end

local function check_goal(other, sweep, blame)
  local theirs, ours = aims.text(other.spec), aims.text(sweep)
  if theirs ~= ours then
    blame("the goal of %s (%s) is %s: expected %s", other.experiment, other.ulid, theirs ~= "" and theirs or "none",
      ours)
  end
end

-- What a sweep is to be told of another one: { sweep, experiment, told, missed, count }, the
-- points in `told`. blame(format, ...) raises what is wrong.
function warm.of(store, other, sweep, added, blame)
  check_goal(other, sweep, blame)
  local told, missed, count = points_of(store, other, sweep, added)
  if #told == 0 then
    blame("%s (%s) has %s", other.experiment, other.ulid, count == 0 and "no results yet"
      or ("%d results, and none is of this space: %s"):format(count, warm.missed_text(missed)))
  end
  return { sweep = other.ulid, experiment = other.experiment, told = told, missed = missed, count = count }
end

-- What a recipe's `warm` comes to. id: of the sweep itself, nil where it is not on record.
function warm.all(store, sweep, id)
  local function blame(format, ...) sweep.box:blame(sweep.at, "warm", format, ...) end
  local added = {}
  for _, name in ipairs(fields.sorted(sweep.warm.params)) do
    if not sweep.space.known[name] then
      blame("params: there is no parameter '%s'%s", tostring(name),
        errors.suggestion(tostring(name), sweep.space.names))
    end
    added[name] = rawget(sweep.warm.params, name)
  end
  if not store then blame("%s: there is no store to look it up in", fields.show(sweep.warm.sweeps[1])) end
  local list = {}
  for i, name in ipairs(sweep.warm.sweeps) do
    local ok, other = pcall(find.one, store, name, id)
    if not ok then
      if errors.is(other) then blame("%s", other.message) end
      error(other, 0)
    end
    list[i] = warm.of(store, other, sweep, added, blame)
  end
  return list
end

-- What a sweep was told of others, as warm.all gave it.
function warm.on_record(store, sweep_id)
  local list = check(store:rows("SELECT number, detail FROM sweep_change WHERE sweep_id = ? AND kind = 'warm'"
    .. " ORDER BY number", sweep_id))
  for i, row in ipairs(list) do
    list[i] = check(json.decode(row.detail))
    list[i].count, list[i].told = list[i].of, check(store:rows("SELECT params, observation FROM sweep_prior"
      .. " WHERE sweep_id = ? AND change = ? ORDER BY number", sweep_id, row.number))
  end
  return list
end

-- Put it on record, within a transaction.
function warm.record(store, sweep_id, found)
  local change = check(store:change_add(sweep_id, "warm", check(json.encode { sweep = found.sweep,
    experiment = found.experiment, told = #found.told, of = found.count, missed = found.missed })))
  for _, point in ipairs(found.told) do
    check(store:prior_add(sweep_id, change, point.params, point.observation))
  end
end

-- In words, for people.
function warm.text(found)
  local told = type(found.told) == "table" and #found.told or found.told
  local of = found.count or found.of
  return ("%d of %d points of %s %s%s"):format(told, of, found.experiment, found.sweep,
    told < of and "; not " .. warm.missed_text(found.missed) or "")
end

return warm
