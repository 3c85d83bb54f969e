-- sweep/surgery.lua: pioche sweep freeze, thaw, drop, restore: what a person changes of a sweep
-- that is under way. Each is a row (core/store/change.h) that whoever goes on with the sweep
-- goes by, from its next proposal on.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local find = require "pioche.sweep.find"
local history = require "pioche.sweep.history"
local json = require "pioche.core.json"
local runs = require "pioche.runs"
local sweeps = require "pioche.sweeps"
local transaction = require "pioche.transaction"
local words = require "pioche.sweep.words"

local surgery = {}
local check = errors.check
local tag = "aside" -- of a run that counts for nothing; its value is the reason

-- ---- parameters ------------------------------------------------------------------------

-- The value that the word says of each parameter of that name.
local function frozen_value(parameters, name, text)
  local value
  for _, parameter in ipairs(parameters) do
    if parameter.name == name then
      if parameter.kind == "derived" then
        errors.raise("invalid", "%s=%s: it follows from other parameters", name, text)
      elseif words.only_value(parameter) ~= nil then
        errors.raise("invalid", "%s=%s: it is always %s", name, text, words.domain_text(parameter))
      end
      value = words.value_of(parameter, text)
      if value == nil then
        errors.raise("invalid", "%s=%s: expected %s%s", name, text, words.domain_text(parameter),
          parameter.when and " where " .. words.when_text(parameter) or "")
      end
    end
  end
  return value
end

-- What of a sweep is frozen now.
function surgery.frozen(changes)
  local values = {}
  for _, change in ipairs(changes) do
    for name, value in next, change.kind == "freeze" and change.detail.values or {} do values[name] = value end
    for _, name in ipairs(change.kind == "thaw" and change.detail.names or {}) do values[name] = nil end
  end
  return values
end

local function values_text(values)
  local list = {}
  for i, name in ipairs(fields.sorted(values)) do list[i] = name .. "=" .. runs.value_text(values[name]) end
  return table.concat(list, " ")
end
surgery.values_text = values_text

-- It takes proposals that are still to come.
local function check_open(sweep, store)
  local made, wanted = find.points(store, sweep)
  if not wanted then
    errors.raise("invalid", "%s: its search, %s, has proposed every point: there is nothing to freeze",
      sweep.experiment, sweep.spec.search.name)
  end
  return made < wanted and "" or (", of which there are none: all %d points are proposed, and"
    .. " `pioche sweep extend %s runs=N` asks for more"):format(wanted, sweep.experiment)
end

local function record(ctx, store, sweep, kind, detail, reason, text)
  check(store:change_add(sweep.id, kind, check(json.encode(detail)), reason))
  find.say(ctx, sweep, { experiment = sweep.experiment, id = sweep.ulid, change = kind, detail = detail,
    reason = reason or json.null }, text)
end

function surgery.freeze(ctx, list)
  local store = ctx.writing()
  local sweep = find.one(store, list[1])
  local given = words.read("freeze", sweep.spec.space, table.move(list, 2, #list, 1, {}))
  local values = {}
  for name, text in next, given do values[name] = frozen_value(sweep.spec.space, name, text) end
  local note = check_open(sweep, store)
  record(ctx, store, sweep, "freeze", { values = values }, ctx.options.reason,
    ("proposals from now on have %s%s"):format(values_text(values), note))
end

function surgery.thaw(ctx, list)
  local store = ctx.writing()
  local sweep = find.one(store, list[1])
  local frozen, names = surgery.frozen(history.changes(store, sweep.id, 0)), json.array {}
  for i = 2, #list do
    if frozen[list[i]] == nil then
      errors.raise("invalid", "%s: not frozen%s", list[i], next(frozen)
        and ": expected " .. table.concat(fields.sorted(frozen), ", ") or ", and nothing else is")
    end
    names[i - 1] = list[i]
  end
  record(ctx, store, sweep, "thaw", { names = names }, ctx.options.reason,
    ("proposals from now on choose %s again"):format(table.concat(names, ", ")))
end

-- ---- runs -----------------------------------------------------------------------------------

-- The proposals of a sweep that were observed and have this run, and what each comes to now.
local function points_of(store, sweep, run_id)
  local points, list = json.array {}, check(store:rows("SELECT p.number AS number FROM proposal p"
    .. " JOIN proposal_run q ON q.sweep_id = p.sweep_id AND q.number = p.number WHERE p.sweep_id = ?"
    .. " AND q.run_id = ? AND p.observed IS NOT NULL ORDER BY 1", sweep.id, run_id))
  for i, row in ipairs(list) do
    points[i] = { number = row.number, observation = sweeps.came_to(store, sweep, row.number) }
  end
  return points
end

-- The sweeps that have proposed a run.
local function sweeps_of(store, run)
  local list = {}
  for i, row in ipairs(check(store:rows("SELECT w.ulid AS ulid FROM sweep w WHERE w.id IN"
    .. " (SELECT sweep_id FROM proposal_run WHERE run_id = ?) ORDER BY w.id", run.id))) do
    list[i] = find.one(store, row.ulid)
  end
  if #list == 0 then
    errors.raise("invalid", "%s is of no sweep: expected a run that a recipe has made", run.name)
  end
  return list
end

-- A run is set aside, or counts again, for all sweeps that have it.
local function set(ctx, name, kind, reason)
  local store = ctx.writing()
  local run = runs.load(store, { runs.find(store, name) }, { tags = true })[1]
  local was = run.tags[tag]
  if kind == "drop" and (run.status == "queued" or run.status == "running") then
    errors.raise("invalid", "%s is %s: `pioche stop %s` ends it, then it can be set aside", run.name, run.status,
      run.name)
  elseif kind == "restore" and not was then
    errors.raise("invalid", "%s is not set aside", run.name)
  end
  local list = sweeps_of(store, run)
  transaction(store, function()
    check(kind == "drop" and store:tag_set(run.id, tag, reason) or kind == "restore" and store:tag_remove(run.id, tag))
    check(store:event(run.id, { kind = kind, message = reason or "it counts again" }))
    for _, sweep in ipairs(list) do
      check(store:change_add(sweep.id, kind, check(json.encode { run = run.name, ulid = run.ulid,
        points = points_of(store, sweep, run.id) }), reason))
    end
  end)
  find.say(ctx, list[#list], { run = run.name, change = kind, reason = reason or json.null },
    kind == "drop" and ("%s is set aside"):format(run.name) or ("%s counts again"):format(run.name))
end

function surgery.drop(ctx, list)
  local reason = ctx.options.reason
  if not reason or not reason:find("%S") then
    errors.raise("usage", "sweep drop: expected why, as --reason \"its node was slow\"")
  end
  set(ctx, list[1], "drop", reason)
end

function surgery.restore(ctx, list)
  set(ctx, list[1], "restore", ctx.options.reason)
end

return surgery
