-- levels.lua: what a search that learns makes of runs that a rule stopped.
--
-- A value at a rung says nothing beside a value at the end: to rank stopped runs by how far
-- they came would teach what survives the first rung, and nothing else. So values of one
-- level alone are compared: of the furthest, the end or a rung, that enough runs have come
-- to. Runs that were stopped before it are left out, as if they had not been.
local levels = {}
levels.__index = levels

local the_end = math.huge

-- enough: how many values make a level.
function levels.new(enough)
  return setmetatable({ enough = enough, level = the_end, counts = {}, known = {}, stopped = 0 }, levels)
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

-- What the sampler was told of a number. True where another level counts from now on, by
-- which all numbers are to be seen anew.
function levels:observe(number, value, how)
  local at = {}
  for _, rung in ipairs(how and how.rungs or {}) do
    at[rung.step] = is_value(rung.value) and rung.value or false
  end
  if not (how and how.status == "stopped") then at[the_end] = is_value(value) and value or false end
  for level, was in next, self.known[number] or {} do
    if was then self.counts[level] = self.counts[level] - 1 end
  end
  for level, is in next, at do
    if is then self.counts[level] = (self.counts[level] or 0) + 1 end
  end
  self.known[number] = at
  if how and how.status == "stopped" then self.stopped = self.stopped + 1 end
  local was = self.level
  self.level = choose(self)
  return self.level ~= was
end

-- The value of a number that was observed; false where it failed, nil where it was stopped
-- before it came to the level that counts.
function levels:value(number)
  local at = self.known[number]
  local value = at[self.level]
  if value == nil and at[the_end] == false then return false end
  return value
end

return levels
