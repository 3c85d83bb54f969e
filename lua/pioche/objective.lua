-- objective.lua: a function of the recipe in place of a program.
--
-- Nothing is launched: the function is called in the sandbox with the parameters, and
-- what it gives is a run in the store. The runs of a sweep end one after another, in the
-- order in which they began; as many are under way as launch.parallel says, so that a
-- sampler sees the same as with programs. What happens within batch_ns is one transaction:
-- after a death a little is worked out again, and comes to the same.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local space = require "pioche.space"
local sys = require "pioche.core.sys"

local objective = {}
local check = errors.check
local batch_ns = 50000000      -- of a transaction; then an interrupt is looked for,
local gap_ms = 2               -- and the store is left to others for so long

local nan = 0 / 0

-- ---- what decides a run ---------------------------------------------------------------

-- Digest of all that a function is made of: its text, and that of the functions and the
-- values that it uses, however deep. What is of pioche itself has no text here.
local function digest_of(box, fn)
  local parts, seen = {}, {}
  local function put(value)
    local t = type(value)
    if t == "function" then
      if seen[value] or debug.getinfo(value, "S").what == "C" then return end
      seen[value] = true
      parts[#parts + 1] = space.function_digest(box, value)
      for i = 1, math.huge do
        local name, inner = debug.getupvalue(value, i)
        if not name then break end
        parts[#parts + 1] = name
        if name ~= "_ENV" then put(inner) end
      end
    elseif t == "table" then
      local meta = debug.getmetatable(value)
      if seen[value] or (meta and meta.__metatable == false) then return end
      seen[value] = true
      for _, key in ipairs(fields.sorted(value)) do
        parts[#parts + 1] = type(key) == "string" and key or fields.show(key)
        put(rawget(value, key))
      end
    else
      parts[#parts + 1] = t == "string" and ("%q"):format(value) or fields.show(value)
    end
  end
  put(fn)
  return sys.sha256(table.concat(parts, "\n"))
end

-- What is behind a recipe's pioche.objective(fn): a program without a command.
function objective.program(box, at, fn)
  return { objective = fn, digest = digest_of(box, fn), box = box, at = at,
    command = { "pioche.objective" } }
end

-- Nothing is launched, whatever the recipe or the project says of that.
function objective.settle(launch)
  launch.on, launch.pool, launch.nodes, launch.spares = "local", nil, 1, nil
end

-- ---- one run ----------------------------------------------------------------------------

-- A metric's values, one a step from 1 on; nil and what is wrong with them.
local function series_of(key, value)
  local list = type(value) == "table" and value or { value }
  for i = 1, math.max(1, rawlen(list)) do
    if type(rawget(list, i)) ~= "number" then
      return nil, ("%s: expected a number, or a list of them, one a step, got %s"):format(key,
        list == value and i > 1 and ("%s as item %d"):format(fields.show(rawget(list, i)), i)
        or fields.show(value))
    end
  end
  return list
end

-- What the function gave as { key = values }; nil and what is wrong with it.
local function metrics_of(job, value)
  if value == "oom" then
    job.result = "oom" -- as an attempt that is out of memory
    return nil, "out of memory"
  end
  if type(value) == "number" then
    local goals = aims.goals(job.spec)
    if #goals ~= 1 then
      return nil, #goals == 0 and "the function returned a number, and the sweep has no goal"
        or ("the function returned a number, and the sweep has %d goals: expected { [%s] = 0.3, ... }")
          :format(#goals, fields.show(goals[1].key))
    end
    value = { [job.goal_key] = value }
  end
  if type(value) ~= "table" or next(value) == nil then
    return nil, ("the function returned %s: expected a number, or a table of them, as { loss = 0.3 }")
      :format(type(value) == "table" and "an empty table" or fields.show(value))
  end
  local metrics = {}
  for _, key in ipairs(fields.sorted(value)) do
    if type(key) ~= "string" or key == "" then
      return nil, ("the function returned a table with the key %s: expected names of metrics")
        :format(fields.show(key))
    end
    local list, problem = series_of(key, rawget(value, key))
    if not list then return nil, problem end
    metrics[key] = list
  end
  return metrics
end

-- Call it, each time with the whole budget of instructions.
local function evaluate(job)
  local program, params = job.spec.program, {}
  for name, value in next, job.run.params do params[name] = value end
  params.seed = job.run.seed
  local box = program.box
  local left = box.left
  box.left = box.budget
  local number = math.tointeger(tonumber(job.name:match("(%d+)$")))
  local ok, value = box:try(program.objective, job.spec.space:view(params), number)
  box.left = left
  if not ok then return nil, value.message:match("[^\n]*") end
  return metrics_of(job, value)
end

-- Put points up to step `last` of what is not logged yet into the store.
local function log(session, job, metrics, after, last)
  for _, key in ipairs(fields.sorted(metrics)) do
    local part = table.move(metrics[key], after + 1, math.min(last, #metrics[key]), 1, {})
    if #part > 0 then check(session.store:log(job.id, key, after + 1, part)) end
  end
end

-- What its goal comes to up to a step that the run has come to, as judge.lua reads it of points.
local function goal_at(job, metrics)
  local list, goal = metrics[job.goal_key] or {}, job.spec.goal
  return function(rung, step)
    if #list == 0 or #list < rung and step <= rung then return nil end
    local best, sum, last = nan, 0.0, math.min(rung, #list)
    for i = 1, last do
      local value = list[i]
      local is_better = best ~= best or (goal.goal == "maximize" and value > best)
        or (goal.goal ~= "maximize" and value < best)
      if is_better and value == value then best = value end
      sum = sum + value
    end
    return { at_step = last, value = list[last] + 0.0, best = best + 0.0, mean = sum / last }
  end
end

-- Log its curve up to the rung where the rule stops it, else all of it.
local function walk(session, job, metrics, progressed)
  local length = 0
  local done = check(session.store:one("SELECT coalesce(max(last_step), 0) AS step FROM series"
    .. " WHERE run_id = ?", job.id)).step -- more than 0 where it was paused
  local first, at = done, job.spec.judge and goal_at(job, metrics)
  for _, list in next, metrics do length = math.max(length, #list) end
  repeat
    local rung = job.spec.judge and job.spec.judge:next_rung(job, done)
    done = rung and math.min(rung, length) or length
    if rung and done == rung then progressed(job, done, at) end
  until done == length or job.stopped_by or job.paused_by
  log(session, job, metrics, first, done)
  job.step = done
end

-- ---- the loop's part of it ----------------------------------------------------------------

local function begin(session)
  check(session.store:begin())
  session.batch_ns = sys.mono_ns()
end

-- Begin a run: it is under way until its turn comes.
function objective.start(session, job)
  if not session.batch_ns then begin(session) end
  job.place, job.attempt, job.status = "objective", 1, "running"
  session:runs(job)
  session.turns = session.turns or {}
  table.insert(session.turns, job)
  session.progress:started(job)
end

-- What happened so far is durable.
function objective.flush(session)
  if not session.batch_ns then return end
  session.batch_ns = nil
  check(session.store:commit())
end

local function finish(session, job, told)
  local metrics, problem = evaluate(job)
  check(session.store:run_set_status(job.id, "running"))
  if metrics then walk(session, job, metrics, told.progressed) end
  session:is_over(job)
  for _, goal in ipairs(aims.goals(job.spec)) do
    local list = metrics and metrics[goal.key]
    local last = list and list[math.min(job.step, #list)]
    if last ~= last and not job.stopped_by and not job.paused_by then problem = goal.key .. " is NaN" end
  end
  if problem then
    session:fail(job, problem)
  elseif job.paused_by then
    session:pause(job)
  elseif job.stopped_by then
    session:finish(job, "stopped", job.stopped_by)
    session.progress:say("%s stopped: %s", job.name, job.reason)
  else
    told.finished(session, job, job.step)
  end
end

-- End the run that began first. told: the driver's functions { progressed, finished }.
-- False where none is under way.
function objective.turn(session, told)
  local job = session.turns and table.remove(session.turns, 1)
  if not job then
    objective.flush(session)
    return false
  end
  finish(session, job, told)
  if sys.mono_ns() - session.batch_ns > batch_ns then
    objective.flush(session)
    session:poll(gap_ms)
    if #session.turns > 0 then begin(session) end
  end
  return true
end

return objective
