-- trust_region: downhill from the best point by a model of its neighbourhood.
--
-- For spaces of numbers and losses that are smooth near their best: there it takes a tenth
-- of the runs that a model of the whole space needs, and finds all digits. A region around
-- the best point has a half width, at first a tenth of each range. The points in and near
-- it make a Gaussian process whose lengths are a few widths: a polynomial, nearly, and as
-- good as one with fewer points than it has terms. What it says is the least within the
-- region runs next. Where that is an improvement, the region grows. Where it is none, a
-- point is added along the parameter of which the least is known, and so it begins; when all are known well
-- enough, the region was too wide, and is halved (after Powell's NEWUOA, 2006; the trust
-- regions of Eriksson et al., arXiv:1910.01739, are learned from, too). Noise is one of a few
-- levels, by the evidence. Where many points are under way at a time, many of them are what the
-- model says: each takes those before it to come out as expected, and is the lower bound of what is
-- left (Desautels et al., JMLR 15, 2014). While nothing is known they are around the first point.
--
-- Beside the region there may be a scout: another one, which goes downhill from where basins.lua
-- tells, until it is hopeless, or comes to where one has been; where it comes to be the best, the
-- region goes on from there. By itself the search begins again elsewhere where there is no more to
-- find. Choices on which parameters
-- depend stay as they are while it goes down.
local axes = require "pioche.axes"
local basins = require "pioche.basins"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local levels = require "pioche.levels"
local limits = require "pioche.limits"
local points = require "pioche.points"
local price = require "pioche.price"
local sweep = require "pioche.core.sweep"

local trust = { name = "trust_region", has_workers = true,
  summary = "downhill by a model of where the best point lies" }
local check = errors.check

local half_first = 0.09        -- of each range, to either side
local half_min = 1e-6         -- then there is no more to find
local half_max = 0.2
local growth = 1.5             -- where a step of half the width at least was an improvement
local reach = 4                -- half widths: so far away points are in the model
local close = 0.1              -- half widths: points so near each other tell the same
local stretch = 4              -- half widths: the lengths of the model
local known_max = 80           -- points of the model
local trusted = 0.15           -- the deviation, in parts of all there can be, of what is known well enough
local descents_max = 3         -- that are under way,
local descents_part = 0.8      -- or where that is more, this part of all that are
local care, care_max = 0.5, 1  -- deviations by which the bound is lower, for each of them
local sighted = 0.5            -- points an axis, before there is a direction to go
local noises = { 1e-8, 1e-5, 1e-3, 0.03, 0.3 }
local halvings_max = 40
local scout_min = 1e-4         -- then a scout is at the bottom
local negligible = 1e-5        -- of what others are above the best: then there are but digits to find
local elsewhere = 0.03         -- of a range
local quiet = 1e-3            -- noise with which a bottom is left when it is found

