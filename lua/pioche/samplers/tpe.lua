-- tpe: the tree-structured Parzen estimator: points like the best few so far, and unlike
-- the rest (core/sweep/tpe.h).
--
-- Parameters of one group (axes.lua) are modelled together, each group by the points that
-- have it. Runs that are under way count among the rest, so that several at a time do not
-- crowd; runs that failed are worse than all others. Of runs that a rule stopped levels.lua
-- tells; as long as there are some, one point in three is a random one, so that what is slow
-- to begin with is found, too. Of several goals fronts.lua tells.
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local fronts = require "pioche.fronts"
local levels = require "pioche.levels"
local points = require "pioche.points"
local sweep = require "pioche.core.sweep"

local tpe = { name = "tpe", several = true,
  summary = "points that are likely among the best few of those so far" }
local check = errors.check

local tries_max = 20           -- models asked anew for a point that is none, or known

local function part(value)
  if type(value) == "number" and value > 0 and value <= 0.5 then return value end
  return nil, "a number above 0, at most 0.5"
end

tpe.schema = {
  runs = { kind = "positive", default = 32, help = "points to propose, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
  startup = { kind = "positive", default = 10, help = "points are drawn at random until so many are known" },
  candidates = { kind = "positive", default = 24, help = "points that are weighed for each proposal" },
  gamma = { kind = part, default = 0.1, help = "the part of the points that is good, at most 25 of them" },
}

function tpe.check(where, given)
  return fields.check(where, given, tpe.schema)
end

local methods = {}
methods.__index = methods

function tpe.new(space, options, aims)
  local self = setmetatable({ adaptive = true, options = options, given = {},
    axes = axes.of(space, aims ~= nil and aims.goals > 1),
    points = points.new(space, options.seed, math.min(100000, 1000 * options.runs)), finished = 0 }, methods)
  self.size, self.last = math.min(space:count() or options.runs, options.runs), options.runs
  if aims and aims.goals > 1 then
    self.levels = fronts.new(options.gamma)
  else
    self.list = self.axes:flat()
    self.levels = levels.new(options.startup, self.list)
  end
  self:restart()
  return self
end

-- The values of a group by its model, the rank-th best.
local function pick(self, group, number, try)
  local model, rank = self.models[group], try % self.options.candidates + 1
  local key = ("tpe %d %s"):format(try // self.options.candidates, group.key)
  if rank == 1 or self.asked[group] ~= key then
    check(model:propose(self.options.seed, number, key))
    self.asked[group] = key
  end
  return model:candidate(rank)
end

-- Bring to the models what came of a number.
local function settle(self, number)
  local value = self.levels:value(number)
  for group, slot in next, self.slots[number] do
    local model = self.models[group]
    if value == nil then check(model:drop(slot)) else check(model:set(slot, value or nil)) end
  end
end

local function model_point(self, number)
  self.asked = {}
  for _, changed in ipairs(self.levels.changes and self.levels:changes() or {}) do settle(self, changed) end
  for try = 0, tries_max * self.options.candidates - 1 do
    local raw = self.axes:raw(function(group) return pick(self, group, number, try) end)
    local params = self.points:take(raw)
    if params then return params end
  end
  return nil
end

-- The point of a number becomes one that is under way.
local function begin(self, number, params)
  local slots = {}
  for _, group in ipairs(self.axes.groups) do
    local values = axes.values(group, params)
    if values then slots[group] = check(self.models[group]:add(values)) end
  end
  self.slots[number], self.given[number] = slots, params
  if self.list then self.levels:add(number, axes.flat_values(self.list, params)) end
end

-- Models of all that is known, anew.
function methods:restart()
  self.models, self.slots = {}, {}
  for _, group in ipairs(self.axes.groups) do
    -- of several goals all that have a value are good
    local is_told = self.levels.changes ~= nil
    self.models[group] = check(sweep.tpe(group.axes, { candidates = self.options.candidates,
      gamma = is_told and 1 or self.options.gamma, below_max = is_told and 1 << 30 or nil }))
  end
  for _, number in ipairs(fields.sorted(self.given)) do
    begin(self, number, self.given[number])
    if self.levels.known[number] then settle(self, number) end
  end
end

function methods:propose(number)
  if number > self.options.runs then return nil end
  local params
  if self.finished >= self.options.startup and not self.axes:is_empty()
    and (self.levels.stopped == 0 or number % 3 > 0) then
    params = model_point(self, number)
  end
  params = params or self.points:random(number)
  if params then begin(self, number, params) end
  return params
end

function methods:adopt(number, params, is_aside)
  self.points:mark(params)
  if not is_aside then begin(self, number, params) end
end

function methods:observe(number, value, how)
  if not self.given[number] then return end
  if not self.levels.known[number] then self.finished = self.finished + 1 end
  if self.levels:observe(number, value, how) then return self:restart() end
  settle(self, number)
end

return tpe
