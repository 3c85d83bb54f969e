-- random: independent draws, each a function of (seed, number, parameter).
--
-- So proposal 7 is the same whatever ran before it, in parallel or not, and a
-- parameter that is added leaves the others as they were. In a finite space no
-- point is proposed twice.
local fields = require "pioche.fields"
local json = require "pioche.core.json"

local random = { name = "random", summary = "independent draws of the whole space" }

random.schema = {
  runs = { kind = "positive", default = 32, help = "points to draw; of a finite space none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
}

function random.check(where, given)
  return fields.check(where, given, random.schema)
end

function random.new(space, options)
  local count, seen = space:count(), {}
  local size = count and math.min(count, options.runs) or options.runs
  local tries_max = math.min(100000, 1000 * options.runs)
  local sampler, points, ended = { size = size }, {}, false

  -- Proposal n; those before it are made first, because a finite space
  -- must know what was proposed.
  local function draw(n)
    local rejected = 0
    for try = 0, tries_max - 1 do
      local point = space:complete(space:draw(options.seed, n, try))
      local key = point and count and json.encode(point)
      if point and not (key and seen[key]) then
        if key then seen[key] = true end
        return point
      elseif not point then
        rejected = rejected + 1
      end
    end
    if rejected == tries_max and n == 1 then
      space.box:blame(space.at, "where", "not true for any of %d random points: can it be true?",
        tries_max)
    end
    return nil
  end

  sampler.propose = function(_, n)
    if n > size then return nil end
    while #points < n and not ended do
      local point = draw(#points + 1)
      if not point then ended = true else points[#points + 1] = point end
    end
    return points[n]
  end

  sampler.observe = function() end
  return sampler
end

return random
