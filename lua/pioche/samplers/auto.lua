-- auto: a search chosen by the space and the budget, and switched by what it finds.
--
-- A space that the budget covers is walked through; so few runs that there is nothing to
-- learn from are spread evenly. Else three models see every run. A trust region goes
-- downhill from the best point, the middle of the space to begin with, or of each branch:
-- most runs are its own while it is wide. Once there are but digits to find, half of them go to a
-- scout, which goes downhill elsewhere, from the best of a few leaps. The others are for the
-- rest of the space: the Gaussian process, which is far ahead where the function is smooth, and
-- the Parzen estimator, which is not led astray where it is rugged, by turns; the better one's
-- points have been of late, the more turns it gets. Where several points are under way at a time
-- the region does not wait for the first: they begin around the middle.
-- Where a rule stops runs more of the space is looked at before there is a model of it, as that costs little
-- then (gp.lua).
-- Where one of them finds a better place, the region moves there. Where there are more runs
-- or parameters than a Gaussian process can bear, the estimator goes on alone. Several goals
-- are for the estimator where runs are few, and for NSGA-II where there are many.
local fields = require "pioche.fields"
local sweep = require "pioche.core.sweep"

local auto = { name = "auto", several = true, has_workers = true,
  summary = "a search chosen by space and budget, and switched by what it finds" }

local spread_max = 12          -- runs that are spread evenly, there being too few to learn from
local gp_runs_max = 400        -- a proposal of the Gaussian process takes a tenth of a second then
local gp_axes_max = 40
local recent = 30              -- observations by which turns are given
local front_runs_max = 250     -- of several goals the estimator learns from so many at most
local startup = 8              -- points of the whole space before it has a model
local descents_max = 2000      -- runs up to which there is a trust region
local narrow = 1e-5            -- of each range: so narrow, a region is widened again
local share_wide, share_narrow = 0.85, 0.6 -- of the runs, for the region
local share_scout = 0.5          -- of these, where the best place has but digits to find
local places_max = 4           -- branches that are looked into

auto.schema = {
  runs = { kind = "positive", default = 32, help = "points to propose, none twice" },
  seed = { kind = "count", default = 1, help = "what draws are made from: the same seed, the same points" },
}

function auto.check(where, given)
  return fields.check(where, given, auto.schema)
end

-- Is there a parameter that is a number?
local function has_numbers(space)
  for _, parameter in ipairs(space.parameters) do
    local d = parameter.domain
    if d.low and d.low < d.high then return true end
  end
  return false
end

-- The sampler for a space and a budget, and why in words; nil: models by turns.
function auto.choose(space, runs, aims)
  local count, workers = space:count(), aims and aims.workers or 1
  if count and count <= runs then
    return "grid", ("%d runs are enough for all %d points"):format(runs, count)
  elseif runs > 1 and runs <= workers and (aims.known or 0) == 0 then
    return "sobol", ("all %d runs are under way before there is one to learn from"):format(runs)
  elseif runs <= spread_max and (aims and aims.known or 0) == 0 then
    return "sobol", ("%d runs are too few to learn from"):format(runs)
  elseif aims and aims.goals > 1 then
    local is_large = runs > front_runs_max
    return is_large and "nsga2" or "tpe", ("%d goals, and %s than %d runs"):format(aims.goals,
      is_large and "more" or "no more", front_runs_max)
  end
  local free = 0
  for _, parameter in ipairs(space.parameters) do
    local d = parameter.domain
    if d.kind ~= "fixed" and d.kind ~= "derived" then free = free + 1 end
  end
  if free > gp_axes_max then
    return "tpe", ("%d parameters are too many for a Gaussian process"):format(free)
  end
  return nil, ("%sgp and tpe by turns%s%s"):format(
    has_numbers(space) and "trust_region around the best point, " or "",
    runs > gp_runs_max and (", tpe alone after %d runs"):format(gp_runs_max) or "",
    workers > 1 and (", %d at a time"):format(workers) or "")
end

local methods = {}
methods.__index = methods

local function child(name, space, options, aims)
  local module = require("pioche.samplers." .. name)
  return module.new(space, module.check({}, options), aims)
end

function auto.new(space, options, aims)
  local name = auto.choose(space, options.runs, aims)
  if name == "grid" then return child(name, space, {}) end
  if name then return child(name, space, { runs = options.runs, seed = options.seed }, aims) end
  local given = { runs = options.runs, seed = options.seed, startup = startup }
  local self = setmetatable({ adaptive = true, options = options, gp = child("gp", space, given, aims),
    tpe = child("tpe", space, given), by = {}, order = {}, told = 0 }, methods)
  if has_numbers(space) then
    self.region = child("trust_region", space, { runs = options.runs, seed = options.seed }, aims)
    self.region.narrow = narrow
    self.gp.is_known = function(params) return self.region:knows(params) end
  end
  for _, parameter in ipairs(space.parameters) do
    self.has_branches = self.has_branches or #parameter.conditions > 0
  end
  self.size, self.last = self.gp.size, options.runs
  return self
