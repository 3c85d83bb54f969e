-- pools.lua: allocations of Slurm into which a session packs its runs: when one is
-- asked for and when it ends. Which run goes where is pool.lua's to say; its job and
-- its files are the supervisor's (core/launch/supervise_pool.c).
--
-- Runs whose launches ask the same of Slurm, for the same pool, share one, whatever
-- their sweep and their number of nodes; and so do sessions, one after another.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local launcher = require "pioche.launcher"
local nodes = require "pioche.nodes"
local pool = require "pioche.pool"
local sys = require "pioche.core.sys"

-- looked_at_max: of those that wait, so many are looked at.
local pools = { looked_at_max = 1000 }

local check = errors.check
local excluded_ns <const> = 5000000000 -- how old what is known of bad nodes may be
local barren_max <const> = 3           -- pools in a row that started nothing
local end_ms <const> = 30000
local of_slower <const>, start_s <const> = 1.2, 10

-- Are the runs of a spec (driver.lua) to be packed into one?
function pools.takes(spec)
  return spec.launch.pool ~= nil and launcher.choose(spec.launch) == "slurm"
end

-- What the run's pool is asked for, as text: who asks the same shares it.
local function spec_of(job)
  job.pool_spec = job.pool_spec or check(json.encode(launcher.pool_request(job.launch)))
  return job.pool_spec
end

-- The names of the nodes that are to be left out, as a set.
local function excluded(session)
  local self, now = session.pools, sys.mono_ns()
  if not self.excluded or now - self.excluded_ns > excluded_ns then
    local names, lines = nodes.excluded(session.store, sys.now_ns())
    for _, line in ipairs(lines) do session:note("%s", line) end
    self.excluded, self.excluded_ns = {}, now
    for _, name in ipairs(names) do self.excluded[name] = true end
  end
  return self.excluded
end

