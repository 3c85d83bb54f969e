-- sampler: a recipe's own search: a function that proposes each point.
--
-- The function is the recipe's and runs in its sandbox. What it may go by are its arguments
-- alone: what was proposed and came of it, and draws that depend on the seed and the number;
-- it is given copies, and may keep none of them. So an interrupted sweep goes on as it would
-- have, and every proposal can be derived again.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local levels = require "pioche.levels"
local points = require "pioche.points"
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"

local sampler = { name = "sampler", several = true, summary = "a function of the recipe proposes" }

sampler.schema = {
  runs = { kind = "positive", default = 32, help = "points to propose, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
  propose = { kind = "function",
    required = "a function(known, draw) that returns a table of parameters",
    help = "function(known, draw): the parameters of the next point, nil for a random one; known is a list"
      .. " of { number, params, loss }, the lower the better, nil where it failed, in the order in which that"
      .. " was heard; of several goals with `losses`, one each, and with constraints `violation`, 0 where"
      .. " they are met; and known.pending one of those under way; draw.uniform(name) is a number from 0 to"
      .. " below 1, draw.random() a random point, draw.number which one this is" },
}

-- Options are on record, so what of them is a function is kept apart: { box, at, propose }.
local functions = setmetatable({}, { __mode = "k" })

function sampler.check(where, given)
  local checked = fields.check(where, given, sampler.schema)
  local options = { runs = checked.runs, seed = checked.seed,
    propose = space_of.function_digest(where.box, checked.propose) }
  functions[options] = { box = where.box, at = where.at, propose = checked.propose }
  return options
end

-- Options that were made of others, as with a larger budget, have the same function.
function sampler.inherit(options, given)
  functions[options] = functions[given]
end

local methods = {}
methods.__index = methods

function sampler.new(space, options)
  local self = setmetatable({ adaptive = true, space = space, options = options, own = functions[options],
    points = points.new(space, options.seed, math.min(100000, 1000 * options.runs)), levels = levels.new(8),
    given = {}, order = {}, told = {} }, methods)
  self.size, self.last = math.min(space:count() or options.runs, options.runs), options.runs
  return self
end

local function copy(params)
  local result = {}
  for name, value in next, params do result[name] = value end
  return result
end

-- What the function is told of what there was.
local function known(self)
  local list, pending = {}, {}
  for _, number in ipairs(self.order) do
    local value, told = self.levels:value(number), self.told[number]
    if value ~= nil then
      list[#list + 1] = { number = number, params = copy(self.given[number]), loss = value or nil,
        losses = told.losses and copy(told.losses), violation = told.violation }
    end
  end
  for _, number in ipairs(fields.sorted(self.given)) do
    if not self.levels.known[number] then
      pending[#pending + 1] = { number = number, params = copy(self.given[number]) }
    end
  end
  list.pending = pending
  return list
end

local function draws(self, number)
  local tries = 0
  return { number = number,
    uniform = function(name)
      return sweep.uniform(self.options.seed, number, "own " .. tostring(name))
    end,
    random = function()
      tries = tries + 1
      return self.space:draw(self.options.seed, number, -tries)
    end }
end

local function ask(self, number)
  local own = self.own
  local box = own.box
  local left = box.left
  box.left = box.budget -- of instructions, for each proposal
  local ok, proposed = box:try(own.propose, known(self), draws(self, number))
  box.left = left
  if not ok then errors.raise(proposed.code, "%s (in search.propose)", proposed.message) end
  return proposed
end

function methods:propose(number)
  if number > self.options.runs then return nil end
  local proposed = ask(self, number)
  local params = proposed ~= nil and self.space:admit(proposed)
  if proposed ~= nil and not params then return proposed end -- what is wrong with it, sweeps.lua tells
  params = params and self.points:take(params) or self.points:random(number)
  self.given[number] = params
  return params
end

function methods:adopt(number, params, is_aside)
  self.points:mark(params)
  if not is_aside then self.given[number] = params end
end

function methods:observe(number, value, how)
  if not self.given[number] then return end
  if not self.levels.known[number] then table.insert(self.order, number) end
  self.levels:observe(number, value, how)
  self.told[number] = { losses = how and how.values, violation = how and how.violation }
end

return sampler
