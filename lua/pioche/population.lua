-- population.lua: members that train side by side and learn from each other's results:
-- what population based training (Jaderberg et al., arXiv:1711.09846) and its kin share.
--
-- A member's work in one interval, a round, is a run: it grows from the checkpoint of the run
-- before, its own or that of the member it copied, with the parameters that it then has. So
-- each proposal has a parent, which stands in its lineage. A member is compared with what the
-- others had come to at the end of the same round, but waits for nobody: it goes on as soon as
-- there is a place, by those that are known then.
--
-- What is proposed is a function of the seed, the proposal's number and the observations
-- before it, in their order: members go on in the order in which they were heard of.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local points = require "pioche.points"
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"

local population = {}
local methods = {}
methods.__index = methods

local failures_max = 3         -- of a member in a row
local tries_max = 100          -- for parameters of which `where` is true

-- ---- options ---------------------------------------------------------------------------

local function between(low, high)
  return function(value)
    if type(value) == "number" and value >= low and value <= high then return value end
    return nil, ("a number from %g to %g"):format(low, high)
  end
end

local function names(value)
  local list, expected = fields.kinds.words(value)
  if list then table.sort(list) end
  return list, expected and "a list of parameters' names, as { \"lr\" }"
end

-- Are these the options of one? Other searches have a population, too, but no interval.
function population.has(options)
  return options ~= nil and options.population ~= nil and options.interval ~= nil
end

-- Options that all populations have; `more`: those of one.
function population.schema(more)
  local schema = {
    population = { kind = "positive", default = 8, help = "how many members there are" },
    interval = { kind = "positive", required = "steps between two looks at the others, as interval = 100",
      help = "steps after which a member looks at the others" },
    steps = { kind = "positive", required = "how far members train, as steps = 1000",
      help = "the step at which members are done" },
    ends = { kind = "string", default = "until", help = "the parameter by which the program is told at which"
      .. " step it is to save a checkpoint and end" },
    quantile = { kind = between(0, 0.5), default = 0.25,
      help = "of the members the worst part copies one of the best part" },
    explore = { kind = names, otherwise = "all that vary", help = "parameters that may change on the way; what"
      .. " decides on the shape of a model goes with its checkpoint" },
    seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same draws" },
  }
  for name, rule in next, more or {} do schema[name] = rule end
  return schema
end

-- Parameters that may change on the way: a set.
local function explored(space, options)
  local set, varying = {}, {}
  for _, parameter in ipairs(space.parameters) do
    local d = parameter.domain
    if d.kind ~= "fixed" and d.kind ~= "derived" then varying[parameter.name] = true end
  end
  for _, name in ipairs(options.explore or fields.sorted(varying)) do
    if not varying[name] then
      space.box:blame(space.at, "search.explore", "%s is no parameter of the space that varies%s",
        fields.show(name), errors.suggestion(name, fields.sorted(varying)))
    end
    set[name] = true
  end
  return set
end

-- ---- life --------------------------------------------------------------------------------

-- explore(self, parent, number, round): parameters in place of those of the proposal that is
-- copied, for a run of that round.
function population.new(space, options, explore)
  if space.known[options.ends] then
    space.box:blame(space.at, "search.ends", "the space has a parameter '%s', which the search gives itself",
      options.ends)
  end
  local rounds = (options.steps + options.interval - 1) // options.interval
  return setmetatable({ adaptive = true, is_population = true, space = space, options = options,
    explore = explore, explored = explored(space, options), rounds = rounds,
    size = options.population * rounds, points = points.new(space, options.seed, 1000), members = {},
    given = {}, ready = {}, came = {}, taken = {} }, methods)
end

-- Its space gets the parameter that the search gives; what a sweep of a population cannot have.
function population.fit(plans)
  local name = plans.search.name
  plans.space.granted = plans.search.options.ends
  if plans.program.objective then
    plans.box:blame(plans.at, "program", "search = pioche.%s goes on from checkpoints, which an objective has"
      .. " not: expected a pioche.program", name)
  elseif plans.seeds then
    plans.box:blame(plans.at, "seeds", "search = pioche.%s runs each member once: expected none", name)
  elseif plans.warm then
    plans.box:blame(plans.at, "warm", "search = pioche.%s begins with members of its own: expected none", name)
  elseif plans.stop.name ~= "none" then
    plans.box:blame(plans.at, "stop", "search = pioche.%s stops members itself: expected none", name)
  end
end

-- The step at which a member's run of this round ends.
local function end_of(self, round)
  return math.min(round * self.options.interval, self.options.steps)
end

-- What a run is known by: from where it grows, and with which parameters.
local function key_of(self, parent, params)
  local bare = {}
  for name, value in next, params do bare[name] = name ~= self.options.ends and value or nil end
  return parent .. " " .. json.encode(bare)
end

-- Proposal `number` is given out; lineage: { member, round, parent, copied }.
local function begin(self, number, params, lineage)
  local member = self.members[lineage.member] or { number = lineage.member, failures = 0 }
  self.members[lineage.member] = member
  member.open = number
  self.given[number] = { params = params, lineage = lineage }
  if lineage.parent then self.taken[key_of(self, lineage.parent, params)] = true end
  for i, other in ipairs(self.ready) do
    if other == member then
      table.remove(self.ready, i)
      break
    end
  end
end

