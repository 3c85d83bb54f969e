-- levels.lua: what a search that learns makes of runs that a rule stopped.
--
-- A value at a rung says nothing beside a value at the end: to rank stopped runs by how far
-- they came would teach what survives the first rung, and nothing else. So values of one
-- level alone are compared: of the furthest, the end or a rung, that enough runs have come
-- to. A run that was stopped before it counts by what its last rung promises of it (promise.lua). Where
-- that says no more than a guess, it is left out, as if it had not been.
local promise = require "pioche.promise"

local levels = {}
levels.__index = levels

local the_end = math.huge
local growth = 1.3             -- promises are learned anew when so many times the runs are known

-- enough: how many values make a level; list: the axes of the space (axes.lua).
function levels.new(enough, list)
  return setmetatable({ enough = enough, level = the_end, counts = {}, known = {}, stopped = 0, told = 0,
    promise = promise.new(list), points = {}, promised = {}, drawn = 0 }, levels)
end

-- Where the point of a number is: its values of all axes.
function levels:add(number, values)
  self.points[number] = values
end

local function is_value(value)
  return type(value) == "number" and value - value == 0
end

-- The furthest level with enough values; while there is none the one with most.
local function choose(self)
  local best, best_count
  for level, count in next, self.counts do
    local is_better = not best or (count >= self.enough and best_count >= self.enough and level > best)
      or (count >= self.enough) ~= (best_count >= self.enough) and count >= self.enough
      or best_count < self.enough and (count > best_count or count == best_count and level > best)
    if is_better then best, best_count = level, count end
  end
  return best or the_end
end

-- Learn anew what rungs promise of the level.
local function draw(self)
  self.drawn, self.promised = self.told, {}
  local order, runs, rungs = {}, {}, {}
  for number in next, self.known do order[#order + 1] = number end
  table.sort(order)
  for i, number in ipairs(order) do
    runs[i] = { at = self.known[number], values = self.points[number] }
  end
  for rung in next, self.counts do
    if rung < self.level then rungs[#rungs + 1] = rung end
  end
  self.promise:draw(runs, rungs, self.level)
end

-- What the sampler was told of a number. True where all numbers are to be seen anew: another
-- level counts from now on, or promises were learned again.
function levels:observe(number, value, how)
  local at = {}
  for _, rung in ipairs(how and how.rungs or {}) do
    at[rung.step] = is_value(rung.value) and rung.value or false
  end
  if not (how and how.status == "stopped") then at[the_end] = is_value(value) and value or false end
  if not self.known[number] then self.told = self.told + 1 end
  for level, was in next, self.known[number] or {} do
    if was then self.counts[level] = self.counts[level] - 1 end
  end
  for level, is in next, at do
    if is then self.counts[level] = (self.counts[level] or 0) + 1 end
  end
  self.known[number], self.promised[number] = at, nil
  if how and how.status == "stopped" then self.stopped = self.stopped + 1 end
  self.has_rungs = self.has_rungs or how ~= nil and how.rungs ~= nil and #how.rungs > 0
  local was = self.level
  self.level = choose(self)
  local is_due = self.stopped > 0 and self.told >= growth * self.drawn
  if is_due or self.level ~= was then draw(self) end
  return self.level ~= was or is_due
end

local function promised(self, number)
  local known = self.promised[number]
  if not known then
    local value, deviation = self.promise:of(self.known[number], self.points[number])
    known = { value = value, deviation = deviation }
    self.promised[number] = known
  end
  return known.value, known.deviation
end

-- The value of a number that was observed, and the deviation of it where that is a promise; false
-- where it failed, nil where it was stopped before it came to the level that counts, and that is not
-- to be told from where it was.
function levels:value(number)
  local at = self.known[number]
  local value = at and at[self.level]
  if value ~= nil then return value end
  if not at or at[the_end] == false then return at and false end
  return promised(self, number)
end

return levels
