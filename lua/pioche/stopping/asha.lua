-- asha: asynchronous successive halving: at each rung a run goes on if it is among the best
-- 1/eta of those that came there so far, itself counted, and else stops.
--
-- Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht, Talwalkar, "A System for Massively Parallel
-- Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934, in the form that stops runs rather than
-- promoting paused ones: no worker ever waits for others. The first at a rung always goes on.
local rungs = require "pioche.rungs"

local asha = { name = "asha", summary = "at each rung the best 1/eta of the runs so far go on" }

asha.schema = rungs.schema()

function asha.check(where, given)
  return rungs.check(where, given, asha.schema)
end

function asha.new(options)
  local steps = rungs.steps(options.min, options.eta, options.max)
  local rule = {}

  function rule.next_rung(_, _, step)
    return rungs.next(steps, step)
  end

  function rule.decide(_, _, _, at, earlier)
    local losses = {}
    for i, other in ipairs(earlier) do losses[i] = other.loss end
    return rungs.halve(at.loss, losses, options.eta)
  end

  return rule
end

return asha
