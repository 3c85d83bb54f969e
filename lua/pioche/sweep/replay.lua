-- sweep/replay.lua: pioche sweep replay: every proposal of a sweep and every verdict of its
-- rule derived again, from what they knew when they were made.
local errors = require "pioche.errors"
local find = require "pioche.sweep.find"
local history = require "pioche.sweep.history"
local json = require "pioche.core.json"
local promotions = require "pioche.promotions"
local recipe = require "pioche.recipe"
local repeats = require "pioche.sweep.repeats"
local sweeps = require "pioche.sweeps"
local sys = require "pioche.core.sys"

local check = errors.check

-- The sweep of the recipe, which must be the one on record.
local function load(sweep, words)
  local self = recipe.load(sweep.recipe_path, words)
  local plans = self.sweep
  if not plans then
    errors.raise("unsupported", "%s is a function of a lab: its sweeps cannot be derived again",
      sweep.recipe_path)
  end
  if plans.from and sweep.spec.from then plans.from.manifest = sweep.spec.from.manifest end
  local spec = recipe.spec(self, plans, sweep.spec.code)
  if sys.sha256(check(json.encode(spec))) ~= sweep.identity then
    errors.raise("invalid", "%s is not what it was when this sweep was made: expected its text then, and the"
      .. " words NAME=VALUE that `pioche run` was given, after the name of the sweep", sweep.recipe_path)
  end
  return plans
end

-- The first proposal that comes out differently: { number, recorded, derived }, nil where
-- none does; and how many there are.
local function proposals(store, sweep, plans)
  local rows = history.read(store, sweep.id)
  local search, derived = sweeps.history(store, sweep.id, plans), 0
  for place = 1, #rows.number do
    local number = rows.number[place]
    if number > 0 then
      search:advance(rows, number - 1, rows.seen[place])
      local sampler = search:current()
      local given, lineage = sampler:propose(number)
      local forecast = sampler.forecast and check(json.encode(sampler:forecast(number)))
      search.number = number
      local params, problem = nil, "nothing"
      if given ~= nil then params, problem = plans.space:admit(given) end
      local text, recorded = params and check(json.encode(params)) or problem, rows.params[place]
      if sampler.is_population and lineage then
        local before = rows.lineage[place]
        text, recorded = text .. " " .. check(json.encode(lineage)),
          recorded .. " " .. (before and check(json.encode(check(json.decode(before)))) or "no lineage")
      end
      if text ~= recorded then
        return { number = number, recorded = recorded, derived = text }, derived
      elseif forecast ~= rows.forecast[place] then
        return { number = number, recorded = rows.forecast[place] or "nothing",
          derived = forecast or "nothing" }, derived
      end
      derived = derived + 1
    end
  end
  return nil, derived
end

-- counts: of proposals, verdicts, decisions of a race and promotions that came to the same.
local function say(ctx, sweep, counts, what, difference)
  local made, said, decided, let_on = table.unpack(counts)
  if ctx.json then
    ctx.out(ctx.encode { experiment = sweep.experiment, id = sweep.ulid, proposals = made, verdicts = said,
      decisions = decided, promotions = let_on, same = difference == nil,
      difference = difference or json.null } .. "\n")
  elseif difference then
    ctx.out(("%s: %s is on record as\n  %s\nand comes to\n  %s\n"):format(sweep.experiment, what,
      difference.recorded, difference.derived))
  else
    ctx.out(("%s: %d proposals and %d verdicts come to the same again%s%s\n"):format(sweep.experiment,
      made, said,
      decided > 0 and (" (and %d decisions of the race)"):format(decided) or "",
      let_on > 0 and (", %d promotions, too"):format(let_on) or ""))
  end
  return difference and 1 or 0
end

return function(ctx, words)
  local store = ctx.reading()
  local sweep = find.one(store, words[1])
  history.check_whole(store, sweep.id,
    check(store:columns("SELECT number FROM proposal WHERE sweep_id = ? ORDER BY number", sweep.id)).number)
  local plans = load(sweep, table.move(words, 2, #words, 1, {}))
  local difference, made = proposals(store, sweep, plans)
  local what = difference and ("proposal %d"):format(difference.number)
  local said = 0
  local judge = sweeps.judge(store, sweep.id, plans.stop, plans.goal)
  if judge and not difference then
    difference, said = judge:replay()
    what = difference and ("the verdict on %s at step %d"):format(difference.run, difference.step)
  end
  local decided, let_on = 0, 0
  if plans.race and not difference then
    difference, decided = repeats.replay(store, sweep.id, plans.goal, plans.race)
    what = difference and ("decision %d of the race"):format(difference.asked)
  end
  if judge and not difference and judge.rule.promote then
    difference, let_on = promotions(store, sweep.id, judge.rule, plans.goal)
    what = difference and ("the promotion of %s at step %d"):format(difference.run, difference.step)
  end
  return say(ctx, sweep, { made, said, decided, let_on }, what, difference)
end
