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
-- What goes on may do so on more nodes or ranks than it began with, or fewer: launch = { nodes = 4 }.
local heap = require "pioche.heap"
local launcher = require "pioche.launcher"
local rungs = require "pioche.rungs"

local asha = { name = "asha", summary = "at each rung the best 1/eta of the runs so far go on" }

asha.schema = rungs.schema()
asha.schema.promote = { kind = "boolean", default = false,
  help = "pause what does not go on, and let it go on later where others turn out to be worse" }
asha.schema.launch = { schema = launcher.shape_schema, example = "{ nodes = 4 }", otherwise = "the sweep's",
  help = "of a run that was promoted, in place of what the sweep's launch says" }

function asha.check(where, given)
  local options = rungs.check(where, given, asha.schema)
  if options.launch and not options.promote then
    where.box:blame(where.at, where.path .. ".launch", "it is of runs that are promoted: expected promote = true,"
      .. " or none")
  end
  return options
end

local function is_better(a, b)
  if a.loss ~= b.loss then return a.loss < b.loss end
  return a.place < b.place
end

-- A function that gives, of a list of arrivals that only grows, those that are paused, the best first,
-- as a heap of { arrival, loss, place, is_best (is it among the best floor(n / eta) of the n so far) }.
local function paused_of(eta)
  local all = rungs.heard(function()
    return { count = 0, paused = heap.new(is_better), others = heap.new(is_better),
      best = heap.new(function(a, b) return is_better(b, a) end) }
  end, function(of, arrival, place)
    local item = { arrival = arrival, loss = arrival.loss, place = place }
    if arrival.verdict == "pause" then of.paused:add(item) end
    of.count = of.count + 1
    of.others:add(item)
    local kept, last = math.floor(of.count / eta), of.best:first()
    if last and is_better(of.others:first(), last) then
      of.others:add(of.best:take())
      last.is_best = false
    end
    while of.best:count() < kept do
      of.best:add(of.others:first())
      of.others:take().is_best = true
    end
  end)
  return function(arrivals) return all(arrivals).paused end
end

function asha.new(options)
  local steps = rungs.steps(options.min, options.eta, options.max)
  local rule, ranked, paused = { launch = options.launch }, rungs.rankings(), paused_of(options.eta)

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
    local list, busy, found = paused(arrivals), {}, nil
    while not found and list:count() > 0 and list:first().is_best do
      local first = list:first()
      if waits(first.place) then
        found = first.place
      else
        list:take()
        if not first.arrival.is_promoted then busy[#busy + 1] = first end -- it has not stopped yet
      end
    end
    for _, item in ipairs(busy) do list:add(item) end
    return found
  end

  return rule
end

return asha
