-- attempt.lua: the start of a run's next attempt: its code, its checkpoint, its launch.
local code = require "pioche.code"
local core = require "pioche.core.store"
local encode = require "pioche.checkpoint.encode"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local format = require "pioche.format"
local json = require "pioche.core.json"
local launcher = require "pioche.launcher"
local nodes = require "pioche.nodes"
local objective = require "pioche.objective"
local pools = require "pioche.pools"
local retry = require "pioche.retry"
local sys = require "pioche.core.sys"

local attempts = {}
local check = errors.check
local sample_ms = math.tointeger(sys.getenv("PIOCHE_SAMPLE_MS") or 10000) -- of telemetry; set for tests

-- Did a person ask for this run's end meanwhile?
local function is_unwanted(self, job)
  local row = check(self.store:one("SELECT stop_requested_ns AS ns FROM run WHERE id = ?", job.id))
  return row and row.ns and row.ns ~= job.stop_ns
end

local function cancel(self, job)
  self:finish(job, "cancelled", "stopped by a person")
  self.progress:say("%s cancelled: %s", job.name, job.reason)
end

-- What was planned must be what runs, however much later that is.
local function check_inputs(self, job)
  for _, name in ipairs(fields.sorted(job.run.inputs)) do
    local item = job.run.inputs[name]
    local sha256, message = core.input_digest(self.store, item.path)
    if sha256 ~= item.sha256 then
      errors.raise("invalid", "inputs.%s: %s", name, not sha256 and message
        or item.path .. " is not what it was when the run was planned")
    end
  end
end

-- The folder with the code of a job, made where it is not there yet.
local function code_folder(self, job)
  local program = job.spec.program
  local known = self.folders[job.snapshot.tree] or {}
  self.folders[job.snapshot.tree] = known
  known[program] = known[program] or code.folder(self.store, program, job.snapshot, function()
    self:note("building: %s", table.concat(program.build, " "))
  end, function()
    self:poll(0)
    return self.interrupts > 0
  end)
  return known[program]
end

-- The folder with the job's code; nil where nobody is there to hear what is wrong
-- with it, and the run has failed of that.
local function prepare_start(self, job)
  if self.recipe then return code_folder(self, job) end
  local ok, result = pcall(function()
    check_inputs(self, job)
    return code_folder(self, job)
  end)
  if ok then return result end
  local is_wrong = errors.is(result) and (result.code == "invalid" or result.code == "not_found")
  if not is_wrong then error(result, 0) end
  self:fail(job, result.message:match("[^\n]*"))
  return nil
end

-- The launch of the next attempt: under Slurm without the nodes that failed this
-- run, and those that are left out of everything (nodes.lua), where it can do without.
local function launch_of(self, job)
  local options = job.launch
  -- Here there is no other node, and in a pool its place is chosen already.
  if launcher.choose(options) ~= "slurm" or pools.takes(job.spec) then return options end
  local names, lines = nodes.excluded(self.store, sys.now_ns())
  for _, line in ipairs(lines) do self.progress:say("%s", line) end
  local seen = {}
  for _, list in ipairs { names, job.exclude or {} } do
    for _, name in ipairs(list) do seen[name] = true end
  end
  local unwanted = fields.sorted(seen)
  if #unwanted == 0 then return options end
  local narrower, words = launcher.without(options, unwanted)
  if narrower then return narrower end
  self.progress:say("%s: %s cannot be left out: %s", job.name, table.concat(unwanted, ", "), words)
  return options
end

-- Ranks read files as they are. What is encoded is decoded by a process of its own, while
-- the other runs go on; what that could not do the start does, and says why it cannot.
local function decode(self, job, id)
  local row, argv = encode.undone(self.store, id)
  local pid = row and sys.spawn { log = "/dev/null", argv = argv }
  if not pid then return end
  self.progress:say("%s: decoding the checkpoint of step %d (%s), from which it goes on", job.name, row.step,
    format.bytes(row.bytes))
  while sys.ended(pid) == false do
    if self.interrupts > 0 then sys.kill(pid, "SIGTERM") end
    self:poll(100)
  end
end

-- place: where in a pool, nil elsewhere (pools.next).
function attempts.start(self, job, place)
  local spec, program = job.spec, job.spec.program
  if program.objective then return objective.start(self, job) end
  local from = job.run.from or spec.from
  local resume = check(self.store:checkpoint_resume(job.id)) or from and from.id
  if from and not resume then
    return self:fail(job, ("it grew from checkpoint %s, which is gone"):format(from.manifest:sub(1, 12)))
  end
  local directory = prepare_start(self, job)
  if not directory then return end
  if resume then decode(self, job, resume) end
  self:poll(0)
  if self.interrupts > 0 then
    self.queue:add_first(job)
    return
  end
  if is_unwanted(self, job) then return cancel(self, job) end
  -- Who told it to stop may not have lived to see it.
  local why = spec.judge and spec.judge:stopped(job)
  if why then return self:finish(job, "stopped", why) end
  if spec.judge and spec.judge:paused(job) then return self:pause(job) end
  if job.status == "failed" or job.status == "cancelled" then retry.afresh(self.store, job.id) end
  job.first_attempt = job.first_attempt or 1 + check(self.store:one(
    "SELECT coalesce(max(number), 0) AS newest FROM attempt WHERE run_id = ?", job.id)).newest
  job.attempt, job.stop_ns = job.attempt + 1, nil -- a new attempt is asked for nothing yet
  local attempt, message, word = self.supervisor:start(job.id, launcher.complete({
    command = json.array(job.run.words), env = program.env or {}, setup = program.setup,
    wrap = program.wrap and json.array(table.move(program.wrap, 1, #program.wrap, 1, {})),
    code = directory, share_code = self.share_code or spec.launch.share_code or nil,
    keep_code = spec.keep.code or nil, nodes = job.launch.nodes,
    ranks_per_node = job.launch.ranks_per_node,
    timeout_s = place and launcher.limit_s(job.launch) or spec.launch.timeout_s,
    pool = place and place.pool, place = place and pools.place(place),
    grace_s = spec.launch.grace_s, hang_s = spec.launch.hang_s, resume = resume,
    mpi_env = spec.launch.mpi_env or nil, bind = spec.launch.bind,
    preflight = spec.launch.preflight and true or nil,
    sample_ms = spec.launch.telemetry ~= false and sample_ms or nil,
    max_restarts = spec.retry.attempts - 1,
  }, launch_of(self, job)))
  if attempt then
    job.place, job.where, job.step, job.first_step = launcher.choose(job.launch), nil, nil, nil
    job.status = job.place == "slurm" and "queued" or "running"
    self:runs(job)
    if place then pools.started(self, place, attempt) end
    self.progress:started(job)
  elseif place and word == "busy" then -- its pool has just ended, of which the next event tells
    job.attempt = job.attempt - 1
    self.queue:add_first(job)
  elseif word == "invalid" or word == "not_found" then
    self:fail(job, message)
  else
    errors.raise(word, "%s: %s", job.name, message)
  end
end

return attempts
