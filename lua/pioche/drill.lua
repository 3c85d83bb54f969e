-- drill.lua: the failures that `pioche drill` can bring about, and what it then looks
-- for. A kind is
--   { summary, prepare(case), inject(case), in_place, restarts }
-- prepare finds what is to be hurt, says so in case.target, and raises where that
-- cannot be done here; inject does it. in_place: the attempt is to live through it;
-- restarts: it leaves the store without a supervisor.
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local reach = require "pioche.reach"
local supervise = require "pioche.supervise"
local sys = require "pioche.core.sys"

local drill = {}

local free_bytes_max = 1073741824   -- more is nobody's to fill
local slow_s, full_s = 30, 10       -- unless told
local settle_s = 3                  -- in which a supervisor learns of a checkpoint

local function refuse(format, ...)
  errors.raise("invalid", "drill: " .. format, ...)
end

-- ---- what is there ------------------------------------------------------------------

-- Where the attempt's processes are; raises where none is in reach.
local function look(case)
  local places, why = reach.places(case.attempt, case.options.rank)
  if #places == 0 then
    refuse("no rank of attempt %d of %s runs on this machine, or not as this user%s", case.attempt.number,
      case.run.name, case.attempt.job and (", nor could one be found in job %s%s"):format(case.attempt.job,
        why and ": " .. why or "") or "")
  end
  return places
end

-- The rank that is meant, --rank or else the last one: it is in case.place.
local function choose_rank(case)
  local rank = case.options.rank
  if rank and rank >= case.attempt.world_size then
    refuse("%s has no rank %d: ranks are 0 to %d", case.run.name, rank, case.attempt.world_size - 1)
  end
  local last
  for _, place in ipairs(look(case)) do
    if place.head then case.head_place = place end
    for number in pairs(place.ranks) do
      if not rank and number > (last or -1) or number == rank then last, case.place = number, place end
    end
  end
  if not last then refuse("rank %d of %s is nowhere to be found", rank, case.run.name) end
  case.pid = case.place.ranks[last].pid
  case.target = ("rank %d%s, pid %d"):format(last, reach.where(case.place), case.pid)
  return last
end

local function choose_node(case)
  local rank = choose_rank(case)
  local node = case.place.ranks[rank].node
  return node, case.place.agents[node]
end

local function kill(case, signal)
  reach.kill(case.place, case.pids or { case.pid }, signal)
end

-- ---- the kinds ----------------------------------------------------------------------

drill.kinds = {}
drill.names = { "kill-rank", "hang-rank", "kill-agent", "kill-node", "full-disk", "slow-rank",
  "drop-network", "time-limit", "kill-controller", "torn-checkpoint" }

drill.kinds["kill-rank"] = { summary = "SIGKILL to a rank", prepare = choose_rank,
  inject = function(case) kill(case, "SIGKILL") end }

drill.kinds["hang-rank"] = { summary = "SIGSTOP to a rank: it hangs", prepare = choose_rank,
  inject = function(case) kill(case, "SIGSTOP") end }

drill.kinds["kill-agent"] = { summary = "SIGKILL to the agent of a rank",
  prepare = function(case)
    local node, agent = choose_node(case)
    case.pid = agent.pid
    case.target = ("the agent of node %d%s, pid %d"):format(node, reach.where(case.place), agent.pid)
  end,
  inject = function(case) kill(case, "SIGKILL") end }

