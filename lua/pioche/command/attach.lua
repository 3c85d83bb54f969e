-- attach: what a supervisor does with a run, as it does it. It only reads: to leave
-- is to change nothing.
local errors = require "pioche.errors"
local progress = require "pioche.progress"
local runs = require "pioche.runs"
local supervise = require "pioche.supervise"
local sys = require "pioche.core.sys"

local look_ms = 250
local line_ns = 10000000000   -- between two lines of progress, where there is no terminal
local gone_ns = 15000000000   -- without a supervisor, before it is given up

local over = { finished = 0, stopped = 0, failed = 1, cancelled = 1 }

local function step_of(store, run_id)
  return store:one("SELECT max(last_step) AS step FROM series WHERE run_id = ?", run_id).step
end

local function value_of(store, run)
  if not run.goal_key then return nil end
  local row = store:one("SELECT last AS value FROM series WHERE run_id = ? AND key = ?"
    .. " ORDER BY rank LIMIT 1", run.id, run.goal_key)
  return row and row.value
end

-- Say which attempts began and ended since.
local function tell_attempts(store, run, seen, say)
  for _, attempt in ipairs(store:rows("SELECT * FROM attempt WHERE run_id = ? ORDER BY number",
    run.id)) do
    local known = seen[attempt.number]
    if not known then
      say("%s attempt %d started%s", run.name, attempt.number,
        attempt.resume_checkpoint and " from checkpoint " .. attempt.resume_checkpoint:sub(1, 12) or "")
    end
    if known ~= "ended" and attempt.state == "ended" then
      say("%s attempt %d ended: %s%s", run.name, attempt.number, attempt.result,
        attempt.message and ": " .. attempt.message or "")
    end
    seen[attempt.number] = attempt.state
  end
end

local function tell_events(store, run, last, say)
  for row in store:each("SELECT id, kind, message FROM event WHERE run_id = ? AND id > ?"
    .. " AND kind != 'text' ORDER BY id", run.id, last) do
    last = row.id
    say("%s %s: %s", run.name, row.kind, row.message)
  end
  return last
end

local function tell_progress(line, job, said)
  line:draw()
  if line.tty or not job.step or job.step == said.step or sys.mono_ns() - said.ns < line_ns then return end
  said.step, said.ns = job.step, sys.mono_ns()
  line:say("%s at step %d%s%s", job.name, job.step, job.steps and " of " .. job.steps or "",
    job.value and (": %s %.6g"):format(job.goal_key, job.value) or "")
end

-- A run's row, fresh.
local function state_of(store, id)
  return store:one("SELECT status, reason FROM run WHERE id = ?", id)
end

local function unsupervised(run, status)
  errors.raise("not_found", "%s is %s, and nobody supervises the store: `pioche supervise --detach`"
    .. " goes on with it", run.name, status)
end

-- What is known before the first look is not told again.
local function begin(store, run)
  local seen, steps = {}, math.tointeger(tonumber(run.params.steps))
  for _, attempt in ipairs(store:rows("SELECT number, state FROM attempt WHERE run_id = ?", run.id)) do
    seen[attempt.number] = attempt.state
  end
  local last = store:one("SELECT coalesce(max(id), 0) AS id FROM event WHERE run_id = ?", run.id).id
  local job = { name = run.name, goal_key = run.goal_key, steps = steps }
  return seen, last, job
end

local function follow(store, run)
  local line = progress.new(1, 0, 1)
  local seen, last, job = begin(store, run)
  local said, heard_ns = { ns = sys.mono_ns() }, sys.mono_ns()
  local function say(...) line:say(...) end
  job.started_ns = sys.mono_ns()
  line.running[1] = job
  while true do
    local now = state_of(store, run.id) -- first: what it did before its end is told below
    tell_attempts(store, run, seen, say)
    last = tell_events(store, run, last, say)
    if over[now.status] then
      line:finish()
      local value = value_of(store, run)
      say("%s %s%s", run.name, now.status, now.reason and ": " .. now.reason
        or value and (": %s %.6g"):format(run.goal_key, value) or "")
      return over[now.status]
    end
    job.step, job.value = step_of(store, run.id), value_of(store, run)
    job.first_step = job.first_step or job.step
    tell_progress(line, job, said)
    if supervise.holder(store) then
      heard_ns = sys.mono_ns()
    elseif sys.mono_ns() - heard_ns > gone_ns then
      line:finish()
      unsupervised(run, now.status)
    end
    sys.sleep_ms(look_ms)
  end
end

local function attach(ctx)
  local store = ctx.checked("read")
  local run = runs.load(store, { runs.find(store, ctx.args[1]) }, { params = true })[1]
  if not over[run.status] then
    local holder = supervise.holder(store)
    if not holder then unsupervised(run, run.status) end
    ctx.note(("%s is %s, supervised by %s; Ctrl-C leaves it alone\n"):format(run.name, run.status,
      holder.holder))
  end
  return follow(store, run)
end

return {
  summary = "follow what the supervisor does with a run",
  usage = "attach RUN",
  help = [[
Shows the run's attempts, events and progress as they come, until the run ends: a
line that is redrawn on a terminal, else a line every ten seconds. It reads the
store and holds nothing: Ctrl-C detaches, and stops nothing. The exit status is 0
when the run finished or was stopped by its rule, 1 when it failed or was
cancelled.

`pioche logs RUN --follow` shows what the ranks write.]],
  options = {},
  examples = "pioche attach gpt-17\npioche attach gpt/last",
  args = { 1, 1, what = "one RUN" },
  run = attach,
}
