-- random: independent draws, each a function of (seed, number, parameter).
--
-- So proposal 7 is the same whatever ran before it, in parallel or not, and a
-- parameter that is added leaves the others as they were. No point is proposed
-- twice.
local fields = require "pioche.fields"
local points = require "pioche.points"

local random = { name = "random", summary = "independent draws of the whole space" }

random.schema = {
  runs = { kind = "positive", default = 32, help = "points to draw, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
}

function random.check(where, given)
  return fields.check(where, given, random.schema)
end

function random.new(space, options)
  return points.sequence(space, options, points.random)
end

return random