-- A pool whose nodes are not known yet; kept: those of them that are used all the same.
local function add(self, id, spec, kept)
  local asked = check(json.decode(spec))
  local p = { id = id, spec = spec, nodes = {}, bad = {}, taken = {}, kept = kept, is_barren = true,
    is_ours = asked.user == sys.user(), slots = asked.slots or 1, is_shared = asked.slots ~= nil,
    usable_s = pool.usable_s(asked.slurm.time_s, asked.warn_s),
    longest_s = pool.longest_s(asked.slurm.time_s, asked.warn_s), time_s = asked.slurm.time_s }
  self.list[#self.list + 1] = p
  return p
end

local function take(p, place, attempt_id, until_ns)
  for i, name in ipairs(place.hosts) do
    p.taken[name] = p.taken[name] or {}
    for _, slot in ipairs(place.slots and place.slots[i] or { 0 }) do
      p.taken[name][slot] = { by = attempt_id, until_ns = until_ns }
    end
  end
end

-- What a session keeps of its pools, those of earlier ones among them: { list = by age,
-- learned = { [key] = seconds }, barren = { [spec] = n } }.
function pools.open(session)
  local self = { list = {}, learned = {}, barren = {} }
  session.pools = self
  for _, row in ipairs(check(session.store:rows(
    "SELECT id, spec, state FROM pool WHERE state <> 'ended' ORDER BY id"))) do
    local p = add(self, row.id, row.spec, excluded(session))
    p.is_ending, p.is_let_go = row.state == "ending", row.state == "ending"
    for _, attempt in ipairs(check(session.store:rows(
      "SELECT id, state, result, node, place FROM attempt WHERE pool_id = ?", row.id))) do
      p.is_barren = false
      if attempt.state ~= "ended" then
        take(p, check(json.decode(attempt.place)), attempt.id, math.maxinteger)
      end
      if attempt.result == "node_fail" and attempt.node then p.bad[attempt.node] = true end
    end
  end
end

local function find(self, id)
  for i, p in ipairs(self.list) do
    if p.id == id then return p, i end
  end
end

-- ---- how long a run takes ---------------------------------------------------------------

local function learned_key(job)
  return job.name:match("^(.*)%-%d+$") .. "/" .. job.launch.nodes
end

-- Seconds that the longest finished run of the experiment on as many nodes took, in
-- all its attempts; nil where none has finished.
local function longest_of(store, experiment, count)
  local row = check(store:one([[
    SELECT max(total) / 1e9 AS seconds FROM (
      SELECT sum(a.ended_ns - a.started_ns) AS total FROM attempt a JOIN run r ON r.id = a.run_id
        JOIN experiment e ON e.id = r.experiment_id
       WHERE e.name = ? AND r.status = 'finished' AND a.nodes = ? AND a.started_ns IS NOT NULL
       GROUP BY r.id)]], experiment, count))
  return row and row.seconds
end

-- What a run may take by its launch; else what others took, and some more; else nil.
-- And in words how that is known.
local function estimate(options, longest_s)
  local limit = launcher.limit_s(options)
  if limit then return limit, "as it may take" end
  if longest_s then return math.ceil(of_slower * longest_s + start_s), "by what finished runs took" end
  return nil, "until one has finished, so that it is known how long they take"
end

-- One more has finished.
function pools.learn(session, job)
  local self, key = session.pools, learned_key(job)
  if not pools.takes(job.spec) or self.learned[key] == nil then return end
  local row = check(session.store:one("SELECT sum(ended_ns - started_ns) / 1e9 AS seconds FROM attempt"
    .. " WHERE run_id = ? AND nodes = ? AND started_ns IS NOT NULL", job.id, job.launch.nodes))
  self.learned[key] = math.max(self.learned[key] or 0, row.seconds or 0)
end

local function need_s(session, job)
  local learned, key = session.pools.learned, learned_key(job)
  if learned[key] == nil then
    learned[key] = longest_of(session.store, job.name:match("^(.*)%-%d+$"), job.launch.nodes) or false
  end
  return (estimate(job.launch, learned[key] or nil))
end

-- What a plan says of the pools of an experiment, of which so many runs are to be done;
-- nil where it needs none.
function pools.describe(options, experiment, count, store)
  if count == 0 then return nil end
  local request = launcher.pool_request(options)
  local warn_s, time_s = request.warn_s, request.slurm.time_s
  local usable_s = pool.usable_s(time_s, warn_s)
  local need, how = estimate(options, store and longest_of(store, experiment, options.nodes))
  local room, slots = launcher.pool_room(options), options.pool.slots
  local share = slots and ("on %d of %d slots of a node"):format(options.ranks_per_node, slots)
    or "on whole nodes"
  local need_s_left = pool.need_s({ usable_s = usable_s, longest_s = pool.longest_s(time_s, warn_s) },
    { need_s = need })
  return ("%d run%s at a time %s; one is started while %d s of the %d are left, %s"):format(room,
    room == 1 and "" or "s", share, need_s_left, usable_s, how)
end

-- ---- placing ------------------------------------------------------------------------------

-- Nodes that are to be left out since the pool was asked for.
local function mark_bad(session, p)
  local names = excluded(session)
  for _, name in ipairs(p.nodes) do
    if names[name] and not p.kept[name] then p.bad[name] = true end
  end
end

local function is_open(p)
  return p.nodes[1] ~= nil and not p.is_ending
end

local function want_of(session, p, job)
  local count = job.launch.nodes
  return { nodes = count, need_s = need_s(session, job),
    slots = p.is_shared and job.launch.ranks_per_node or 1,
    exclude = job.exclude and p.nodes[1] and pool.can_avoid(p, count, job.exclude) or nil }
end

-- The next of these jobs that may start now: its number, and its place, as `started`
-- wants it.
function pools.next(session, jobs)
  for _, p in ipairs(session.pools.list) do
    local wants, numbers = {}, {}
    if is_open(p) then mark_bad(session, p) end
    for i, job in ipairs(jobs) do
      if #wants == pools.looked_at_max or not is_open(p) then break end
      if spec_of(job) == p.spec then
        wants[#wants + 1], numbers[#numbers + 1] = want_of(session, p, job), i
      end
    end
    local i, place
    if #wants > 0 then i, place = pool.next(p, wants, sys.now_ns()) end
    if i then
      place.pool, place.slots_per_node = p.id, p.is_shared and p.slots or nil
      return numbers[i], place
    end
  end
end

-- The place as the supervisor and the record have it: slots are only of nodes that
-- may be shared.
function pools.place(place)
  local slots
  if place.slots_per_node then
    slots = {}
    for i, of_host in ipairs(place.slots) do slots[i] = json.array(of_host) end
  end
  return { hosts = json.array(place.hosts), slots = slots and json.array(slots),
    slots_per_node = place.slots_per_node }
end

-- The attempt has that place.
function pools.started(session, place, attempt_id)
  local p = find(session.pools, place.pool)
  take(p, place, attempt_id, place.until_ns)
  p.is_barren, session.pools.barren[p.spec] = false, 0
end

-- An attempt has ended, whosever it was. A node that died is not used again.
function pools.ended(session, attempt_id, result)
  for _, p in ipairs(session.pools.list) do
    local was_here = false
    for name, slots in pairs(p.taken) do
      for slot, taken in pairs(slots) do
        if taken.by == attempt_id then slots[slot], was_here = nil, true end
      end
      if next(slots) == nil then p.taken[name] = nil end
    end
    if was_here and result == "node_fail" then
      local row = check(session.store:one("SELECT node FROM attempt WHERE id = ?", attempt_id))
      if row and row.node then p.bad[row.node] = true end
    end
  end
end

-- ---- asking for one -------------------------------------------------------------------------

local function submit(session, job)
  local options, text = job.launch, spec_of(job)
  local asked = launcher.pool_options(options)
  local names = fields.sorted(excluded(session))
  local narrower, words = asked, nil
  if #names > 0 then narrower, words = launcher.without(asked, names) end
  if not narrower then
    session:note("pool: %s cannot be left out: %s", table.concat(names, ", "), words)
  end
  local request = launcher.pool_request(options, narrower or asked)
  local id = check(session.supervisor:pool_start { spec = text, slurm = request.slurm,
    idle_s = request.idle_s, grace_s = options.grace_s, name = job.name:match("^(.*)%-%d+$") .. "-pool" })
  add(session.pools, id, text, narrower and {} or excluded(session))
  session:note("pool submitted: %s", (launcher.place(options):gsub("^, in a ", "")))
end

local function is_idle(p)
  return p.is_ours and next(p.taken) == nil
end

local function let_go(session, p)
  p.is_ending, p.is_let_go = true, true
  check(session.supervisor:pool_end(p.id))
end

-- May this pool have the job, now or later?
local function serves(session, p, job, now)
  if p.spec ~= spec_of(job) or p.is_ending then return false end
  return p.nodes[1] == nil or pool.may_start(p, want_of(session, p, job), now)
end

-- The first jobs of those that ask for the same: so many that there is not too much to look at, and
-- that those of one pool keep none of another from being seen.
local function first_of_each(jobs)
  local list, counts = {}, {}
  for _, job in ipairs(jobs) do
    local spec = spec_of(job)
    counts[spec] = (counts[spec] or 0) + 1
    if counts[spec] <= pools.looked_at_max then list[#list + 1] = job end
  end
  return list
end

-- Jobs that wait for a place, `ready` those of them that could start: ask for a pool
-- where none that is there can have one of these, and let go of pools that no job can
-- use any more.
function pools.provide(session, ready, waiting)
  local list, now, used = session.pools.list, sys.now_ns(), {}
  for _, job in ipairs(first_of_each(ready)) do
    local is_served = false
    for _, p in ipairs(list) do is_served = is_served or serves(session, p, job, now) end
    if not is_served then submit(session, job) end
  end
  for _, job in ipairs(first_of_each(waiting)) do
    for _, p in ipairs(list) do used[p] = used[p] or serves(session, p, job, now) end
  end
  for _, p in ipairs(#waiting > 0 and list or {}) do
    if is_open(p) and not used[p] and is_idle(p) then let_go(session, p) end
  end
end

-- ---- what happens to one ----------------------------------------------------------------------

local function on_ended(session, p, event)
  local self = session.pools
  table.remove(self.list, select(2, find(self, p.id)))
  local message = event.message ~= json.null and event.message or nil
  if message then session:note("pool: %s", message) end
  if p.is_let_go then return nil end
  self.barren[p.spec] = p.is_barren and (self.barren[p.spec] or 0) + 1 or 0
  local is_refused = not event.ran and (event.result == "failed" or event.result == "cancelled")
  if is_refused or self.barren[p.spec] >= barren_max then
    return p.spec, event.result == "cancelled" and "cancelled" or "failed",
      message or ("%d pools ended, one after another, in which nothing was started"):format(barren_max)
  end
end

-- An event of the supervisor's. Where it means that nothing can be had: the spec, the
-- status of the runs that ask for that, and why.
function pools.on_event(session, event)
  local p = find(session.pools, event.pool)
  if not p then
    return nil
  elseif event.state == "queued" then
    session:note("pool queued: %s", event.where)
  elseif event.state == "ended" then
    return on_ended(session, p, event)
  elseif event.state == "closing" then
    p.is_ending = true
  elseif p.nodes[1] == nil then
    session:note("pool of %d node%s runs: job %s", #event.nodes, #event.nodes == 1 and "" or "s", event.job)
    p.nodes, p.last_ns = event.nodes, event.until_ns - (p.time_s - p.usable_s) * 1000000000
    for _, slots in pairs(p.taken) do
      for _, taken in pairs(slots) do taken.until_ns = p.last_ns end -- an earlier session's
    end
  end
end

function pools.is_of(job, spec)
  return pools.takes(job.spec) and spec_of(job) == spec
end

-- Nothing is left to do: pools in which nothing runs end. Not for ever: each does so
-- by itself, too.
function pools.close(session)
  local deadline = sys.mono_ns() + end_ms * 1000000
  local function open()
    for _, p in ipairs(session.pools.list) do
      if is_idle(p) then return p end
    end
  end
  for _, p in ipairs(session.pools.list) do
    if is_idle(p) and not p.is_let_go then let_go(session, p) end
  end
  while open() and sys.mono_ns() < deadline do session:poll(200) end
end

return pools
