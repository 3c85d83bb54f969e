-- survival.lua: how likely a rule lets a run go on, for a search that asks: the best point is
-- of no use where its run is stopped before it can show that.
--
-- A Gaussian process of what runs came to at the rung where most of them were stopped, beside the bound
-- that as many were below as went on: the chance to be below it is a limit for the search (core/sweep/gp_limit.h).
-- Lengths are learned where the search says so, as those of its own model.
local errors = require "pioche.errors"
local sweep = require "pioche.core.sweep"

local survival = {}
survival.__index = survival
local check = errors.check

local stopped_min = 5          -- at a rung, before there is a bound
local known_max = 150          -- the newest runs that came there
local learn_calls = 30
local far = 4                  -- times what is usual: beyond, it is all the same
local noise_min = 1e-6         -- in parts of the variance

-- Of points with these axes (axes.lua).
function survival.new(axes)
  local self = setmetatable({ model = check(sweep.gp(axes)), slots = {} }, survival)
  self.model:look { plain = true, noise_min = noise_min }
  return self
end

-- Where the point of a number is: its values of all axes.
function survival:add(number, values)
  self.slots[number] = check(self.model:add(values))
end

-- The furthest level that a run came to, of its values by level.
local function last_of(at)
  local last = 0
  for level in next, at do last = math.max(last, level) end
  return last
end

-- The rung at which most were stopped, the first of several; nil while too few were.
local function rung_of(numbers, known)
  local counts, best = {}, nil
  for _, number in ipairs(numbers) do
    local last = last_of(known[number])
    if last > 0 and last < math.huge then counts[last] = (counts[last] or 0) + 1 end
  end
  for rung, count in next, counts do
    if count >= stopped_min and (not best or count > counts[best] or count == counts[best] and rung < best) then
      best = rung
    end
  end
  return best
end

-- Slots of these numbers, and how far each was above the bound; nil where there is none.
local function rows(self, numbers, known)
  local rung, slots, values, passed = rung_of(numbers, known), {}, {}, 0
  if not rung then return nil end
  for _, number in ipairs(numbers) do
    local value = known[number][rung]
    if value then
      slots[#slots + 1], values[#values + 1] = self.slots[number], value
      passed = passed + (last_of(known[number]) > rung and 1 or 0)
    end
  end
  if #values < stopped_min then return nil end
  local sorted, first = table.move(values, 1, #values, 1, {}), math.max(0, #values - known_max)
  table.sort(sorted)
  local bound = (sorted[math.max(passed, 1)] + sorted[math.min(passed + 1, #sorted)]) / 2
  local sizes, given = {}, {}
  for i, value in ipairs(sorted) do sizes[i] = math.abs(value - bound) end
  table.sort(sizes)
  local usual = sizes[(#sizes + 1) // 2]
  usual = usual > 0 and usual or 1
  for i = first + 1, #values do
    given[i - first] = math.max(-far * usual, math.min(far * usual, values[i] - bound))
  end
  return table.move(slots, first + 1, #slots, 1, {}), given
end

-- Learn from these numbers; known: the values of each by level (levels.lua).
function survival:learn(numbers, known)
  local slots, values = rows(self, numbers, known)
  self.is_learned = slots ~= nil
  if slots then check(self.model:learn(slots, values, learn_calls)) end
end

-- The model of what is known of these numbers; nil while nothing tells.
function survival:know(numbers, known)
  local slots, values
  if self.is_learned then slots, values = rows(self, numbers, known) end
  if not slots then return nil end
  check(self.model:know(slots, values, {}))
  return self.model
end

return survival
