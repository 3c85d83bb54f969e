-- fronts.lua: what the Parzen estimator makes of several goals: which points are good.
--
-- In the place of levels.lua: a number's value is 0 where it is good, false where it is not.
-- Good is the part `gamma` of all: the front, what is behind it and so on, and of the front
-- that is too large those that cover most (Ozaki et al., JAIR 73, 2022). What violates a
-- constraint comes behind all that does not.
local errors = require "pioche.errors"
local sweep = require "pioche.core.sweep"

local fronts = {}
fronts.__index = fronts

local check = errors.check
local reference_at = 1.1       -- beyond the worst of a front, in parts of its ranges

function fronts.new(gamma)
  return setmetatable({ gamma = gamma, known = {}, finished = 0, numbers = {}, values = {}, violations = {},
    good = {}, stopped = 0, is_new = false }, fronts)
end

function fronts:observe(number, _, how)
  if self.known[number] then return false end
  self.known[number], self.finished, self.is_new = true, self.finished + 1, true
  if how and how.values then
    local n = #self.numbers + 1
    self.numbers[n], self.values[n], self.violations[n] = number, how.values, how.violation or 0
  end
  return false
end

function fronts:value(number)
  return self.good[number] and 0 or false
end

-- The rows of a front in parts of its ranges, and what is worse than all of them.
function fronts.scaled(rows)
  local low, high, list, reference = {}, {}, {}, {}
  for _, row in ipairs(rows) do
    for g, value in ipairs(row) do
      low[g], high[g] = math.min(low[g] or value, value), math.max(high[g] or value, value)
    end
  end
  for i, row in ipairs(rows) do
    list[i] = {}
    for g, value in ipairs(row) do
      local range = high[g] - low[g]
      list[i][g] = range > 0 and range < math.huge and (value - low[g]) / range or 0
    end
  end
  for g = 1, #low do reference[g] = reference_at end
  return list, reference
end

-- Those of a front that cover most, which are so many places in it.
function fronts.cut(rows, wanted)
  local list, reference = fronts.scaled(rows)
  return check(sweep.subset(list, reference, wanted))
end

local function good_ones(self)
  local wanted, by_rank, good = math.ceil(self.gamma * self.finished), {}, {}
  for i, rank in ipairs(check(sweep.ranks(self.values, self.violations))) do
    by_rank[rank] = by_rank[rank] or {}
    table.insert(by_rank[rank], i)
  end
  for _, front in ipairs(by_rank) do
    local rows = {}
    for k, i in ipairs(front) do rows[k] = self.values[i] end
    local is_cut = #front > wanted and self.violations[front[1]] <= 0
    for k, place in ipairs(is_cut and fronts.cut(rows, wanted) or front) do
      if k <= wanted then good[self.numbers[is_cut and front[place] or place]] = true end
    end
    wanted = wanted - math.min(wanted, #front)
    if wanted == 0 then break end
  end
  return good
end

-- The numbers that are good since, or no more, in order.
function fronts:changes()
  if not self.is_new then return {} end
  local was, list = self.good, {}
  self.good, self.is_new = good_ones(self), false
  for _, number in ipairs(self.numbers) do
    if self.good[number] ~= was[number] then list[#list + 1] = number end
  end
  return list
end

return fronts
