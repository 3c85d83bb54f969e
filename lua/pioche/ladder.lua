-- ladder.lua: pioche.ladder { ... }: a sweep up the sizes of a model, for a scaling law.
--
-- Small sizes run first. Before the points of the next size begin, or of the next budget where
-- there are budgets, the law of all that have ended predicts them, with an interval, and what it
-- predicted is on record before they run; when they end it is seen how wrong it was. Each size
-- waits for the ones below it from where their points are enough for a law.
--
-- To the sweep a ladder is a search: its proposals are the points in this order. p.tokens is there
-- for functions of the recipe, and is no parameter of the program: the recipe makes steps of it.
local fields = require "pioche.fields"
local pioche = require "pioche"
local scaling = require "pioche.scaling"
local space_of = require "pioche.space"

local ladder = { name = "ladder" }

local function ascending(what, example)
  return function(value)
    local expected = ("a list of %s above 0 that grow, as %s"):format(what, example)
    if type(value) ~= "table" or rawlen(value) == 0 then return nil, expected end
    local list = {}
    for i = 1, rawlen(value) do
      local item = rawget(value, i)
      local is_next = type(item) == "number" and item > (list[i - 1] or 0) and item < math.huge
      if not is_next then
        return nil, ("%s; item %d is %s"):format(expected, i, fields.show(item))
      end
      list[i] = item
    end
    return list
  end
end

local function sizes(value)
  local expected = "a list of tables of parameters, the smallest size first, as { { width = 32 },"
    .. " { width = 64 } }"
  if type(value) ~= "table" or rawlen(value) == 0 then return nil, expected end
  local list, names = {}, nil
  for i = 1, rawlen(value) do
    local size, given = {}, rawget(value, i)
    if type(given) ~= "table" or pioche.kind(given) or next(given) == nil then
      return nil, ("%s; item %d is %s"):format(expected, i, fields.show(given))
    end
    local keys = fields.sorted(given)
    for _, name in ipairs(keys) do
      local item = rawget(given, name)
      local t = type(item)
      if type(name) ~= "string" or t ~= "number" and t ~= "string" and t ~= "boolean" or item ~= item then
        return nil, ("%s; item %d has %s = %s"):format(expected, i, tostring(name), fields.show(item))
      end
      size[name] = item
    end
    local words = table.concat(keys, ", ")
    names = names or words
    if words ~= names then
      return nil, ("%s; item %d has %s, and the first has %s"):format(expected, i, words, names)
    end
    list[i] = size
  end
  return list
end

local function function_or_metric(value)
  if type(value) == "function" or type(value) == "string" and value ~= "" then return value end
  return nil, "a function(p), or the name of a metric that runs log"
end

local tokens_list = ascending("tokens", "{ 1e6, 4e6 }")

local function tokens(value)
  if type(value) ~= "table" then
    local kept = function_or_metric(value)
    if kept then return kept end
  end
  local list, expected = tokens_list(value)
  return list, expected and "a function(p), the name of a metric, or " .. expected
end

-- Fields of a ladder beside those of a sweep.
ladder.schema = {
  sizes = { kind = sizes,
    required = "the sizes, smallest first, as sizes = { { width = 32 }, { width = 64 } }",
    help = "parameters of each size, the smallest first" },
  params = { kind = function_or_metric,
    required = "how many parameters a size has, as params = function(p) return 12 * p.depth * p.width ^ 2"
      .. " end",
    help = "N: function(p), or the name of a metric, which is known, and can be predicted for, only after"
      .. " a run of the size" },
  tokens = { kind = tokens, otherwise = "by the budgets",
    help = "D: a list, with each of which each size runs, p.tokens for functions of the space; or"
      .. " function(p), or the name of a metric" },
  budgets = { kind = ascending("FLOP", "{ 1e12, 4e12 }"), otherwise = "none",
    help = "FLOP: each size runs with the tokens that a budget pays for, C / (flops N)" },
  flops = { kind = "positive", default = scaling.flops_per_token,
    help = "FLOP of a parameter and token" },
  samples = { kind = "positive", default = 100, help = "fits of the bootstrap behind an interval" },
  seed = { kind = "count", default = 1, help = "of the bootstrap" },
}

-- ---- the form ------------------------------------------------------------------------------

