-- sweep/enqueue.lua: pioche sweep enqueue, extend: what a person adds to a sweep. Both are
-- rows that the next session of its recipe goes by, and enqueue also the one that runs.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local find = require "pioche.sweep.find"
local json = require "pioche.core.json"
local recipe = require "pioche.recipe"
local space = require "pioche.space"

local enqueue = {}
local check = errors.check

local function is_active(parameter, raw)
  for name, value in next, parameter.when or {} do
    if raw[name] ~= value then return false end
  end
  return true
end

local function domain_text(parameter)
  local is_branch = parameter.kind == "one_of"
  return space.text { kind = is_branch and "choice" or parameter.kind, branches = is_branch or nil,
    low = parameter.low, high = parameter.high, value = parameter.value, values = parameter.values }
end

-- The value of a parameter that is written so; nil where it is outside of its domain.
local function value_of(parameter, text)
  local number = tonumber(text)
  for _, value in ipairs(parameter.values or { parameter.value }) do
    if value == text or tostring(value) == text or type(value) == "number" and value == number then
      return value
    end
  end
  if not parameter.low or not number or not (number >= parameter.low and number <= parameter.high) then
    return nil
  end
  if parameter.kind == "int" or parameter.kind == "log_int" then return math.tointeger(number) end
  return number + 0.0
end

local function when_text(parameter)
  local words = {}
  for _, name in ipairs(fields.sorted(parameter.when)) do
    words[#words + 1] = ("%s is %s"):format(name, tostring(parameter.when[name]))
  end
  return table.concat(words, " and ")
end

-- The words NAME=VALUE as { name = text }, each a parameter of the space.
local function read_words(parameters, words)
  local given, names, known = {}, {}, {}
  for _, parameter in ipairs(parameters) do
    if not known[parameter.name] then names[#names + 1] = parameter.name end
    known[parameter.name] = true
  end
  for _, word in ipairs(words) do
    local name, text = word:match("^([^=]+)=(.*)$")
    if not name then errors.raise("usage", "sweep enqueue: '%s': expected NAME=VALUE, as lr=3e-4", word) end
    if not known[name] then
      errors.raise("invalid", "%s: there is no parameter '%s'%s", word, name, recipe.suggestion(name, names))
    elseif given[name] then
      errors.raise("invalid", "%s: '%s' is there twice", word, name)
    end
    given[name] = text
  end
  return given
end

-- The raw point that these words say: every parameter that is not derived.
local function point_of(parameters, words)
  local given, raw = read_words(parameters, words), {}
  for _, parameter in ipairs(parameters) do
    local name = parameter.name
    local text = given[name]
    if is_active(parameter, raw) then
      local only = parameter.value
      if parameter.values and #parameter.values == 1 then only = parameter.values[1] end
      if parameter.kind == "derived" then
        if text then errors.raise("invalid", "%s=%s: it follows from other parameters", name, text) end
      elseif text then
        raw[name] = value_of(parameter, text)
        if raw[name] == nil then
          errors.raise("invalid", "%s=%s: expected %s", name, text, domain_text(parameter))
        end
      elseif only ~= nil then
        raw[name] = only
      else
        errors.raise("invalid", "%s is missing: expected %s", name, domain_text(parameter))
      end
      given[name] = nil
    end
  end
  for _, parameter in ipairs(parameters) do
    local text = given[parameter.name]
    if text then
      errors.raise("invalid", "%s=%s: it is there only when %s", parameter.name, text, when_text(parameter))
    end
  end
  return raw
end

local function say(ctx, sweep, value, text)
  if ctx.json then
    ctx.out(ctx.encode(value) .. "\n")
  else
    ctx.out(("%s: %s; `pioche run %s` goes on with it\n"):format(sweep.experiment, text, sweep.recipe_path))
  end
end

-- A point that is to run, whatever the sampler proposes. Their numbers are -1, -2 and so on.
function enqueue.enqueue(ctx, words)
  local store = ctx.writing()
  local sweep = find.one(store, words[1])
  local raw = point_of(sweep.spec.space, table.move(words, 2, #words, 1, {}))
  check(store:begin())
  local number = check(store:one("SELECT min(0, coalesce(min(number), 0)) - 1 AS n FROM proposal"
    .. " WHERE sweep_id = ?", sweep.id)).n
  local ok, message, code = store:proposal_add(sweep.id, number, check(json.encode(raw)), 0)
  if not ok then
    store:rollback()
    errors.raise(code, "%s", message)
  end
  check(store:commit())
  say(ctx, sweep, { experiment = sweep.experiment, id = sweep.ulid, number = number, params = raw },
    ("a point is enqueued, number %d"):format(number))
end

-- A larger budget.
function enqueue.extend(ctx, words)
  local store = ctx.writing()
  local sweep = find.one(store, words[1])
  local runs = fields.kinds.positive(tonumber(words[2]:match("^runs=(%d+)$")))
  if not runs then
    errors.raise("usage", "sweep extend: '%s': expected runs=N, how many points it is to have", words[2])
  end
  local made, wanted = find.points(store, sweep)
  if not wanted then
    errors.raise("invalid", "%s: its search, %s, proposes every point: there is nothing to extend",
      sweep.experiment, sweep.spec.search.name)
  elseif runs <= wanted then
    errors.raise("invalid", "runs=%d: expected more than the %d points that it is to have already", runs,
      wanted)
  end
  check(store:sweep_extend(sweep.id, runs))
  say(ctx, sweep, { experiment = sweep.experiment, id = sweep.ulid, points = made, points_wanted = runs },
    ("%d points instead of %d, %d of them proposed"):format(runs, wanted, made))
end

return enqueue
