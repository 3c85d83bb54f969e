-- median: a run stops at a rung where its best loss so far is worse than the median of the
-- means of those before it: percentile.lua with 50 of a hundred.
local fields = require "pioche.fields"
local percentile = require "pioche.stopping.percentile"

local median = { name = "median",
  summary = "a run stops where its best is worse than the median of the others' means" }

median.schema = {}
for name, rule in next, percentile.schema do
  if name ~= "percent" then median.schema[name] = rule end
end

function median.check(where, given)
  return fields.check(where, given, median.schema)
end

function median.new(options, goal)
  local given = { percent = 50 }
  for name, value in next, options do given[name] = value end
  return percentile.new(given, goal)
end

return median
