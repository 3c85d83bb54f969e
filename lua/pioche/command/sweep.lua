-- sweep: the sweeps of a store: which there are, how they went, what is added to them.
local enqueue = require "pioche.sweep.enqueue"
local errors = require "pioche.errors"
local front = require "pioche.sweep.front"
local importance = require "pioche.sweep.importance"
local list = require "pioche.sweep.list"
local surgery = require "pioche.sweep.surgery"

-- What follows the verb: how many arguments, and in words.
local parts = {
  ls = { run = list.ls, min = 0, max = 0, words = "", csv = true },
  show = { run = list.show, min = 1, max = 1, words = "SWEEP", csv = true },
  front = { run = front.run, min = 1, max = 1, words = "SWEEP", csv = true },
  importance = { run = importance.run, min = 1, max = 1, words = "SWEEP [--fanova] [--goal KEY]", csv = true,
    options = { fanova = true, goal = true } },
  slice = { run = importance.slice, min = 2, max = 2, words = "SWEEP PARAMETER [--goal KEY]",
    options = { goal = true } },
  enqueue = { run = enqueue.enqueue, min = 2, words = "SWEEP NAME=VALUE..." },
  extend = { run = enqueue.extend, min = 2, max = 2, words = "SWEEP runs=N" },
  freeze = { run = surgery.freeze, min = 2, words = "SWEEP NAME=VALUE..." },
  thaw = { run = surgery.thaw, min = 2, words = "SWEEP NAME..." },
  drop = { run = surgery.drop, min = 1, max = 1, words = "RUN --reason TEXT" },
  restore = { run = surgery.restore, min = 1, max = 1, words = "RUN" },
  replay = { run = require "pioche.sweep.replay", min = 1, words = "SWEEP [NAME=VALUE...]" },
}
local names = { "ls", "show", "front", "importance", "slice", "enqueue", "extend", "freeze", "thaw", "drop",
  "restore", "replay" }
local takes_reason = { freeze = true, thaw = true, drop = true, restore = true }