-- The space of a ladder: the recipe's, and a choice for each parameter of the sizes.
local function space_with(box, at, given, list)
  local result = {}
  if given ~= nil and type(given) ~= "table" then
    box:blame(at, "space", "expected a table of parameters, got %s", fields.show(given))
  end
  for _, name in ipairs(fields.sorted(given or {})) do result[name] = rawget(given, name) end
  for _, name in ipairs(fields.sorted(list[1])) do
    if result[name] ~= nil then
      box:blame(at, "space." .. name, "it is a parameter of the sizes, too: expected it in one place")
    end
    local values, seen = {}, {}
    for _, size in ipairs(list) do
      if not seen[size[name]] then values[#values + 1] = size[name] end
      seen[size[name]] = true
    end
    result[name] = #values == 1 and values[1] or values
  end
  return result
end

-- What pioche.sweep is given for a ladder.
function ladder.sweep_of(box, at, given)
  local own, result = {}, {}
  for _, name in ipairs(fields.sorted(given)) do
    if ladder.schema[name] then own[name] = rawget(given, name) else result[name] = rawget(given, name) end
  end
  for _, name in ipairs { "search", "where", "stop" } do
    if result[name] ~= nil then box:blame(at, name, "a ladder has none: each size runs to its end") end
  end
  if pioche.kind(result.seeds) == "race" then
    box:blame(at, "seeds", "a race seeks the best point, and a ladder none: expected how many seeds each has")
  end
  local goal = pioche.values(result.goal, "goal")
  if result.goal ~= nil and not (goal and goal.goal == "minimize") then
    box:blame(at, "goal", "a law is of one loss: expected pioche.minimize \"val/loss\"")
  end
  own = fields.check({ box = box, at = at }, own, ladder.schema)
  local is_list = type(own.tokens) == "table"
  if (own.tokens == nil) == (own.budgets == nil) and not (own.budgets and not is_list) then
    box:blame(at, "tokens", own.tokens and "there are budgets, too: expected one of both"
      or "expected a list of tokens, or budgets = { 1e12, 4e12 }")
  end
  if own.budgets and type(own.params) ~= "function" then
    box:blame(at, "params", "budgets need a function(p): what they pay for is worked out before a run")
  end
  own.box, own.at = box, at
  result.space = space_with(box, at, result.space, own.sizes)
  result.search = pioche.object("sampler", { name = "ladder", module = ladder, given = own, at = at })
  return result
end

-- ---- as a search ------------------------------------------------------------------------------

-- What a function of the recipe is, on record; what is of it alone stays here.
local functions = setmetatable({}, { __mode = "k" })

local function on_record(box, value)
  return type(value) == "function" and space_of.function_digest(box, value) or value
end

function ladder.check(_, own)
  local options = { sizes = own.sizes, budgets = own.budgets, flops = own.flops, samples = own.samples,
    seed = own.seed, params = on_record(own.box, own.params), tokens = on_record(own.box, own.tokens) }
  functions[options] = own
  return options
end

local methods = {}
methods.__index = methods

-- A positive number that a function of the recipe gives for a point; nil for what is a metric.
local function measure(self, name, view)
  local own = self.own
  local fn = own[name]
  if type(fn) ~= "function" then return nil end
  local ok, value = own.box:try(fn, view)
  if not ok then own.box:blame(own.at, name, "%s", value.message) end
  if not (type(value) == "number" and value > 0 and value < math.huge) then
    own.box:blame(own.at, name, "the function returned %s: expected a number above 0", fields.show(value))
  end
  return value + 0.0
end

-- Is the size among what the space leaves of its parameters?
local function is_left(space, size)
  for _, parameter in ipairs(space.parameters) do
    local d, value = parameter.domain, size[parameter.name]
    if value ~= nil then
      local known = d.kind == "fixed" and d.value == value
      for _, one in ipairs(d.values or {}) do known = known or one == value end
      if not known then return false end
    end
  end
  return true
end

local function raw_point(self, size, more)
  local raw = {}
  for _, parameter in ipairs(self.space.parameters) do
    local d = parameter.domain
    if d.kind == "fixed" then
      raw[parameter.name] = d.value
    elseif d.kind ~= "derived" and size[parameter.name] == nil then
      if not (d.values and #d.values == 1) then
        self.space.box:blame(self.space.at, parameter.path,
          "%s: a ladder has fixed and derived values alone beside its sizes", space_of.text(d))
      end
      raw[parameter.name] = d.values[1]
    end
  end
  for name, value in next, size do raw[name] = value end
  for name, value in next, more or {} do raw[name] = value end
  return raw
end

-- The point of a size with so many tokens (nil: the recipe's functions say, or a metric).
local function add_point(self, group, size, count, budget)
  local more = count and { tokens = math.floor(count + 0.5) } or nil
  local params = self.space:complete(raw_point(self, size, more))
  if more then params.tokens = nil end
  local view = self.space:view(params)
  local point = { params = params, group = group, budget = budget, size = measure(self, "params", view),
    tokens = count or measure(self, "tokens", view) }
  self.points[#self.points + 1] = point
end

-- The tokens that a budget pays for at a size. What follows from tokens is not known yet, and
-- worked out for some number of them: the number of parameters is none of that.
local function tokens_of(self, size, budget)
  local params = self.space:complete(raw_point(self, size, { tokens = 1 << 40 }))
  return budget / (self.own.flops * measure(self, "params", self.space:view(params)))
end

local function add_points(self)
  local own, left = self.own, {}
  for _, size in ipairs(own.sizes) do
    if is_left(self.space, size) then left[#left + 1] = size end
  end
  if #left == 0 then self.space.box:blame(self.space.at, "sizes", "the command line left none of them") end
  if own.budgets then
    for group, budget in ipairs(own.budgets) do
      for _, size in ipairs(left) do add_point(self, group, size, tokens_of(self, size, budget), budget) end
    end
    return
  end
  for group, size in ipairs(left) do
    local list = type(own.tokens) == "table" and own.tokens or { false }
    for _, count in ipairs(list) do add_point(self, group, size, count or nil) end
  end
end

-- Tokens that make no difference to any parameter are no tokens.
local function check_tokens(self)
  local seen = {}
  for _, point in ipairs(self.points) do
    local words = {}
    for i, name in ipairs(fields.sorted(point.params)) do
      words[i] = name .. "=" .. fields.show(point.params[name])
    end
    local key = table.concat(words, " ")
    if seen[key] then
      self.own.box:blame(self.own.at, "space", "two of its points are the same, %s: expected parameters that"
        .. " follow from p.tokens, as steps = function(p) return p.tokens // (p.batch * p.context) end", key)
    end
    seen[key] = true
  end
end

function ladder.new(space, options)
  local own = functions[options]
  space.extra = space.extra or {}
  space.extra.tokens = true
  local self = setmetatable({ adaptive = true, space = space, own = own, points = {} }, methods)
  add_points(self)
  check_tokens(self)
  self.size = #self.points
  self.metrics = {}
  for _, name in ipairs { "params", "tokens" } do
    if type(own[name]) == "string" then table.insert(self.metrics, own[name]) end
  end
  return self
end

-- What has ended of the groups below this one, as scaling.lua takes it; nil where some of it has
-- not, second whether it is enough for a law.
local function below(self, group)
  local known, all = {}, true
  local count = 0
  for _, point in ipairs(self.points) do
    if point.group < group then
      count = count + 1
      all = all and point.is_over
      if point.loss and point.size and point.tokens then known[#known + 1] = point end
    end
  end
  return known, all or count < scaling.points_min
end

-- Proposal n, once what it is predicted by has ended.
function methods:propose(number)
  local point = self.points[number]
  if not point then return nil end
  local _, is_ready = below(self, point.group)
  return is_ready and point.params or nil
end

function methods.adopt() end

-- A size whose N is a metric is known once a run of it has ended.
local function learn(self, point, metrics)
  for name, metric in next, { size = self.own.params, tokens = self.own.tokens } do
    local value = type(metric) == "string" and metrics[metric]
    if type(value) == "number" and value > 0 and value < math.huge then
      point[name] = value
      for _, other in ipairs(name == "size" and self.points or {}) do
        if other.group == point.group and not self.own.budgets then other.size = value end
      end
    end
  end
end

function methods:observe(number, value, how)
  local point = self.points[number]
  if not point then return end
  point.is_over = true
  learn(self, point, how and how.metrics or {})
  point.loss = how and how.status == "finished" and value and value > 0 and value < math.huge and value or nil
end

-- What is expected of a proposal before it runs, for the record: { size, tokens, budget, value, low,
-- high, points }; without value and what follows where there is no law yet.
function methods:forecast(number)
  local point = self.points[number]
  local result = { size = point.size, tokens = point.tokens, budget = point.budget }
  local known = below(self, point.group)
  if self.fitted ~= point.group then
    self.fitted, self.law = point.group, scaling.fit(known, self.own.samples, self.own.seed)
  end
  if self.law and point.size and point.tokens then
    local said = scaling.predict(self.law, point.size, point.tokens)
    result.value, result.low, result.high, result.points = said.value, said.low, said.high, self.law.count
  end
  return result
end

return ladder