-- What stands on record was given out. A run that is set aside has failed; a point that is of
-- no member, as those of another sweep, tells nothing.
function methods:adopt(number, params, is_aside, lineage)
  if not lineage then return end
  if not lineage.parent then
    local bare = {}
    for name, value in next, params do bare[name] = value end
    bare[self.options.ends] = nil
    self.points:mark(bare)
  end
  begin(self, number, params, lineage)
  if is_aside then self:observe(number, nil) end
end

-- value: the lower the better, nil where it failed.
function methods:observe(number, value)
  local given = self.given[number]
  if not given then return end
  local member, round = self.members[given.lineage.member], given.lineage.round
  member.open, member.round, given.value = nil, round, value
  if value then
    self.came[round] = self.came[round] or {}
    table.insert(self.came[round], number)
    member.newest, member.failures = number, 0
  else
    member.failures = member.failures + 1
  end
  member.is_over = member.failures >= failures_max or value ~= nil and round == self.rounds
  if not member.is_over then table.insert(self.ready, member) end
end

-- ---- exploit -------------------------------------------------------------------------------

-- Proposals that came to the end of a round, the best first.
local function ranked(self, round)
  local list = table.move(self.came[round] or {}, 1, #(self.came[round] or {}), 1, {})
  table.sort(list, function(a, b)
    local x, y = self.given[a].value, self.given[b].value
    if x ~= y then return x < y end
    return a < b
  end)
  return list
end

-- One of the best of a round, as many as the quantile says, at least `least`; nil where
-- nobody is.
local function draw_good(self, list, number, least)
  local part = math.max(least, math.min(math.ceil(self.options.quantile * #list), #list // 2))
  part = math.min(part, #list)
  return part > 0 and list[sweep.integer(self.options.seed, number, "exploit", 1, part)] or nil, part
end

-- The proposal that a member copies; nil where it goes on by itself. One that failed copies
-- in any case, of that round or else of the one before and so on, where there is anybody.
local function source_of(self, member, number)
  if member.failures > 0 then
    for round = math.min(member.round, self.rounds - 1), 1, -1 do
      local good = draw_good(self, ranked(self, round), number, 1)
      if good then return good end
    end
    return nil
  end
  local list = ranked(self, member.round)
  local good, part = draw_good(self, list, number, 0)
  for i = #list - part + 1, #list do
    if list[i] == member.newest then return good end
  end
  return nil
end

-- ---- explore --------------------------------------------------------------------------------

-- Parameters like those of the proposal `parent`, but for what `change(parameter, value, try)`
-- makes of those that may change; value is nil in a branch that it has not. No two are the
-- same of one parent, where it can be helped. nil: `where` is true of none.
function methods:vary(parent, change)
  local source, other = self.given[parent].params, nil
  for try = 0, tries_max - 1 do
    local raw = {}
    for _, parameter in ipairs(self.space.parameters) do
      local name, d = parameter.name, parameter.domain
      if space_of.active(parameter, raw) then
        if d.kind == "fixed" then
          raw[name] = d.value
        elseif d.kind ~= "derived" then
          local value = source[name]
          if value == nil or self.explored[name] then value = change(parameter, value, try) end
          raw[name] = value
        end
      end
    end
    local params = self.space:complete(raw)
    if params and not self.taken[key_of(self, parent, params)] then return params end
    other = other or params
  end
  return other
end

-- ---- propose ---------------------------------------------------------------------------------

-- A member that was not there, or of which nothing is left.
local function fresh(self, number, at)
  local params = self.points:even(number)
  if not params then return nil end
  return params, { member = at, round = 1, copied = false }
end

local function go_on(self, member, number)
  local source = source_of(self, member, number)
  local parent = source or member.newest
  if not parent then return fresh(self, number, member.number) end
  local from = self.given[parent]
  local round = from.lineage.round + 1
  local params = source and self:explore(source, number, round) or from.params
  return params, { member = member.number, round = round, parent = parent, copied = source ~= nil }
end

-- Parameters and lineage; nil where nobody can go on now.
function methods:propose(number)
  local params, lineage
  if #self.members < self.options.population then
    params, lineage = fresh(self, number, #self.members + 1)
  end
  if not params and self.ready[1] then params, lineage = go_on(self, self.ready[1], number) end
  if not params then return nil end
  local whole = {}
  for name, value in next, params do whole[name] = value end
  whole[self.options.ends] = end_of(self, lineage.round)
  begin(self, number, whole, lineage)
  return whole, lineage
end

-- Proposals whose checkpoints nobody needs any more, and for each whose checkpoint took its
-- place: { [number] = number }. All members have finished a later round; the best of all stays.
function methods:outdated()
  local list, best, slowest = {}, nil, #self.members < self.options.population and 0 or self.rounds
  for _, member in ipairs(self.members) do
    local is_lost = member.is_over and member.failures > 0
    local round = member.newest and self.given[member.newest].lineage.round or 0
    if not is_lost then slowest = math.min(slowest, round) end
  end
  for _, numbers in ipairs(self.came) do
    for _, number in ipairs(numbers) do
      local value = self.given[number].value
      if not best or value < self.given[best].value then best = number end
    end
  end
  for round = 1, slowest - 1 do
    for _, number in ipairs(self.came[round] or {}) do
      local newest = self.members[self.given[number].lineage.member].newest
      if number ~= best and number ~= newest then list[number] = newest end
    end
  end
  return list
end

return population
