-- pbt: population based training (Jaderberg et al., arXiv:1711.09846): after each interval
-- one of the worst members becomes a copy of one of the best, checkpoint and parameters, and
-- goes on with parameters that differ a little.
--
-- Each of them is drawn anew with the probability `resample`; else a number is multiplied by
-- 1 + spread or 1 - spread, whole ones are rounded, all are clipped to their range, and a
-- choice becomes its neighbour in the list.
local fields = require "pioche.fields"
local population = require "pioche.population"
local sweep = require "pioche.core.sweep"

local pbt = { name = "pbt", summary = "members of a population copy the best, and change what they copied" }

local function probability(value)
  if type(value) == "number" and value >= 0 and value <= 1 then return value end
  return nil, "a probability, from 0 to 1"
end

local function part(value)
  if type(value) == "number" and value > 0 and value < 1 then return value end
  return nil, "a number between 0 and 1"
end

pbt.schema = population.schema {
  resample = { kind = probability, default = 0.25, help = "how often a parameter is drawn anew instead" },
  spread = { kind = part, default = 0.2, help = "else a number is multiplied by 1 + spread or 1 - spread, each as"
    .. " often, and a choice becomes its neighbour in the list" },
}

function pbt.check(where, given)
  return fields.check(where, given, pbt.schema)
end

local function neighbour(values, value, is_up)
  local at = 1
  for i, other in ipairs(values) do
    if other == value then at = i end
  end
  local moved = at + (is_up and 1 or -1)
  return values[(moved < 1 or moved > #values) and 2 * at - moved or moved]
end

-- A value in place of another one, by the draws of this number.
local function changed(options, number, parameter, value, try)
  local d, key = parameter.domain, ("%s %d"):format(parameter.path, try)
  local function draw(what) return sweep.uniform(options.seed, number, what .. " " .. key) end
  if value == nil or draw "resample" < options.resample then
    return pbt.redraw(options.seed, number, parameter, try)
  elseif d.kind == "choice" then
    return #d.values > 1 and neighbour(d.values, value, draw "direction" < 0.5) or value
  end
  value = value * (1 + (draw "direction" < 0.5 and options.spread or -options.spread))
  if math.type(d.low) == "integer" then value = math.floor(value + 0.5) end
  return math.max(d.low, math.min(d.high, value))
end

-- A draw of the whole domain of a parameter.
function pbt.redraw(seed, number, parameter, try)
  return require("pioche.space").draw(parameter.domain, seed, number, ("anew %s %d"):format(parameter.path, try))
end

-- For a member that copies the proposal `parent`.
function pbt.explore(self, parent, number)
  return self:vary(parent, function(parameter, value, try)
    return changed(self.options, number, parameter, value, try)
  end) or self.given[parent].params
end

function pbt.new(space, options)
  return population.new(space, options, pbt.explore)
end

return pbt
