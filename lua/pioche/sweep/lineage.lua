-- sweep/lineage.lua: the members of a population: what each has come to, whom it copied,
-- and what it changed.
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local format = require "pioche.format"
local json = require "pioche.core.json"
local runs = require "pioche.runs"
local tables = require "pioche.table"

local lineage = {}
local check = errors.check

-- What differs between two lists of parameters but for `ends`: { name = { from, to } }.
local function differences(before, after, ends)
  local changed, names = {}, {}
  for name in next, before do names[name] = true end
  for name in next, after do names[name] = true end
  names[ends] = nil
  for _, name in ipairs(fields.sorted(names)) do
    if before[name] ~= after[name] then
      changed[name] = json.array { before[name] == nil and json.null or before[name],
        after[name] == nil and json.null or after[name] }
    end
  end
  return changed
end

-- Its runs in the order proposed: { run, status, member, round, step (where it ends), parent,
-- copied, at (the step of what it copied), changed, value }; none where it is no population.
function lineage.of(store, sweep)
  local list, by_number = {}, {}
  local ends = (sweep.spec.search.options or {}).ends
  for i, row in ipairs(check(store:rows([[SELECT p.number AS number, p.params AS params, p.lineage AS lineage,
      p.observation AS observation, e.name || '-' || r.number AS run, r.status AS status
      FROM proposal p CROSS JOIN proposal_run q ON q.sweep_id = p.sweep_id AND q.number = p.number
      JOIN run r ON r.id = q.run_id JOIN experiment e ON e.id = r.experiment_id
     WHERE p.sweep_id = ? AND p.lineage IS NOT NULL ORDER BY p.number]], sweep.id))) do
    local known, params = check(json.decode(row.lineage)), check(json.decode(row.params))
    local parent = known.parent and by_number[known.parent]
    local item = { run = row.run, status = row.status, member = known.member, round = known.round,
      step = params[ends], params = params, copied = known.copied, parent = parent and parent.run,
      at = parent and parent.step, changed = parent and differences(parent.params, params, ends) or {},
      value = row.observation and check(json.decode(row.observation)).value or nil }
    list[i], by_number[row.number] = item, item
  end
  return list
end

local function or_null(value)
  if value == nil then return json.null end
  return value
end

function lineage.to_json(list)
  local values = json.array {}
  for i, item in ipairs(list) do
    values[i] = { run = item.run, status = item.status, member = item.member, round = item.round,
      step = item.step, parent = or_null(item.parent), copied = item.copied, at = or_null(item.at),
      changed = item.changed, value = or_null(item.value) }
  end
  return values
end

function lineage.csv(ctx, list)
  ctx.out(csv.line { "run", "status", "member", "round", "step", "parent", "copied", "at", "value" })
  for _, item in ipairs(list) do
    ctx.out(csv.line({ item.run, item.status, item.member, item.round, item.step, item.parent, item.copied,
      item.at, item.value }, 9))
  end
end

local function changed_text(changed)
  local words = {}
  for _, name in ipairs(fields.sorted(changed)) do
    local pair = changed[name]
    local function text(value) return value == json.null and "none" or runs.value_text(value) end
    words[#words + 1] = ("%s %s to %s"):format(name, text(pair[1]), text(pair[2]))
  end
  return table.concat(words, ", ")
end

function lineage.print(ctx, list)
  local newest, copies = {}, {}
  for _, item in ipairs(list) do
    newest[item.member] = item
    if item.copied then
      copies[#copies + 1] = { item.run, tostring(item.member), item.parent, tostring(item.at),
        changed_text(item.changed) }
    end
  end
  local rows = {}
  for i, member in ipairs(fields.sorted(newest)) do
    local item = newest[member]
    rows[i] = { tostring(member), item.run, tostring(item.step), item.status,
      item.value and format.value(item.value) or "" }
  end
  ctx.out("\n")
  tables.print(ctx, { { title = "member", align = "right" }, { title = "run" }, { title = "to step", align = "right" },
    { title = "status" }, { title = "value", align = "right" } }, rows)
  if #copies == 0 then return end
  ctx.out("\n")
  tables.print(ctx, { { title = "run" }, { title = "member", align = "right" }, { title = "is a copy of" },
    { title = "of step", align = "right" }, { title = "changed", flex = true, min = 12 } }, copies)
end

return lineage
