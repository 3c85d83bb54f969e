-- points.lua: the points that a search has proposed: of a finite space none twice, and
-- none for which the recipe's `where` is not true.
local grid = require "pioche.samplers.grid"
local json = require "pioche.core.json"
local sweep = require "pioche.core.sweep"

local points = {}
points.__index = points

local walked_max = 100000      -- points of a space that are gone through one by one

-- tries: how many random points are tried for one.
function points.new(space, seed, tries)
  return setmetatable({ space = space, seed = seed, tries = tries, count = space:count(), seen = {} },
    points)
end

-- It was proposed elsewhere, or in an earlier session.
function points:mark(params)
  if self.count then self.seen[json.encode(params)] = true end
end

-- The parameters of a raw point; nil where it is none, or was there before.
function points:take(raw)
  local params = self.space:complete(raw)
  if not params then return nil, "where" end
  local key = self.count and json.encode(params)
  if key and self.seen[key] then return nil, "seen" end
  if key then self.seen[key] = true end
  return params
end

-- One of those that are left of a small space; nil where none is.
local function draw_left(self, number)
  local left = {}
  self.all = self.all or grid.new(self.space, {})
  for i = 1, self.all.size do
    local params = self.all:propose(i)
    if not self.seen[json.encode(params)] then left[#left + 1] = params end
  end
  if #left == 0 then return nil end
  local params = left[sweep.integer(self.seed, number, "left", 1, #left)]
  self.seen[json.encode(params)] = true
  return params
end

-- The point of a number in a sequence that fills the space evenly; where that is none or
-- was there before, a random one; nil where there is none left.
function points:even(number)
  return (self:take(self.space:even(self.seed, number))) or self:random(number)
end

-- A random point; nil where there is none left.
function points:random(number)
  local rejected = 0
  local tries = self.count and self.count <= walked_max and math.min(self.tries, 100) or self.tries
  for try = 0, tries - 1 do
    local params, why = self:take(self.space:draw(self.seed, number, try))
    if params then return params end
    if why == "where" then rejected = rejected + 1 end
  end
  if self.count and self.count <= walked_max then return draw_left(self, number) end
  if rejected == tries and number == 1 then
    self.space.box:blame(self.space.at, "where", "not true for any of %d random points: can it be true?",
      tries)
  end
  return nil
end

-- A sampler that reads no results: point n is `draw(known, n)`. Those before it are made
-- first, because a finite space must know what was proposed. options: runs, seed.
function points.sequence(space, options, draw)
  local count = space:count()
  local sampler = { size = count and math.min(count, options.runs) or options.runs }
  local known = points.new(space, options.seed, math.min(100000, 1000 * options.runs))
  local made, ended = {}, false
  sampler.propose = function(_, n)
    while #made < n and n <= sampler.size and not ended do
      local point = draw(known, #made + 1)
      if not point then ended = true else made[#made + 1] = point end
    end
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
