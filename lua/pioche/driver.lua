-- driver.lua: the policy of running: which run next, what a failure means, when
-- a checkpoint may go, what Ctrl-C does.
--
-- A session holds the store's lease and its supervisor. Everything that it
-- decides is committed to the store before it is done, so the next session
-- goes on where this one was ended, however it was.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local git = require "pioche.core.git"
local json = require "pioche.core.json"
local launch = require "pioche.core.launch"
local plan = require "pioche.plan"
local progress = require "pioche.progress"
local recipe = require "pioche.recipe"
local sys = require "pioche.core.sys"
local term = require "pioche.term"

local driver = {}
local session_methods = {}
session_methods.__index = session_methods

local check = errors.check
local copy_bytes_max = 10000000000 -- of code copies, before one checkout is shared

-- ---- opening -----------------------------------------------------------------------

-- Runs whose last attempt ended, but whose session did not live to say so.
local function settle_interrupted(store)
  for _, row in ipairs(check(store:rows [[
    SELECT r.id AS id, a.result AS result FROM run r
      LEFT JOIN attempt a ON a.run_id = r.id
       AND a.number = (SELECT max(number) FROM attempt WHERE run_id = r.id)
     WHERE r.status = 'running' AND r.identity IS NOT NULL
       AND (a.id IS NULL OR a.state = 'ended')]])) do
    check(store:run_set_status(row.id, row.result == "ok" and "finished" or "planned", nil))
  end
end

-- Open a session for a loaded recipe. options: again, quiet.
function driver.open(ctx, self, options)
  local fallback = (self.git and self.root or sys.cwd()) .. "/.pioche"
  local store = ctx.store("create", fallback)
  local look = check(store:lease_look())
  if look.state == "far" then
    ctx.note(("the store is held from another machine (%s): watching for up to %.0f s whether it"
      .. " lives\n"):format(look.holder, look.silent_ms / 1000))
  end
  check(store:lease())
  local session = setmetatable({ ctx = ctx, recipe = self, store = store, again = options.again,
    prepared = {}, interrupts = 0, bad = {}, total = 0, ids = {} }, session_methods)
  local lib_dir = check(sys.lib_dir())
  session.supervisor = check(launch.supervisor(store,
    { executable = sys.executable(), lib_dir = lib_dir }))
  check(session.supervisor:recover())
  check(store:recover())
  settle_interrupted(store)
  return session
end

function session_methods:close()
  if self.supervisor then self.supervisor:close() end
  self.supervisor = nil
  self.store:lease_drop()
end

local function note(self, text, ...)
  if self.progress then
    self.progress:say(text, ...)
  else
    self.ctx.note(text:format(...) .. "\n")
  end
end

-- ---- code ----------------------------------------------------------------------------

-- The snapshot of the work tree: one for the whole session, so that all its
-- runs have the same code, whatever is edited meanwhile.
local function snapshot(self)
  if not self.snapshot then
    local taken = check(git.snapshot(self.recipe.root, self.store:path()))
    taken.id = check(self.store:snapshot_add(taken))
    self.snapshot = taken
  end
  return self.snapshot
end

-- What identities need of a program: { code, inputs }.
local function prepare(self, program)
  local known = self.prepared[program]
  if known then return known end
  local inputs = plan.check(self.recipe, program, self.store)
  local taken = snapshot(self)
  local code, message, code_word = git.subtree(taken.repository, taken.commit,
    program.sources or {})
  if not code then
    if code_word ~= "not_found" then errors.raise(code_word, "%s", message) end
    program.box:blame(program.at, "sources", "%s; is it ignored by git?", message)
  end
  known = { code = code, inputs = inputs }
  self.prepared[program] = known
  return known
end