drill.kinds["kill-node"] = { summary = "SIGKILL to all of the attempt on a node: agent, keeper, ranks",
  prepare = function(case)
    local node, agent = choose_node(case)
    case.pids = { agent.keeper or agent.pid }
    if agent.keeper then case.pids[2] = agent.pid end
    for _, rank in pairs(case.place.ranks) do
      if rank.node == node then case.pids[#case.pids + 1] = rank.pid end
    end
    case.target = ("the %d processes of node %d%s"):format(#case.pids, node, reach.where(case.place))
  end,
  inject = function(case) kill(case, "SIGKILL") end } -- some take others with them

drill.kinds["full-disk"] = { summary = "the store's file system is full for a while", restarts = true,
  prepare = function(case)
    case.seconds = case.options.seconds or full_s
    local path = case.store:path()
    local place = sys.place(path)
    if place.free_bytes > free_bytes_max then
      refuse("%s has %.1f GB free, which others may need: it fills file systems with at most %.1f GB free,"
        .. " as one of its own for the drill", path, place.free_bytes / 1e9, free_bytes_max / 1e9)
    end
    case.target = ("%s, %.0f MB free, for %d s"):format(path, place.free_bytes / 1e6, case.seconds)
    look(case)
  end,
  inject = function(case)
    reach.spawn({}, 'trap \'rm -f "$1"\' EXIT; trap "exit 1" TERM INT HUP;'
      .. ' cat /dev/zero > "$1"; sleep "$2"',
      case.store:path() .. "/drill.ballast", tostring(case.seconds))
  end }

drill.kinds["slow-rank"] = { summary = "a rank gets a fifth of its time, for a while", in_place = true,
  prepare = function(case)
    case.seconds = case.options.seconds or slow_s
    choose_rank(case)
    case.target = ("%s, for %d s"):format(case.target, case.seconds)
  end,
  inject = function(case)
    reach.spawn(case.place, 'trap "kill -CONT $1" EXIT; trap "exit 1" TERM INT HUP;'
      .. ' end=$(($(date +%s) + $2)); while test "$(date +%s)" -lt "$end"'
      .. ' && kill -STOP "$1" && sleep 0.08 && kill -CONT "$1"; do sleep 0.02; done',
      tostring(case.pid), tostring(case.seconds))
  end }

drill.kinds["drop-network"] = { summary = "all TCP connections of a rank are cut",
  prepare = function(case)
    choose_rank(case)
    if case.attempt.world_size == 1 then refuse("%s has one rank, which talks to nobody", case.run.name) end
  end,
  inject = function(case)
    local count = reach.drop(case.place, case.pid)
    if count == 0 then refuse("%s has no TCP connection: nothing was cut", case.target) end
    case.target = ("%s, %d connections"):format(case.target, count)
  end }

drill.kinds["time-limit"] = { summary = "the time limit is near: SIGUSR2, as Slurm sends it",
  prepare = function(case)
    local node, agent = choose_node(case)
    case.pid = agent.pid
    case.target = ("the agent of node %d%s, pid %d"):format(node, reach.where(case.place), agent.pid)
    if case.head_place then
      case.place, case.pid = case.head_place, case.head_place.head
      case.target = ("the head%s, pid %d"):format(reach.where(case.place), case.pid)
    end
  end,
  inject = function(case) kill(case, "SIGUSR2") end }

drill.kinds["kill-controller"] = { summary = "SIGKILL to the supervisor", restarts = true,
  prepare = function(case)
    local holder = supervise.holder(case.store)
    if not holder then refuse("nobody supervises the store") end
    if not holder.pid then refuse("the supervisor is on another machine (%s)", holder.holder) end
    case.place, case.pid = {}, holder.pid -- this machine
    case.target = "the supervisor, " .. holder.holder
  end,
  inject = function(case) kill(case, "SIGKILL") end }

-- The largest file of the newest checkpoint: { step, sha256, bytes }; nil while there
-- is none.
local function newest_checkpoint(case)
  return case.store:one([[SELECT c.step, f.sha256, o.bytes FROM checkpoint c
    JOIN checkpoint_file f ON f.checkpoint_id = c.id JOIN object o ON o.sha256 = f.sha256
    WHERE c.run_id = ? AND c.state = 'sealed' ORDER BY c.step DESC, o.bytes DESC LIMIT 1]], case.run.id)
end

-- The newest one when no newer one has come for a while.
local function settled_checkpoint(case)
  local newest, since_ns = newest_checkpoint(case), sys.mono_ns()
  while sys.mono_ns() < since_ns + settle_s * 1000000000 do
    sys.sleep_ms(100)
    local now = newest_checkpoint(case)
    if now.step ~= newest.step then newest, since_ns = now, sys.mono_ns() end
  end
  return newest
end

drill.kinds["torn-checkpoint"] = { summary = "the newest checkpoint is cut short, then a rank is killed",
  prepare = function(case)
    choose_rank(case)
    if not newest_checkpoint(case) then refuse("%s has no checkpoint yet", case.run.name) end
    case.rank = case.target
    case.target = "the newest checkpoint, then " .. case.rank
  end,
  -- A run that saves often has let go of the one that was newest before somebody said
  -- yes, and of that which the store knows of by now: with a rank held still none comes
  -- after the one that is cut.
  inject = function(case)
    kill(case, "SIGSTOP")
    local newest = settled_checkpoint(case)
    local file = case.store:object_path(newest.sha256)
    local result = errors.check(sys.run { argv = { "sh", "-c",
      'chmod u+w "$1" && truncate -s "$2" "$1" && chmod a-w "$1"', "sh", file,
      tostring(newest.bytes // 2) } })
    if result.status ~= 0 then
      kill(case, "SIGCONT")
      refuse("%s: %s", file, result.stderr)
    end
    case.target = ("checkpoint of step %d, then %s"):format(newest.step, case.rank)
    case.began_ns = sys.now_ns()
    kill(case, "SIGKILL")
  end }

-- ---- what comes of it -----------------------------------------------------------------

-- Events that tell of a run's life, not of a failure.
local quiet = { text = true, note = true, drill = true, checkpoint = true, stop = true, vote = true }

-- When the agents knew which rank failed first, by their record.
local function first_ns(case)
  for _, name in ipairs { "exit.json", "exit.0.json" } do
    local text = sys.read_file(case.store:path() .. "/" .. case.attempt.dir .. "/" .. name)
    local record = text and json.decode(text)
    local first = type(record) == "table" and record.first
    if type(first) == "table" and math.type(first.time_ns) == "integer" then return first.time_ns end
  end
  return nil
end

-- The first sign of the failure, and what is said of it: { ns, what }, nil while there
-- is none. An attempt's end says more than what led to it.
local function detected(case)
  local first_sign, what
  local function tell(ns, text)
    if not ns or ns < case.began_ns then return end
    if not first_sign or ns < first_sign then first_sign = ns end
    what = what or text
  end
  local row = case.store:one("SELECT state, result, message, ended_ns FROM attempt WHERE id = ?",
    case.attempt.id)
  if row.state == "ended" and row.result ~= "ok" then
    local text = row.message or row.result
    tell(row.ended_ns, text:find(row.result, 1, true) == 1 and text or row.result .. ": " .. text)
    tell(first_ns(case))
  end
  for _, event in ipairs(case.store:rows("SELECT time_ns, kind, rank, message FROM event WHERE run_id = ?"
    .. " AND id > ? ORDER BY id", case.run.id, case.event_id)) do
    local is_sign = not quiet[event.kind] and not event.kind:find("^launch%.")
      and (not event.rank or event.kind == "straggler")
    if is_sign then tell(event.time_ns, event.kind .. ": " .. event.message) end
  end
  return first_sign and { ns = first_sign, what = what } or nil
end

local function first_point_ns(case)
  return case.store:one("SELECT min(c.first_ns) AS ns FROM series s JOIN chunk c ON c.series_id = s.id"
    .. " WHERE s.run_id = ? AND c.attempt > ?", case.run.id, case.attempt.number).ns
end

local function newest_step(case)
  return case.store:one("SELECT max(last_step) AS step FROM series WHERE run_id = ?", case.run.id).step
end

-- May the attempt itself go on? A job of Slurm does not need its supervisor.
local function lives_on(case)
  return drill.kinds[case.kind].in_place or (case.restarted and case.attempt.launcher == "slurm")
end

-- When work went on; nil while it does not. An attempt that lives through it is well
-- when it steps after the harm is over; else the next one is, when it logs.
local function recovered_ns(case)
  local again = first_point_ns(case)
  if again then return again end
  local row = case.store:one("SELECT state, result, ended_ns FROM attempt WHERE id = ?", case.attempt.id)
  if row.state == "ended" then return row.result == "ok" and row.ended_ns or nil end
  local now_ns = sys.now_ns()
  if not lives_on(case) or now_ns < case.began_ns + ((case.seconds or 0) + 1) * 1000000000 then
    return nil
  end
  case.step_then = case.step_then or newest_step(case) or 0
  return (newest_step(case) or 0) > case.step_then and now_ns or nil
end

local over = { finished = true, failed = true, stopped = true, cancelled = true }

-- Somebody has to go on with the run where the failure took its supervisor.
local function restart(case)
  if case.seconds and sys.now_ns() < case.began_ns + (case.seconds + 1) * 1000000000 then return end
  local status = case.store:one("SELECT status FROM run WHERE id = ?", case.run.id).status
  if over[status] or supervise.holder(case.store) then return end
  local pid, log = supervise.detach(case.store, {})
  if pid then case.restarted = { pid = pid, log = log } end
end

-- Do it and watch what comes of it, for at most `timeout_s`; fills case.detected and
-- case.recovered_ns.
function drill.run(case, timeout_s)
  local kind = drill.kinds[case.kind]
  case.event_id = case.store:one("SELECT coalesce(max(id), 0) AS id FROM event").id
  case.began_ns = sys.now_ns()
  kind.inject(case)
  local deadline_ns = sys.mono_ns() + timeout_s * 1000000000
  while sys.mono_ns() < deadline_ns do
    if kind.restarts then restart(case) end
    case.detected = detected(case)
    case.recovered_ns = recovered_ns(case)
    if case.recovered_ns and (case.detected or lives_on(case)) then return end
    local row = case.store:one("SELECT status FROM run WHERE id = ?", case.run.id)
    if over[row.status] then return end
    sys.sleep_ms(100)
  end
end

return drill
