-- reach.lua: the processes of an attempt, and what can be done to them, wherever they
-- are: on this machine, or on the nodes of a job of Slurm, into which `srun --overlap`
-- gets. A place is what processes.lua finds on one machine, with its name in `node`
-- where that is not this one.
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local launch = require "pioche.core.launch"
local processes = require "pioche.processes"
local sys = require "pioche.core.sys"

local reach = {}

local step_timeout_s = 60

-- ---- on a node -----------------------------------------------------------------------

-- What `pioche drill here WORD ARGUMENT` says on a node: its place as JSON, or how many
-- connections of a process were cut.
function reach.answer(word, argument)
  if word == "drop" then
    return tostring(errors.check(sys.drop_connections(math.tointeger(tonumber(argument)) or 0)))
  end
  local found = processes.of(argument)
  local place = { node = sys.getenv("SLURMD_NODENAME") or sys.hostname(), head = found.head,
    ranks = json.array {} }
  for rank, process in pairs(found.ranks) do
    local agent = found.agents[process.node]
    table.insert(place.ranks, { rank = rank, pid = process.pid, node = process.node, agent = agent.pid,
      keeper = agent.keeper })
  end
  return errors.check(json.encode(place))
end

-- ---- from elsewhere ------------------------------------------------------------------

-- On one node of the job, or on `count`, all of them.
local function step(job, node, count, argv)
  local words = { "srun", "--jobid=" .. job, "--overlap", "--quiet", "--input=none", "--mpi=none",
    "--chdir=/", "--nodes=" .. count, "--ntasks=" .. count, "--ntasks-per-node=1" }
  if node then words[#words + 1] = "--nodelist=" .. node end
  return table.move(argv, 1, #argv, #words + 1, words)
end

-- What it wrote to standard output; nil and why it failed.
local function run_step(...)
  local result, message = sys.run { argv = step(...), timeout_s = step_timeout_s }
  if not result then return nil, message end
  if result.timed_out then return nil, ("srun: no answer in %d s"):format(step_timeout_s) end
  if result.status == 0 then return result.stdout end
  local _, words = launch.slurm_answer(result.stderr)
  return nil, "srun: " .. (words ~= "" and words or "it failed")
end

local function read_place(line)
  local said = json.decode(line)
  if type(said) ~= "table" or not said.ranks then return nil end
  local place = { node = said.node, head = said.head, ranks = {}, agents = {} }
  for _, process in ipairs(said.ranks) do
    place.ranks[process.rank] = { pid = process.pid, node = process.node }
    place.agents[process.node] = { pid = process.agent, keeper = process.keeper }
  end
  return place
end

local function places_of_job(attempt)
  local queue, message = sys.run { timeout_s = step_timeout_s,
    argv = { "squeue", "--noheader", "--jobs=" .. attempt.job, "--format=%D" } }
  local count = queue and queue.stdout:match("^%s*(%d+)%s*$")
  if not count then
    return nil, queue and ("Slurm says nothing of job %s"):format(attempt.job) or message
  end
  local out, why = run_step(attempt.job, nil, count,
    { sys.executable(), "drill", "here", "look", attempt.dir })
  if not out then return nil, why end
  local places = {}
  for line in out:gmatch("[^\n]+") do places[#places + 1] = read_place(line) end
  return places
end

-- Where ranks of the attempt run, as this user: this machine, where `rank` is here or
-- all are, else the nodes of its job. Empty, with the reason where there is one, if
-- none is in reach.
function reach.places(attempt, rank)
  local here = processes.of(attempt.dir)
  local is_here = next(here.ranks) ~= nil
  if not attempt.job or here.ranks[rank] or is_here and attempt.nodes == 1 then
    return is_here and { here } or {}
  end
  local found, why = places_of_job(attempt)
  if not found and is_here then return { here } end
  local places = {}
  for _, place in ipairs(found or {}) do
    if next(place.ranks) then
      place.job = attempt.job
      places[#places + 1] = place
    end
  end
  return places, why
end

-- " on dgx-002"; nothing for this machine.
function reach.where(place)
  return place.node and " on " .. place.node or ""
end

-- Run a shell script there, with these arguments; it says nothing and may last.
function reach.spawn(place, script, ...)
  local argv = { "sh", "-c", script, "sh", ... }
  if place.node then argv = step(place.job, place.node, 1, argv) end
  errors.check(sys.spawn { argv = argv, log = "/dev/null" })
end

-- Signal processes there; all that are left get it, and one at least has to.
function reach.kill(place, pids, signal)
  if place.node then
    local argv = { "sh", "-c", 'signal=$1; shift; killed=1; for pid; do kill -s "$signal" "$pid" && killed=0;'
      .. ' done; exit $killed', "sh", (signal:gsub("^SIG", "")) }
    for _, pid in ipairs(pids) do argv[#argv + 1] = tostring(pid) end
    errors.check(run_step(place.job, place.node, 1, argv))
    return
  end
  local killed, message, word
  for _, pid in ipairs(pids) do
    local ok, why, kind = sys.kill(pid, signal)
    killed, message, word = killed or ok, message or why, word or kind
  end
  if not killed then errors.check(nil, message, word) end
end

-- Cut the TCP connections of a process there; how many there were.
function reach.drop(place, pid)
  if not place.node then return errors.check(sys.drop_connections(pid)) end
  local out = errors.check(run_step(place.job, place.node, 1,
    { sys.executable(), "drill", "here", "drop", tostring(pid) }))
  return errors.check(math.tointeger(tonumber(out)), "it does not say how many connections it cut")
end

return reach
