-- curve: a run stops at a rung where its learning curve, drawn on to the end, is hardly ever
-- better than the best run that has ended.
--
-- Domhan, Springenberg, Hutter, "Speeding up Automatic Hyperparameter Optimization of Deep Neural
-- Networks by Extrapolation of Learning Curves", IJCAI 2015; the curves and what is known of the
-- end are those of core/sweep/curve.h. Runs that have ended say how good such forecasts are in
-- this sweep: each is forecast from its own beginning, up to the same rung. By what these
-- forecasts were off, on average and beyond what they said of themselves, the next is corrected:
-- a learning rate that falls towards the end bends all curves alike.
local core = require "pioche.core.sweep"
local fields = require "pioche.fields"
local rungs = require "pioche.rungs"

local curve = { name = "curve",
  summary = "a run stops where its curve, drawn on to the end, is hardly ever the best" }

local points_min = 4           -- of a curve, before it is drawn on
local known_max = 24           -- ended runs by which forecasts are corrected, the newest

local function chance(value)
  if type(value) == "number" and value > 0 and value < 0.5 then return value end
  return nil, "a number between 0 and 0.5"
end

curve.schema = {
  by = { kind = fields.one_of("step"), default = "step", help = "what rungs count: steps" },
  min = { kind = "positive", otherwise = "every", help = "the first rung" },
  every = { kind = "positive", required = "steps from a rung to the next, as every = 50",
    help = "steps from a rung to the next" },
  max = { kind = "positive", required = "how long a run is, as max = 400",
    help = "how long a run is: what it is worth there is what is forecast" },
  startup = { kind = "positive", default = 3, help = "so many runs end before one is stopped" },
  chance = { kind = chance, default = 0.05,
    help = "stop where the probability to end better than the best is less than this" },
  audit = rungs.audit,
}

function curve.check(where, given)
  local options = fields.check(where, given, curve.schema)
  if options.max <= (options.min or options.every) then
    where.box:blame(where.at, where.path .. ".max", "expected more than the first rung, which is %d, got %d",
      options.min or options.every, options.max)
  end
  return options
end

-- The newest of the runs that have ended, and the best loss of all.
local function ended()
  return rungs.heard(function() return { newest = {}, best = math.huge } end, function(of, item)
    if item.loss == math.huge then return end
    of.best = math.min(of.best, item.loss)
    table.insert(of.newest, 1, item)
    of.newest[known_max + 1] = nil
  end)
end

-- Their losses, by run.
local function losses_by_run()
  return rungs.heard(function() return {} end, function(of, item) of[item.run_id] = item.loss end)
end

-- A curve's parts of the way and its losses there, nil where they are too few.
local function points(list, rung, max)
  local parts, losses = {}, {}
  for _, item in ipairs(list) do
    if item.step <= rung and item.step < max and item.loss < math.huge then
      parts[#parts + 1], losses[#losses + 1] = item.step / max, item.loss
    end
  end
  if #parts < points_min then return nil end
  return parts, losses
end

-- By how much forecasts from that rung are off: the mean of what came less what was said, drawn
-- towards 0 as long as few are known, and the spread about it that they do not tell themselves.
local function correction(self, known, rung)
  local count, sum, squares, own = 0, 0, 0, 0
  for _, item in ipairs(known) do
    local key = item.run_id .. " " .. rung
    if self.said[key] == nil then
      local parts, losses = points(self.curve_of(item.run_id, rung), rung, self.max)
      self.said[key] = parts and core.forecast(parts, losses, 0, 0) or false
    end
    local said = self.said[key]
    if said then
      local off, sigma = item.loss - said.value, (said.high - said.low) / 3.29
      count, sum, squares, own = count + 1, sum + off, squares + off * off, own + sigma * sigma
    end
  end
  if count == 0 then return 0, 0 end
  local shift = sum / (count + 1)
  local variance = (squares - 2 * shift * sum + count * shift * shift - own) / count
  return shift, math.sqrt(math.max(0, variance))
end

local function decide(self, run, rung, at, of_rung)
  if at.loss == math.huge then return "stop", "no finite number" end
  if rung == self.max then return "go", "the end" end
  local of_end = self.ended(of_rung(self.max))
  local known, best = of_end.newest, of_end.best
  if #known < self.startup then
    return "go", ("%d of the first %d have ended"):format(#known, self.startup)
  end
  local parts, losses = points(run.curve, rung, self.max)
  if not parts then return "go", "too little of its curve is known" end
  self.curve_of = function(run_id, last)
    local list = {}
    for step = self.first, last, self.every do
      local loss = self.losses_of(of_rung(step))[run_id]
      list[#list + 1] = loss and { step = step, loss = loss }
    end
    return list
  end
  local shift, spread = correction(self, known, rung)
  local said = core.forecast(parts, losses, shift, spread, best)
  local low, high = said.low, said.high
  if self.sign < 0 then low, high = -high, -low end
  local forecast = { value = self.sign * said.value, low = low, high = high, below = said.below,
    bound = self.sign * best }
  return said.below < self.chance and "stop" or "go",
    ("its end is forecast as %.5g (%.5g to %.5g), better than %.5g with probability %.2g"):format(
      forecast.value, low, high, forecast.bound, said.below), forecast
end

function curve.new(options, goal)
  local first, every, max = options.min or options.every, options.every, options.max
  local self = { first = first, every = every, max = max, startup = options.startup,
    chance = options.chance, sign = goal.goal == "maximize" and -1 or 1, said = {}, ended = ended(),
    losses_of = losses_by_run() }
  local rule = {}

  -- The end is a rung, too: what runs came to there is known to others.
  function rule.next_rung(_, _, step)
    if step >= max then return nil end
    local rung = step < first and first or first + ((step - first) // every + 1) * every
    return math.min(rung, max)
  end

  function rule.decide(_, run, rung, at, _, of_rung)
    return decide(self, run, rung, at, of_rung)
  end

  return rule
end

return curve
