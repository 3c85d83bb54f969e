-- sweep/list.lua: pioche sweep ls, show: which sweeps there are, and how one went.
local aims = require "pioche.aims"
local audit = require "pioche.sweep.audit"
local course = require "pioche.sweep.course"
local csv = require "pioche.csv"
local fields = require "pioche.fields"
local find = require "pioche.sweep.find"
local format = require "pioche.format"
local history = require "pioche.sweep.history"
local json = require "pioche.core.json"
local law = require "pioche.sweep.law"
local lineage = require "pioche.sweep.lineage"
local outcomes = require "pioche.sweep.outcomes"
local runs = require "pioche.runs"
local standing = require "pioche.sweep.standing"
local surgery = require "pioche.sweep.surgery"
local sys = require "pioche.core.sys"
local tables = require "pioche.table"
local term = require "pioche.term"
local warm = require "pioche.sweep.warm"

local list = {}
local front_shown = 8
local course_shown = 5

local function or_null(value)
  if value == nil then return json.null end
  return value
end

-- A line, whatever names are in it.
local function line(ctx, pattern, ...)
  ctx.out(term.clean(pattern:format(...)) .. "\n")
end

-- Names of the points of the front of several goals; null of one goal.
local function front_names(store, sweep)
  if not sweep.spec.goals then return json.null end
  local names = json.array {}
  for i, point in ipairs(outcomes.of(store, sweep):front()) do names[i] = point.name end
  return names
end

