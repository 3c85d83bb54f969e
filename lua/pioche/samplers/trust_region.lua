-- trust_region: downhill from the best point by a model of its neighbourhood.
--
-- For spaces of numbers and losses that are smooth near their best: there it takes a tenth
-- of the runs that a model of the whole space needs, and finds all digits. A region around
-- the best point has a half width, at first a tenth of each range. The points in and near
-- it make a Gaussian process whose lengths are a few widths: a polynomial, nearly, and as
-- good as one with fewer points than it has terms. What it says is the least within the
-- region runs next. Where that is an improvement, the region grows. Where it is none, a
-- point is added along the parameter of which the least is known; when all are known well
-- enough, the region was too wide, and is halved (after Powell's NEWUOA, 2006; the trust
-- regions of Eriksson et al., arXiv:1910.01739, are learned from, too). Noise is one of a few
-- levels, by the evidence.
--
-- Where there is no more to find it begins again elsewhere. Choices on which parameters
-- depend stay as they are while it goes down.
local axes = require "pioche.axes"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local levels = require "pioche.levels"
local points = require "pioche.points"
local price = require "pioche.price"
local sweep = require "pioche.core.sweep"

local trust = { name = "trust_region", summary = "downhill by a model of where the best point lies" }
local check = errors.check

local half_first = 0.09        -- of each range, to either side
local half_min = 1e-6         -- then there is no more to find
local half_max = 0.2
local growth = 1.5             -- where a step of half the width at least was an improvement
local reach = 4                -- half widths: so far away points are in the model
local stretch = 4              -- half widths: the lengths of the model
local known_max = 80           -- points of the model
local trusted = 0.15           -- the deviation, in parts of all there can be, of what is known well enough
local descents_max = 3         -- that are under way
local noises = { 1e-8, 1e-5, 1e-3, 0.03, 0.3 }
local halvings_max = 40

