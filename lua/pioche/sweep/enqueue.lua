-- sweep/enqueue.lua: pioche sweep enqueue, extend: what a person adds to a sweep. Both are
-- rows that the next session of its recipe goes by, and enqueue also the one that runs.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local find = require "pioche.sweep.find"
local json = require "pioche.core.json"
local population = require "pioche.population"
local transaction = require "pioche.transaction"
local words = require "pioche.sweep.words"

local enqueue = {}
local check = errors.check

-- The raw point that these words say: every parameter that is not derived.
local function point_of(parameters, list)
  local given, raw = words.read("enqueue", parameters, list), {}
  for _, parameter in ipairs(parameters) do
    local name = parameter.name
    local text = given[name]
    if words.is_active(parameter, raw) then
      local only = words.only_value(parameter)
      if parameter.kind == "derived" then
        if text then errors.raise("invalid", "%s=%s: it follows from other parameters", name, text) end
      elseif text then
        raw[name] = words.value_of(parameter, text)
        if raw[name] == nil then
          errors.raise("invalid", "%s=%s: expected %s", name, text, words.domain_text(parameter))
        end
      elseif only ~= nil then
        raw[name] = only
      else
        errors.raise("invalid", "%s is missing: expected %s", name, words.domain_text(parameter))
      end
      given[name] = nil
    end
  end
  for _, parameter in ipairs(parameters) do
    local text = given[parameter.name]
    if text then
      errors.raise("invalid", "%s=%s: it is there only when %s", parameter.name, text, words.when_text(parameter))
    end
  end
  return raw
end

-- A point that is to run, whatever the sampler proposes. Their numbers are -1, -2 and so on.
function enqueue.enqueue(ctx, list)
  local store = ctx.writing()
  local sweep = find.one(store, list[1])
  if population.has(sweep.spec.search.options) then
    errors.raise("invalid", "%s: its search, %s, is a population, whose members are its own",
      sweep.experiment, sweep.spec.search.name)
  end
  local raw = point_of(sweep.spec.space, table.move(list, 2, #list, 1, {}))
  local number = transaction(store, function()
    local free = check(store:one("SELECT min(0, coalesce(min(number), 0)) - 1 AS n FROM proposal"
      .. " WHERE sweep_id = ?", sweep.id)).n
    check(store:proposal_add(sweep.id, free, check(json.encode(raw)), 0))
    return free
  end)
  find.say(ctx, sweep, { experiment = sweep.experiment, id = sweep.ulid, number = number, params = raw },
    ("a point is enqueued, number %d"):format(number))
end

-- A larger budget.
function enqueue.extend(ctx, list)
  local store = ctx.writing()
  local sweep = find.one(store, list[1])
  local runs = fields.kinds.positive(tonumber(list[2]:match("^runs=(%d+)$")))
  if not runs then
    errors.raise("usage", "sweep extend: '%s': expected runs=N, how many points it is to have", list[2])
  end
  local made, wanted = find.points(store, sweep)
  if not wanted then
    errors.raise("invalid", "%s: its search, %s, proposes every point: there is nothing to extend",
      sweep.experiment, sweep.spec.search.name)
  elseif runs <= wanted then
    errors.raise("invalid", "runs=%d: expected more than the %d points that it is to have already", runs,
      wanted)
  end
  transaction(store, function()
    check(store:sweep_extend(sweep.id, runs))
    check(store:change_add(sweep.id, "runs", check(json.encode { runs = runs })))
  end)
  find.say(ctx, sweep, { experiment = sweep.experiment, id = sweep.ulid, points = made, points_wanted = runs },
    ("%d points instead of %d, %d of them proposed"):format(runs, wanted, made))
end

return enqueue
