-- percentile: a run stops at a rung where its best loss so far is worse than what `percent`
-- of the runs before it had as the mean of theirs.
--
-- With percent = 50 it is the median rule of Golovin, Solnik, Moitra, Kochanski, Karro, Sculley,
-- "Google Vizier", KDD 2017, section 3.2.2, with the difference that all runs that came to the rung
-- count, not only those that are finished: a rung tells the same whoever asks, and when.
local fields = require "pioche.fields"
local rungs = require "pioche.rungs"

local percentile = { name = "percentile",
  summary = "a run stops where its best is worse than the means of `percent` of the others" }

local function percent(value)
  if type(value) == "number" and value > 0 and value < 100 then return value end
  return nil, "a number between 0 and 100"
end

percentile.schema = {
  by = { kind = fields.one_of("step"), default = "step", help = "what rungs count: steps" },
  min = { kind = "positive", otherwise = "every", help = "the first rung" },
  every = { kind = "positive", required = "steps from a rung to the next, as every = 100",
    help = "steps from a rung to the next" },
  max = { kind = "positive", otherwise = "no end", help = "there is no rung from there on" },
  startup = { kind = "count", default = 5, help = "so many runs pass a rung before one is stopped there" },
  audit = rungs.audit,
  percent = { kind = percent, default = 50, help = "how many of a hundred go on" },
}

function percentile.check(where, given)
  return fields.check(where, given, percentile.schema)
end

function percentile.new(options, goal)
  local sign = goal.goal == "maximize" and -1 or 1
  local first, every = options.min or options.every, options.every
  local rule, ranked = {}, rungs.rankings(nil, "mean")

  function rule.next_rung(_, _, step)
    local rung = step < first and first or first + ((step - first) // every + 1) * every
    return (not options.max or rung < options.max) and rung or nil
  end

  function rule.decide(_, _, _, at, earlier)
    if at.loss == math.huge then return "stop", "no finite number" end
    local startup = math.max(1, options.startup)
    if #earlier < startup then return "go", ("one of the first %d"):format(startup) end
    local bound = rungs.percentile(ranked(earlier), options.percent)
    return at.best > bound and "stop" or "go",
      ("its best is %.6g, and of %d before it %.6g %% have means better than %.6g"):format(
        sign * at.best, #earlier, options.percent, sign * bound)
  end

  return rule
end

return percentile
