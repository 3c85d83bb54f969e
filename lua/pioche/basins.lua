-- basins.lua: where a search has been at the bottom, and where it is to go downhill next.
--
-- A descent finds the bottom of the basin that it begins in, and a space may have many. So when one
-- is at the bottom, a few leaps are made, and from the best of these that is far from all bottoms the
-- next descent begins. By turns they lead anywhere, and to a point that differs from the best one in
-- a parameter or two: a better basin is often a neighbour, or like a good one in most parameters.
local axes = require "pioche.axes"
local sweep = require "pioche.core.sweep"

local basins = {}
basins.__index = basins

local leaps = 4                -- before a descent
local apart = 0.1              -- of a range: as far from all bottoms a descent begins
local same = 0.03              -- so near one it is on its way there

-- list: the axes.
function basins.new(list, seed)
  return setmetatable({ list = list, seed = seed, bottoms = {}, kinds = {}, used = {},
    round = 0, asked = 0, told = 0 }, basins)
end

-- A descent has ended at these values: from now on there are leaps.
function basins:leave(bottom)
  self.bottoms[#self.bottoms + 1] = bottom
  self.round, self.asked, self.told = self.round + 1, 0, 0
end

-- Of the leaps that come next: "anywhere" or "hop".
function basins:kind()
  return self.round % 2 == 1 and "hop" or "anywhere"
end

-- Are values as near a bottom as that, in parts of each range?
local function is_near(self, values, bottom, limit)
  for i, axis in ipairs(self.list) do
    local a, b = values[i], bottom[i]
    if axis.kind == "choice" or not a or not b then
      if a ~= b then return false end
    elseif math.abs(axes.part(axis, a) - axes.part(axis, b)) >= limit then
      return false
    end
  end
  return true
end

local function is_near_any(self, values, best, limit)
  for _, bottom in ipairs(self.bottoms) do
    if is_near(self, values, bottom, limit) then return true end
  end
  return is_near(self, values, best, limit)
end

-- Are these values where a descent has been at the bottom, or is, at its best point?
function basins:knows(values, best)
  return is_near_any(self, values, best, same)
end

-- Values of a leap from these, nil where nothing can be moved; is_fixed: axes that stay as they are.
function basins:leap(number, from, is_fixed)
  local free, values = {}, table.move(from, 1, #from, 1, {})
  for i = 1, #self.list do
    if from[i] and not is_fixed[i] then free[#free + 1] = i end
  end
  if #free == 0 then return nil end
  local chance = self:kind() == "anywhere" and 1 or 1 / #free
  local surely = free[sweep.integer(self.seed, number, "leap", 1, #free)]
  for _, i in ipairs(free) do
    if i == surely or sweep.uniform(self.seed, number, "leap of " .. i) < chance then
      values[i] = axes.at_part(self.list[i], sweep.uniform(self.seed, number, "leap to " .. i))
    end
  end
  return values
end

-- Are there leaps to be made?
function basins:is_due()
  return self.asked < leaps
end

-- A number is a leap.
function basins:ask(number)
  self.asked, self.kinds[number] = self.asked + 1, self:kind()
end

-- A number was observed.
function basins:tell(number)
  if self.kinds[number] then self.told = self.told + 1 end
end

-- Where to begin, of these numbers, of which `look` tells what they came to and where they are: nil
-- while not all leaps are known, or where there is nowhere. best_values: of the best point.
function basins:start(numbers, look, best_values)
  if self.told < leaps then return nil end
  local best, least, kind = nil, math.huge, self:kind()
  for _, number in ipairs(numbers) do
    if self.kinds[number] == kind and not self.used[number] then
      local value, values = look(number)
      if value and value < least and not is_near_any(self, values, best_values, apart) then
        best, least = number, value
      end
    end
  end
  if best then self.used[best] = true else self.asked, self.told = 0, 0 end
  return best
end

return basins
