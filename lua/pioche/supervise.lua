-- supervise.lua: the runs of a store that are not over, as jobs of a session that has
-- no recipe at hand: from what their rows keep (run.job, written by driver.lua).
local driver = require "pioche.driver"
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local runs = require "pioche.runs"
local sweeps = require "pioche.sweeps"
local sys = require "pioche.core.sys"

local supervise = {}
local check = errors.check
local log_bytes_max = 1048576   -- then supervise.log becomes supervise.log.1
local look_ms = 50

-- What Ctrl-C ended is open, too; what a person stopped or a rule did is not, nor what
-- is a function of its recipe.
local open_sql = [[
  SELECT r.id AS id, e.name || '-' || r.number AS name, r.status AS status,
         r.stop_requested_ns AS stop_ns, r.job AS job, r.program AS program, r.seed AS seed,
         r.sweep_id AS sweep_id, r.from_checkpoint AS from_manifest, e.goal_key AS goal_key,
         e.goal AS goal, s.commit_id AS commit_id, s.tree_id AS tree, s.repository AS repository
    FROM run r JOIN experiment e ON e.id = r.experiment_id
    LEFT JOIN snapshot s ON s.id = r.snapshot_id
   WHERE r.identity IS NOT NULL AND json_extract(r.program, '$.objective') IS NULL
     AND (r.status IN ('planned', 'queued', 'running')
      OR (r.status = 'cancelled' AND r.reason = 'interrupted'))
   ORDER BY r.sweep_id, r.id]]

-- Errors in a program have no recipe's line to point at.
local function box()
  return { blame = function(_, _, field, format, ...)
    errors.raise("invalid", "%s: " .. format, field, ...)
  end }
end

local function judge_of(store, sweep_id, stop, goal)
  local ok, module = pcall(require, "pioche.stopping." .. stop.name)
  if not ok then errors.raise("not_found", "the stopping rule '%s' is not here", stop.name) end
  return sweep_id and sweeps.judge(store, sweep_id, { name = stop.name, options = stop.options,
    module = module }, goal)
end

local function spec_of(store, row, kept)
  local program = check(json.decode(row.program))
  program.box = box()
  local goal = row.goal_key and { key = row.goal_key, goal = row.goal } or nil
  local from = row.from_manifest and { manifest = row.from_manifest,
    id = check(store:checkpoint_find(row.from_manifest)) } or nil
  if row.from_manifest and not from.id then
    errors.raise("not_found", "%s grew from checkpoint %s, which is gone", row.name,
      row.from_manifest:sub(1, 12))
  end
  return { program = program, launch = kept.launch, retry = kept.retry, keep = kept.keep, goal = goal,
    from = from, stop = kept.stop, judge = judge_of(store, row.sweep_id, kept.stop, goal) }
end

-- Jobs of the open runs, those in the set `only` where one is given, and in any case
-- those that run or wait in a scheduler's queue: they were taken over; and names of
-- runs that keep too little, an older pioche having planned them.
function supervise.jobs(session, only)
  local store, jobs, specs, unknown = session.store, {}, {}, {}
  local open, ids = {}, {}
  for _, row in ipairs(check(store:rows(open_sql))) do
    if only and not only[row.id] and row.status ~= "queued" and row.status ~= "running" then
      goto continue
    elseif not row.job or not row.commit_id then
      unknown[#unknown + 1] = row.name
      goto continue
    end
    local kept = check(json.decode(row.job))
    local key = ("%s %s %s"):format(row.sweep_id, row.from_manifest, row.program)
    specs[key] = specs[key] or spec_of(store, row, kept)
    local run = { seed = row.seed, words = kept.words, inputs = kept.inputs }
    open[#open + 1] = { row = row, run = run, spec = specs[key], label = kept.label }
    ids[#ids + 1] = row.id
    ::continue::
  end
  for i, loaded in ipairs(runs.load(store, ids, { params = true })) do
    local item = open[i]
    item.run.params = loaded.params
    jobs[i] = driver.job(item.row, item.run, item.spec, { commit = item.row.commit_id,
      tree = item.row.tree, repository = item.row.repository }, item.label)
  end
  return jobs, unknown
end

-- Run them to their end; returns how many of them failed.
function supervise.run(session, jobs)
  local parallel, failed = 1, 0
  for _, job in ipairs(jobs) do parallel = math.max(parallel, job.spec.launch.parallel) end
  session:execute(jobs, parallel, { total = #jobs })
  for _, job in ipairs(jobs) do
    if job.status == "failed" then failed = failed + 1 end
  end
  return failed
end

-- The holder's pid where it is a process that this one can see: a lock may be held
-- from another machine or container, where the number names another process.
local function pid_here(holder)
  local host, pid, command = holder:match("^(.-), pid (%d+), (.*)$")
  local words = host == sys.hostname() and sys.read_file("/proc/" .. pid .. "/cmdline")
  words = words and words:gsub("%c", " ")
  return words and words:sub(1, #command) == command and math.tointeger(tonumber(pid)) or nil
end

-- Who holds the lease of a store: { holder, pid (nil when it is not on this machine) },
-- or nil.
function supervise.holder(store)
  local look = check(store:lease_look())
  if look.state ~= "held" and look.state ~= "far" then return nil end
  return { holder = look.holder, pid = pid_here(look.holder) }
end

-- ---- in the background ---------------------------------------------------------------

local function open_log(path)
  local log = path .. "/supervise.log"
  local there = sys.stat(log)
  if there and there.size > log_bytes_max then
    check(sys.rename(log, log .. ".1"))
    there = nil
  end
  return log, there and there.size or 0
end

-- What a supervisor says once it holds the lease and knows that there is something to do.
supervise.going_on = "going on with "

-- Start a supervisor of a store in the background, for `args`: its pid and the path of
-- its log, once it goes on with runs. Where it has ended before, nil, its exit status
-- and what it said.
function supervise.detach(store, args)
  local path = sys.realpath(store:path())
  local log, from = open_log(path)
  local argv = { sys.executable(), "supervise", "--store", path, table.unpack(args) }
  local pid = check(sys.spawn { argv = argv, cwd = path, log = log })
  while true do
    local status, signal = sys.ended(pid)
    local said = (sys.read_file(log) or ""):sub(from + 1)
    if said:find(supervise.going_on, 1, true) then return pid, log end
    if status == nil or status then return nil, status or 128 + signal, said end
    sys.sleep_ms(look_ms)
  end
end

return supervise