local function run(ctx)
  local name = ctx.args[1]
  local part = parts[name]
  if not part then
    errors.raise("usage", "sweep: expected %s, got '%s'%s", table.concat(names, ", "), name,
      errors.suggestion(name, names))
  end
  local words = table.move(ctx.args, 2, #ctx.args, 1, {})
  if #words < part.min or #words > (part.max or #words) then
    errors.raise("usage", "sweep %s: %s; usage: pioche sweep %s %s", name,
      #words < part.min and "something is missing"
        or ("unexpected argument '%s'"):format(words[part.max + 1]), name, part.words)
  end
  if ctx.csv and not part.csv then
    errors.raise("usage", "sweep %s prints no table; --json prints an object", name)
  elseif ctx.options.reason and not takes_reason[name] then
    errors.raise("usage", "sweep %s has no --reason", name)
  end
  for _, option in ipairs { "fanova", "goal" } do
    if ctx.options[option] and not (part.options and part.options[option]) then
      errors.raise("usage", "--%s is an option of sweep importance%s, not of sweep %s", option,
        option == "goal" and " and sweep slice" or "", name)
    end
  end
  return part.run(ctx, words)
end

local usage = {}
for i, name in ipairs(names) do usage[i] = ("sweep %s %s"):format(name, parts[name].words):gsub(" $", "") end

return {
  summary = "sweeps: how they went, points that are added, proposals derived again",
  usage = table.concat(usage, "\n"),
  help = [[
SWEEP is the name of an experiment, whose newest sweep is meant, or the beginning of
a sweep's ULID, which ls --json tells. A recipe whose space, search, rule or code
changed makes a new sweep of the same experiment; runs that both have run once.

show tells how one went: its search and rule, its runs, the best, of each rung how many
came there, went on and stopped; of a population its members, and which of their runs are
copies of whose, with what these changed; the best so far against the points, and what one more is
expected to improve, by a Gaussian process; where that is little it says so.

front lists the points that nothing beats in every goal; of one goal the best. Points
that violate a constraint, and failed ones, are never on it.

importance tells which parameters matter: how far the best tenth of the points differs
from all of them in each (PED-ANOVA), in parts of the sum; with --fanova which part of the
variance over the whole space is due to each alone, by a random forest. Parameters of a
branch are weighed among the points that have them. slice shows what points came to along
one parameter, in equal parts of its scale.

enqueue adds a point of the space: each parameter that varies as NAME=VALUE; what is
derived or has one value follows. It runs once, by the `pioche run` that is under way
or by the next, and the search learns of it. What a search proposes itself comes beside
it, as if it were not there.

extend gives the search a larger budget than the recipe's: the next `pioche run` of
the same recipe goes on where it was.

freeze gives a parameter one value in all proposals from then on, and thaw lets the
search choose it again; points that are known stay known, whatever they had.

drop sets a run aside that is over: its search forgets what it came to, it is never
the best, in no mean and in no further decision of a race, and not tried again; what it
logged stays. So it is in all sweeps that have it, and the tag `aside` says why. restore
undoes that.

What is changed holds from the next proposal on, also of a `pioche run` that is under
way, and is on record in order; show tells it. The search is then as new, and learns
again all that counts, so that replay follows it.

replay derives every proposal of the search and every verdict of the rule again, from
the outcomes that it knew when it was made, and compares them with what is on record,
bit for bit; a run that was paused must have been let on when its rule allowed it. The
exit status is 1 where one differs, and the first is shown. It needs the recipe as it
was, and the words that `pioche run` was given after it; of a sweep that was imported,
a bundle of all its runs.

JSON: of ls an array of {experiment, id, state, recipe, search, stop, goal, seeds,
points, points_wanted, enqueued, runs{}, best{id, value, of several seeds mean and
seeds}, goals and front[] (null of one goal), constraints, created, ended}; of show such
an object with {course[{points, value and id, or part of the volume}], left{gain, part,
is_little}, steps, steps_whole,
audit{runs, better, regret, best, forecasts, within}, race{points[{number, params{}, n, mean,
chance, runs[]}], noise, sure, repeats}, law{points[], law, frontier, isoflop},
rungs[{step, came, go, promoted, paused, stop, best, bound}], of a population members[{run,
status, member, round, step, parent, copied, at, changed{name: [from, to]}, value}], changes[{kind, proposed, seen,
detail{}, reason, time}]}, where bound is the worst value that went on, audit tells of runs
that a rule's `audit` let on to see what it costs, and a change came after
so many proposals and observations; of front {experiment, id, points,
feasible, front[{id, number, runs, params{}, values{}}]}; of importance
{experiment, id, method, goal, points, good, importance[{name, when, importance, points,
good{}}]}; of slice {experiment, id, parameter, slices[{when, bins[{value or low and high,
points, goals{KEY: {best, median, worst}}}]}]}; of enqueue {experiment, id, number,
params{}}; of extend {experiment, id, points, points_wanted}; of freeze and thaw
{experiment, id, change, detail{}, reason}; of drop and restore {run, change, reason};
of replay {experiment, id, proposals, verdicts, decisions (of a race), promotions, same,
difference}.]],
  examples = "pioche sweep show gpt\npioche sweep enqueue gpt lr=3e-4 optimizer=sgd\n"
    .. "pioche sweep extend gpt runs=200\npioche sweep freeze gpt optimizer=adamw\n"
    .. "pioche sweep drop gpt-17 --reason 'its node was throttled'\npioche sweep replay gpt",
  args = { 1, nil, what = "what to do: " .. table.concat(names, ", ") },
  options = {
    { name = "reason", arg = "TEXT", help = "why: of drop, freeze, thaw and restore; it is kept" },
    { name = "fanova", help = "of importance: by a random forest, of the whole space" },
    { name = "goal", arg = "KEY", help = "of importance and slice: of several goals by this one alone" },
  },
  names = names,
  run = run,
}
