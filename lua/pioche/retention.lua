-- retention.lua: which checkpoints of a run stay: the rule of its recipe, applied while
-- it runs and when it ends.
--
-- Older ones go only when the newest of those that stay was read again from the disk,
-- past the page cache. A small one is read at once; a large one by a process of its own,
-- one at a time, while the runs go on.
local encode = require "pioche.checkpoint.encode"
local errors = require "pioche.errors"
local format = require "pioche.format"
local sys = require "pioche.core.sys"

local retention = {}
local check = errors.check

-- Of a checkpoint that is read at once; set for tests.
local at_once_bytes = math.tointeger(sys.getenv("PIOCHE_REREAD_BYTES") or 33554432)
local tend_ns = 1000000000

local units = { [""] = 1, B = 1, kB = 1e3, MB = 1e6, GB = 1e9, TB = 1e12, PB = 1e15, KiB = 1 << 10,
  MiB = 1 << 20, GiB = 1 << 30, TiB = 1 << 40, PiB = 1 << 50 }

-- The kind of a field that is a number of bytes.
function retention.size(value)
  local number, unit = tostring(value):match("^(%d+%.?%d*) ?(%a*)$")
  if number and units[unit] == nil then unit = unit .. "B" end
  local bytes = number and units[unit] and math.tointeger(math.floor(tonumber(number) * units[unit]))
  if bytes and bytes > 0 and (type(value) == "string" or type(value) == "number") then return bytes end
  return nil, "a size, as \"2TB\" or \"500 GiB\", or a number of bytes"
end

-- The rule as the store takes it. successor: id of the checkpoint of another run, which has
-- taken the place of all of this one's.
function retention.rule(keep, goal, successor)
  return { last = keep.last, best = keep.best, every = keep.every, goal_key = goal and goal.key,
    goal = goal and goal.goal, successor = successor }
end

-- ---- reading again --------------------------------------------------------------------

local function look_up(self, id)
  return check(self.store:one("SELECT manifest_sha256 AS sha256, step, bytes, EXISTS (SELECT 1 FROM"
    .. " checkpoint_file f JOIN object o ON o.sha256 = f.sha256 WHERE f.checkpoint_id = c.id AND"
    .. " o.verified NOT IN ('write', 'quick', 'reread')) AS damaged FROM checkpoint c WHERE id = ?", id))
end

-- It was read: say so where it is not what it was.
local function tell_outcome(self, job, id)
  local found = look_up(self, id)
  if not found or found.damaged == 0 then return end
  local message = ("the checkpoint of step %d is damaged (`pioche verify` tells where): nothing older was"
    .. " dropped for it"):format(found.step)
  check(self.store:event(job.id, { kind = "checkpoint.damaged", step = found.step, message = message }))
  self.progress:say("%s: %s", job.name, message)
end

-- Where no process can be made it is tried again when the rule is applied next.
local function begin_reread(self, job, id, found)
  local pid = sys.spawn { log = "/dev/null", argv = { sys.executable(), "checkpoint", "verify",
    found.sha256, "--store", sys.realpath(self.store:path()) } }
  self.reread = pid and { pid = pid, id = id, job = job, step = found.step, bytes = found.bytes }
end

-- Drop what may go; false while another has to be read before.
local function try(self, job)
  local read = {}
  while true do
    local unread = check(self.store:checkpoint_retain(job.id, retention.rule(job.spec.keep, job.spec.goal,
      job.successor)))
    if not unread then return true end
    if self.reread or read[unread] then return read[unread] ~= nil end
    read[unread] = true
    local found = look_up(self, unread) -- nil where `pioche gc` has dropped it meanwhile
    if found and found.bytes > at_once_bytes then
      begin_reread(self, job, unread, found)
      return not self.reread
    elseif found then
      check(self.store:verify { checkpoint = unread, only_unread = true })
      tell_outcome(self, job, unread)
    end
  end
end

-- ---- encoding -----------------------------------------------------------------------------