-- What is best, in a word.
local function best_text(store, sweep)
  if sweep.spec.goals then
    return ("%d on the front"):format(#front_names(store, sweep))
  end
  local best = find.best(store, sweep)
  return best and best.name or ""
end

local function to_json(store, sweep)
  local made, wanted, enqueued = find.points(store, sweep)
  local by_status, best = {}, find.best(store, sweep)
  for _, item in ipairs(find.counts(store, sweep)) do by_status[item.status] = item.n end
  local spec = sweep.spec
  return { experiment = sweep.experiment, id = sweep.ulid, state = sweep.state, recipe = sweep.recipe_path,
    search = spec.search, stop = spec.stop, goal = or_null(spec.goal), goals = or_null(spec.goals),
    constraints = spec.constraints and #spec.constraints or 0, front = front_names(store, sweep),
    seeds = or_null(spec.seeds),
    points = made, points_wanted = or_null(wanted), enqueued = enqueued, runs = by_status,
    best = best and { id = best.name, value = best.value, mean = best.mean, seeds = best.seeds } or json.null,
    created = runs.time(sweep.created_ns), ended = or_null(runs.time(sweep.ended_ns)) }
end

local function status_words(counts)
  local words = {}
  for i, item in ipairs(counts) do words[i] = ("%d %s"):format(item.n, item.status) end
  return table.concat(words, ", ")
end

local function points_text(made, wanted, enqueued)
  return made .. (wanted and wanted > made and " of " .. wanted or "")
    .. (enqueued > 0 and (", %d enqueued"):format(enqueued) or "")
end

function list.ls(ctx)
  local store = ctx.reading()
  local sweeps = find.all(store)
  if ctx.json then
    local values = json.array {}
    for i, sweep in ipairs(sweeps) do values[i] = to_json(store, sweep) end
    return ctx.out(ctx.encode(values) .. "\n")
  end
  if ctx.csv then
    ctx.out(csv.line { "experiment", "id", "state", "search", "stop", "points", "enqueued", "runs", "best",
      "created" })
  elseif #sweeps == 0 then
    return ctx.note("no sweep has run here yet\n")
  end
  local rows, now_ns = {}, sys.now_ns()
  for i, sweep in ipairs(sweeps) do
    local made, wanted, enqueued = find.points(store, sweep)
    local counts, total = find.counts(store, sweep)
    local spec = sweep.spec
    if ctx.csv then
      local best = find.best(store, sweep)
      ctx.out(csv.line({ sweep.experiment, sweep.ulid, sweep.state, spec.search.name, spec.stop.name, made,
        enqueued, total, best and best.name, runs.time(sweep.created_ns) }, 10))
    end
    rows[i] = { sweep.experiment, sweep.state, spec.search.name, spec.stop.name,
      points_text(made, wanted, enqueued), status_words(counts), best_text(store, sweep),
      format.age(now_ns - sweep.created_ns) }
  end
  if ctx.csv then return end
  tables.print(ctx, { { title = "sweep" }, { title = "state" }, { title = "search" },
    { title = "stop", drop = 1 }, { title = "points" }, { title = "runs", flex = true, min = 12 },
    { title = "best", drop = 1 }, { title = "age", align = "right", drop = 2 } }, rows)
end

local function print_rungs(ctx, rungs)
  local rows = {}
  for i, rung in ipairs(rungs) do
    rows[i] = { tostring(rung.step), tostring(rung.came), tostring(rung.go), tostring(rung.promoted),
      tostring(rung.paused), tostring(rung.stop),
      rung.best and format.value(rung.best) or "", rung.bound and format.value(rung.bound) or "" }
  end
  ctx.out("\n")
  tables.print(ctx, { { title = "rung", align = "right" }, { title = "came", align = "right" },
    { title = "went on", align = "right" }, { title = "promoted", align = "right", drop = 2 },
    { title = "paused", align = "right", drop = 2 }, { title = "stopped", align = "right" },
    { title = "best", align = "right" }, { title = "worst that went on", align = "right" } }, rows)
end

-- The points of a front, the first few.
local function print_front(ctx, store, sweep)
  local goals = aims.goals(sweep.spec)
  local front = outcomes.of(store, sweep):front()
  for i = 1, math.min(#front, front_shown) do
    local words = {}
    for g, goal in ipairs(goals) do words[g] = goal.key .. " " .. format.value(front[i].values[g]) end
    line(ctx, "%s%s: %s", i == 1 and "front    " or "         ", front[i].name, table.concat(words, ", "))
  end
  if #front > front_shown then
    line(ctx, "         and %d more: pioche sweep front %s", #front - front_shown, sweep.experiment)
  end
end

-- How many points violate constraints.
local function print_constraints(ctx, store, sweep)
  if not sweep.spec.constraints then return end
  local all = outcomes.of(store, sweep)
  local count = #sweep.spec.constraints
  ctx.out(("meet     %d of %d points meet the constraint%s\n"):format(all:feasible_count(), all.count,
    count == 1 and "" or "s"))
end

local function print_best(ctx, store, sweep)
  if sweep.spec.goals then return print_front(ctx, store, sweep) end
  local best = find.best(store, sweep)
  if not best then return end
  local words, params = {}, find.params(store, best.id)
  for _, name in ipairs(fields.sorted(params)) do
    words[#words + 1] = name .. "=" .. runs.value_text(params[name])
  end
  local mean = best.mean and (", by %d seeds %s"):format(best.seeds, format.value(best.mean)) or ""
  line(ctx, "best     %s: %s %s%s (%s)", best.name, sweep.spec.goal.key, format.value(best.value), mean,
    table.concat(words, " "))
end

-- A change in words.
local function change_text(change)
  local detail = change.detail
  local text = change.kind == "runs" and ("%d points instead"):format(detail.runs)
    or change.kind == "workers" and ("%d at a time"):format(detail.workers)
    or change.kind == "freeze" and surgery.values_text(detail.values)
    or change.kind == "thaw" and table.concat(detail.names, ", ")
    or change.kind == "warm" and warm.text(detail) or detail.run
  return change.kind, text .. (change.reason and ": " .. change.reason or ""), change.proposed
end

local function print_changes(ctx, changes)
  if #changes == 0 then return end
  local rows, now_ns = {}, sys.now_ns()
  for i, change in ipairs(changes) do
    local kind, text, proposed = change_text(change)
    rows[i] = { kind, text, tostring(proposed), format.age(now_ns - change.time_ns) }
  end
  ctx.out("\n")
  tables.print(ctx, { { title = "change" }, { title = "what", flex = true, min = 12 },
    { title = "after points", align = "right" }, { title = "age", align = "right", drop = 1 } }, rows)
end

-- "loss 0.5 after 3, 0.31 after 12": of one goal its last records, of several goals some of
-- its course, evenly spread.
local function course_text(sweep, so_far)
  local words, count = {}, math.min(course_shown, #so_far)
  for k = 1, count do
    local item = so_far[sweep.spec.goals and #so_far * k // count or #so_far - count + k]
    words[k] = ("%s after %d"):format(item.part and ("%.0f %%"):format(100 * item.part)
      or format.value(item.value), item.points)
  end
  return (sweep.spec.goals and "of the volume " or sweep.spec.goal.key .. " ") .. table.concat(words, ", ")
end

local function left_text(sweep, left)
  local text
  if left.gain then
    text = ("the next point is expected to improve it by %s, %.2g %% of what the best is below the median")
      :format(format.value(left.gain), 100 * left.part)
  else
    text = ("the last quarter of the points added %.2g %% of the volume"):format(100 * left.part)
  end
  return text .. (left.is_little and sweep.state == "active" and "; little is left: it might be stopped"
    or left.is_little and "; little is left: more points are hardly worth it" or "")
end

local function print_course(ctx, store, sweep)
  local points = outcomes.of(store, sweep)
  local so_far = course.so_far(sweep, points)
  if #so_far == 0 then return end
  line(ctx, "course   %s", course_text(sweep, so_far))
  local left = course.left(store, sweep, points)
  if left then line(ctx, "left     %s", left_text(sweep, left)) end
end

local function print_sweep(ctx, store, sweep, rungs, members)
  local made, wanted, enqueued = find.points(store, sweep)
  local spec = sweep.spec
  line(ctx, "%s: %s, made by %s (%s)", sweep.experiment, sweep.state, sweep.recipe_path, sweep.ulid)
  line(ctx, "search   %s", find.text(spec.search))
  if spec.stop.name ~= "none" then line(ctx, "stop     %s", find.text(spec.stop)) end
  if spec.goal then line(ctx, "goal%s    %s", spec.goals and "s" or " ", aims.text(spec)) end
  line(ctx, "points   %s", points_text(made, wanted, enqueued))
  line(ctx, "runs     %s", status_words(find.counts(store, sweep)))
  print_constraints(ctx, store, sweep)
  print_best(ctx, store, sweep)
  if #members == 0 then print_course(ctx, store, sweep) end
  print_changes(ctx, history.changes(store, sweep.id, 0))
  local raced, found = standing.of(store, sweep), law.of(store, sweep)
  if raced then standing.print(ctx, raced) end
  if found then law.print(ctx, found) end
  if #members > 0 then lineage.print(ctx, members) end
  if #rungs == 0 then return end
  local taken, whole = find.steps(store, sweep)
  if taken and whole > 0 then
    ctx.out(("steps    %d, which is %.0f %% of those without a rule\n"):format(taken, 100 * taken / whole))
  end
  local audited = audit.of(store, sweep)
  if audited then ctx.out("audit    " .. audit.text(audited) .. "\n") end
  print_rungs(ctx, rungs)
end

function list.show(ctx, words)
  local store = ctx.reading()
  local sweep = find.one(store, words[1])
  local rungs, members = find.rungs(store, sweep), lineage.of(store, sweep)
  if ctx.csv and #members > 0 then
    return lineage.csv(ctx, members)
  elseif ctx.csv then
    ctx.out(csv.line { "rung", "came", "go", "promoted", "paused", "stop", "best", "bound" })
    for _, rung in ipairs(rungs) do
      ctx.out(csv.line({ rung.step, rung.came, rung.go, rung.promoted, rung.paused, rung.stop, rung.best,
        rung.bound }, 8))
    end
    return
  end
  if not ctx.json then return print_sweep(ctx, store, sweep, rungs, members) end
  local value = to_json(store, sweep)
  value.steps, value.steps_whole = find.steps(store, sweep)
  local points = outcomes.of(store, sweep)
  value.course = json.array(course.so_far(sweep, points))
  value.left = or_null(course.left(store, sweep, points))
  value.audit = or_null(audit.of(store, sweep))
  local raced, found = standing.of(store, sweep), law.of(store, sweep)
  value.race, value.law = raced and standing.json(raced) or json.null, found and law.json(found) or json.null
  value.members = #members > 0 and lineage.to_json(members) or nil
  value.rungs, value.changes = json.array {}, json.array {}
  for i, change in ipairs(history.changes(store, sweep.id, 0)) do
    value.changes[i] = { kind = change.kind, proposed = change.proposed, seen = change.seen,
      detail = change.detail, reason = or_null(change.reason), time = runs.time(change.time_ns) }
  end
  for i, rung in ipairs(rungs) do
    value.rungs[i] = { step = rung.step, came = rung.came, go = rung.go, promoted = rung.promoted,
      paused = rung.paused, stop = rung.stop, best = or_null(rung.best), bound = or_null(rung.bound) }
  end
  ctx.out(ctx.encode(value) .. "\n")
end

return list
