-- rungs.lua: what stopping rules share: where rungs are, and how a run ranks at one.
local fields = require "pioche.fields"

local rungs = {}

local function factor(value)
  if type(value) == "number" and value >= 2 and value < math.huge then return value end
  return nil, "a number, at least 2"
end

local function part(value)
  if type(value) == "number" and value > 0 and value < 1 then return value end
  return nil, "a number between 0 and 1"
end

-- The option by which a rule is audited (judge.lua).
rungs.audit = { kind = part, otherwise = "none",
  help = "let so many of those on that would stop, to see what the rule costs, as audit = 0.05" }

-- Options of rules whose rungs are min, min * eta, min * eta^2 and so on, below max.
function rungs.schema()
  return {
    by = { kind = fields.one_of("step"), default = "step", help = "what rungs count: steps" },
    min = { kind = "positive", required = "the first rung, as min = 50", help = "the first rung" },
    max = { kind = "positive", required = "how long a run is, as max = 400",
      help = "where runs end by themselves: there is no rung from there on" },
    eta = { kind = factor, default = 3,
      help = "of a rung one in so many goes on, and the next one is so many times as far" },
    audit = rungs.audit,
  }
end

-- The options, checked against each other.
function rungs.check(where, given, schema)
  local options = fields.check(where, given, schema)
  if options.max <= options.min then
    where.box:blame(where.at, where.path .. ".max", "expected more than min, which is %d, got %d",
      options.min, options.max)
  end
  return options
end

-- The rungs from `first` on, each `eta` times as far as the one before, below `max`.
function rungs.steps(first, eta, max)
  local list, at = {}, first
  while at < max do
    local step = math.floor(at)
    if step >= 1 and step ~= list[#list] then list[#list + 1] = step end
    at = at * eta
  end
  return list
end

-- The first of these steps above `step`.
function rungs.next(steps, step)
  for _, rung in ipairs(steps) do
    if rung > step then return rung end
  end
  return nil
end

local function ordinal(n)
  local tail = n % 100 >= 11 and n % 100 <= 13 and "th" or ({ "st", "nd", "rd" })[n % 10] or "th"
  return n .. tail
end

-- Successive halving as runs arrive: does one of this loss go on after those, one of `eta`
-- of which goes on, and of fewer the best `least`? NaN never does. "go" or "stop", and why.
function rungs.halve(loss, losses, eta, least)
  local better = 0
  for _, other in ipairs(losses) do
    if other < loss then better = better + 1 end
  end
  local n = #losses + 1
  local kept = math.max(least, math.floor(n / eta))
  local why = loss == math.huge and "no finite number"
    or ("%s of %d, of which %d go%s on"):format(ordinal(better + 1), n, kept, kept == 1 and "es" or "")
  return loss < math.huge and better < kept and "go" or "stop", why
end

-- The value below which `percent` of these numbers are, between two of them in proportion
-- (NumPy's "linear"). There is at least one.
function rungs.percentile(values, percent)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local at = (#sorted - 1) * percent / 100
  local low = math.floor(at)
  local below, above = sorted[low + 1], sorted[math.min(low + 2, #sorted)]
  if at == low or below == above then return below end
  return below + (above - below) * (at - low)
end

return rungs