-- One at a time, by a process of its own.
local function begin_encoding(self, job)
  local least = job.spec.keep.encode
  if self.encoding or not least then return end
  local rule = retention.rule(job.spec.keep, job.spec.goal)
  local row, argv = encode.next(self.store, job.id, rule, self.encode_tried)
  if not row then return end
  self.encode_tried[row.id] = true
  table.move({ "--least", ("%.17g"):format(least), "--store", sys.realpath(self.store:path()) }, 1, 4,
    #argv + 1, argv)
  local pid = sys.spawn { log = "/dev/null", argv = argv }
  self.encoding = pid and { pid = pid, job = job, step = row.step, bytes = row.bytes }
end

local function tend_encoding(self)
  local done = self.encoding
  if not done then return end
  local status, signal = sys.ended(done.pid)
  if status == false then return end
  self.encoding = nil
  if signal or status ~= 0 then
    self.progress:say("%s: the checkpoint of step %d could not be encoded: `pioche checkpoint encode %s@%d`"
      .. " says why", done.job.name, done.step, done.job.name, done.step)
  end
  begin_encoding(self, done.job)
end

-- ---- room ---------------------------------------------------------------------------------

-- What the store's files take. All jobs share the sum over all objects, and it is made
-- anew so seldom that it takes a hundredth of the time, however many there are.
local function stored_bytes(self)
  local now = sys.mono_ns()
  if now >= (self.stored_due_ns or 0) then
    self.stored_bytes = check(self.store:one("SELECT coalesce(sum(coalesce(stored_bytes, bytes)), 0) AS bytes"
      .. " FROM object")).bytes
    self.stored_due_ns = now + 100 * (sys.mono_ns() - now)
  end
  return self.stored_bytes
end

-- What ranks ask before they save: the file of their attempt that says why they may not
-- (core/client/shard.c).
local function forbid(self, job, attempt, why)
  if not attempt or job.forbidden == (why or false) then return end
  local path = ("%s/runs/%s/no-room"):format(self.store:path(), attempt)
  if why then check(sys.write_file(path, why)) else os.remove(path) end
  job.forbidden = why or false -- nil: what an earlier session said is not known
end

-- Will the next checkpoint of a run fit? Told once, until it does; beyond the quota it is
-- refused.
local function watch_room(self, job, is_over)
  -- It is as large as the one before, or as the newest of its experiment.
  local newest = check(self.store:one([[
    SELECT coalesce((SELECT bytes FROM checkpoint WHERE run_id = r.id AND state = 'sealed'
                      ORDER BY step DESC, id DESC LIMIT 1),
                    (SELECT c.bytes FROM checkpoint c JOIN run o ON o.id = c.run_id
                      WHERE o.experiment_id = r.experiment_id AND c.state = 'sealed'
                      ORDER BY c.id DESC LIMIT 1)) AS bytes,
           r.ulid || '/' || (SELECT max(number) FROM attempt WHERE run_id = r.id) AS attempt
      FROM run r WHERE r.id = ?]], job.id))
  if is_over or not newest.bytes then return forbid(self, job, newest.attempt, nil) end
  local free, quota, message = sys.free_bytes(self.store:path()), job.spec.keep.quota, nil
  local refused
  if free and free < newest.bytes then
    message = ("the next checkpoint takes about %s, and the store's disk has %s free"):format(
      format.bytes(newest.bytes), format.bytes(free))
  elseif quota then
    local stored = stored_bytes(self)
    if stored + newest.bytes > quota then
      message = ("the store's files take %s, and with the next checkpoint of about %s more than keep.quota,"
        .. " %s"):format(format.bytes(stored), format.bytes(newest.bytes), format.bytes(quota))
      refused = message
    end
  end
  forbid(self, job, newest.attempt, refused)
  if message and not job.room_told then
    check(self.store:event(job.id, { kind = "checkpoint.room", message = message }))
    self.progress:say("%s: %s: `pioche gc --dry-run` tells what could go", job.name, message)
  end
  job.room_told = message ~= nil
end

-- ---- for a session ---------------------------------------------------------------------------

-- Apply the rule to a job's run; `is_over`: there will be no further checkpoint.
function retention.apply(self, job, is_over)
  self.retaining, self.encode_tried = self.retaining or {}, self.encode_tried or {}
  self.retaining[job.id] = not try(self, job) and job or nil
  begin_encoding(self, job)
  watch_room(self, job, is_over)
end

-- Go on with what waits for a checkpoint that is being read.
function retention.tend(self)
  local now = sys.mono_ns()
  if now - (self.tended_ns or 0) < tend_ns then return end
  self.tended_ns = now
  tend_encoding(self)
  if self.reread then
    local status, signal = sys.ended(self.reread.pid)
    if status == false then return end
    local done = self.reread
    self.reread = nil
    tell_outcome(self, done.job, done.id)
    if signal or status > 1 then -- it could not read, which is no verdict: a later session tries again
      self.retaining[done.job.id] = nil
    end
    for _, job in pairs(self.retaining) do
      if try(self, job) then self.retaining[job.id] = nil end
    end
  end
end

-- At the end of the work: what waits is waited for, unless somebody is in a hurry.
function retention.settle(self)
  local told
  while self.reread and self.interrupts == 0 do
    if told ~= self.reread then
      told = self.reread
      self.progress:say("%s: reading the checkpoint of step %d (%s) again, before older ones are dropped",
        told.job.name, told.step, format.bytes(told.bytes))
    end
    self:poll(100)
    retention.tend(self)
  end
  while self.encoding and self.interrupts == 0 do
    if told ~= self.encoding then
      told = self.encoding
      self.progress:say("%s: encoding the checkpoint of step %d (%s)", told.job.name, told.step,
        format.bytes(told.bytes))
    end
    self:poll(100)
    tend_encoding(self)
  end
  for _, name in ipairs { "reread", "encoding" } do
    if self[name] then sys.kill(self[name].pid, "SIGTERM") end
    self[name] = nil
  end
end

return retention
