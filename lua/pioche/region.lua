-- region.lua: where in a space runs are out of memory, learned from those that were and those
-- that were not, so that a search does not go there again.
--
-- The chance of it is a logistic function of each parameter and its square (core/sweep/
-- logistic.h), ranges on the logarithm where they are so: memory is about a product of such
-- parameters, whose logarithm is a sum; the squares are for regions that have two sides. Every
-- run that was out of memory, and the newest others, count. Above one half a point is not
-- proposed as long as there are others.
--
-- It is fitted after each run that was out of memory, and when there are a tenth more of others,
-- to those known by then: so it is a function of what was told, in its order.
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local sweep = require "pioche.core.sweep"

local region = {}
local methods = {}
methods.__index = methods

local ridge = 1e-3
local others_max = 500         -- runs that had memory enough
local row_max = 200            -- numbers that are looked at of a point

function region.new(space)
  return setmetatable({ list = axes.of(space):flat(), bad = {}, good = {}, due = 0 }, methods)
end

-- What the model sees of a point.
local function row_of(self, params)
  local row, values = { 1 }, axes.flat_values(self.list, params)
  for i, axis in ipairs(self.list) do
    local value = values[i]
    if #row + (axis.kind == "choice" and axis.high or 2) > row_max then break end
    if axis.kind ~= "choice" then
      local low, high = axis.low, axis.high
      if axis.log then low, high, value = sweep.log(low), sweep.log(high), value and sweep.log(value) end
      local at = value and 2 * (value - low) / (high - low) - 1 or 0
      row[#row + 1], row[#row + 2] = at, value and at * at or 0
    else
      for choice = 1, axis.high do row[#row + 1] = choice == value and 1 or 0 end
    end
  end
  return row
end

-- A run with these parameters, JSON, ended: was it out of memory?
function methods:learn(params, is_bad)
  local list = is_bad and self.bad or self.good
  list[#list + 1] = params
  if is_bad or #self.bad > 0 and #self.good >= self.due then
    self.fit_bad, self.fit_good, self.weights = #self.bad, #self.good, nil
    self.due = #self.good + 1 + #self.good // 10
  end
end

local function fit(self)
  local rows, ends = {}, {}
  local function add(params, is_bad)
    rows[#rows + 1] = row_of(self, errors.check(json.decode(params)))
    ends[#rows] = is_bad
  end
  for i = 1, self.fit_bad do add(self.bad[i], true) end
  for i = math.max(1, self.fit_good - others_max + 1), self.fit_good do add(self.good[i], false) end
  self.weights = errors.check(sweep.logistic(rows, ends, ridge))
end

-- How likely a point is out of memory: the logarithm of the odds, above 0 where it is more likely
-- than not; nil where nothing tells.
function methods:odds(params)
  if not self.fit_bad then return nil end
  if not self.weights then fit(self) end
  local sum = 0
  for i, x in ipairs(row_of(self, params)) do sum = sum + self.weights[i] * x end
  return sum
end

return region