end

-- What a number came to, the lower the better, of a stopped run what it promises.
local function value_of(self, number)
  return self.tpe.levels:value(number) or math.huge
end

-- What speaks for each of the two: how many of its newest points are among the best fifth
-- of all, and how many of the newest observations that were the best so far are of it.
local function credits(self)
  local sorted, best = {}, math.huge
  local seen, good, records = { gp = 0, tpe = 0 }, { gp = 0, tpe = 0 }, { gp = 0, tpe = 0 }
  for i, number in ipairs(self.order) do
    local value, name = value_of(self, number), self.by[number]
    if value < best and records[name] then
      records[name] = records[name] + (i > #self.order - recent and 1 or 0)
    end
    sorted[i], best = value, math.min(best, value)
  end
  table.sort(sorted)
  for i = #self.order, 1, -1 do
    local number = self.order[i]
    local name = self.by[number]
    if seen[name] and seen[name] < recent // 2 then
      seen[name] = seen[name] + 1
      good[name] = good[name] + (value_of(self, number) <= sorted[(#sorted + 4) // 5] and 1 or 0)
    end
  end
  local function credit(name) return (good[name] + 1) / (seen[name] + 2) * (records[name] + 0.5) end
  return credit "gp", credit "tpe"
end

-- Which model of the whole space a number is for: a function of what was observed before it.
local function turn(self, number)
  if self.told < self.gp:startup() then return "gp" end
  if #self.order >= gp_runs_max then return "tpe" end
  local gp, tpe = credits(self)
  local share = math.max(0.25, math.min(0.9, 2.5 * gp / (2.5 * gp + tpe)))
  -- of branches the one that is better on average is not left by a smooth model
  if self.has_branches then share = math.min(share, 0.5) end
  return sweep.uniform(self.options.seed, number, "auto") < share and "gp" or "tpe"
end

-- The place at which a number goes downhill, if it does, and whether it does so by a scout: half of
-- the time the best one that is wide, else one of the others.
local function downhill(self, number)
  if not self.region or #self.order >= descents_max then return nil end
  local drawn = sweep.uniform(self.options.seed, number, "downhill")
  if #self.order == 0 then return drawn < share_wide and self.region:first_place() or nil end
  local list, wide, is_all_settled = self.region:best_places(), {}, true
  for i = 1, math.min(#list, places_max) do
    if list[i].rounds == 0 then wide[#wide + 1] = list[i].place end
    is_all_settled = is_all_settled and list[i].is_settled
  end
  local first = list[1]
  local share = #wide > 0 and share_wide or share_narrow
  drawn = drawn / share
  if drawn >= 1 or not first then return nil end
  if is_all_settled and not first.is_rough and drawn < (#wide > 0 and share_scout or 1) then
    return first.place, true
  end
  if #wide == 0 then return first.place end
  return drawn < 0.5 and wide[1] or wide[1 + math.floor((drawn - 0.5) * 2 * #wide)]
end

local function join(self, number, params, name)
  for _, other in ipairs { "gp", "tpe" } do
    if other ~= name then self[other]:adopt(number, params) end
  end
  if self.region and name ~= "region" then self.region:join(number, params) end
  self.by[number] = name
  return params
end

function methods:propose(number)
  if number > self.options.runs then return nil end
  local middle = number == 1 and self.gp.points:middle(self.gp.axes, self.gp.list)
  if middle then return join(self, number, middle, "middle") end
  local place, is_scout = downhill(self, number)
  local params = place and self.region:descend(number, place, is_scout)
  if params then return join(self, number, params, "region") end
  local name = turn(self, number)
  params = self[name]:propose(number)
  return params and join(self, number, params, name)
end

function methods:adopt(number, params, is_aside)
  local place, is_scout
  if number > 1 and not is_aside then place, is_scout = downhill(self, number) end
  local is_own = place and self.region:retrace(number, params, place, is_scout)
  local is_middle = number == 1 and self.gp.points:is_middle(params, self.gp.axes, self.gp.list)
  self.by[number] = not is_aside and (is_own and "region" or is_middle and "middle" or turn(self, number)) or nil
  self.gp:adopt(number, params, is_aside)
  self.tpe:adopt(number, params, is_aside)
  if self.region and not place then self.region:join(number, params, is_aside) end
end

function methods:observe(number, value, how)
  if not self.by[number] then return end
  if not self.tpe.levels.known[number] then
    table.insert(self.order, number)
    if self.by[number] ~= "region" then self.told = self.told + 1 end
  end
  self.gp:observe(number, value, how)
  self.tpe:observe(number, value, how)
  if self.region then self.region:observe(number, value, how) end
end

return auto
