-- gp: where a Gaussian process expects the largest improvement (core/sweep/gp.h).
--
-- For runs that are dear and spaces that are small: of each run the most is learned, at a
-- price that grows with the cube of their number. Parameters of all branches are in one
-- model. Lengths are learned anew only now and then, from the runs that were observed
-- first, so that a search which is told again what is on record comes to the same ones.
--
-- Where a rule stops runs the model knows all of them: what was stopped by what it promises, and how
-- doubtful that is (levels.lua). More of the first points are spread, as most of them cost little; and of
-- two points that promise the same the one comes first that the rule is likely to let go on (survival.lua).
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local levels = require "pioche.levels"
local limits = require "pioche.limits"
local points = require "pioche.points"
local price = require "pioche.price"
local survival = require "pioche.survival"
local sweep = require "pioche.core.sweep"

local gp = { name = "gp", summary = "where a Gaussian process expects the largest improvement" }
local check = errors.check

local known_max = 300          -- points that the model holds: the best and the newest
local spread = 2               -- points an axis, and as many once more, that are spread where a rule stops runs
local learn_calls = 50         -- of the likelihood
local learn_max = 150          -- points that lengths are learned from

gp.schema = {
  runs = { kind = "positive", default = 32, help = "points to propose, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
  startup = { kind = "positive", default = 8, help = "points are spread evenly until so many are known;"
    .. " more where a rule stops runs" },
}

function gp.check(where, given)
  return fields.check(where, given, gp.schema)
end

local methods = {}
methods.__index = methods

function gp.new(space, options, aims)
  local self = setmetatable({ adaptive = true, options = options, axes = axes.of(space), slots = {},
    points = points.new(space, options.seed, math.min(100000, 1000 * options.runs)), order = {},
    price = price.new(), learned = 0 }, methods)
  self.size, self.last = math.min(space:count() or options.runs, options.runs), options.runs
  self.list = self.axes:flat()
  self.levels = levels.new(options.startup, self.list)
  if #self.list > 0 then
    self.model, self.survival = check(sweep.gp(self.list)), survival.new(self.list)
    if aims and aims.constraints > 0 then self.limits = limits.new(self.list, aims.constraints) end
  end
  return self
end

local function begin(self, number, params)
  if not self.model then return end
  local values = axes.flat_values(self.list, params)
  self.levels:add(number, values)
  self.survival:add(number, values)
  self.slots[number] = check(self.model:add(values))
  if self.limits then self.limits:add(values) end
end

-- Slots, values and numbers of those of these numbers that count, and how doubtful each value is.
local function rows(self, numbers)
  local slots, values, their, doubts = {}, {}, {}, {}
  for _, number in ipairs(numbers) do
    local value, doubt = self.levels:value(number)
    if value ~= nil then
      local n = #slots + 1
      slots[n], values[n], their[n], doubts[n] = self.slots[number], value, number, doubt or 0
    end
  end
  return slots, self.limits and values or self.price:apply(their, values), their, doubts
end

-- How many of the first `count` observations lengths are learned from.
local function learned_from(count)
  local apart = count < 24 and 2 or math.max(4, count // 8)
  return math.min(learn_max, count - count % apart)
end

-- The numbers that the model holds, in order: all, or the best and the newest.
local function held(self)
  if #self.order <= known_max then return self.order end
  local best, kept = {}, {}
  for i, number in ipairs(self.order) do
    if i <= #self.order - known_max // 2 then best[#best + 1] = number else kept[number] = true end
  end
  local function value(number) return self.levels:value(number) or math.huge end
  local function violation(number) return self.limits and self.limits.violation[number] or 0 end
  table.sort(best, function(a, b)
    if violation(a) ~= violation(b) then return violation(a) < violation(b) end
    if value(a) ~= value(b) then return value(a) < value(b) end
    return a < b
  end)
  for i = 1, known_max // 2 do kept[best[i]] = true end
  local list = {}
  for _, number in ipairs(self.order) do
    if kept[number] then list[#list + 1] = number end
  end
  return list
end

local function pending(self)
  local list = {}
  for _, number in ipairs(fields.sorted(self.slots)) do
    if not self.levels.known[number] then list[#list + 1] = self.slots[number] end
  end
  return list
end

-- Points of the whole space before the model is asked: where a rule stops runs, they are cheap.
function methods:startup()
  local least, most = self.options.startup, math.min(spread * (#self.list + 1), self.options.runs // 4)
  return self.levels.has_rungs and math.max(least, most) or least
end

-- Learn lengths from what was observed first.
local function learn(self, from)
  local first = table.move(self.order, 1, from, 1, {})
  local slots, values, numbers, doubts = rows(self, first)
  if #slots < 2 then return false end
  check(self.model:learn(slots, values, learn_calls, doubts))
  if self.limits then self.limits:learn(slots, numbers, learn_calls) end
  self.survival:learn(first, self.levels.known)
  self.learned = from
  return true
end

-- What the search is told of limits, of the points that the model knows: constraints, and the rule.
local function within(self, slots, numbers, values, under_way)
  local limits_known = self.limits and self.limits:know(slots, numbers, values, under_way)
  local survival_known = self.survival:know(self.order, self.levels.known)
  if not survival_known then return limits_known end
  local list = limits_known or { models = {}, met = {} }
  table.insert(list.models, survival_known)
  for i = #list.met + 1, #slots do list.met[i] = true end
  return list
end

local function model_point(self, number)
  local from = learned_from(#self.order)
  if from ~= self.learned and not learn(self, from) then return nil end
  local slots, values, numbers, doubts = rows(self, held(self))
  if #slots < 2 then return nil end
  local under_way = pending(self)
  check(self.model:know(slots, values, under_way, doubts))
  local found = check(self.model:search(self.options.seed, number, {
    candidates = math.min(2000, math.max(200, 100000 // #slots)), starts = 6, calls = 40 }, nil,
    within(self, slots, numbers, values, under_way)))
  for i = 1, found do
    local params = self.points:take(self.axes:raw_of(self.list, self.model:candidate(i)),
      self.is_known)
    if params then return params end
  end
  return nil
end

function methods:propose(number)
  if number > self.options.runs then return nil end
  local is_startup = #self.order < self:startup() or not self.model
  local params = not is_startup and model_point(self, number) or self.points:even(number)
  if params then begin(self, number, params) end
  return params
end

function methods:adopt(number, params, is_aside)
  self.points:mark(params)
  if not is_aside then begin(self, number, params) end
end

function methods:observe(number, value, how)
  if not self.slots[number] then return end
  if not self.levels.known[number] then table.insert(self.order, number) end
  if self.limits then value, how = self.limits:observe(number, value, how) end
  self.price:observe(number, how)
  if self.levels:observe(number, value, how) then self.learned = 0 end
end

return gp
