-- sobol: points that fill the space more evenly than chance does, however many are taken
-- (core/sweep/sobol.h). What reads no results and is to see all of a space is served best
-- by it: a first look, or a budget so small that there is nothing to learn from.
local fields = require "pioche.fields"
local points = require "pioche.points"
local random = require "pioche.samplers.random"

local sobol = { name = "sobol", summary = "points that fill the space evenly; best a power of two of them" }

sobol.schema = random.schema

function sobol.check(where, given)
  return fields.check(where, given, sobol.schema)
end

function sobol.new(space, options)
  return points.sequence(space, options, points.even)
end

return sobol
