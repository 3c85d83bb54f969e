-- driver.lua: the policy of running: which run next, what a failure means, when
-- a checkpoint may go, what Ctrl-C does.
--
-- A session holds the store's lease and its supervisor. Everything that it
-- decides is committed to the store before it is done, so the next session
-- goes on where this one was ended, however it was.
local attempts = require "pioche.attempt"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local git = require "pioche.core.git"
local json = require "pioche.core.json"
local launch = require "pioche.core.launch"
local plan = require "pioche.plan"
local objective = require "pioche.objective"
local pools = require "pioche.pools"
local progress = require "pioche.progress"
local queue = require "pioche.queue"
local recipe = require "pioche.recipe"
local retention = require "pioche.retention"
local retry = require "pioche.retry"
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
     WHERE r.status IN ('queued', 'running') AND r.identity IS NOT NULL
       AND (a.id IS NULL OR a.state = 'ended')]])) do
    check(store:run_set_status(row.id, row.result == "ok" and "finished" or "planned", nil))
  end
end

-- Take the lease; who else holds it is told, and how to see what that one does.
local function take_lease(ctx, store)
  local look = check(store:lease_look())
  if look.state == "far" then
    ctx.note(("the store is held from another machine (%s): watching for up to %.0f s whether it"
      .. " lives\n"):format(look.holder, look.silent_ms / 1000))
  end
  local ok, message, word = store:lease()
  if not ok and word == "busy" then
    errors.raise(word, "%s: `pioche watch` shows what it does, `pioche attach RUN` follows a run of it,"
      .. " `pioche supervise --stop` ends it", message)
  end
  check(ok, message, word)
end

-- What waits, the runs of each sweep in a lane of their own: whether they have room, and a pool, is the
-- same for them all.
local function new_queue()
  return queue.new(function(job) return job.spec end)
end

-- Open a session for a loaded recipe, or, without one, for the runs that the store
-- has. options: again (run everything anew), extends (a sweep goes on from the one before it).
function driver.open(ctx, self, options)
  local store = self and ctx.store("create", (self.git and self.root or sys.cwd()) .. "/.pioche")
    or ctx.store("write")
  take_lease(ctx, store)
  local session = setmetatable({ ctx = ctx, recipe = self, store = store, again = options.again,
    extends = options.extends, prepared = {}, folders = {}, interrupts = 0, bad = {},
    queue = new_queue() }, session_methods)
  session:nothing_runs()
  local lib_dir = check(sys.lib_dir())
  session.supervisor = check(launch.supervisor(store,
    { executable = sys.executable(), lib_dir = lib_dir }))
  check(session.supervisor:recover())
  check(store:recover())
  settle_interrupted(store)
  pools.open(session)
  return session
end

function session_methods:close()
  if self.pools and not self.leaves then
    local ok, why = pcall(pools.close, self)
    if not ok and not errors.is(why) then error(why, 0) end
  end
  if self.supervisor then self.supervisor:close() end
  self.supervisor = nil
  self.store:lease_drop()
end

function session_methods:note(text, ...)
  if self.progress then
    self.progress:say(text, ...)
  else
    self.ctx.note(text:format(...) .. "\n")
  end
end

-- ---- code ----------------------------------------------------------------------------

-- The snapshot of the work tree: one for the whole session, so that all its runs have
-- the same code, whatever is edited meanwhile. An objective has none.
local function snapshot(self, program)
  if not self.snapshot and not program.objective then
    local taken = check(git.snapshot(self.recipe.root, self.store:path()))
    taken.id = check(self.store:snapshot_add(taken))
    self.snapshot = taken
  end
  return not program.objective and self.snapshot or nil
end

