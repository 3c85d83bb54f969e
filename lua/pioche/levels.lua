-- levels.lua: what a search that learns makes of runs that a rule stopped.
--
-- A value at a rung says nothing beside a value at the end: to rank stopped runs by how far
-- they came would teach what survives the first rung, and nothing else. So values of one
-- level alone are compared: of the furthest, the end or a rung, that enough runs have come
-- to. Where that is the end, a run that was stopped counts by what its last rung promises of it,
-- if runs that came to both tell that the one follows the other: by their regression line, which
-- does not lean though only the best of a rung went on. Else, and where curves cross, so that
-- rungs tell nothing of the end, stopped runs are left out, as if they had not been.
local aims = require "pioche.aims"

local levels = {}
levels.__index = levels

local the_end = math.huge
local pairs_min = 5            -- runs that came to both, for a line
local correlation_min = 0.85    -- of these, at least
local growth = 1.3             -- lines are drawn anew when so many times the values are known

-- enough: how many values make a level.
function levels.new(enough)
  return setmetatable({ enough = enough, level = the_end, counts = {}, known = {}, stopped = 0, lines = {},
    drawn = 0 }, levels)
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

-- The regression line of the ends of runs on what they were at a rung: { height, slope, least },
-- where least is the best that came of any; nil where that tells little.
local function line(known, order, rung, level)
  local n, mx, my, xx, xy, yy, least = 0, 0.0, 0.0, 0.0, 0.0, 0.0, math.huge
  for _, number in ipairs(order) do
    local x, y = known[number][rung], known[number][level]
    if x and y and not aims.is_penalty(x) and not aims.is_penalty(y) then
      n = n + 1
      local dx, dy = x - mx, y - my
      mx, my = mx + dx / n, my + dy / n
      xx, xy, yy = xx + dx * (x - mx), xy + dx * (y - my), yy + dy * (y - my)
      least = math.min(least, y)
    end
  end
  local follows = xy > 0 and xy * xy >= correlation_min * correlation_min * xx * yy
  if n < pairs_min or not follows then return nil end
  return { height = my - xy / xx * mx, slope = xy / xx, least = least }
end

-- Draw all lines to the end.
local function draw(self)
  self.lines, self.drawn = {}, self.counts[self.level] or 0
  local order = {}
  for number in next, self.known do order[#order + 1] = number end
  table.sort(order)
  for rung in next, self.counts do
    if rung < self.level then self.lines[rung] = line(self.known, order, rung, self.level) end
  end
end

-- What the sampler was told of a number. True where all numbers are to be seen anew: another
-- level counts from now on, or lines were drawn again.
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
  local is_due = self.stopped > 0
    and (self.counts[self.level] or 0) >= math.max(pairs_min, growth * self.drawn)
  if is_due or self.level ~= was then draw(self) end
  return self.level ~= was or is_due
end

-- What the furthest rung that it passed promises of the end; nil where none tells.
local function promised(self, at)
  local furthest
  for rung, value in next, at do
    if value and self.lines[rung] and rung > (furthest or 0) then furthest = rung end
  end
  if not furthest then return nil end
  local known = self.lines[furthest]
  return math.max(known.least, known.height + known.slope * at[furthest])
end

-- The value of a number that was observed; false where it failed, nil where it was stopped
-- before it came to the level that counts, and that is not to be told from where it was.
function levels:value(number)
  local at = self.known[number]
  local value = at[self.level]
  if value ~= nil then return value end
  if at[the_end] == false then return false end
  return promised(self, at)
end

return levels