trust.schema = {
  runs = { kind = "positive", default = 32, help = "points to propose; of a finite space none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
}

function trust.check(where, given)
  return fields.check(where, given, trust.schema)
end

local methods = {}
methods.__index = methods

function trust.new(space, options)
  local self = setmetatable({ adaptive = true, options = options, axes = axes.of(space), slots = {},
    points = points.new(space, options.seed, math.min(100000, 1000 * options.runs)), order = {},
    narrow = 0, price = price.new(), levels = levels.new(8), kinds = {}, begun = {}, place_of = {},
    places = {} }, methods)
  self.size = math.min(space:count() or options.runs, options.runs)
  self.list, self.is_parent = self.axes:flat(), {}
  for _, axis in ipairs(self.list) do
    if axis.parent then self.is_parent[axis.parent] = true end
  end
  if #self.list > 0 then
    self.model = check(sweep.gp(self.list))
    self.model:look { smooth = true, plain = true, noise_min = noises[1] }
  end
  return self
end

-- ---- what is known ----------------------------------------------------------------------

-- Where a point is by the branches it takes: each has a region of its own, { half, failed
-- (the newest descent was no improvement), descents (under way), probes (along an axis, since
-- the region has this width), since (observations from which the best one is taken), rounds
-- (how often it was narrow) }.
local function place_of(self, params)
  local words = {}
  for i, axis in ipairs(self.list) do
    if self.is_parent[i] then words[#words + 1] = tostring(params[axis.parameter.name]) end
  end
  local key = table.concat(words, ";")
  if not self.places[key] then
    local place = { half = half_first, failed = false, descents = 0, probes = 0, since = 1, rounds = 0,
      at = #self.places + 1 }
    self.places[key], self.places[place.at] = place, place
  end
  return self.places[key]
end

-- The best number of a place, and its value.
local function best_of(self, place)
  local best, value
  for i = place.since, #self.order do
    local number = self.order[i]
    local v = self.place_of[number] == place and self.levels:value(number)
    if v and (not value or v < value) then best, value = number, v end
  end
  return best, value
end

local function distance(self, a, b)
  return self.model:distance(self.slots[a], self.slots[b])
end

-- Slots and values of the observations near a number, the nearest first, and the slots of
-- what is under way there.
local function near(self, best, half)
  local list, slots, values, their, pending = {}, {}, {}, {}, {}
  for i, number in ipairs(self.order) do
    if self.levels:value(number) ~= nil then
      list[#list + 1] = { number = number, distance = distance(self, best, number), at = i }
    end
  end
  table.sort(list, function(a, b)
    if a.distance ~= b.distance then return a.distance < b.distance end
    return a.at < b.at
  end)
  local d = #self.list
  for i = 1, math.min(#list, known_max, (d + 1) * (d + 2) // 2 + 2) do
    if i > 2 and list[i].distance > reach * half then break end
    their[i] = list[i].number
    slots[i], values[i] = self.slots[their[i]], self.levels:value(their[i])
  end
  for _, number in ipairs(fields.sorted(self.slots)) do
    if not self.levels.known[number] and distance(self, best, number) < reach * half then
      pending[#pending + 1] = self.slots[number]
    end
  end
  return slots, self.price:apply(their, values), pending
end

-- Of each axis so many half widths; a whole number is no less than a number wide.
local function widths(self, half, factor)
  local list = {}
  for i, axis in ipairs(self.list) do
    local least = axis.kind == "whole" and 1 / (axis.high - axis.low + 1) or 0
    list[i] = axis.kind == "choice" and 1 or math.max(half, least) * factor
  end
  return list
end

-- Make the model around a number, with the noise that is the most likely.
local function know(self, best, half)
  local slots, values, pending = near(self, best, half)
  local lengths, noise, evidence = widths(self, half, stretch), noises[1], -math.huge
  if #slots > #self.list // 2 + 3 then
    for _, level in ipairs(noises) do
      self.model:set(lengths, level)
      check(self.model:know(slots, values, {}))
      local found = self.model:evidence() - sweep.log(level) -- with Jeffreys' prior of a scale
      if found > evidence then noise, evidence = level, found end
    end
  end
  self.model:set(lengths, noise)
  check(self.model:know(slots, values, pending))
end

-- ---- what comes next ----------------------------------------------------------------------

-- Model and kind of a number: "descent" or "geometry", and how many candidates the model
-- has; nil where there is nothing to go on from, or enough is under way.
local function decide(self, number, place)
  local best = best_of(self, place)
  if not best then return nil end
  for _ = 1, halvings_max do
    know(self, best, place.half)
    local region = { around = self.slots[best], half = widths(self, place.half, 1) }
    -- where there is much noise one point an axis is all that is asked for
    if (place.failed or place.descents > 0) and place.probes <= #self.list
      and self.model:probe(region) > trusted then
      return "geometry", 1
    elseif not place.failed then
      if place.descents >= descents_max then return nil end
      region.care = 0.5 * place.descents
      return "descent", check(self.model:search(self.options.seed, number,
        { candidates = 200, starts = 3, calls = 60 }, region))
    elseif place.half <= half_min then
      return nil
    end
    place.failed, place.half, place.probes = false, math.max(place.half / 2, half_min), 0
    if place.half <= self.narrow then place.half, place.rounds = half_max, place.rounds + 1 end
  end
  return nil
end

-- Decide, and keep the first candidate for which `take(values)` is true; returns what it is.
-- What is decided depends on what was told alone: a search that takes up its own proposals
-- of an earlier session decides again.
local function plan(self, number, place, take)
  local kind, found = decide(self, number, place)
  for i = 1, found or 0 do
    local taken = take(self.model:candidate(i))
    if taken then
      local _, value = best_of(self, place)
      self.kinds[number], self.begun[number] = kind, { half = place.half, value = value }
      local count = kind == "descent" and "descents" or "probes"
      place[count] = place[count] + 1
      return taken
    end
  end
  return nil
end

-- The places that are known, the best first: { place, rounds }.
function methods:best_places()
  local list = {}
  for _, place in ipairs(self.places) do
    local best, value = best_of(self, place)
    if best then list[#list + 1] = { place = place, value = value, rounds = place.rounds } end
  end
  table.sort(list, function(a, b)
    if a.value ~= b.value then return a.value < b.value end
    return a.place.at < b.place.at
  end)
  return list
end

local function begin(self, number, params)
  if not self.model then return end
  self.slots[number] = check(self.model:add(axes.flat_values(self.list, params)))
  self.place_of[number] = place_of(self, params)
end

-- A point by the model of a place; nil where it has none.
function methods:descend(number, place)
  local params = place and plan(self, number, place, function(values)
    return self.points:take(self.axes:raw_of(self.list, values))
  end)
  if params then begin(self, number, params) end
  return params
end

-- Take up a point that `descend` may have proposed; returns whether it did.
function methods:retrace(number, params, place)
  local given = axes.flat_values(self.list, params)
  local is_own = place and plan(self, number, place, function(values)
    for i, value in ipairs(given) do
      if value ~= values[i] then return false end
    end
    return true
  end)
  self:join(number, params)
  return is_own
end

-- Take up a point that comes from elsewhere; is_aside: it is never observed.
function methods:join(number, params, is_aside)
  self.points:mark(params)
  if not is_aside then begin(self, number, params) end
end

-- The place for the next number of a search by itself: the best one; elsewhere, from what
-- comes next, where there is no more to find.
local function next_place(self)
  local first = self:best_places()[1]
  if first and first.place.half <= half_min then
    for _, place in ipairs(self.places) do
      place.since, place.half, place.failed, place.probes = #self.order + 1, half_first, false, 0
    end
    return nil
  end
  return first and first.place
end

function methods:propose(number)
  if number > self.options.runs then return nil end
  local params = self:descend(number, next_place(self))
  if not params then
    params = number == 1 and self.points:middle(self.axes, self.list) or self.points:even(number)
    if params then begin(self, number, params) end
  end
  return params
end

function methods:adopt(number, params, is_aside)
  if is_aside then return self:join(number, params, true) end
  self:retrace(number, params, number > 0 and next_place(self) or nil)
end

function methods:observe(number, value, how)
  if not self.slots[number] then return end
  self.price:observe(number, how)
  local place = self.place_of[number]
  local best, was = best_of(self, place)
  local is_new = not self.levels.known[number]
  if is_new then table.insert(self.order, number) end
  if self.levels:observe(number, value, how) or not is_new then return end
  value = self.levels:value(number)
  local is_better = value and (not was or value < was)
  if self.kinds[number] == "descent" then
    place.descents = place.descents - 1
    -- while others are under way the region may be another, and the best point, too
    local begun = self.begun[number]
    if place.half == begun.half then place.failed = not (value and value < begun.value) end
    if is_better and best and distance(self, best, number) > place.half / 2 then
      place.half, place.probes = math.min(growth * place.half, half_max), 0
    end
  elseif self.kinds[number] == "geometry" then
    place.failed = false
  elseif is_better and best and distance(self, best, number) > place.half then
    place.half, place.failed = math.max(place.half, half_first / 2), false -- it goes on from there
  end
end

return trust
