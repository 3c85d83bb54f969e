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

-- ---- how many are better --------------------------------------------------------------

local ranking = {}
ranking.__index = ranking

local block_max = 512

local function new_ranking()
  return setmetatable({ blocks = { {} }, count = 0 }, ranking)
end

-- The place of the first of a sorted list that is not below a loss.
local function place_of(list, loss)
  local low, high = 1, #list + 1
  while low < high do
    local middle = (low + high) // 2
    if list[middle] < loss then low = middle + 1 else high = middle end
  end
  return low
end

function ranking:add(loss)
  local at, blocks = 1, self.blocks
  while at < #blocks and blocks[at][#blocks[at]] < loss do at = at + 1 end
  local block = blocks[at]
  table.insert(block, place_of(block, loss), loss)
  if #block > block_max then
    table.insert(blocks, at + 1, table.move(block, block_max // 2 + 1, #block, 1, {}))
    for place = #block, block_max // 2 + 1, -1 do block[place] = nil end
  end
  self.count = self.count + 1
end

-- How many of them are below this loss.
function ranking:better(loss)
  local better = 0
  for _, block in ipairs(self.blocks) do
    local below = place_of(block, loss) - 1
    better = better + below
    if below < #block then break end
  end
  return better
end

-- The n-th lowest of them.
function ranking:at(n)
  for _, block in ipairs(self.blocks) do
    if n <= #block then return block[n] end
    n = n - #block
  end
end

-- A function that gives, of a list of arrivals that only grows, what came of them so far: new() of none,
-- to which hear(of, arrival, place) adds each once. So what a rule goes by is brought up to date at a
-- cost that does not grow with the list.
function rungs.heard(new, hear)
  local known = setmetatable({}, { __mode = "k" })
  return function(arrivals)
    local kept = known[arrivals] or { count = 0, of = new() }
    known[arrivals] = kept
    for place = kept.count + 1, #arrivals do hear(kept.of, arrivals[place], place) end
    kept.count = #arrivals
    return kept.of
  end
end

-- A function that gives, of a list of arrivals that only grows, the losses of those of one kind, a ranking
-- { count, better(loss), at(n) }. kind_of: of an arrival; left out, all are of one. name: of what is
-- ranked in place of the loss.
function rungs.rankings(kind_of, name)
  local by_kind = rungs.heard(function() return {} end, function(kinds, arrival)
    local kind = kind_of and kind_of(arrival) or 1
    kinds[kind] = kinds[kind] or new_ranking()
    kinds[kind]:add(arrival[name or "loss"])
  end)
  return function(arrivals, kind)
    return by_kind(arrivals)[kind or 1] or new_ranking()
  end
end

-- Successive halving as runs arrive: does one of this loss go on after those of a ranking, one of
-- `eta` of which goes on, and of fewer the best `least`? NaN never does. "go" or "stop", and why.
function rungs.halve(loss, earlier, eta, least)
  local better, n = earlier:better(loss), earlier.count + 1
  local kept = math.max(least, math.floor(n / eta))
  local why = loss == math.huge and "no finite number"
    or ("%s of %d, of which %d go%s on"):format(ordinal(better + 1), n, kept, kept == 1 and "es" or "")
  return loss < math.huge and better < kept and "go" or "stop", why
end

-- The value below which `percent` of the numbers of a ranking are, between two of them in proportion
-- (NumPy's "linear"). There is at least one.
function rungs.percentile(ranked, percent)
  local at = (ranked.count - 1) * percent / 100
  local low = math.floor(at)
  local below, above = ranked:at(low + 1), ranked:at(math.min(low + 2, ranked.count))
  if at == low or below == above then return below end
  return below + (above - below) * (at - low)
end

return rungs