-- What identities need of a program of the recipe: { code, inputs }.
function session_methods:prepare(program)
  local known = self.prepared[program]
  if known then return known end
  local inputs = plan.check(self.recipe, program, self.store)
  local taken = snapshot(self, program)
  if not taken then return { code = program.digest, inputs = inputs } end
  local tree, message, word = git.subtree(taken.repository, taken.commit, program.sources or {})
  if not tree then
    if word ~= "not_found" then errors.raise(word, "%s", message) end
    program.box:blame(program.at, "sources", "%s; is it ignored by git?", message)
  end
  known = { code = tree, inputs = inputs }
  self.prepared[program] = known
  return known
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
  local is_anew = run.is_spent or self.again and not self.bad[run.identity]
  if known and not is_anew then return known end
  local id = check(store:run_create {
    experiment_id = spec.experiment_id, identity = run.identity, sweep_id = spec.sweep_id,
    snapshot_id = (snapshot(self, program) or {}).id,
    from_checkpoint = (run.from or spec.from or {}).manifest,
    program = check(json.encode(recipe.program_record(program))),
    launch = check(json.encode(spec.launch)), seed = run.seed,
  })
  for _, name in ipairs(fields.sorted(run.params)) do
    check(store:param_set(id, name, run.params[name]))
  end
  self.bad[run.identity] = true -- with --again: one new generation a session
  return plan.find(store, run.identity)
end

local function is_done(job)
  return job.status == "finished" or job.status == "stopped"
end

-- The job of a run's row { id, name, status, stop_ns }. run: { params, seed, words,
-- inputs, from (its own, before the spec's) }; spec: { program, launch, retry, keep, goal, from,
-- judge (judge.lua), stop }. Its own launch is that of its spec, or of who was promoted.
function driver.job(row, run, spec, snapshot_row, text)
  return { id = row.id, name = row.name, status = row.status, stop_ns = row.stop_ns, run = run,
    spec = spec, launch = spec.judge and spec.judge:launch(row.id, spec.launch) or spec.launch,
    snapshot = snapshot_row, label = text, attempt = 0, ready_ns = 0,
    goal_key = spec.goal and spec.goal.key, steps = math.tointeger(tonumber(run.params.steps)) }
end

-- What is the same in all jobs of a spec that are not to be run.
function session_methods:job_fields(spec)
  return { spec = spec, snapshot = snapshot(self, spec.program), label = "", attempt = 0, ready_ns = 0,
    goal_key = spec.goal and spec.goal.key }
end

-- Keep what it takes to go on with the run without its recipe (supervise.lua).
local function remember(self, job)
  local spec, files = job.spec, {}
  for name, item in pairs(job.run.inputs) do
    files[name] = { path = item.path, sha256 = item.sha256 }
  end
  check(self.store:run_set_job(job.id, check(json.encode { version = 1, label = job.label,
    words = json.array(job.run.words), inputs = files, launch = spec.launch, retry = spec.retry,
    keep = spec.keep, stop = spec.stop })))
end

-- Make or find the run and its job. spec: as driver.job's, and { experiment_id,
-- sweep_id, varying }.
function session_methods:job(spec, run)
  local row = run_row(self, spec, run, spec.program)
  local job = driver.job(row, run, spec, snapshot(self, spec.program), label(run, spec.varying))
  -- What the rule of another sweep stopped is not done for this one, and goes on.
  if job.status == "stopped" and not (spec.judge and spec.judge:has_stopped(job.id)) then
    job.status = "planned"
  end
  -- What a person has set aside is not tried again.
  if not is_done(job) and plan.is_aside(self.store, job.id) then job.status, job.reason = "stopped", "set aside" end
  if not is_done(job) then remember(self, job) end
  return job
end

function session_methods:newest_value(job)
  if not job.goal_key then return nil end
  local row = check(self.store:one(
    "SELECT last AS value FROM series WHERE run_id = ? AND key = ? ORDER BY rank LIMIT 1",
    job.id, job.goal_key))
  return row and row.value
end

-- What asks of runs alone, and starts none: it has newest_value.
function driver.reader(store)
  return setmetatable({ store = store }, session_methods)
end

-- A run is over, for this session at least.
function session_methods:finish(job, status, reason)
  job.status, job.reason = status, reason
  check(self.store:run_set_status(job.id, status, reason))
  self.progress:ended(job)
  if status == "finished" or status == "stopped" then
    self.progress.done = self.progress.done + 1
  elseif status == "failed" then
    self.progress.failed = self.progress.failed + 1
  end
end

