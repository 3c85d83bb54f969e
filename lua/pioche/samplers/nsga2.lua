-- nsga2: NSGA-II (Deb et al., IEEE TEC 6(2) 2002) without generations: each point is a child
-- of the best so far, so that nobody waits for the last of a generation.
--
-- The population is the best of all that was observed: by fronts, on the last one that fits
-- by how far apart they lie. Two parents win a tournament each; a child takes each parameter
-- from either, and one parameter or so is drawn anew or moved a little (polynomial mutation,
-- Deb and Agrawal 1995, index 20). A parameter of a branch comes from the parent that has it.
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local points = require "pioche.points"
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"

local nsga2 = { name = "nsga2", several = true,
  summary = "children of the best so far, for several goals and many runs" }
local check = errors.check

local population_max = 50
local tries_max = 50           -- children made anew for a point that is none, or known
local index = 20               -- of the polynomial mutation: the larger, the smaller its steps

local function part(value)
  if type(value) == "number" and value >= 0 and value <= 1 then return value end
  return nil, "a number from 0 to 1"
end

nsga2.schema = {
  runs = { kind = "positive", default = 200, help = "points to propose, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
  population = { kind = "positive", otherwise = "a quarter of the runs, at least 8, at most 50",
    help = "points that become parents; until so many are known, points are spread evenly" },
  crossover = { kind = part, default = 0.9, help = "the part of children that have two parents" },
  swap = { kind = part, default = 0.5,
    help = "the part of a child's parameters that is of the second parent" },
  mutation = { kind = part, otherwise = "1 / the number of parameters",
    help = "the part of a child's parameters that change" },
}

function nsga2.check(where, given)
  return fields.check(where, given, nsga2.schema)
end

local methods = {}
methods.__index = methods

function nsga2.new(space, options)
  local self = setmetatable({ adaptive = true, options = options, axes = axes.of(space), given = {},
    points = points.new(space, options.seed, math.min(100000, 1000 * options.runs)), observed = {},
    elite = {} }, methods)
  self.size, self.last = math.min(space:count() or options.runs, options.runs), options.runs
  self.population = options.population
    or math.max(8, math.min(population_max, options.runs // 4))
  return self
end

-- ---- the population -------------------------------------------------------------------

-- Numbers of rows of `all`, the most lonely first.
local function by_distance(all, numbers)
  local rows, list = {}, {}
  for i, number in ipairs(numbers) do rows[i] = all[number].values end
  local distances = check(sweep.crowding(rows))
  for i, number in ipairs(numbers) do
    all[number].distance, list[i] = distances[i], number
  end
  table.sort(list, function(a, b)
    if all[a].distance ~= all[b].distance then return all[a].distance > all[b].distance end
    return a < b
  end)
  return list
end

-- The best of these members, front by front, the last one cut.
local function select(members, wanted)
  local rows, violations, fronts = {}, {}, {}
  for i, member in ipairs(members) do rows[i], violations[i] = member.values, member.violation end
  for i, rank in ipairs(check(sweep.ranks(rows, violations))) do
    members[i].rank = rank
    fronts[rank] = fronts[rank] or {}
    table.insert(fronts[rank], i)
  end
  local kept = {}
  for _, front in ipairs(fronts) do
    local list = by_distance(members, front)
    local cut = table.move(list, 1, math.min(#list, wanted - #kept), 1, {})
    table.sort(cut) -- in the order of observation
    for _, i in ipairs(cut) do kept[#kept + 1] = members[i] end
    if #kept == wanted then break end
  end
  return kept
end

-- ---- children -------------------------------------------------------------------------

-- One draw of a child: a number from 0 to below 1.
local function chance(self, child, name)
  return sweep.uniform(self.options.seed, child.number, ("nsga2 %d %s"):format(child.try, name))
end

local function tournament(self, child, name)
  local n = #self.elite
  local a = self.elite[math.floor(chance(self, child, name .. " 1") * n) + 1]
  local b = self.elite[math.floor(chance(self, child, name .. " 2") * n) + 1]
  if a.rank ~= b.rank then return a.rank < b.rank and a or b end
  return a.distance >= b.distance and a or b
end

-- The value of a parameter, moved a little; of a choice another one.
local function moved(d, value, u)
  if d.kind == "choice" then return nil end
  local low, high = u < 0.5, 2 * (u < 0.5 and u or 1 - u)
  local step = sweep.exp(sweep.log(math.max(high, 1e-300)) / (index + 1)) - 1
  local at = space_of.part_of(d, value) + (low and step or -step)
  return space_of.at_part(d, math.max(0, math.min(at, 1 - 2 ^ -53)))
end

-- The values of a group: of its parents, some changed.
local function mix(self, child, group)
  local first, second = child.first[group], child.is_crossed and child.second[group] or nil
  local values = {}
  for i, parameter in ipairs(group.parameters) do
    local d, name = parameter.domain, parameter.path
    local from = first or second
    if first and second and chance(self, child, "swap " .. name) < self.options.swap then from = second end
    local value = from and from[i]
    if value == nil or chance(self, child, "mutate " .. name) < child.mutation then
      local u = chance(self, child, "draw " .. name)
      local is_near = value ~= nil and chance(self, child, "near " .. name) < 0.5
      value = is_near and moved(d, value, u)
        or d.kind == "choice" and math.floor(u * #d.values) + 1 or space_of.at_part(d, u)
    end
    values[i] = value
  end
  return values
end

local function make_child(self, number, try)
  local child = { number = number, try = try, mutation = self.options.mutation }
  child.first = tournament(self, child, "first").groups
  child.second = tournament(self, child, "second").groups
  child.is_crossed = chance(self, child, "cross") < self.options.crossover
  if not child.mutation then
    local count = 0
    for _, group in ipairs(self.axes.groups) do
      count = count + (child.first[group] and #group.axes or 0)
    end
    child.mutation = 1 / math.max(1, count)
  end
  return self.axes:raw(function(group) return mix(self, child, group) end)
end

local function begin(self, number, params)
  local groups = {}
  for _, group in ipairs(self.axes.groups) do groups[group] = axes.values(group, params) end
  self.given[number] = groups
end

-- A child that is no copy of a point; nil where none came of many tries.
local function breed(self, number)
  for try = 0, tries_max - 1 do
    local params = self.points:take(make_child(self, number, try))
    if params then return params end
  end
  return nil
end

function methods:propose(number)
  if number > self.options.runs then return nil end
  local is_startup = number <= self.population or #self.elite < 2 or self.axes:is_empty()
  local params
  if is_startup then params = self.points:even(number) else params = breed(self, number) end
  params = params or self.points:random(number)
  if params then begin(self, number, params) end
  return params
end

function methods:adopt(number, params)
  self.points:mark(params)
  begin(self, number, params)
end

function methods:observe(number, value, how)
  local values = how and how.values or { value }
  if not self.given[number] or self.observed[number] or values[1] == nil then return end
  self.observed[number] = true
  table.insert(self.elite, { groups = self.given[number], values = values,
    violation = how and how.violation or 0 })
  self.elite = select(self.elite, self.population)
end

return nsga2