local function last_lines(path, count)
  local text = sys.read_file(path) or ""
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return table.concat(lines, "\n", math.max(1, #lines - count + 1))
end

local function build(program, dir, log, interrupted)
  sys.write_file(log, "")
  local argv = program.build
  if program.setup then
    argv = { "sh", "-c", program.setup .. '\nexec "$@"', "sh", table.unpack(program.build) }
  end
  -- The flags of a make that started pioche are not the build's.
  local env = { MAKEFLAGS = "", MFLAGS = "" }
  for name, value in pairs(program.env or {}) do env[name] = value end
  local result, message, code = sys.run { argv = argv, cwd = dir, env = env, log = log,
    poll = interrupted }
  if not result then errors.raise(code, "build: %s", message) end
  if result.cancelled then errors.raise("cancelled", "interrupted: the build was stopped") end
  if result.status ~= 0 then
    program.box:blame(program.at, "build", "`%s` ended with %s; the last lines of %s:\n%s",
      table.concat(program.build, " "),
      result.signal and sys.signal_name(result.signal) or "exit status " .. result.status, log,
      last_lines(log, 20))
  end
end

-- The program must be in the code that runs, not only in the work tree.
local function check_command(program, dir)
  local name = program.command[1]
  if program.wrap or not name:find("/", 1, true) or name:sub(1, 1) == "/" then return end
  local path = dir .. "/" .. name
  if sys.type(path) == "file" and sys.access_x(path) then return end
  local what = sys.type(path) == nil and "is not" or "is not executable"
  program.box:blame(program.at, "command", program.build
    and "%s %s in the code after `build`: it must make it there"
    or "%s %s in the snapshot of the code: if git ignores it, let `build` make it",
    fields.show(name), what)
end

-- The folder with the program's code, checked out and built once a tree:
-- cache/<key>, made as cache/<key>.build and renamed when it is whole.
local function code_dir(self, program)
  local known = prepare(self, program)
  if known.dir then return known.dir end
  local taken = snapshot(self)
  local key = check(sys.sha256(check(json.encode { tree = taken.tree, v = 1,
    build = program.build or json.null, setup = program.build and program.setup or json.null,
    env = program.build and program.env or json.null }))):sub(1, 24)
  local cache = self.store:path() .. "/cache"
  local dir, making = cache .. "/" .. key, cache .. "/" .. key .. ".build"
  if sys.type(dir) ~= "dir" then
    check(sys.mkdirs(cache))
    check(sys.remove_tree(making))
    check(git.checkout(taken.repository, taken.commit, making))
    if program.build then
      note(self, "building: %s", table.concat(program.build, " "))
      build(program, making, dir .. ".log", function()
        self:poll(0)
        return self.interrupts > 0
      end)
    end
    check(sys.publish(making, dir))
  end
  check_command(program, dir)
  known.dir = dir
  return dir
end

-- ---- runs --------------------------------------------------------------------------------

-- What tells a run from the others of its sweep.
local function label(run, varying)
  local words = {}
  for _, name in ipairs(fields.sorted(run.params)) do
    local value = run.params[name]
    if varying[name] then
      words[#words + 1] = name .. "=" .. (type(value) == "number" and ("%.4g"):format(value)
        or term.clean(tostring(value)))
    end
  end
  if run.seed then words[#words + 1] = "seed=" .. run.seed end
  return table.concat(words, " ")
end

-- The run row of an identity: the newest generation, or a new run.
local function run_row(self, spec, run, program)
  local store = self.store
  local known = plan.find(store, run.identity)
  if known and not (self.again and not self.bad[run.identity]) then return known end
  local id = check(store:run_create {
    experiment_id = spec.experiment_id, identity = run.identity, sweep_id = spec.sweep_id,
    snapshot_id = snapshot(self).id, from_checkpoint = spec.from and spec.from.manifest,
    program = check(json.encode(recipe.program_record(program))),
    launch = check(json.encode(spec.launch)), seed = run.seed,
  })
  for _, name in ipairs(fields.sorted(run.params)) do
    check(store:param_set(id, name, run.params[name]))
  end
  self.bad[run.identity] = true -- with --again: one new generation a session
  return plan.find(store, run.identity)
end

-- Make or find the run and its job. spec: { experiment_id, sweep_id, program,
-- launch, retry, keep, goal, from, rule, varying }.
function session_methods:job(spec, run)
  local row = run_row(self, spec, run, spec.program)
  self.ids[#self.ids + 1] = row.id
  return { id = row.id, name = row.name, status = row.status, stop_ns = row.stop_ns, run = run, spec = spec,
    label = label(run, spec.varying), attempt = 0, ready_ns = 0, goal_key = spec.goal and spec.goal.key,
    steps = math.tointeger(tonumber(run.params.steps)) }
end

local function is_done(job)
  return job.status == "finished" or job.status == "stopped"
end

local function newest_value(self, job)
  if not job.goal_key then return nil end
  local row = check(self.store:one(
    "SELECT last AS value FROM series WHERE run_id = ? AND key = ? ORDER BY rank LIMIT 1",
    job.id, job.goal_key))
  return row and row.value
end

local function retain(self, job)
  local keep, goal = job.spec.keep, job.spec.goal
  check(self.store:checkpoint_retain(job.id, keep.last, keep.best, goal and goal.key,
    goal and goal.goal))
end

local function finish(self, job, status, reason)
  job.status, job.reason = status, reason
  check(self.store:run_set_status(job.id, status, reason))
  self.progress:ended(job)
  if status == "finished" or status == "stopped" then
    self.progress.done = self.progress.done + 1
  elseif status == "failed" then
    self.progress.failed = self.progress.failed + 1
  end
end

-- ---- one attempt ------------------------------------------------------------------------------

-- Did a person ask for this run's end meanwhile?
local function is_unwanted(self, job)
  local row = check(self.store:one("SELECT stop_requested_ns AS ns FROM run WHERE id = ?", job.id))
  return row and row.ns and row.ns ~= job.stop_ns
end

local function cancel(self, job)
  finish(self, job, "cancelled", "stopped by a person")
  self.progress:say("%s cancelled: %s", job.name, job.reason)
end

local function start(self, job)
  local spec, program = job.spec, job.spec.program
  local resume = check(self.store:checkpoint_newest(job.id)) or spec.from and spec.from.id
  local directory = code_dir(self, program)
  self:poll(0)
  if self.interrupts > 0 then
    table.insert(self.queue, 1, job)
    return
  end
  if is_unwanted(self, job) then return cancel(self, job) end
  job.attempt, job.stop_ns = job.attempt + 1, nil -- a new attempt is asked for nothing yet
  local attempt, message, code = self.supervisor:start(job.id, {
    command = json.array(job.run.words), env = program.env or {}, setup = program.setup,
    wrap = program.wrap and json.array(table.move(program.wrap, 1, #program.wrap, 1, {})),
    code = directory, share_code = self.share_code or spec.launch.share_code or nil,
    keep_code = spec.keep.code or nil, nodes = spec.launch.nodes,
    ranks_per_node = spec.launch.ranks_per_node, timeout_s = spec.launch.timeout_s,
    grace_s = spec.launch.grace_s, hang_s = spec.launch.hang_s, resume = resume,
    mpi_env = spec.launch.mpi_env or nil, max_restarts = spec.retry.attempts - 1,
  })
  if attempt then
    job.status, job.step, job.first_step = "running", nil, nil
    self.active[job.id] = job
    self.progress:started(job)
  elseif code == "invalid" or code == "not_found" then
    finish(self, job, "failed", message)
    self.progress:say("%s failed: %s", job.name, message)
  else
    errors.raise(code, "%s: %s", job.name, message)
  end
end

local function ended_well(self, job)
  finish(self, job, "finished", nil)
  local value = newest_value(self, job)
  if not self.progress.tty then
    self.progress:say("%s finished%s (%d of %d)", job.name,
      value and (": %s %.6g"):format(job.goal_key, value) or "", self.progress.done,
      self.progress.total)
  end
end

local function on_ended(self, event)
  local job = self.active[event.run]
  if not job then return end
  self.active[event.run] = nil
  local message = event.message ~= json.null and event.message or event.result
  retain(self, job)
  if event.result == "ok" then
    return ended_well(self, job)
  elseif event.result == "cancelled" then
    local status = job.stopped_by and "stopped" or "cancelled"
    finish(self, job, status, job.stopped_by or job.asked or "interrupted")
    return self.progress:say("%s %s: %s", job.name, status, job.reason)
  end
  local retry = job.spec.retry
  if job.attempt < retry.attempts and self.interrupts == 0 then
    local wait_s = math.min(300, retry.backoff_s * 2 ^ (job.attempt - 1))
    job.ready_ns = sys.mono_ns() + math.floor(wait_s * 1e9)
    job.status = "planned"
    check(self.store:run_set_status(job.id, "planned", message))
    self.progress:ended(job)
    table.insert(self.queue, 1, job)
    return self.progress:say("%s: %s; attempt %d of %d in %.3g s", job.name, message,
      job.attempt + 1, retry.attempts, wait_s)
  end
  finish(self, job, "failed", message)
  self.progress:say("%s failed: %s", job.name, message)
end

local function on_progress(self, event)
  local job = self.active[event.run]
  if not job then return end
  if event.step ~= json.null then
    job.step = event.step
    job.first_step = job.first_step or event.step
  end
  job.value = newest_value(self, job)
  local now = sys.mono_ns()
  if now - (job.retained_ns or 0) > 5000000000 then
    job.retained_ns = now
    retain(self, job)
  end
  local rule = job.spec.rule
  local rung = rule and job.step and rule:next_rung(job.rung or 0)
  if rung and job.step >= rung and job.value then
    job.rung = rung
    if rule:decide(job.run, rung, job.value) == "stop" and not job.stopped_by then
      job.stopped_by = ("stopped at step %d by the rule %s"):format(job.step, rule.name or "")
      check(self.supervisor:stop(job.id, false))
    end
  end
end

local function on_event(self, event)
  if event.event == "ended" then
    on_ended(self, event)
  elseif event.event == "progress" then
    on_progress(self, event)
  elseif event.event == "stop" then
    local job = self.active[event.run]
    if job and not job.asked then
      job.asked = "stopped by a person"
      check(self.supervisor:stop(event.run, false))
    end
  elseif event.event == "interrupt" then
    self.interrupts = math.max(self.interrupts + 1, event.count or 1)
    self.progress:say(self.interrupts == 1
      and "interrupted: stopping the runs; once more to stop them now" or "stopping now")
    check(self.supervisor:stop(0, self.interrupts > 1))
  end
end

-- Hear what happened, waiting at most `ms`.
function session_methods:poll(ms)
  for _, event in ipairs(check(self.supervisor:wait(ms))) do on_event(self, event) end
end

-- ---- the loop -----------------------------------------------------------------------------------

local function next_ready(queue, now)
  for i, job in ipairs(queue) do
    if job.ready_ns <= now then return table.remove(queue, i) end
  end
end

local function wait_ms(self, now)
  local wait = self.progress.tty and 200 or 1000
  for _, job in ipairs(self.queue) do
    if job.ready_ns > now then
      wait = math.min(wait, math.max(1, (job.ready_ns - now) // 1000000 + 1))
    end
  end
  return wait
end

-- Run these jobs, `parallel` at a time; those that are done already are left
-- alone. `more()` gives a further job, or nil, when one could start.
function session_methods:execute(jobs, parallel, total, more)
  local done = 0
  self.queue, self.active = {}, {}
  for _, job in ipairs(jobs) do
    if is_done(job) then done = done + 1 else self.queue[#self.queue + 1] = job end
  end
  self.progress = progress.new(total, done, parallel)
  if #self.queue > 1 and self.snapshot and self.snapshot.bytes * #self.queue > copy_bytes_max
    and not self.share_code then
    self.share_code = true
    self.progress:say("the code is %.1f GB and %d runs would copy it: they share one checkout",
      self.snapshot.bytes / 1e9, #self.queue)
  end
  while true do
    while self.interrupts == 0 and self.supervisor:active() < parallel do
      local job = next_ready(self.queue, sys.mono_ns())
      if not job and more then
        job = more()
        if not job then more = nil end
        if job and is_done(job) then
          self.progress.done = self.progress.done + 1
          goto continue
        end
      end
      if not job then break end
      start(self, job)
      ::continue::
    end
    if self.supervisor:active() == 0 and (self.interrupts > 0 or (#self.queue == 0 and not more)) then
      break
    end
    self:poll(wait_ms(self, sys.mono_ns()))
    self.progress:draw()
  end
  self.progress:finish()
end

-- ---- a sweep -------------------------------------------------------------------------------------

local function record(self, sweep, prepared)
  local spec = check(json.encode(recipe.spec(self.recipe, sweep, prepared.code)))
  local experiment = check(self.store:experiment(sweep.name, sweep.goal and sweep.goal.key,
    sweep.goal and sweep.goal.goal))
  local id = check(self.store:sweep_add { experiment_id = experiment,
    identity = check(sys.sha256(spec)), spec = spec, recipe_path = self.recipe.path,
    recipe = self.recipe.text })
  return { experiment_id = experiment, sweep_id = id, program = sweep.program,
    launch = sweep.launch, retry = sweep.retry, keep = sweep.keep, goal = sweep.goal,
    from = sweep.from, varying = plan.varying(sweep),
    rule = sweep.stop.module.new(sweep.stop.options, sweep.goal) }
end

-- Proposal `number` and its runs, in one transaction.
local function propose(self, sweep, spec, prepared, number, params, known)
  local jobs = {}
  check(self.store:begin())
  local ok, message = pcall(function()
    check(self.store:proposal_add(spec.sweep_id, number, check(json.encode(params))))
    for _, run in ipairs(plan.runs_of(sweep, params, prepared)) do
      local job = self:job(spec, run)
      check(self.store:proposal_run_add(spec.sweep_id, number, run.seed or 0, job.id))
      -- Two proposals may come to the same parameters: one run then.
      if not known[job.id] then jobs[#jobs + 1] = job end
      known[job.id] = true
    end
  end)
  if not ok then
    self.store:rollback()
    error(message, 0)
  end
  check(self.store:commit())
  return jobs
end

-- Run a sweep to its end; returns its jobs.
function session_methods:sweep(sweep)
  plan.rehearse(self.recipe, sweep)
  plan.resolve_from(sweep.from, self.store, sweep.at, sweep.box)
  local prepared = prepare(self, sweep.program)
  local sampler = plan.sampler(sweep)
  local spec = record(self, sweep, prepared)
  local all, jobs, number, known = {}, {}, 0, {}
  local function fresh()
    local point = sampler:propose(number + 1)
    if not point then return nil end
    number = number + 1
    local made = propose(self, sweep, spec, prepared, number, point, known)
    table.move(made, 1, #made, #all + 1, all)
    return made
  end
  if not sampler.adaptive then
    repeat until not fresh()
    jobs = table.move(all, 1, #all, 1, {})
  end
  local waiting = {}
  local function more()
    while #waiting == 0 do
      local made = fresh()
      if not made then return nil end
      waiting = table.move(made, 1, #made, 1, {})
    end
    return table.remove(waiting, 1)
  end
  local total = sampler.adaptive and (sampler.size or 0) * #(sweep.seeds or { 1 }) or #jobs
  self:execute(jobs, sweep.launch.parallel, total, sampler.adaptive and more or nil)
  check(self.store:sweep_state(spec.sweep_id, self.interrupts > 0 and "interrupted" or "done"))
  return all
end

-- Keys that a run logged.
local function logged_keys(self, id)
  local keys = {}
  for i, row in ipairs(check(self.store:rows(
    "SELECT DISTINCT key FROM series WHERE run_id = ? AND count > 0 ORDER BY key LIMIT 12", id))) do
    keys[i] = row.key
  end
  return keys
end

-- What is wrong with finished runs, lines for a person; and how many runs failed:
-- why, was said of each as it happened.
function session_methods:problems(jobs)
  local lines, failed, silent = {}, 0, nil
  for _, job in ipairs(jobs) do
    if job.status == "failed" then
      failed = failed + 1
    elseif job.status == "finished" and job.goal_key and newest_value(self, job) == nil
      and not check(self.store:one("SELECT 1 AS x FROM series WHERE run_id = ? AND key = ?"
        .. " AND count > 0", job.id, job.goal_key)) then
      silent = silent or job
      lines[#lines + 1] = ("%s finished, but never logged the goal '%s'"):format(job.name,
        job.goal_key)
    end
  end
  if silent then
    local keys = logged_keys(self, silent.id)
    lines[#lines + 1] = ("goal: '%s' is not among what %s logged: %s%s"):format(silent.goal_key,
      silent.name, #keys > 0 and table.concat(keys, ", ") or "nothing at all",
      errors.suggestion(silent.goal_key, keys))
  end
  return lines, failed
end

return driver
