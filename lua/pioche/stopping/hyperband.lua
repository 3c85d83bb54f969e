-- hyperband: successive halving from several first rungs at once, because nobody knows how
-- early a run can be told from a better one: a bracket of runs for each first rung.
--
-- Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, "Hyperband", JMLR 18(185), 2018: with R = max and
-- s_max = floor(log_eta(max / min)), bracket s = 0 .. s_max has n_s = ceil((s_max + 1) eta^s / (s + 1))
-- runs of every round and rungs max eta^-s, ..., max eta^-1; in bracket 0 nothing is stopped. Here
-- the rounds have no end: a run is of bracket s with the probability n_s / (n_0 + ... + n_s_max), by a
-- draw that its proposal's number and the seed fix, and rungs halve as runs arrive (asha.lua).
local core = require "pioche.core.sweep"
local rungs = require "pioche.rungs"

local hyperband = { name = "hyperband", summary = "successive halving from several first rungs at once" }

hyperband.schema = rungs.schema()
hyperband.schema.seed = { kind = "count", default = 1, help = "by which runs are dealt to the brackets" }

function hyperband.check(where, given)
  return rungs.check(where, given, hyperband.schema)
end

-- Of each bracket, from the one that never stops: its share of the runs, and its rungs.
local function brackets_of(options)
  local list, total = {}, 0
  local most, reach = 0, options.min
  while reach * options.eta <= options.max do
    most, reach = most + 1, reach * options.eta
  end
  local power = 1 -- eta^s, by multiplication: the same on every machine
  for s = 0, most do
    local share = math.ceil((most + 1) * power / (s + 1))
    list[s + 1] = { share = share, steps = rungs.steps(options.max / power, options.eta, options.max) }
    total, power = total + share, power * options.eta
  end
  return list, total
end

function hyperband.new(options)
  local brackets, total = brackets_of(options)
  local rule = {}

  -- 1, 2, ...: of a proposal.
  local function bracket(number)
    local at = core.uniform(options.seed, number, "bracket") * total
    for i, item in ipairs(brackets) do
      at = at - item.share
      if at < 0 then return i end
    end
    return #brackets
  end

  local ranked = rungs.rankings(function(arrival) return bracket(arrival.number) end)

  function rule.next_rung(_, run, step)
    return rungs.next(brackets[bracket(run.number)].steps, step)
  end

  function rule.decide(_, run, _, at, earlier)
    local own = bracket(run.number)
    local verdict, why = rungs.halve(at.loss, ranked(earlier, own), options.eta, 1)
    return verdict, ("%s in bracket %d"):format(why, own - 1)
  end

  return rule
end

return hyperband