-- It waits until its rule lets it go on, from its checkpoint. judges: of all that wait, in the order of
-- their sweeps.
local function set_paused(self, job)
  local judge = job.spec.judge
  self.paused[job.id] = job
  for _, other in ipairs(self.judges) do
    if other == judge then return end
  end
  self.judges[#self.judges + 1] = judge
  table.sort(self.judges, function(a, b) return a.sweep_id < b.sweep_id end)
end

-- Its attempt has ended because its rule said so.
function session_methods:pause(job)
  job.status, job.reason, job.paused_by = "planned", job.spec.judge:paused(job), nil
  check(self.store:run_set_status(job.id, "planned", "paused " .. job.reason))
  set_paused(self, job)
  self.progress:ended(job)
  self.progress:say("%s paused: %s", job.name, job.reason)
end

function session_methods:fail(job, message)
  self:finish(job, "failed", message)
  self.progress:say("%s failed: %s", job.name, message)
end

-- ---- ends ----------------------------------------------------------------------------

local function ended_well(self, job, step)
  if job.spec.judge then job.spec.judge:look(job, step, true) end -- what it came to is known to others
  self:finish(job, "finished", nil)
  pools.learn(self, job)
  local value = self:newest_value(job)
  if not self.progress.tty then
    self.progress:say("%s finished%s (%d of %d)", job.name,
      value and (": %s %.6g"):format(job.goal_key, value) or "", self.progress.done,
      self.progress.total)
  end
end

-- The end of a run that is not of this recipe: a job that an earlier session left.
-- Whether it is tried again is for its own recipe to say.
local function ended_elsewhere(self, event)
  local status = event.result == "ok" and "finished" or event.result == "cancelled" and "cancelled"
    or "planned"
  check(self.store:run_set_status(event.run, status, event.message ~= json.null and event.message or nil))
end

local function on_ended(self, event)
  local job = self.active[event.run]
  pools.ended(self, event.attempt_id, event.result)
  if not job then return ended_elsewhere(self, event) end
  self:is_over(job)
  job.result = event.result
  local message = event.message ~= json.null and event.message or event.result
  retention.apply(self, job, true)
  if event.result == "ok" then
    return ended_well(self, job, event.step ~= json.null and event.step or job.step)
  elseif event.result == "cancelled" and job.paused_by and not job.asked and self.interrupts == 0 then
    return self:pause(job)
  elseif event.result == "cancelled" then
    local status = job.stopped_by and "stopped" or "cancelled"
    self:finish(job, status, job.stopped_by or job.asked or self.interrupts > 0 and "interrupted"
      or message)
    return self.progress:say("%s %s: %s", job.name, status, job.reason)
  end
  local next_try = self.interrupts == 0 and retry.decide(job.spec.retry,
    retry.history(self.store, job.id, job.first_attempt or event.attempt)) or { again = false }
  if next_try.again then
    job.ready_ns = sys.mono_ns() + math.floor(next_try.wait_s * 1e9)
    job.status, job.exclude = "planned", next_try.exclude
    check(self.store:run_set_status(job.id, "planned", message))
    self.progress:ended(job)
    self.queue:add_first(job)
    self.delayed[job] = true
    local what = ("%s; attempt %d of %d in %.3g s"):format(message, next_try.number, next_try.of,
      next_try.wait_s)
    check(self.store:event(job.id, { kind = "retry", message = what }))
    return self.progress:say("%s: %s", job.name, what)
  end
  if next_try.why then message = ("%s; not tried again: %s"):format(message, next_try.why) end
  self:fail(job, message)
end

-- Is it to stop or to pause at this step? Then it is noted why. at: of judge:look.
local function ask_judge(job, step, at)
  local judge = job.spec.judge
  if not judge or job.stopped_by or job.paused_by then return false end
  local why, how = judge:look(job, step, false, at)
  if why then job[how == "pause" and "paused_by" or "stopped_by"] = why end
  return why ~= nil
end

local function on_progress(self, event)
  local job = self.active[event.run]
  if not job then return end
  if event.step ~= json.null then
    job.step = event.step
    job.first_step = job.first_step or event.step
  end
  job.value = self:newest_value(job)
  local now = sys.mono_ns()
  if now - (job.retained_ns or 0) > 5000000000 then
    job.retained_ns = now
    retention.apply(self, job)
  end
  if job.step and ask_judge(job, job.step) then check(self.supervisor:stop(job.id, false)) end
end

-- Where a job of Slurm is: what it waits for, or that it runs.
local function on_queue(self, event)
  local job = self.active[event.run]
  if not job then return end
  if event.event == "queued" then
    job.where = event.where
    self.progress:waits(job)
  else
    job.status, job.where = "running", nil
    self.progress:started(job, "job " .. event.job)
  end
end

-- Ctrl-C ends what runs. The end of the terminal or of the machine ends what runs
-- here; jobs of Slurm are left, for the next session to go on with. So they are
-- by the third Ctrl-C, which waits for nothing.
local function interrupted(self, event)
  self.interrupts = math.max(self.interrupts + 1, event.count or 1)
  local leaves = event.signal ~= "SIGINT" or self.interrupts > 2
  self.leaves = self.leaves or leaves
  self.progress:say(self.interrupts == 1
    and "interrupted: stopping the runs; once more to stop them now" or "stopping now")
  for _, id in ipairs(fields.sorted(self.active)) do
    local job = self.active[id]
    if leaves and job.place == "slurm" then
      self:is_over(job)
      self.progress:say("%s is left in Slurm: the same command goes on with it", job.name)
    else
      check(self.supervisor:stop(id, self.interrupts > 1))
    end
  end
end

-- A pool that cannot be had ends those that wait for it.
local function on_pool(self, event)
  local spec, status, why = pools.on_event(self, event)
  if not spec then return end
  for place, job, lane in self.queue:each() do
    if pools.is_of(job, spec) then
      self.queue:take(place, lane)
      self:finish(job, status, why)
      self.progress:say("%s %s: %s", job.name, status, why)
    end
  end
end

local function on_event(self, event)
  if event.event == "ended" then
    on_ended(self, event)
  elseif event.event == "pool" then
    on_pool(self, event)
  elseif event.event == "progress" then
    on_progress(self, event)
  elseif event.event == "stop" then
    local job = self.active[event.run]
    if job and not job.asked then
      job.asked = "stopped by a person"
      check(self.supervisor:stop(event.run, false))
    end
  elseif event.event == "interrupt" then
    interrupted(self, event)
  elseif event.event == "queued" or event.event == "started" then
    on_queue(self, event)
  elseif event.event == "slurm" then
    self.progress:say("Slurm does not answer, and is asked again: %s", event.message)
  end
end

-- Hear what happened, waiting at most `ms`.
function session_methods:poll(ms)
  for _, event in ipairs(check(self.supervisor:wait(ms))) do on_event(self, event) end
end

-- ---- the loop -----------------------------------------------------------------------------------

function session_methods:nothing_runs()
  self.active, self.active_count, self.active_of = {}, 0, {}
end

function session_methods:runs(job)
  self.active[job.id], self.active_count = job, self.active_count + 1
  self.active_of[job.spec] = (self.active_of[job.spec] or 0) + 1
end

function session_methods:is_over(job)
  self.active[job.id], self.active_count = nil, self.active_count - 1
  self.active_of[job.spec] = self.active_of[job.spec] - 1
end

-- May another run of a sweep start?
local function has_room(self, spec)
  return (self.active_of[spec] or 0) < spec.launch.parallel
end

-- The next job that can start, and its place where that is in a pool. What waits for
-- a place there does not keep others back.
local function next_ready(self, now)
  if self.queue:count() == 0 then return nil end
  local waiting, ready, places, lanes, counts = {}, {}, {}, {}, {}
  -- Of those of a sweep that wait for a pool no more are looked at, there, than so many.
  local function is_wanted(spec)
    if not pools.takes(spec) then return has_room(self, spec) end
    return #waiting < pools.looked_at_max or (counts[spec] or 0) < pools.looked_at_max and has_room(self, spec)
  end
  for at, job, lane in self.queue:each(is_wanted) do
    local is_ready, is_packed = job.ready_ns <= now and has_room(self, job.spec), pools.takes(job.spec)
    if is_ready and not is_packed then return self.queue:take(at, lane) end
    if is_packed then waiting[#waiting + 1] = job end
    if is_ready then
      local n = #ready + 1
      ready[n], places[n], lanes[n], counts[job.spec] = job, at, lane, (counts[job.spec] or 0) + 1
    end
  end
  local i, place = pools.next(self, ready)
  if i then return self.queue:take(places[i], lanes[i]), place end
  pools.provide(self, ready, waiting)
  return nil, nil, #ready > 0
end

local function wait_ms(self, now)
  local wait = self.progress.tty and 200 or 1000
  for job in next, self.delayed do
    if job.ready_ns > now then
      wait = math.min(wait, math.max(1, (job.ready_ns - now) // 1000000 + 1))
    else
      self.delayed[job] = nil
    end
  end
  return wait
end

-- Sort jobs into those that wait and those that run already, and begin to tell of
-- their progress; those that are done are left alone.
local function line_up(self, jobs, parallel, of)
  local done = of.done or 0
  self.queue, self.delayed, self.paused, self.judges = new_queue(), {}, {}, {}
  self:nothing_runs()
  for _, job in ipairs(jobs) do
    if is_done(job) then
      done = done + 1
    elseif job.status == "queued" or job.status == "running" then -- an earlier session's
      job.place, job.attempt = "slurm", 1
      self:runs(job)
    elseif job.spec.judge and job.spec.judge:paused(job) then
      set_paused(self, job)
    else
      self.queue:add(job)
    end
  end
  self.progress = progress.new(of.total, done, parallel, not self.recipe)
  for _, job in ipairs(jobs) do
    if self.active[job.id] then self.progress:adopted(job) end
  end
  local waiting = self.queue:count()
  if waiting > 1 and self.snapshot and self.snapshot.bytes * waiting > copy_bytes_max
    and not self.share_code then
    self.share_code = true
    self.progress:say("the code is %.1f GB and %d runs would copy it: they share one checkout",
      self.snapshot.bytes / 1e9, waiting)
  end
end

-- By these objective.lua tells of a run what the supervisor tells of others.
local told = { finished = ended_well, progressed = ask_judge }

-- A run that was paused goes on when its turn comes, on what its rule has for it.
local function let_on(self, job)
  self.paused[job.id] = nil
  job.launch, job.pool_spec = job.spec.judge:launch(job.id, job.spec.launch), nil
end

-- A run that was paused and may go on comes before new ones.
local function promote(self)
  if next(self.paused) == nil then return end
  for _, judge in ipairs(self.judges) do
    local job = judge:promote(self.paused)
    if job then
      let_on(self, job)
      self.queue:add_first(job)
      return self.progress:say("%s is promoted", job.name)
    end
  end
end

-- All else is over. A sweep of few runs may have none that was among the best of each rung:
-- then the best that is paused goes on to its end. True where one does.
local function rescue(self)
  for _, judge in ipairs(self.judges) do
    local job = judge:rescue(self.paused)
    if job then
      let_on(self, job)
      self.queue:add(job)
      self.progress:say("%s goes on: none has finished, and it is the best that is paused", job.name)
      return true
    end
  end
  return false
end

-- What is still paused when all else is over is not among the best of its rung.
local function settle_paused(self)
  for _, id in ipairs(fields.sorted(self.paused)) do
    local job = self.paused[id]
    self:finish(job, "stopped", job.spec.judge:paused(job))
  end
end

-- A job that is to start now and its place, where that is in a pool; nil: none is.
local function next_job(self, more)
  promote(self)
  local job, place, is_full = next_ready(self, sys.mono_ns())
  if job or is_full or not more then return job, place end
  job = more()
  if not job then return nil end
  if is_done(job) then
    self.progress.done = self.progress.done + 1
  elseif pools.takes(job.spec) then
    self.queue:add(job) -- it gets its place at the next round
  else
    return job
  end
  return next_job(self, more)
end

-- Run these jobs, `parallel` at a time and of each sweep as many as it says; those
-- that are done already are left alone. of: { total (runs of all), done (and not among these jobs;
-- nil: none) }. `more()` gives a further job, or nil where there
-- is none now: it is asked again after whatever happens, and it is over when nothing runs.
function session_methods:execute(jobs, parallel, of, more)
  line_up(self, jobs, parallel, of)
  while true do
    while self.interrupts == 0 and self.active_count < parallel do
      local job, place = next_job(self, more)
      if not job then break end
      attempts.start(self, job, place)
    end
    if next(self.active) == nil and (self.interrupts > 0 or self.queue:count() == 0) then
      if self.interrupts > 0 or not self.recipe or not rescue(self) then break end
    end
    if not objective.turn(self, told) then self:poll(wait_ms(self, sys.mono_ns())) end
    retention.tend(self)
    self.progress:draw()
  end
  if self.recipe and self.interrupts == 0 then settle_paused(self) end
  retention.settle(self)
  self.progress:finish()
end

return driver
