-- asha: asynchronous successive halving: at each rung a run goes on if it is among the best
-- 1/eta of those that came there so far, itself counted, and else stops.
--
-- Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht, Talwalkar, "A System for Massively Parallel
-- Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934. No worker ever waits for others.
--
-- As it is, what does not go on is stopped, and the first at a rung always goes on. With
-- promote = true it is the paper's own form: the best floor(n / eta) of the n that came to a rung
-- go on; others are paused, with a checkpoint, and go on from that when enough worse ones have
-- come after them. A place that is free takes the promotion at the highest rung, else a new run.
local rungs = require "pioche.rungs"

local asha = { name = "asha", summary = "at each rung the best 1/eta of the runs so far go on" }

asha.schema = rungs.schema()
asha.schema.promote = { kind = "boolean", default = false,
  help = "pause what does not go on, and let it go on later where others turn out to be worse" }

function asha.check(where, given)
  return rungs.check(where, given, asha.schema)
end

function asha.new(options)
  local steps = rungs.steps(options.min, options.eta, options.max)
  local rule, ranked = {}, rungs.rankings()

  function rule.next_rung(_, _, step)
    return rungs.next(steps, step)
  end

  function rule.decide(_, _, _, at, earlier)
    if not options.promote then return rungs.halve(at.loss, ranked(earlier), options.eta, 1) end
    local verdict, why = rungs.halve(at.loss, ranked(earlier), options.eta, 0)
    return verdict == "stop" and at.loss < math.huge and "pause" or verdict, why
  end

  -- The best of those that wait among the best floor(n / eta), of equals the first.
  function rule.promote(_, _, arrivals, waits)
    local order = {}
    for i in ipairs(arrivals) do order[i] = i end
    table.sort(order, function(a, b)
      if arrivals[a].loss ~= arrivals[b].loss then return arrivals[a].loss < arrivals[b].loss end
      return a < b
    end)
    for i = 1, math.floor(#order / options.eta) do
      if waits(order[i]) then return order[i] end
    end
    return nil
  end

  return rule
end

return asha
