-- cma_es: evolution with an adapted covariance matrix (core/sweep/cma.h).
--
-- For a few hundred cheap runs and more: it needs no model of what it has seen, and finds
-- its way along narrow, bent valleys. Whole numbers and choices have a margin of their own;
-- parameters of all branches are in one distribution, and what was not taken tells nothing.
-- A search that has come to its end begins again elsewhere, with a population twice as
-- large as long as the budget has ten generations of it (IPOP: Auger and Hansen, 2005).
--
-- Results count as they come, whatever generation their points are of, so that no worker
-- waits for another. A generation has as many points as there are workers, at least, or
-- most results would tell of a distribution that is gone.
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local levels = require "pioche.levels"
local points = require "pioche.points"
local sweep = require "pioche.core.sweep"

local cma_es = { name = "cma_es", summary = "evolution that learns which way the better points lie" }
local check = errors.check

local axes_max = 200           -- its covariance has the square of that
local tries_max = 100          -- draws for a point that is none, or known
local level_min = 10           -- values that make a level (levels.lua)
local sigma = 1 / 6            -- of each range, to begin with
local generations_min = 10     -- that the budget has for a larger population

local function population(value)
  local is_whole = math.type(value) == "integer"
  if is_whole and (value == 0 or value >= 4) and value <= 100000 then return value end
  return nil, "a whole number from 4 to 100000, or 0: by the number of parameters"
end

cma_es.schema = {
  runs = { kind = "positive", default = 32, help = "points to propose, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
  population = { kind = population, default = 0,
    help = "points of a generation; 0: 4 + 3 log of the number of parameters, or as many as run at"
      .. " once" },
}

function cma_es.check(where, given)
  return fields.check(where, given, cma_es.schema)
end

local methods = {}
methods.__index = methods

function cma_es.new(space, options)
  local self = setmetatable({ adaptive = true, options = options, axes = axes.of(space), slots = {},
    order = {}, points = points.new(space, options.seed, math.min(100000, 1000 * options.runs)),
    levels = levels.new(level_min), restarts = 0, under_way = 0 }, methods)
  self.size, self.last = math.min(space:count() or options.runs, options.runs), options.runs
  self.list = self.axes:flat()
  if #self.list > axes_max then
    errors.raise("invalid", "search: cma_es takes at most %d parameters, the space has %d; pioche.tpe takes"
      .. " any number", axes_max, #self.list)
  elseif #self.list > 0 then
    self.model = check(sweep.cma(self.list, options.population))
    self.first_population, self.population = self.model:population(), self.model:population()
  end
  return self
end

local function draw(self, number, try)
  return self.model:draw(self.options.seed, number, "cma " .. try)
end

local function begin(self, number, slot)
  self.slots[number] = slot
  if number > 0 then self.under_way = self.under_way + 1 end
end

function methods:propose(number)
  if number > self.options.runs then return nil end
  for try = 0, self.model and tries_max - 1 or -1 do
    local params = self.points:take(self.axes:raw_of(self.list, draw(self, number, try)))
    if params then
      begin(self, number, self.model:keep())
      return params
    end
  end
  local params = self.points:random(number)
  if params then begin(self, number, self.model and self.model:add(axes.flat_values(self.list, params))) end
  return params
end

-- A point of its own is drawn again, because its parameters do not tell where in the cell
-- of a whole number it was.
function methods:adopt(number, params, is_aside)
  self.points:mark(params)
  if not self.model or is_aside then return end
  local given = axes.flat_values(self.list, params)
  for try = 0, number > 0 and tries_max - 1 or -1 do
    local values, is_same = draw(self, number, try), true
    for i, value in ipairs(given) do is_same = is_same and (not value or value == values[i]) end
    if is_same then return begin(self, number, self.model:keep()) end
  end
  begin(self, number, self.model:add(given))
end

-- Where a search has found what there was, it begins again.
local function restart(self)
  self.restarts = self.restarts + 1
  if 2 * generations_min * self.population <= self.options.runs - #self.order then
    self.population = 2 * self.population
  end
  local mean = {}
  for i = 1, #self.list do
    mean[i] = sweep.uniform(self.options.seed, self.restarts, "cma mean " .. i)
  end
  check(self.model:begin(mean, sigma, self.population))
end

local function tell(self, number, again)
  local value = self.levels:value(number)
  if value == nil then return end
  self.model:tell(self.slots[number], value or nil, again)
  if self.model:is_over() then restart(self) end
end

-- Another level counts from now on: all that is known is told again.
local function tell_all(self)
  self.restarts, self.population = 0, self.first_population
  check(self.model:begin(nil, sigma, self.population))
  for _, number in ipairs(self.order) do tell(self, number, true) end
end

function methods:observe(number, value, how)
  if not self.slots[number] then return end
  local is_new = not self.levels.known[number]
  if is_new and number > 0 and not self.is_begun then
    self.is_begun = true
    if self.options.population == 0 and self.under_way > self.first_population then
      self.first_population = self.under_way
      tell_all(self)
    end
  end
  if is_new then table.insert(self.order, number) end
  if self.levels:observe(number, value, how) then
    tell_all(self)
  elseif is_new then
    tell(self, number)
  end
end

return cma_es
