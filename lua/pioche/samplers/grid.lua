-- grid: every point of a finite space, in the order of an odometer over the
-- parameters sorted by name (the last turns fastest), or shuffled.
--
-- A sampler is { name, summary, schema or usage (what its options are, a rule each or in
-- words), several (true: it can learn from several goals), check(where, given) -> options,
-- new(space, options, { goals, constraints: how many there are, known: how many points of
-- other sweeps it is told first }) };
-- new gives an object with
--   size                  how many proposals there will be; nil: unknown
--   last                  beyond this n propose gives nil whatever it was told; nil: unknown
--   propose(self, n)      parameters of proposal n = 1, 2, ...; nil: no more
--   adopt(self, n, params, is_aside)    in place of propose(n), where the point of number n is on
--                         record already; without it propose(n) is asked again, for the same point.
--                         n < 0: a point that a person put in or that comes from another sweep, right
--                         before its observation. is_aside: a person has set it aside; it is never
--                         observed, and not to be proposed again
--   observe(self, n, value, how)   what proposal n came to: the lower the better, nil where it
--                         failed; how = { status = "finished", "stopped", "failed" or "oom" (it failed
--                         for want of memory: points.lua keeps from there), step, rungs }.
--                         A rule stopped it at the rung `step`, and the value is of there: it is
--                         to be compared with what others had come to at that rung, not with
--                         their ends. rungs: { { step, value, loss } }, what it was at each it passed,
--                         finished ones too; value is nil where that was no finite number.
--                         Of several goals how.values has one each, and value is nil. What violates
--                         constraints has how.violation above 0, and the more the larger a value,
--                         above that of all that does not (aims.penalty); how.loss is its own, as is
--                         the loss of each rung. how.constraints: what each gave, false for no number
--   adaptive              true where propose(n) reads what was observed
-- Proposal n is a function of the seed, of n and of the calls before it, in their order: of
-- nothing else, neither the clock nor the machine. The store keeps that order (proposal.seen
-- and proposal.observed), so every proposal can be derived again.
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local spaces = require "pioche.space"
local sweep = require "pioche.core.sweep"

local grid = { name = "grid", summary = "every point of a finite space",
  usage = "{ lr = 5 } takes so many values of a range, evenly spread, on the logarithm where it is one;"
    .. " { shuffle = true } the points in an order by chance, { shuffle = { seed = 7 } } in another one" }

local points_max = 1000000
local shuffle_schema = { seed = { kind = "count", default = 1 } }

-- How the points are shuffled, { seed }; nil: not at all.
local function shuffle_of(where, value)
  if type(value) == "boolean" then return value and { seed = shuffle_schema.seed.default } or nil end
  if type(value) ~= "table" then
    where.box:blame(where.at, where.path .. ".shuffle", "expected true or { seed = 7 }, got %s", fields.show(value))
  end
  local path = where.path .. ".shuffle"
  for _, name in ipairs(fields.sorted(value)) do
    if not shuffle_schema[name] then
      where.box:blame(where.at, path, "expected { seed = 7 }, got a table with %s", fields.show(name))
    end
  end
  return fields.check({ box = where.box, at = where.at, path = path }, value, shuffle_schema)
end

-- pioche.grid { lr = 5 }: five values of a continuous parameter. A number is the count of a
-- parameter, whatever its name.
function grid.check(where, given)
  local options = {}
  for _, name in ipairs(fields.sorted(given)) do
    local value = rawget(given, name)
    if name == "shuffle" and type(value) ~= "number" then
      options.shuffle = shuffle_of(where, value)
    else
      local count, expected = fields.kinds.positive(value)
      if type(name) ~= "string" or not count then
        where.box:blame(where.at, where.path .. "." .. tostring(name),
          "expected how many values of that parameter, %s, got %s", expected or "a whole number",
          fields.show(value))
      end
      options[name] = count
    end
  end
  return options
end

-- Evenly spaced values, on the logarithm where the domain is.
local function spread(d, count)
  local log = d.kind:find("^log_") ~= nil
  local integer = d.kind == "int" or d.kind == "log_int"
  local low, high = d.low, d.high
  if log then low, high = sweep.log(low), sweep.log(high) end
  local values = {}
  for i = 1, count do
    local at = count == 1 and (low + high) / 2 or low + (high - low) * (i - 1) / (count - 1)
    local value = log and sweep.exp(at) or at
    if integer then value = math.floor(value + 0.5) end
    if i == 1 and count > 1 then value = d.low end
    if i == count and count > 1 then value = d.high end
    if values[#values] ~= value then values[#values + 1] = value end
  end
  return values
end

local function values_of(space, parameter, options)
  local d, count = parameter.domain, math.tointeger(options[parameter.name])
  if d.kind == "fixed" then return { d.value } end
  if d.kind == "choice" then return d.values end
  if count then return spread(d, count) end
  if d.kind == "int" or d.kind == "log_int" then
    if not spaces.cardinality(d) or d.high - d.low >= points_max then
      space.box:blame(space.at, parameter.path, "%s has too many values for a grid", spaces.text(d))
    end
    local values = {}
    for value = d.low, d.high do values[#values + 1] = value end
    return values
  end
  space.box:blame(space.at, parameter.path, "%s has no end of values: a grid needs a list, or "
    .. "search = pioche.grid { [%s] = 5 }", spaces.text(d), fields.show(parameter.name))
end

-- The points in an order by chance.
local function shuffled(points, seed)
  local list = {}
  for i, from in ipairs(sweep.shuffle(seed, #points)) do list[i] = points[from] end
  return list
end

-- The points that are not among these.
local function others(points, known)
  local left = {}
  for _, point in ipairs(points) do
    if not known[json.encode(point)] then left[#left + 1] = point end
  end
  return left
end

function grid.new(space, options)
  local shuffle = type(options.shuffle) == "table" and options.shuffle or nil
  for _, name in ipairs(fields.sorted(options)) do
    if not space.known[name] and not (shuffle and name == "shuffle") then
      space.box:blame(space.at, "search." .. name, "there is no parameter of that name, got %s%s",
        fields.show(options[name]), name == "shuffle" and ": expected true or { seed = 7 }" or "")
    end
  end
  local points, raw, tried = {}, {}, 0
  local function walk(i)
    local parameter = space.parameters[i]
    if not parameter then
      tried = tried + 1
      if tried > points_max then
        space.box:blame(space.at, "search", "the grid has more than %d points: use pioche.random",
          points_max)
      end
      points[#points + 1] = space:complete(raw)
    elseif parameter.domain.kind == "derived" or not spaces.active(parameter, raw) then
      walk(i + 1)
    else
      for _, value in ipairs(values_of(space, parameter, options)) do
        raw[parameter.name] = value
        walk(i + 1)
        raw[parameter.name] = nil
      end
    end
  end
  walk(1)
  if #points == 0 then
    space.box:blame(space.at, "where", "not true for any of the grid's %d points", tried)
  end
  if shuffle then points = shuffled(points, shuffle.seed) end
  local sampler = { size = #points }
  local adopted, known, left = 0, {}, nil
  sampler.adopt = function(_, n, params)
    if n < 0 then return end -- what a person puts in comes beside it
    adopted, left = n, nil
    known[json.encode(params)] = true
  end
  sampler.propose = function(_, n)
    if adopted == 0 then return points[n] end
    left = left or others(points, known)
    return left[n - adopted]
  end
  sampler.observe = function() end
  return sampler
end

return grid
