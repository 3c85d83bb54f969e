-- sweep/standing.lua: how a race stands: who is the best, how surely, and who may be instead.
local json = require "pioche.core.json"
local fields = require "pioche.fields"
local format = require "pioche.format"
local history = require "pioche.sweep.history"
local race = require "pioche.race"
local repeats = require "pioche.sweep.repeats"
local tables = require "pioche.table"

local standing = {}

local shown_max = 8
local negligible = 0.01

-- { points = { { number, params, n, mean, chance, runs = { names } } }, the best first, without runs
-- that are set aside; noise, sure (is the first one the best as surely as the recipe wants it),
-- repeats }; nil where the sweep is no race, or nothing has ended.
function standing.of(store, sweep)
  local options, goal = sweep.spec.race, sweep.spec.goal
  if not options then return nil end
  local rows, names, asked = repeats.rows(store, sweep.id), {}, 0
  local aside = repeats.aside(history.changes(store, sweep.id, 0), math.huge)
  for _, row in ipairs(rows) do
    names[row.number] = names[row.number] or {}
    if not aside[row.ulid] then table.insert(names[row.number], row.name) end
    asked = math.max(asked, row.asked or 0)
  end
  local found = race.standing(repeats.board(rows, goal, aside))
  if not found then return nil end
  local sign = goal.goal == "maximize" and -1 or 1
  local result = { points = {}, noise = found.noise, repeats = asked }
  for i, item in ipairs(found.points) do
    result.points[i] = { number = item.point.number, params = json.decode(item.point.params), n = item.n,
      mean = sign * item.mean, chance = item.chance, runs = names[item.point.number] }
  end
  local first = result.points[1]
  result.sure = first.chance ~= nil and first.chance >= options.sure
  return result
end

function standing.json(found)
  local list = json.array {}
  for i, item in ipairs(found.points) do
    list[i] = { number = item.number, params = item.params, n = item.n, mean = item.mean,
      chance = item.chance or json.null, runs = json.array(item.runs) }
  end
  return { points = list, noise = found.noise or json.null, sure = found.sure, repeats = found.repeats }
end

-- Who leads by the mean, and whether that says anything, in one line.
function standing.verdict(found)
  local first = found.points[1]
  local name = ("%s (%d seed%s)"):format(first.runs[1], first.n, first.n == 1 and "" or "s")
  if not first.chance then
    return name .. " leads; no point has two values, so nothing is known of the noise"
  elseif found.sure then
    return ("%s is the best by its mean, with probability %.2f"):format(name, first.chance)
  end
  local others = {}
  for i = 2, #found.points do
    if found.points[i].chance >= negligible then others[#others + 1] = found.points[i].runs[1] end
  end
  local more = #others > 5 and (" or %d more"):format(#others - 5) or ""
  return ("not distinguishable: %s is the best with probability %.2f; it may as well be %s%s"):format(name,
    first.chance, table.concat(others, ", ", 1, math.min(5, #others)), more)
end

-- Names of parameters that differ between points.
local function varying(points)
  local names, list = {}, {}
  for _, item in ipairs(points) do
    for name, value in next, item.params do
      if points[1].params[name] ~= value then names[name] = true end
    end
    for name in next, points[1].params do
      if item.params[name] == nil then names[name] = true end
    end
  end
  for i, name in ipairs(fields.sorted(names)) do list[i] = name end
  return list
end

local function point_text(params, names)
  local words = {}
  for _, name in ipairs(names) do
    if params[name] ~= nil then
      words[#words + 1] = name .. "=" .. (type(params[name]) == "number" and format.number(params[name])
        or tostring(params[name]))
    end
  end
  return table.concat(words, " ")
end

function standing.print(ctx, found)
  ctx.out(("race     %s\n         %d repeats%s\n\n"):format(standing.verdict(found), found.repeats,
    found.noise and (", noise of a seed %.3g"):format(found.noise) or ""))
  local rows, names = {}, varying(found.points)
  for i = 1, math.min(shown_max, #found.points) do
    local item = found.points[i]
    rows[i] = { item.runs[1], tostring(item.n), format.value(item.mean),
      item.chance and ("%.3f"):format(item.chance) or "", point_text(item.params, names) }
  end
  tables.print(ctx, { { title = "first run" }, { title = "seeds", align = "right" },
    { title = "mean", align = "right" }, { title = "best with", align = "right" },
    { title = "point", flex = true, min = 12 } }, rows)
end

return standing
