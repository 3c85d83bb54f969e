-- sweep/front.lua: pioche sweep front: the points that nothing beats in every goal.
local aims = require "pioche.aims"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local find = require "pioche.sweep.find"
local format = require "pioche.format"
local json = require "pioche.core.json"
local outcomes = require "pioche.sweep.outcomes"
local runs = require "pioche.runs"
local tables = require "pioche.table"
local term = require "pioche.term"

local front = {}

-- The points of the front with their parameters, and all points.
local function load(store, sweep)
  local all = outcomes.of(store, sweep)
  local list, ids = all:front(), {}
  for i, point in ipairs(list) do ids[i] = point.id end
  for i, run in ipairs(#ids > 0 and runs.load(store, ids, { params = true }) or {}) do
    list[i].params = run.params
  end
  return list, all
end

-- Names of the parameters of which these points have more than one value.
local function differing(list)
  local seen, names = {}, {}
  for _, point in ipairs(list) do
    for _, name in ipairs(fields.sorted(point.params)) do
      local key = runs.value_key(point.params[name])
      seen[name] = seen[name] or { count = 0, first = key }
      seen[name].count = seen[name].count + 1
      seen[name].varies = seen[name].varies or seen[name].first ~= key
    end
  end
  for _, name in ipairs(fields.sorted(seen)) do
    if seen[name].varies or seen[name].count < #list then names[#names + 1] = name end
  end
  return names
end

local function print_table(ctx, sweep, list)
  local goals, names = aims.goals(sweep.spec), differing(list)
  local columns = { { title = "run", cells = {} } }
  for i, point in ipairs(list) do
    columns[1].cells[i] = { point.name .. (point.runs > 1 and " +" .. point.runs - 1 or ""), "bold" }
  end
  for g, goal in ipairs(goals) do
    local values = {}
    for i, point in ipairs(list) do values[i] = point.values[g] end
    columns[#columns + 1] = { title = goal.key, align = "right", cells = format.column(values, #list) }
  end
  for _, name in ipairs(names) do
    local column = runs.param_column(name, runs.param_values(list, name), #list)
    column.drop = 2
    columns[#columns + 1] = column
  end
  tables.print_columns(ctx, columns, #list)
end

local function to_json(sweep, list)
  local points = json.array {}
  for i, point in ipairs(list) do
    local values = {}
    for g, goal in ipairs(aims.goals(sweep.spec)) do values[goal.key] = point.values[g] end
    points[i] = { id = point.name, number = point.number, runs = point.runs, params = point.params,
      values = values }
  end
  return points
end

local function print_csv(ctx, sweep, list)
  local header, names = { "run", "runs" }, {}
  for _, point in ipairs(list) do
    for name in next, point.params do names[name] = true end
  end
  names = fields.sorted(names)
  for _, goal in ipairs(aims.goals(sweep.spec)) do header[#header + 1] = "metric." .. goal.key end
  for _, name in ipairs(names) do header[#header + 1] = "param." .. name end
  ctx.out(csv.line(header))
  for _, point in ipairs(list) do
    local line = { point.name, point.runs, table.unpack(point.values) }
    for i, name in ipairs(names) do
      local value = point.params[name]
      line[2 + #point.values + i] = type(value) == "table" and json.encode(value) or value
    end
    ctx.out(csv.line(line, #header))
  end
end

function front.run(ctx, words)
  local store = ctx.reading()
  local sweep = find.one(store, words[1])
  if #aims.goals(sweep.spec) == 0 then
    errors.raise("invalid", "%s: the sweep has no goal: expected one, as goal = pioche.minimize \"loss\"",
      sweep.experiment)
  end
  local list, all = load(store, sweep)
  if ctx.json then
    ctx.out(ctx.encode { experiment = sweep.experiment, id = sweep.ulid, points = all.count,
      feasible = all:feasible_count(), front = to_json(sweep, list) } .. "\n")
  elseif ctx.csv then
    print_csv(ctx, sweep, list)
  elseif #list == 0 then
    ctx.note(("%s: no finished run %s\n"):format(sweep.experiment,
      all.count > 0 and "meets the constraints" or "has logged " .. term.clean(aims.text(sweep.spec))))
  else
    print_table(ctx, sweep, list)
  end
end

return front
