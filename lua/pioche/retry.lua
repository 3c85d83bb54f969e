-- retry.lua: what a failure means: is the run tried again, when, and where not.
--
-- `decide` is a pure function of a policy and of the attempts so far. An attempt
-- is { number, result, step, exit_code, signal, message, node, launcher, nodes,
-- started_ns, ended_ns, saved_ns, unfit = { names } or nil }, as `history` reads it; a
-- policy is the section `retry` of a recipe (project.lua).
local errors = require "pioche.errors"
local json = require "pioche.core.json"

local retry = {}

retry.wait_s_max = 300
local loop_length = 3          -- so many times the same, and it is no chance

-- ---- what one attempt means --------------------------------------------------------

-- The scheduler's doing, and a time limit that was reached with work saved: the
-- run is innocent. On one machine there is no other node to go to, and whoever
-- set a time limit there meant it.
local function is_innocent(attempt)
  if attempt.launcher ~= "slurm" then return attempt.result == "preempted" end
  return attempt.result == "preempted" or attempt.result == "node_fail"
    or (attempt.result == "timeout" and attempt.saved_ns ~= nil)
end

-- Failures of one kind have one signature: rank, node and figures do not matter.
local function signature(attempt)
  local parts = { attempt.result, tostring(attempt.exit_code), tostring(attempt.signal) }
  if attempt.result == "failed" then
    parts[4] = (attempt.message or ""):gsub("; %d+ ranks? waited.*$", ""):gsub("%d+", "#")
  end
  return table.concat(parts, "|")
end

local function is_same(a, b)
  return a.step == b.step and signature(a) == signature(b)
end

-- Node-hours whose work is nowhere: since the newest checkpoint of the attempt.
function retry.lost_hours(attempt)
  if attempt.result == "ok" or not attempt.started_ns or not attempt.ended_ns then return 0.0 end
  local from_ns = math.max(attempt.started_ns, attempt.saved_ns or 0)
  return math.max(0, attempt.ended_ns - from_ns) / 3.6e12 * math.max(1, attempt.nodes or 1)
end

-- ---- the decision --------------------------------------------------------------------

-- The step at which the last attempts crashed, all in the same way; false when
-- they did not.
local function crash_loop(attempts)
  local last = attempts[#attempts]
  if #attempts < loop_length or is_innocent(last) then return false end
  for i = #attempts - loop_length + 1, #attempts - 1 do
    if not is_same(attempts[i], last) then return false end
  end
  return true, last.step
end

-- The nodes that failed first, sorted; but not where the same failure at the same
-- step came on another node too: that is the program's. And whoever failed a preflight,
-- whether the attempt had a spare for it or not.
function retry.suspects(attempts)
  local names, seen = {}, {}
  local function add(name)
    if not seen[name] then names[#names + 1] = name end
    seen[name] = true
  end
  for _, attempt in ipairs(attempts) do
    local guilty = attempt.node and attempt.result ~= "ok" and attempt.result ~= "cancelled"
      and attempt.result ~= "preempted" and attempt.result ~= "timeout"
    for _, other in ipairs(guilty and attempts or {}) do
      if other.node and other.node ~= attempt.node and is_same(other, attempt) then guilty = false end
    end
    if guilty then add(attempt.node) end
    for _, name in ipairs(attempt.unfit or {}) do add(name) end
  end
  table.sort(names)
  return names
end

local function stop(format, ...)
  return { again = false, why = format and format:format(...) }
end

-- The newest attempt has failed: { again, wait_s, exclude = { names }, number, of }
-- or { again = false, why }; `why` is nil where the failure itself is reason enough.
function retry.decide(policy, attempts)
  local last = attempts[#attempts]
  if last.result == "cancelled" or last.result == "ok" then return stop() end
  local failures, lost_hours = 0, 0.0
  for _, attempt in ipairs(attempts) do
    if not is_innocent(attempt) then failures = failures + 1 end
    lost_hours = lost_hours + retry.lost_hours(attempt)
  end
  if failures >= policy.attempts then
    return stop()
  elseif #attempts >= policy.total then
    return stop("%d attempts in all", #attempts)
  end
  local looped, step = crash_loop(attempts)
  if looped then
    return stop("the last %d attempts failed in the same way%s", loop_length,
      step and (" at step %d"):format(step) or "")
  elseif policy.node_hours and lost_hours >= policy.node_hours then
    return stop("%.4g node-hours are lost, of %.4g that may be", lost_hours, policy.node_hours)
  end
  return { again = true, exclude = policy.exclude and retry.suspects(attempts) or {},
    wait_s = math.min(retry.wait_s_max, policy.backoff_s * 2 ^ math.max(0, failures - 1)),
    number = failures + 1, of = policy.attempts }
end

-- ---- the attempts of a run ---------------------------------------------------------------

-- What counts: attempts since a person last asked for the run anew. Those that
-- were lost together with their supervisor, before attempt `first`, do not.
function retry.history(store, run_id, first)
  local attempts = {}
  for _, row in ipairs(errors.check(store:rows([[
    SELECT a.number, a.result, a.step, a.exit_code, a.signal, a.message, a.node, a.launcher,
           a.started_ns, a.ended_ns, a.nodes,
           (SELECT max(c.created_ns) FROM checkpoint c
             WHERE c.run_id = a.run_id AND c.attempt_id = a.id AND c.state = 'sealed') AS saved_ns,
           (SELECT json_group_array(DISTINCT n.node) FROM node_check n
             WHERE n.attempt_id = a.id AND n.state = 'failed') AS unfit
      FROM attempt a WHERE a.run_id = ?1 AND a.state = 'ended' AND a.id >
           coalesce((SELECT max(attempt_id) FROM event WHERE run_id = ?1 AND kind = 'again'), 0)
     ORDER BY a.number]], run_id))) do
    row.unfit = json.decode(row.unfit)
    if row.result ~= "lost" or row.number >= first then attempts[#attempts + 1] = row end
  end
  return attempts
end

-- A person asks anew for a run that was given up: what was counts no more.
function retry.afresh(store, run_id)
  local newest = errors.check(store:one("SELECT max(id) AS id FROM attempt WHERE run_id = ?", run_id))
  if newest and newest.id then
    errors.check(store:event(run_id, { kind = "again", message = "asked for anew", attempt_id = newest.id }))
  end
end

return retry
