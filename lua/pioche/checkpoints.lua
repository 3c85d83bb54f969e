-- checkpoints.lua: which checkpoint is meant, and what is told of one.
--
-- A checkpoint is written RUN@STEP, RUN@last, RUN@best (by the experiment's goal) or
-- as the beginning of its manifest's digest; RUN is what pioche.naming takes.
local json = require "pioche.core.json"
local errors = require "pioche.errors"
local runs = require "pioche.runs"

local checkpoints = {}

local digits_min = 4          -- of a digest's beginning
local steps_told = 6          -- in an error

-- What is known of a checkpoint's files: 'write', 'quick' and 'reread' are how they were
-- found to be whole, and every other word is what is wrong with one.
local columns = [[
  c.id, c.run_id, e.name || '-' || r.number AS run, r.ulid, c.step, c.manifest_sha256 AS sha256,
  c.manifest, c.bytes, c.writers, c.fsyncs, c.stall_ns, c.total_ns,
  c.hash_ns, c.sync, c.asynchronous, c.created_ns, a.number AS attempt,
  (SELECT count(*) FROM checkpoint_file f WHERE f.checkpoint_id = c.id) AS files,
  (SELECT sum(coalesce(o.stored_bytes, o.bytes)) FROM checkpoint_file f JOIN object o ON o.sha256 = f.sha256
    WHERE f.checkpoint_id = c.id) AS stored_bytes,
  (SELECT max(o.codec) FROM checkpoint_file f JOIN object o ON o.sha256 = f.sha256
    WHERE f.checkpoint_id = c.id) AS encoding,
  (SELECT CASE WHEN o.verified NOT IN ('write', 'quick', 'reread') THEN o.verified
      ELSE 'has a damaged anchor' END FROM checkpoint_file f JOIN object o ON o.sha256 = f.sha256
      LEFT JOIN object a ON a.sha256 = o.anchor WHERE f.checkpoint_id = c.id AND (o.verified NOT IN
      ('write', 'quick', 'reread') OR a.verified NOT IN ('write', 'quick', 'reread')) LIMIT 1) AS damage,
  (SELECT count(*) FROM checkpoint_file f JOIN object o ON o.sha256 = f.sha256
    WHERE f.checkpoint_id = c.id AND o.verified IS NOT 'reread') AS unread,
  (SELECT min(o.verified_ns) FROM checkpoint_file f JOIN object o ON o.sha256 = f.sha256
    WHERE f.checkpoint_id = c.id) AS verified_ns,
  (SELECT coalesce(p.reason, '') FROM pin p WHERE p.checkpoint_id = c.id) AS pinned,
  (SELECT p.result FROM proof p WHERE p.run_id = c.run_id AND p.checkpoint = c.manifest_sha256
    ORDER BY p.id DESC LIMIT 1) AS proof,
  (SELECT p.message FROM proof p WHERE p.run_id = c.run_id AND p.checkpoint = c.manifest_sha256
    ORDER BY p.id DESC LIMIT 1) AS proof_message]]

local from = [[ FROM checkpoint c JOIN run r ON r.id = c.run_id
  JOIN experiment e ON e.id = r.experiment_id JOIN attempt a ON a.id = c.attempt_id
 WHERE c.state = 'sealed' AND ]]

-- ---- finding one ----------------------------------------------------------------------

-- Id of the best checkpoint of a run (loaded or a row with goal_key and goal), or nil.
function checkpoints.best(store, run)
  if not run.goal_key then return nil end
  local id = store:checkpoint_best(run.id, runs.metric(store, run.goal_key).key, run.goal)
  return id ~= 0 and id or nil
end

-- Up to some steps of which a run has checkpoints, those nearest to `step`.
local function steps_near(store, run, step)
  local list = store:column("SELECT step FROM (SELECT DISTINCT step FROM checkpoint WHERE run_id = ?1 AND"
    .. " state = 'sealed' ORDER BY abs(step - ?2), step LIMIT ?3) ORDER BY step", run.id, step, steps_told)
  return table.concat(list, ", ")
end

local function of_run(store, word, name, which)
  local run = runs.load(store, { runs.find(store, name) })[1]
  local newest = store:one("SELECT id, step FROM checkpoint WHERE run_id = ? AND state = 'sealed'"
    .. " ORDER BY step DESC, id DESC LIMIT 1", run.id)
  if not newest then errors.raise("not_found", "%s: %s has no checkpoint", word, run.name) end
  if which == "last" then return newest.id end
  if which == "best" then
    if not run.goal_key then
      errors.raise("invalid", "%s: experiment '%s' has no goal; say %s@last", word, run.experiment, name)
    end
    return checkpoints.best(store, run)
      or errors.raise("not_found", "%s: no checkpoint of %s has a value of '%s'", word, run.name,
        run.goal_key)
  end
  local step = which:match("^%-?%d+$") and math.tointeger(tonumber(which))
  if not step then
    errors.raise("usage", "%s: expected a step, last or best behind the @, got '%s'", word, which)
  end
  local row = store:one("SELECT id FROM checkpoint WHERE run_id = ? AND step = ? AND state = 'sealed'"
    .. " ORDER BY id DESC LIMIT 1", run.id, step)
  return row and row.id or errors.raise("not_found", "%s: %s has no checkpoint of step %d; it has %s", word,
    run.name, step, steps_near(store, run, step))
end

local function by_digest(store, word)
  if #word < digits_min or #word > 64 or word:find("[^%x]") then return nil end
  local prefix = word:lower()
  local list = store:rows("SELECT c.id, c.manifest_sha256 AS sha256, e.name || '-' || r.number || '@' ||"
    .. " c.step AS name" .. from .. "c.manifest_sha256 >= ? AND c.manifest_sha256 < ?"
    .. " ORDER BY c.manifest_sha256 LIMIT 3", prefix, prefix .. "g")
  if #list > 1 then
    errors.raise("invalid", "'%s' is the beginning of several checkpoints: %s (%s), %s (%s)%s", word,
      list[1].sha256:sub(1, 12), list[1].name, list[2].sha256:sub(1, 12), list[2].name,
      #list > 2 and ", ..." or "")
  end
  return list[1] and list[1].id
end

local function find_id(store, word)
  local name, which = word:match("^(.+)@([^@]+)$")
  if name then return of_run(store, word, name, which) end
  local id = by_digest(store, word)
  if id then return id end
  -- A run alone names none: which of its checkpoints is meant has to be said.
  local ok, run_id = pcall(runs.find, store, word)
  if ok then
    local run = runs.load(store, { run_id })[1]
    errors.raise("invalid", "'%s' is a run, a checkpoint is expected: %s@last%s or %s@STEP", word, run.name,
      run.goal_key and ", " .. run.name .. "@best" or "", run.name)
  end
  errors.raise("not_found", "no checkpoint '%s': expected RUN@STEP, RUN@last, RUN@best, or the beginning"
    .. " of its digest as `pioche checkpoint ls` shows it", word)
end

local function finish(row)
  row.name = row.run .. "@" .. row.step
  row.ratio = row.encoding and row.bytes / row.stored_bytes
  row.state = row.damage and "damaged" or row.unread == 0 and "reread" or "written"
  return row
end

-- The checkpoint that a word names; raises where there is none or several.
function checkpoints.find(store, word)
  return finish(store:one("SELECT " .. columns .. from .. "c.id = ?", find_id(store, word)))
end

-- ---- many ------------------------------------------------------------------------------

-- Say of the checkpoints of one run which of them is the last, which the best, and what
-- the goal was at each.
local function judge(store, run, list)
  list[#list].is_last = true
  if not run.goal_key then return end
  local best = checkpoints.best(store, run)
  local series = store:one("SELECT id FROM series WHERE run_id = ? AND key = ? ORDER BY rank LIMIT 1",
    run.id, runs.metric(store, run.goal_key).key)
  for _, row in ipairs(list) do
    row.is_best = row.id == best
    row.value = series and store:series_value_at(series.id, row.step)
  end
end

-- The checkpoints of runs of these ids, by run, then by step.
function checkpoints.list(store, ids)
  local result = {}
  for _, run in ipairs(runs.load(store, ids)) do
    local list = store:rows("SELECT " .. columns .. from .. "c.run_id = ? ORDER BY c.step, c.id", run.id)
    for i, row in ipairs(list) do
      list[i] = finish(row)
      list[i].goal_key = run.goal_key
      result[#result + 1] = list[i]
    end
    if #list > 0 then judge(store, run, list) end
  end
  return result
end

-- Its files: { rank, role, part, sha256, bytes, verified, verified_ns, codec, anchor,
-- stored_bytes }, by rank, role and part: what is large is in several.
function checkpoints.files(store, checkpoint)
  return store:rows("SELECT f.rank, f.role, f.part, f.sha256, o.bytes, o.verified, o.verified_ns, o.codec,"
    .. " o.anchor, o.stored_bytes FROM checkpoint_file f JOIN object o ON o.sha256 = f.sha256 WHERE f.checkpoint_id = ?"
    .. " ORDER BY f.rank, f.role, f.part", checkpoint.id)
end

-- Its tensors, one after another in the order of their bytes: { rank, role, name, dtype,
-- shape (JSON), offset, bytes, sha256 (of the file) }; those of one name where it is given.
function checkpoints.tensors(store, checkpoint, name)
  return store:each("SELECT f.rank, f.role, t.name, t.dtype, t.shape, t.offset, t.bytes, t.sha256,"
    .. " t.part_begin FROM checkpoint_file f JOIN tensor t ON t.sha256 = f.sha256 WHERE f.checkpoint_id = ?1 AND"
    .. " t.name = coalesce(?2, t.name) ORDER BY f.rank, f.role, f.part, t.offset, t.name", checkpoint.id, name)
end

-- What stands behind a row of checkpoints.list: "last", "best", "pinned", or several.
function checkpoints.marks(row)
  local marks = {}
  if row.is_last then marks[#marks + 1] = "last" end
  if row.is_best then marks[#marks + 1] = "best" end
  if row.pinned then marks[#marks + 1] = "pinned" end
  return marks
end

local function or_null(value)
  if value == nil then return json.null end
  return value
end

-- Milliseconds; null of checkpoints of which that is not known.
local function ms_or_null(ns)
  return ns and ns / 1e6 or json.null
end

function checkpoints.to_json(row)
  local asynchronous = json.null
  if row.asynchronous then asynchronous = row.asynchronous == 1 end
  return { id = row.sha256, name = row.name, run = row.run, ulid = row.ulid, step = row.step,
    attempt = row.attempt, bytes = row.bytes, files = row.files, writers = row.writers,
    fsyncs = row.fsyncs, stall_ms = row.stall_ns / 1e6, total_ms = ms_or_null(row.total_ns),
    hash_cpu_ms = ms_or_null(row.hash_ns), sync = or_null(row.sync), asynchronous = asynchronous,
    created = runs.time(row.created_ns),
    encoding = or_null(row.encoding), stored_bytes = row.stored_bytes, ratio = or_null(row.ratio),
    state = row.state, damage = or_null(row.damage), verified = or_null(runs.time(row.verified_ns)),
    proof = or_null(row.proof), value = or_null(row.value), marks = json.array(checkpoints.marks(row)) }
end

return checkpoints
