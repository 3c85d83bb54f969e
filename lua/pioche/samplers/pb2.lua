-- pb2: population based bandits (Parker-Holder et al., arXiv:2002.02518): as pbt, but what a
-- copy goes on with is chosen by a model: a Gaussian process of how much a loss fell in one
-- interval, over the parameters and the time. Of `candidates` draws the one is taken whose
-- upper confidence bound is the highest, at the time at which it will train; members that
-- train just now count as having come to what the model expects.
--
-- The time is a parameter like the others, with a length of its own that is learned, where
-- the paper lets all that is old fade at one rate.
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local pbt = require "pioche.samplers.pbt"
local population = require "pioche.population"
local sweep = require "pioche.core.sweep"

local pb2 = { name = "pb2", summary = "as pbt; what is changed, is chosen by a model of how much it brings" }
local check = errors.check

local known_min = 4            -- intervals that the model learns from; before, it is as pbt
local known_max = 200          -- the newest
local learn_calls = 50

pb2.schema = population.schema {
  candidates = { kind = "positive", default = 256, help = "draws of which the model chooses" },
}

function pb2.check(where, given)
  return fields.check(where, given, pb2.schema)
end

-- A point of the model: the time, then the parameters.
local function values_of(self, params, round)
  local values = { round }
  for i, axis in ipairs(self.list) do
    local of_group = axes.values(axis.group, params)
    values[i + 1] = of_group and of_group[axis.at] or false
  end
  return values
end

local function model_of(self)
  self.list = axes.of(self.space):flat()
  local list = { { kind = "real", low = 0, high = self.rounds } }
  for i, axis in ipairs(self.list) do
    list[i + 1] = { kind = axis.kind, low = axis.low, high = axis.high, log = axis.log,
      parent = axis.parent and axis.parent + 1, when = axis.when }
  end
  return check(sweep.gp(list))
end

-- What intervals brought, the newest ones, and what is under way: slots, values, slots.
local function known(self, model)
  local slots, values, pending = {}, {}, {}
  for _, number in ipairs(fields.sorted(self.given)) do
    local given = self.given[number]
    local parent = given.lineage.parent and self.given[given.lineage.parent]
    if parent and self.members[given.lineage.member].open == number then
      pending[#pending + 1] = check(model:add(values_of(self, given.params, given.lineage.round)))
    elseif parent and given.value then
      slots[#slots + 1] = check(model:add(values_of(self, given.params, given.lineage.round)))
      values[#values + 1] = given.value - parent.value
    end
  end
  local first = math.max(1, #slots - known_max + 1)
  return table.move(slots, first, #slots, 1, {}), table.move(values, first, #values, 1, {}), pending
end

-- The weight of what is not known (the paper's appendix, and its authors' code).
local function boldness(count)
  return sweep.exp(0.5 * sweep.log(0.2 + math.max(0, sweep.log(0.4 * count)))) -- the root
end

local function explore(self, parent, number, round)
  local model = model_of(self)
  local slots, values, pending = known(self, model)
  if #slots < known_min or #self.list == 0 then return pbt.explore(self, parent, number) end
  check(model:learn(slots, values, learn_calls))
  check(model:know(slots, values, pending))
  local best, best_bound
  for i = 1, self.options.candidates do
    local params = self:vary(parent, function(parameter, _, try)
      return pbt.redraw(self.options.seed, number, parameter, i * 1000 + try)
    end)
    local mean, deviation
    if params then mean, deviation = model:predict(values_of(self, params, round)) end
    local bound = mean and mean - boldness(#slots) * deviation -- of a loss: the lower the better
    if bound and (not best or bound < best_bound) then best, best_bound = params, bound end
  end
  return best or self.given[parent].params
end

function pb2.new(space, options)
  -- Until there is a model it is as pbt; options are on record, so these are not among them.
  return population.new(space, setmetatable({ resample = pbt.schema.resample.default,
    spread = pbt.schema.spread.default }, { __index = options }), explore)
end

return pb2
