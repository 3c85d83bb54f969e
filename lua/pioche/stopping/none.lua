-- none: let every run go to its end.
--
-- A stopping rule is { name, summary, schema, check(where, given) -> options, new(options, goal) };
-- new gives an object with
--   next_rung(self, run, step)   the first rung above `step` of this run, nil when there is none
--   decide(self, run, rung, at, earlier, of_rung)   "go" or "stop", and why, for people; asked
--            once a run and rung. Third it may give what it expects of the run's end, a table
--            that is kept with the verdict: { value, low, high, below, bound }, the goal's own values
-- run is { number, params, seed, curve }: of which proposal it is, its parameters, and { step,
-- loss } of each rung that it came to, this one last. `at` is what it has come to by the rung:
--   loss     the goal's metric there, or the last before, the lower the better; NaN is math.huge
--   best     the lowest loss so far
--   mean     the mean of all losses so far
--   number   of the proposal
-- A rule may say "pause", too: the run stops, saves a checkpoint, and leaves its place to
-- others. Then it has
--   promote(self, rung, arrivals, waits)   which of all that came to the rung, by its place among
--            them, is to go on now, nil where none is; waits(i): is that one paused there;
--            one that went on from there has is_promoted
-- and what is not promoted until all others are over ends as stopped; but where no run of the
-- sweep has finished then, the best one goes on. It may have
--   launch   { nodes, ranks_per_node, ... }: what holds for a run that was promoted, in place of
--            the sweep's launch
-- `earlier` are those of the runs that passed the rung before it, in their order, each with the
-- `verdict` that it got; of_rung(step) are those of another rung, each of whom has a run_id that is
-- the same at all rungs. A rule decides by these arguments and its options alone: so a sweep
-- that goes on, or is replayed, decides the same.
local fields = require "pioche.fields"

local none = { name = "none", summary = "let every run go to its end" }

none.schema = {}

function none.check(where, given)
  return fields.check(where, given, none.schema)
end

function none.new()
  local rule = {}
  rule.next_rung = function() return nil end
  rule.decide = function() return "go" end
  return rule
end

return none
