-- nodes.lua: which machines are to be left out, and why.
--
-- Facts are in the tables node, attempt and node_check. What follows from them is
-- here: a node's score is the sum of its first failures, each worth half after a
-- week; a node of the cluster whose score reaches the limit by a fresh failure is
-- left out for a day. A person may exclude and clear as well, at any time.
local errors = require "pioche.errors"
local retry = require "pioche.retry"

local nodes = {}

local day_ns <const> = 24 * 3600 * 1000000000
local half_life_ns <const> = 7 * day_ns
local look_back_ns <const> = 8 * half_life_ns -- what is older is worth nothing
local score_limit <const> = 2.5 -- three that are surely its own, within days
local exclusion_ns <const> = day_ns

-- Not before a person clears it.
nodes.forever = math.maxinteger

-- How much a first failure says against the machine: what may well be the
-- program's counts for a third.
local weights = { node_fail = 1.0, lost = 1.0, hang = 0.5, oom = 0.3, signal = 0.5, failed = 0.3 }
local machine_words = { "CUDA error", "NCCL", "NVML", "Xid", "ECC", "Bus error", "SIGBUS",
  "Input/output error", "preflight:" }

local function weight(attempt)
  -- An Xid that as a rule says nothing against the machine (core/launch/agent_xid.c).
  local message = (attempt.message or ""):gsub("Xid %d+[^;]*, as a rule [^;]*", "")
  for _, word in ipairs(machine_words) do
    if message:find(word, 1, true) then return 1.0 end
  end
  return weights[attempt.result] or 0.0
end

-- Nodes that an attempt did without, as they failed its preflight: each as if it had
-- failed first.
local function left_out(store, now_ns)
  return errors.check(store:rows([[
    SELECT a.run_id, a.number, c.node, 'node_fail' AS result, a.launcher, max(c.time_ns) AS ended_ns,
           'preflight: ' || group_concat(c.message, '; ') AS message, e.name || '-' || r.number AS run
      FROM node_check c JOIN attempt a ON a.id = c.attempt_id JOIN node n ON n.name = c.node
      JOIN run r ON r.id = a.run_id JOIN experiment e ON e.id = r.experiment_id
     WHERE c.state = 'failed' AND a.state = 'ended' AND c.node IS NOT a.node
       AND c.time_ns > max(?, coalesce(n.cleared_ns, 0))
     GROUP BY a.id, c.node ORDER BY a.id, c.node]], now_ns - look_back_ns))
end

-- First failures of nodes, by name; oldest first. Not those that the same run had
-- in the same way elsewhere.
local function failures_of(store, now_ns)
  local runs_of, by_name = {}, {}
  for _, row in ipairs(errors.check(store:rows([[
    SELECT a.run_id, a.number, a.node, a.result, a.step, a.exit_code, a.signal, a.message, a.launcher,
           a.ended_ns, e.name || '-' || r.number AS run
      FROM attempt a JOIN node n ON n.name = a.node JOIN run r ON r.id = a.run_id
      JOIN experiment e ON e.id = r.experiment_id
     WHERE a.node IS NOT NULL AND a.ended_ns > max(?, coalesce(n.cleared_ns, 0))
     ORDER BY a.ended_ns, a.id]], now_ns - look_back_ns))) do
    local of_run = runs_of[row.run_id] or {}
    runs_of[row.run_id], of_run[#of_run + 1] = of_run, row
  end
  for _, of_run in pairs(runs_of) do
    local guilty = {}
    for _, name in ipairs(retry.suspects(of_run)) do guilty[name] = true end
    for _, row in ipairs(of_run) do
      if guilty[row.node] and weight(row) > 0 then
        by_name[row.node] = by_name[row.node] or {}
        table.insert(by_name[row.node], row)
      end
    end
  end
  for _, row in ipairs(left_out(store, now_ns)) do
    by_name[row.node] = by_name[row.node] or {}
    table.insert(by_name[row.node], row)
  end
  for _, list in pairs(by_name) do
    table.sort(list, function(a, b)
      if a.ended_ns ~= b.ended_ns then return a.ended_ns < b.ended_ns end
      return a.run_id < b.run_id
    end)
  end
  return by_name
end

-- What a list of failures is worth now.
function nodes.score(list, now_ns)
  local score = 0.0
  for _, attempt in ipairs(list) do
    score = score + weight(attempt) * 2 ^ (-math.max(0, now_ns - attempt.ended_ns) / half_life_ns)
  end
  return score
end

local function reason_for(list)
  local last = list[#list]
  return ("%d first failure%s, the last one of %s, attempt %d: %s"):format(#list,
    #list == 1 and "" or "s", last.run, last.number, last.message or last.result)
end

-- Every node that is known, by name: the row, its score, is_excluded.
function nodes.list(store, now_ns)
  local failures = failures_of(store, now_ns)
  local list = errors.check(store:rows("SELECT * FROM node ORDER BY name"))
  for _, node in ipairs(list) do
    node.failed = failures[node.name] or {}
    node.score = nodes.score(node.failed, now_ns)
    node.is_excluded = node.excluded_until_ns ~= nil and node.excluded_until_ns > now_ns
  end
  return list
end

-- Exclude whoever has come to the limit, by a failure on the cluster that is newer
-- than its last exclusion; then the names of all that are excluded, sorted, and
-- a line for each new one. The store must be writable.
function nodes.excluded(store, now_ns)
  local names, lines = {}, {}
  for _, node in ipairs(nodes.list(store, now_ns)) do
    local last = node.failed[#node.failed]
    if not node.is_excluded and node.score >= score_limit and last.launcher == "slurm"
      and last.ended_ns > (node.excluded_until_ns or 0) then
      local reason = reason_for(node.failed)
      errors.check(store:node_exclude(node.name, now_ns + exclusion_ns, reason))
      lines[#lines + 1] = ("%s is left out for a day: %s"):format(node.name, reason)
      node.is_excluded = true
    end
    if node.is_excluded then names[#names + 1] = node.name end
  end
  return names, lines
end

return nodes
