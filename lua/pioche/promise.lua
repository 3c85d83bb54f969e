-- promise.lua: what a run that was stopped at a rung promises of a level that it did not come to: a
-- model across fidelities.
--
-- From rung to rung, and from the last one to the end, leads a link: the regression line of what runs came
-- to that came to both, which does not lean though only the best of a rung went on; and a Gaussian process
-- (core/sweep/gp.h) of how far they are from it, by their parameters and by where on the line. It has
-- lengths of its own: a parameter that decides on the speed alone is learned as that. Along its links a run
-- comes to a value, and to a deviation, the larger the more of them there are (Kennedy, O'Hagan, Biometrika
-- 87(1), 2000; recursively, as those at a level are among those at the one before: Le Gratiet, Garnier,
-- arXiv:1210.0686; by the value, too: Perdikaris et al., Proc. R. Soc. A 473, 2017).
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local sweep = require "pioche.core.sweep"

local promise = {}
promise.__index = promise
local check = errors.check

local pairs_min = 5            -- runs that came to both levels, for a link
local pairs_max = 80           -- the newest
local far = 3                  -- half ranges of the values: beyond, it is all the same
local apart = 2                -- times as far as the one before is a rung that links lead to
local learn_calls = 40
local noise_min = 1e-4         -- in parts of the variance
local axes_max = 199           -- and the value
local trusted = 0.8            -- the deviation of a promise, in parts of that of those that came to the level
local line_trusted = 0.5       -- the same of a line alone, which does not know where it may be further off
local exact = 1e-12            -- of the spread of values: what is nearer the line is on it

-- list: the axes of a space (axes.lua); nil, or too many: by the lines alone.
function promise.new(list)
  local axes
  if list and #list > 0 and #list <= axes_max then
    axes = table.move(list, 1, #list, 1, {})
    axes[#axes + 1] = { kind = "real", low = -far, high = far }
  end
  return setmetatable({ axes = axes, links = {} }, promise)
end

-- ---- links -------------------------------------------------------------------------------

-- The regression line of pairs { x, y }: { x, y (the means), slope, spread (of y), deviation (of y from it),
-- least (y) }. The less they tell, the nearer is its slope to 1. nil where they are too far apart to be squared.
local function line(list)
  local mx, my, xx, xy, yy, least = 0.0, 0.0, 0.0, 0.0, 0.0, math.huge
  for i, pair in ipairs(list) do
    local dx, dy = pair.x - mx, pair.y - my
    mx, my = mx + dx / i, my + dy / i
    xx, xy, yy = xx + dx * (pair.x - mx), xy + dx * (pair.y - my), yy + dy * (pair.y - my)
    least = math.min(least, pair.y)
  end
  if not (xx < math.huge and yy < math.huge) then return nil end
  local about = xx > 0 and math.max(0, yy - xy / xx * xy) / (#list - 2) or 1
  if about < exact * exact * yy then about = 0 end
  local slope = (xy + about) / (xx + about)
  local left = yy - 2 * slope * xy + slope * slope * xx
  if left < exact * exact * yy then left = 0 end
  return { x = mx, y = my, slope = slope, spread = math.sqrt(yy / #list), deviation = math.sqrt(left / #list),
    least = least }
end

local function row_of(link, values, x)
  local row = table.move(values, 1, #values, 1, {})
  row[#row + 1] = math.max(-far, math.min(far, (x - link.middle) / link.half))
  return row
end

local function on_line(link, x)
  return link.y + link.slope * (x - link.x)
end

-- Give a link the model of how far runs are from the line; like: one whose lengths it takes.
local function bend(self, link, list, like)
  local low, high, off, slots = math.huge, -math.huge, {}, {}
  for _, pair in ipairs(list) do low, high = math.min(low, pair.x), math.max(high, pair.x) end
  link.middle, link.half = low + (high - low) / 2, high > low and (high - low) / 2 or 1
  link.model = check(sweep.gp(self.axes))
  link.model:look { plain = true, noise_min = noise_min }
  for i, pair in ipairs(list) do
    slots[i] = check(link.model:add(row_of(link, pair.values, pair.x)))
    off[i] = (pair.y - on_line(link, pair.x)) / link.deviation
  end
  if like then
    link.model:set(like.lengths, like.noise)
  else
    check(link.model:learn(slots, off, learn_calls))
  end
  link.lengths, link.noise = {}, link.model:noise()
  for a = 1, #self.axes do link.lengths[a] = link.model:length(a) end
  check(link.model:know(slots, off, {}))
end

-- What comes of a value along a link, and the deviation of it.
local function follow(link, values, x)
  local value = on_line(link, x)
  if not link.model then return value, link.deviation end
  local mean, deviation = link.model:predict(row_of(link, values, x))
  return value + link.deviation * mean, link.deviation * math.sqrt(deviation * deviation + link.noise)
end

local function is_usual(value)
  return value and not aims.is_penalty(value)
end

-- Of runs that came to both levels, the newest.
local function pairs_of(runs, rung, target)
  local list = {}
  for i = #runs, 1, -1 do
    local run = runs[i]
    local x, y = run.at[rung], run.at[target]
    if is_usual(x) and is_usual(y) then list[#list + 1] = { values = run.values, x = x, y = y } end
    if #list == pairs_max then break end
  end
  return list
end

-- Make all links that lead to a level. runs: of all that are known, in order, { at (values by level),
-- values (of the axes) }; rungs: the steps below the level.
function promise:draw(runs, rungs, level)
  self.links, self.level = {}, level
  local ahead, like = { level }, nil -- where links lead to, the nearest first; the one from there
  table.sort(rungs, function(a, b) return a > b end)
  for _, rung in ipairs(rungs) do
    local is_far = #ahead == 1 or rung * apart <= ahead[1]
    for _, target in ipairs(ahead) do
      local list = pairs_of(runs, rung, target)
      local link = #list >= pairs_min and line(list)
      if link then
        link.target = target
        if self.axes and link.deviation > 0 then bend(self, link, list, not is_far and like or nil) end
        self.links[rung] = link
        break
      end
    end
    if is_far and self.links[rung] then
      table.insert(ahead, 1, rung)
      like = self.links[rung].model and self.links[rung]
    end
  end
end

-- What values at rungs promise of the level, and the deviation of that; nil where none tells, or no
-- better than the mean of those that came there.
function promise:of(at, values)
  local rung
  for step, value in next, at do
    if value and self.links[step] and step > (rung or 0) then rung = step end
  end
  if not rung then return nil end
  local x, variance, last = at[rung], 0, nil
  if aims.is_penalty(x) then return x, 0 end
  while rung ~= self.level do
    local deviation
    last = self.links[rung]
    x, deviation = follow(last, values, x)
    variance, rung = variance + deviation * deviation, last.target
  end
  local deviation = math.sqrt(variance)
  if deviation > (self.axes and trusted or line_trusted) * last.spread then return nil end
  return math.max(last.least, x), deviation
end

return promise
