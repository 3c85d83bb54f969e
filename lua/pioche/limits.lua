-- limits.lua: models of what constraints give, for a search that asks how likely a point meets them
-- (core/sweep/gp_limit.h).
--
-- What is far from the border is cut off, so that the border is seen sharply and a bad point does not
-- flatten all others. Where a constraint gave no number it is as far from being met.
local errors = require "pioche.errors"
local sweep = require "pioche.core.sweep"

local limits = {}
limits.__index = limits
local check = errors.check

local noise_min = 1e-8         -- in parts of the variance
local far = 4                  -- times what is usual: beyond, it is all the same

-- Of so many constraints, of points with these axes; is_smooth: as the goal is seen (sweep/gp.h).
function limits.new(axes, count, is_smooth)
  local self = setmetatable({ models = {}, learned = {}, given = {}, own = {}, violation = {} }, limits)
  for i = 1, count do
    self.models[i] = check(sweep.gp(axes))
    self.models[i]:look { plain = true, smooth = is_smooth, noise_min = noise_min }
  end
  return self
end

-- The next point, its values of all axes: its slot is that of the goal's model.
function limits:add(values)
  for _, model in ipairs(self.models) do check(model:add(values)) end
end

-- Is it known what each constraint gave for a number? Not so of points of another sweep that had none,
-- or others.
local function is_known(self, number)
  return #self.models == #(self.given[number] or {})
end

-- What the sampler was told of a number (grid.lua); returns how it is told of the loss alone.
function limits:observe(number, value, how)
  self.given[number] = how and how.constraints
  self.violation[number], self.own[number] = how and how.violation or 0, nil
  if not self:is_violated(number) then return value, how end
  local own = {}
  for name, field in next, how do own[name] = field end
  own.rungs = {}
  for i, rung in ipairs(how.rungs or {}) do own.rungs[i] = { step = rung.step, value = rung.loss } end
  local loss = is_known(self, number) and how.loss or nil
  self.own[number] = how.status ~= "stopped" and loss or false -- a loss at a rung is not one at the end
  return loss, own
end

-- Does a number violate a constraint? Its value is a penalty then.
function limits:is_violated(number)
  return self.violation[number] > 0
end

-- Of each of these numbers its own value, in place of the one that is given, which may be a
-- penalty; false: it failed.
function limits:apply(numbers, values)
  for i, number in ipairs(numbers) do
    if values[i] and self.own[number] ~= nil then values[i] = self.own[number] end
  end
  return values
end

-- What constraint i gave for these numbers, whose slots are `of`, as its model is told: slots and
-- values.
local function rows(self, i, of, numbers)
  local slots, values, sizes = {}, {}, {}
  for k, number in ipairs(numbers) do
    local list = is_known(self, number) and self.given[number]
    if list then
      slots[#slots + 1], values[#values + 1] = of[k], list[i]
      if list[i] then sizes[#sizes + 1] = math.abs(list[i]) end
    end
  end
  table.sort(sizes)
  local usual = sizes[(#sizes + 1) // 2]
  if not usual then return {}, {} end
  usual = usual > 0 and usual or 1
  for k, value in ipairs(values) do
    values[k] = value and math.max(-far * usual, math.min(far * usual, value)) or far * usual
  end
  return slots, values
end

-- Learn from what these numbers gave; `calls` of each likelihood at most.
function limits:learn(of, numbers, calls)
  for i, model in ipairs(self.models) do
    local slots, values = rows(self, i, of, numbers)
    self.learned[i] = #slots > 1
    if #slots > 1 then check(model:learn(slots, values, calls)) end
  end
end

-- Take what these numbers, which the goal's model knows with their losses, gave for known, and points
-- of slots for under way. prepare(model, slots, values) is called first; without it those models count
-- that have learned something. Returns what model:search is told of limits; nil while nothing is known.
function limits:know(of, numbers, losses, pending, prepare)
  local known, met = {}, {}
  for i, model in ipairs(self.models) do
    local slots, values = rows(self, i, of, numbers)
    if #slots > 0 and (prepare or self.learned[i]) then
      if prepare then prepare(model, slots, values) end
      check(model:know(slots, values, pending))
      known[#known + 1] = model
    end
  end
  for i, number in ipairs(numbers) do
    met[i] = losses[i] and is_known(self, number) and not self:is_violated(number)
  end
  return #known > 0 and { models = known, met = met } or nil
end

return limits