trust.schema = {
  runs = { kind = "positive", default = 32, help = "points to propose, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
}

function trust.check(where, given)
  return fields.check(where, given, trust.schema)
end

local methods = {}
methods.__index = methods

function trust.new(space, options, aims)
  local workers = aims and aims.workers or 1
  local self = setmetatable({ adaptive = true, options = options, axes = axes.of(space), slots = {},
    points = points.new(space, options.seed, math.min(100000, 1000 * options.runs)), order = {},
    narrow = 0, price = price.new(), kinds = {}, begun = {}, place_of = {}, places = {},
    params = {}, descents_max = math.max(descents_max, math.floor(descents_part * workers)) }, methods)
  self.size, self.last = math.min(space:count() or options.runs, options.runs), options.runs
  self.list, self.is_parent = self.axes:flat(), {}
  self.levels = levels.new(8, self.list)
  for _, axis in ipairs(self.list) do
    if axis.parent then self.is_parent[axis.parent] = true end
  end
  if #self.list > 0 then
    self.model = check(sweep.gp(self.list))
    self.model:look { smooth = true, plain = true, noise_min = noises[1] }
    if aims and aims.constraints > 0 then self.limits = limits.new(self.list, aims.constraints, true) end
  end
  return self
end

-- ---- what is known ----------------------------------------------------------------------

-- A region of a place: { place, half, failed (the newest descent was no improvement), descents
-- (under way), probes (along an axis, since the region has this width), rounds (how often it
-- was narrow), members }. The first of a place is around its best number, and has no members. The
-- scout is around the best of its members, while it has some.
local function region_of(place, half)
  return { place = place, half = half, failed = false, descents = 0, probes = 0, rounds = 0 }
end

-- Where a point is by the branches it takes: { number (its first), first, scout (its regions), basins, since
-- (observations from which the best one is taken), idle (descents in a row that promised
-- nothing), is_settled (it has but digits to find), is_rough (noisy,
-- or at the border of what meets the constraints) }.
local function place_of(self, params)
  local words = {}
  for i, axis in ipairs(self.list) do
    if self.is_parent[i] then words[#words + 1] = tostring(params[axis.parameter.name]) end
  end
  local key = table.concat(words, ";")
  if not self.places[key] then
    local place = { since = 1, at = #self.places + 1, idle = 0,
      basins = basins.new(self.list, self.options.seed) }
    place.first, place.scout = region_of(place, half_first), region_of(place, half_first)
    self.places[key], self.places[place.at] = place, place
  end
  return self.places[key]
end

-- The best number of a place, and its value.
local function record_of(self, place)
  local best, value
  for i = place.since, #self.order do
    local number = self.order[i]
    local v = self.place_of[number] == place and self.levels:value(number)
    if v and (not value or v < value) then best, value = number, v end
  end
  return best, value
end

-- The one that a region is around.
local function best_of(self, region)
  if region == region.place.first then return record_of(self, region.place) end
  local best, value
  for _, number in ipairs(region.members or {}) do
    local v = self.levels:value(number)
    if v and (not value or v < value) then best, value = number, v end
  end
  return best, value
end

local function distance(self, a, b)
  return self.model:distance(self.slots[a], self.slots[b])
end

-- Numbers for the model, of a list whose nearest come first: those that are close together tell
-- the same, and count where there is room for all.
local function spread(self, list, half, is_wide_again)
  local d, kept, rest = #self.list, {}, {}
  local most = math.min(known_max, (d + 1) * (d + 2) // 2 + 2)
  for i, item in ipairs(list) do
    if #kept == most or i > 2 and item.distance > reach * half then break end
    local is_apart = true
    for _, other in ipairs(is_wide_again and kept or {}) do
      is_apart = is_apart and distance(self, item.number, other) >= close * half
    end
    table.insert(is_apart and kept or rest, item.number)
  end
  table.move(rest, 1, math.max(0, math.min(#rest, most - #kept)), #kept + 1, kept)
  return kept
end

-- Slots and values of the observations near a number, the nearest first, the slots of what is under
-- way there, and the numbers.
local function near(self, best, region)
  local list, slots, values, their, pending, half = {}, {}, {}, {}, {}, region.half
  for i, number in ipairs(self.order) do
    if self.levels:value(number) ~= nil then
      list[#list + 1] = { number = number, distance = distance(self, best, number), at = i }
    end
  end
  table.sort(list, function(a, b)
    if a.distance ~= b.distance then return a.distance < b.distance end
    return a.at < b.at
  end)
  for i, number in ipairs(spread(self, list, half, region.rounds > 0)) do
    their[i] = number
    slots[i], values[i] = self.slots[number], self.levels:value(number)
  end
  for _, number in ipairs(fields.sorted(self.slots)) do
    if not self.levels.known[number] and distance(self, best, number) < reach * half then
      pending[#pending + 1] = self.slots[number]
    end
  end
  return slots, (self.limits or self.price):apply(their, values), pending, their
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

-- Give a model its lengths, and the noise that is the most likely; returns that.
local function prepare(self, model, lengths, slots, values)
  local noise, evidence = noises[1], -math.huge
  if #slots > #self.list // 2 + 3 then
    for _, level in ipairs(noises) do
      model:set(lengths, level)
      check(model:know(slots, values, {}))
      local found = model:evidence() - sweep.log(level) -- with Jeffreys' prior of a scale
      if found > evidence then noise, evidence = level, found end
    end
  end
  model:set(lengths, noise)
  return noise
end

-- Make the models around a number; returns the noise of the goal's, how many points it knows, and what
-- it is told of constraints.
local function know(self, best, region)
  local slots, values, pending, numbers = near(self, best, region)
  local lengths = widths(self, region.half, stretch)
  local noise = prepare(self, self.model, lengths, slots, values)
  check(self.model:know(slots, values, pending))
  return noise, #slots, self.limits and self.limits:know(slots, numbers, values, pending, function(model, ...)
    prepare(self, model, lengths, ...)
  end)
end

-- ---- what comes next ----------------------------------------------------------------------

-- Is a number's value a penalty?
local function violates(self, number)
  return self.limits and self.limits:is_violated(number)
end

-- Of a scout that stops getting on: is it above the best by more than its region has to offer?
local function is_hopeless(self, scout, best, value)
  local _, record = record_of(self, scout.place)
  local highest = value
  for _, number in ipairs(self.order) do
    local v = self.levels:value(number)
    local is_near = v and not violates(self, number) and distance(self, best, number) <= 2 * scout.half
    if is_near then highest = math.max(highest, v) end
  end
  return value - record > highest - value
end

-- A scout has been here, and is for leaps next.
local function leave(self, scout, best)
  scout.place.basins:leave(self:values_of(best))
  scout.members = nil
end

-- Are there points near a place's best one that violate constraints?
local function is_at_border(self, place)
  if self.limits then return false end
  local best = record_of(self, place)
  for number in next, self.price.violating do
    if self.place_of[number] == place and distance(self, number, best) <= elsewhere then return true end
  end
  return false
end

-- What a region that is halved comes to: it may be at the bottom.
local function narrow_down(self, region, best, value, noise)
  local place = region.place
  local is_lost = region == place.scout and is_hopeless(self, region, best, value)
  region.failed, region.half, region.probes = false, math.max(region.half / 2, half_min), 0
  if region == place.scout then
    if is_lost or region.half <= scout_min then leave(self, region, best) end
  elseif region.half <= self.narrow then
    region.rounds = region.rounds + 1
    place.is_settled, place.is_rough = true, noise > quiet or is_at_border(self, place)
    region.half = place.is_rough and half_max or region.half
  end
end

-- Has a place but digits to find? So it is when two steps in a row promise next to nothing beside
-- what the best quarter of the points elsewhere are above the best.
local function settle(self, place, within)
  local values, best, least = {}, record_of(self, place)
  for _, number in ipairs(self.order) do
    local v = self.place_of[number] == place and self.levels:value(number)
    if v and not violates(self, number) and distance(self, number, best) > elsewhere then values[#values + 1] = v end
  end
  table.sort(values)
  local above = (values[1 + #values // 4] or least) - least
  place.idle = self.model:gain(1, within) < negligible * above and place.idle + 1 or 0
  place.is_settled = place.is_settled or place.idle >= 2
end

-- The values of a number's point, of all axes.
function methods:values_of(number)
  return axes.flat_values(self.list, self.params[number])
end

-- Is a point at a bottom that was found?
function methods:knows(params)
  local place = self.model and place_of(self, params)
  local best = place and place.is_settled and not place.is_rough and record_of(self, place)
  return best and place.basins:knows(axes.flat_values(self.list, params), self:values_of(best))
end

-- A leap, or where enough of them are known, the beginning of a descent.
local function leap(self, number, scout)
  local place = scout.place
  local start = place.basins:start(self.order, function(n)
    return self.place_of[n] == place and self.levels:value(n), self:values_of(n)
  end, self:values_of(record_of(self, place)))
  if start then
    place.scout = region_of(place, half_first)
    place.scout.members = { start }
  elseif place.basins:is_due() then
    return { place.basins:leap(number, self:values_of((record_of(self, place))), self.is_parent) }
  end
  return nil
end

local function descent(self, number, region, bounds, noise, within)
  if region.descents >= self.descents_max then return nil end
  bounds.care = math.min(care_max, care * region.descents)
  local list = {}
  for i = 1, check(self.model:search(self.options.seed, number,
    { candidates = 200, starts = 3, calls = 60 }, bounds, within)) do
    list[i] = self.model:candidate(i)
  end
  local is_first = region == region.place.first
  if #list > 0 and is_first and noise <= quiet and not is_at_border(self, region.place) then
    settle(self, region.place, within)
  end
  return "descent", list
end

-- Values anywhere in the region around the first number of a place; nothing is known.
local function around(self, number, place)
  local values, half = self:values_of(place.number), widths(self, half_first, 1)
  for i, axis in ipairs(self.list) do
    if values[i] and axis.kind ~= "choice" then
      local side = 2 * sweep.uniform(self.options.seed, number, "around " .. i) - 1
      local part = axes.part(axis, values[i]) + side * half[i]
      values[i] = axes.at_part(axis, math.max(0, math.min(1, part)))
    end
  end
  return values
end

-- Kind of a number, "descent", "geometry" or "leap", and its candidates as lists of values, the
-- best first; nil where there is nothing to go on from, or enough is under way.
local function decide(self, number, place, is_scout)
  for _ = 1, halvings_max do
    local region = is_scout and place.scout or place.first
    if is_scout and not region.members then
      local values = leap(self, number, region)
      if not place.scout.members then return values and "leap", values end
      region = place.scout
    end
    local best, value = best_of(self, region)
    local noise, known, within = know(self, best, region)
    local is_blind = known <= sighted * #self.list
    local bounds = { around = self.slots[best], half = widths(self, region.half, 1) }
    local record = self:values_of(record_of(self, place))
    if is_scout and place.basins:knows(self:values_of(best), record) then
      leave(self, region, best)
    -- where there is much noise one point an axis is all that is asked for
    elseif (region.failed or region.descents > 0 or is_blind) and region.probes <= #self.list
      and self.model:probe(bounds) > trusted then
      local values = self.model:candidate(1)
      if not self.points:has(self.axes:raw_of(self.list, values)) then return "geometry", { values } end
      region.probes = #self.list + 1 -- there it has been, though the model has no room for it
    elseif not region.failed then
      return descent(self, number, region, bounds, noise, within)
    elseif region.half <= math.max(self.narrow, half_min) then
      return nil
    else
      narrow_down(self, region, best, value, noise)
    end
  end
  return nil
end

-- Decide, and keep the first candidate for which `take(values)` is true; returns what it is.
-- What is decided depends on what was told alone: a search that takes up its own proposals
-- of an earlier session decides again.
local function plan(self, number, place, is_scout, take)
  if not record_of(self, place) then return take(around(self, number, place)) end
  local kind, found = decide(self, number, place, is_scout)
  for _, values in ipairs(found or {}) do
    local taken = take(values)
    if taken then
      local region = is_scout and place.scout or place.first
      local _, value = best_of(self, region)
      self.kinds[number], self.begun[number] = kind, { region = region, half = region.half, value = value }
      if kind == "leap" then
        place.basins:ask(number)
      else
        local count = kind == "descent" and "descents" or "probes"
        region[count] = region[count] + 1
      end
      return taken
    end
  end
  return nil
end

-- The places that are known, the best first: { place, rounds, is_settled, is_rough }.
function methods:best_places()
  local list = {}
  for _, place in ipairs(self.places) do
    local best, value = record_of(self, place)
    if best then list[#list + 1] = { place = place, value = value, rounds = place.first.rounds,
      is_settled = place.is_settled, is_rough = place.is_rough } end
  end
  table.sort(list, function(a, b)
    if a.value ~= b.value then return a.value < b.value end
    return a.place.at < b.place.at
  end)
  return list
end

-- That of the first point; nil where there is none.
function methods:first_place()
  return self.places[1] and self.places[1].number and self.places[1]
end

local function begin(self, number, params)
  if not self.model then return end
  local values = axes.flat_values(self.list, params)
  self.levels:add(number, values)
  self.slots[number] = check(self.model:add(values))
  if self.limits then self.limits:add(values) end
  local place = place_of(self, params)
  self.place_of[number], self.params[number], place.number = place, params, place.number or number
end

-- A point by the model of a place, or of its scout; nil where it has none.
function methods:descend(number, place, is_scout)
  local params = place and plan(self, number, place, is_scout, function(values)
    return self.points:take(self.axes:raw_of(self.list, values))
  end)
  if params then begin(self, number, params) end
  return params
end

-- Take up a point that `descend` may have proposed; returns whether it did.
function methods:retrace(number, params, place, is_scout)
  local given = axes.flat_values(self.list, params)
  local is_own = place and plan(self, number, place, is_scout, function(values)
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
  if #self.order == 0 then return self:first_place() end
  local first = self:best_places()[1]
  if first and first.place.first.half <= half_min then
    for _, place in ipairs(self.places) do
      place.since, place.first = #self.order + 1, region_of(place, half_first)
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

-- What comes of a point that a region asked for.
local function follow(self, number, region, best, is_better)
  if self.kinds[number] == "geometry" then
    region.failed = false
    return
  end
  region.descents = region.descents - 1
  -- while others are under way the region may be another, and the best point, too
  local begun, value = self.begun[number], self.levels:value(number)
  if region.half == begun.half then region.failed = not (value and value < begun.value) end
  if is_better and best and distance(self, best, number) > region.half / 2 then
    region.half, region.probes = math.min(growth * region.half, half_max), 0
  end
end

-- The best point is elsewhere: the first region goes on from there.
local function move(self, place, best, number)
  local first = place.first
  if place.is_settled and not place.is_rough and distance(self, best, number) > reach * first.half then
    place.basins:leave(self:values_of(best))
    place.is_settled, place.idle = false, 0
  end
  first.half, first.failed = math.max(first.half, half_first / 2), false
end

function methods:observe(number, value, how)
  if not self.slots[number] then return end
  self.price:observe(number, how)
  if self.limits then self.limits:observe(number, value, how) end
  local place, begun = self.place_of[number], self.begun[number]
  local own = begun and self.kinds[number] ~= "leap" and begun.region
  local best, was = record_of(self, place)
  local own_best, own_was = best, was
  if own then own_best, own_was = best_of(self, own) end
  local is_new = not self.levels.known[number]
  if is_new then
    table.insert(self.order, number)
    place.basins:tell(number)
    if own and own.members then table.insert(own.members, number) end
  end
  local is_anew = self.levels:observe(number, value, how)
  if not is_new then return end
  if is_anew then -- what others were, too, by what counts from now on
    was, own_was = best and self.levels:value(best), own_best and self.levels:value(own_best)
    if begun then begun.value = own_was or math.huge end
  end
  value = self.levels:value(number)
  if own then follow(self, number, own, own_best, value and (not own_was or value < own_was)) end
  local is_better = value and (not was or value < was)
  if own ~= place.first and is_better and best and distance(self, best, number) > place.first.half then
    move(self, place, best, number)
  end
end

return trust
