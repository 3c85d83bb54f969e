-- points.lua: the points that a search has proposed: none twice, also where real numbers come to
-- the same, and none for which the recipe's `where` is not true.
local grid = require "pioche.samplers.grid"
local json = require "pioche.core.json"
local sweep = require "pioche.core.sweep"

local points = {}
points.__index = points

local doubted_max = 100        -- random points that are likely out of memory, before one of them is taken
local walked_max = 100000      -- points of a space that are gone through one by one

-- tries: how many random points are tried for one.
function points.new(space, seed, tries)
  return setmetatable({ space = space, seed = seed, tries = tries, count = space:count(), seen = {} },
    points)
end

-- These parameters, or their JSON, were proposed elsewhere, or in an earlier session.
function points:mark(params)
  self.seen[type(params) == "string" and params or json.encode(params)] = true
end

-- Were the parameters of a raw point proposed before?
function points:has(raw)
  local params = self.space:complete(raw)
  return params ~= nil and self.seen[json.encode(params)] == true
end

-- The parameters of a raw point; nil and why where it is none, was there before, or would be out
-- of memory: then also what it would be. is_known(params): there is nothing more to learn.
function points:take(raw, is_known)
  local params = self.space:complete(raw)
  if not params then return nil, "where" end
  if is_known and is_known(params) then return nil, "known" end
  local key = json.encode(params)
  if self.seen[key] then return nil, "seen" end
  local odds = self.space.region and self.space.region:odds(params)
  if odds and odds > 0 then return nil, "region", params, odds end
  self.seen[key] = true
  return params
end

-- Those of these points that are likely to have memory enough, or the likeliest where none is.
local function hopeful(self, list)
  local region, kept, least, best = self.space.region, {}, math.huge, nil
  if not region then return list end
  for _, params in ipairs(list) do
    local odds = region:odds(params)
    if not odds or odds <= 0 then kept[#kept + 1] = params end
    if odds and odds < least then least, best = odds, params end
  end
  return #kept > 0 and kept or { best }
end

-- All points of a small space, in order, and their keys, but for those that were known to have been
-- proposed when it was last asked for.
local function rest_of(self)
  if not self.rest then
    local all = grid.new(self.space, {})
    self.rest = { params = {}, keys = {} }
    for i = 1, all.size do
      self.rest.params[i] = all:propose(i)
      self.rest.keys[i] = json.encode(self.rest.params[i])
    end
  end
  return self.rest
end

-- One of those that are left of a small space; nil where none is.
local function draw_left(self, number)
  local rest, left, keys = rest_of(self), {}, {}
  for i, key in ipairs(rest.keys) do
    if not self.seen[key] then left[#left + 1], keys[#keys + 1] = rest.params[i], key end
  end
  rest.params, rest.keys = left, keys
  if #left == 0 then return nil end
  left = hopeful(self, left)
  local params = left[sweep.integer(self.seed, number, "left", 1, #left)]
  self.seen[json.encode(params)] = true
  return params
end

-- The point of a number in a sequence that fills the space evenly; where that is none or
-- was there before, a random one; nil where there is none left.
function points:even(number)
  return (self:take(self.space:even(self.seed, number))) or self:random(number)
end

local function raw_middle(space_axes, list)
  local values = {}
  for i, axis in ipairs(list) do
    local low, high = axis.low, axis.high
    local middle = axis.log and sweep.exp(0.5 * (sweep.log(low) + sweep.log(high))) or low + 0.5 * (high - low)
    values[i] = axis.kind == "choice" and 1 or axis.kind == "whole" and math.floor(middle) or middle
  end
  return space_axes:raw_of(list, values)
end

-- The middle of all ranges, each choice the first one; nil where that is none, or was there
-- before. `space_axes` and `list`: of axes.lua.
function points:middle(space_axes, list)
  return (self:take(raw_middle(space_axes, list)))
end

-- Are these the parameters of the middle?
function points:is_middle(params, space_axes, list)
  local middle = self.space:complete(raw_middle(space_axes, list))
  return middle ~= nil and json.encode(middle) == json.encode(params)
end

-- A random point; nil where there is none left.
function points:random(number)
  local rejected, doubted = 0, {}
  local tries = self.count and self.count <= walked_max and math.min(self.tries, 100) or self.tries
  for try = 0, tries - 1 do
    local params, why, doubtful = self:take(self.space:draw(self.seed, number, try))
    if params then return params end
    if why == "where" then rejected = rejected + 1 end
    if why == "region" then doubted[#doubted + 1] = doubtful end
    if #doubted == doubted_max then break end
  end
  if #doubted > 0 and not self.count then return hopeful(self, doubted)[1] end
  if self.count and self.count <= walked_max then return draw_left(self, number) end
  if rejected == tries and number == 1 then
    self.space.box:blame(self.space.at, "where", "not true for any of %d random points: can it be true?",
      tries)
  end
  return nil
end

-- A sampler that reads no results: point n is `draw(known, n)`. Those before it are made
-- first, because what was proposed must be known. options: runs, seed.
function points.sequence(space, options, draw)
  local count = space:count()
  local sampler = { size = count and math.min(count, options.runs) or options.runs, last = options.runs }
  local known = points.new(space, options.seed, math.min(100000, 1000 * options.runs))
  local made, ended = {}, false
  sampler.reads_late = count == nil -- adopt is given JSON then, of which most is never asked for
  sampler.propose = function(_, n)
    while #made < n and n <= options.runs and not ended do
      local point = draw(known, #made + 1)
      if not point then ended = true else made[#made + 1] = point end
    end
    if type(made[n]) == "string" then made[n] = json.decode(made[n]) end
    return made[n]
  end
  sampler.adopt = function(_, n, params)
    if n < 0 then return end -- what a person puts in comes beside it
    known:mark(params)
    made[n] = params
  end
  sampler.observe = function() end
  return sampler
end

return points
