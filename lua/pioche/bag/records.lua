-- records.lua: the rows of a run as a bundle holds them (pioche.bag says where).
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"

local records = {}
local check = errors.check

local function hex(text)
  return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- A row without these columns, its texts as JSON can hold them.
function records.plain(row, ...)
  for _, column in ipairs { ... } do row[column] = nil end
  for column, value in pairs(row) do
    if type(value) == "string" and not utf8.len(value) then row[column] = { hex = hex(value) } end
  end
  return row
end

local plain = records.plain

local function list_of(rows, ...)
  for i, row in ipairs(rows) do rows[i] = plain(row, ...) end
  return json.array(rows)
end

local function attempts_of(box, store, run)
  local list = store:rows("SELECT * FROM attempt WHERE run_id = ? ORDER BY number", run.id)
  for i, attempt in ipairs(list) do
    local id = attempt.id
    plain(attempt, "id", "run_id", "agent_pid", "pool_id")
    attempt.ranks = list_of(store:rows("SELECT * FROM rank WHERE attempt_id = ? ORDER BY rank", id),
      "attempt_id")
    attempt.checks = list_of(store:rows("SELECT * FROM node_check WHERE attempt_id = ?"
      .. " ORDER BY node, name", id), "attempt_id")
    attempt.environment = list_of(store:rows("SELECT * FROM attempt_environment"
      .. " WHERE attempt_id = ? ORDER BY part, node", id), "attempt_id")
    for _, row in ipairs(attempt.environment) do
      if not box.by_digest[row.sha256] then
        box:text("environment/" .. row.sha256 .. ".json", store:one("SELECT document"
          .. " FROM environment WHERE sha256 = ?", row.sha256).document)
      end
    end
    list[i] = attempt
  end
  return json.array(list)
end

local extensions = { ["image/png"] = "png", ["image/jpeg"] = "jpg", ["text/plain"] = "txt",
  ["application/json"] = "json", ["text/csv"] = "csv" }

-- A name for a medium that says what it is, each once.
local function media_path(box, folder, row)
  local name = type(row.name) == "string" and row.name or nil
  local key = type(row.key) == "string" and row.key or row.kind
  local stem = folder .. "run/media/" .. row.kind .. "/" .. key:gsub("[^%w._-]", "_"):sub(1, 80)
    .. (row.step and "-" .. row.step or "") .. (row.rank > 0 and "-rank-" .. row.rank or "")
  local ending = "." .. (name and name:match("%.(%w+)$") or extensions[row.mime] or "bin")
  local path, n = stem .. ending, 1
  while box:clashes(path) do
    n = n + 1
    path = stem .. "~" .. n .. ending
  end
  return path
end

local function media_of(box, store, run, folder)
  local list = json.array {}
  for i, id in ipairs(store:column("SELECT id FROM media WHERE run_id = ? ORDER BY id", run.id)) do
    local row = store:one("SELECT m.*, a.number AS attempt FROM media m"
      .. " LEFT JOIN attempt a ON a.id = m.attempt_id WHERE m.id = ?", id)
    local data = row.data
    plain(row, "id", "run_id", "attempt_id", "data")
    local path = media_path(box, folder, row)
    if data then
      row.sha256 = sys.sha256(data)
      row.inline = true
      if not box.by_digest[row.sha256] then
        box:made(path, function(_, append) append(data) end)
      end
    else
      box:object(path, store:object_path(row.sha256), row.sha256, row.bytes)
    end
    list[i] = row
  end
  return list
end

local function checkpoints_of(store, checkpoints)
  local list = json.array {}
  for i, checkpoint in ipairs(checkpoints) do
    local row = store:one("SELECT c.*, a.number AS attempt FROM checkpoint c"
      .. " JOIN attempt a ON a.id = c.attempt_id WHERE c.id = ?", checkpoint.id)
    row.files = list_of(store:rows("SELECT f.*, o.bytes FROM checkpoint_file f JOIN object o"
      .. " ON o.sha256 = f.sha256 WHERE f.checkpoint_id = ? ORDER BY f.rank, f.role, f.part", checkpoint.id),
      "checkpoint_id")
    list[i] = plain(row, "id", "run_id", "attempt_id", "manifest")
  end
  return list
end

local page_rows = 10000

local function events_of(box, store, run, folder)
  box:made(folder .. "run/events.jsonl", function(_, append)
    local after = 0
    repeat
      local page, lines = store:rows("SELECT e.*, a.number AS attempt FROM event e"
        .. " LEFT JOIN attempt a ON a.id = e.attempt_id WHERE e.run_id = ? AND e.id > ?"
        .. " ORDER BY e.id LIMIT ?", run.id, after, page_rows), {}
      for i, row in ipairs(page) do
        after = row.id
        lines[i] = check(json.encode(plain(row, "id", "run_id", "attempt_id"))) .. "\n"
      end
      append(table.concat(lines))
    until #page < page_rows
  end)
end

-- All that is known of a loaded run, below `folder`.
function records.add(box, store, run, folder, checkpoints)
  local row = store:one("SELECT * FROM run WHERE id = ?", run.id)
  local sweep = row.sweep_id and store:one("SELECT ulid FROM sweep WHERE id = ?", row.sweep_id)
  box:json(folder .. "run/records.json", {
    format = "pioche/run/1", schema = store:one("PRAGMA user_version").user_version,
    experiment = plain(store:one("SELECT name, goal_key, goal, created_ns FROM experiment"
      .. " WHERE id = ?", row.experiment_id)),
    sweep = sweep and sweep.ulid or json.null, commit = run.commit or json.null,
    run = plain(row, "id", "experiment_id", "sweep_id", "snapshot_id"),
    params = list_of(store:rows("SELECT * FROM param WHERE run_id = ? ORDER BY name", run.id),
      "run_id"),
    tags = list_of(store:rows("SELECT * FROM tag WHERE run_id = ? ORDER BY name", run.id), "run_id"),
    attempts = attempts_of(box, store, run), media = media_of(box, store, run, folder),
    checkpoints = checkpoints_of(store, checkpoints),
  })
  events_of(box, store, run, folder)
  box:made(folder .. "run/points.bin", function(fd) check(store:export_points(run.id, fd)) end)
  box:made(folder .. "run/metrics.csv", function(fd) check(store:export_csv(run.id, fd)) end)
end

-- What the ranks printed, as it lies in the store.
function records.add_logs(box, store, run, folder)
  for _, attempt in ipairs(run.attempts) do
    local dir = store:path() .. "/" .. attempt.dir
    for _, name in ipairs(sys.list(dir) or {}) do
      if (name:find("^rank%-%d+%.out$") or name:find("^rank%-%d+%.err$"))
        and sys.type(dir .. "/" .. name) == "file" then
        box:file(("%srun/logs/%d/%s"):format(folder, attempt.number, name), dir .. "/" .. name)
      end
    end
  end
end

-- The proposals of a sweep that became these runs, and those that became none, with their runs.
local function proposals_of(store, sweep_id, by_id)
  local proposals = json.array {}
  for proposal in store:each("SELECT * FROM proposal WHERE sweep_id = ? ORDER BY number", sweep_id) do
    local its, rows = json.array {}, store:rows("SELECT * FROM proposal_run WHERE sweep_id = ? AND number = ?"
      .. " ORDER BY seed", sweep_id, proposal.number)
    for _, one in ipairs(rows) do
      local known = by_id[one.run_id]
      if known then
        its[#its + 1] = plain(one, "sweep_id", "number", "run_id")
        one.run = known.ulid
      end
    end
    proposal.runs = its
    if #its > 0 or #rows == 0 then proposals[#proposals + 1] = plain(proposal, "sweep_id") end
  end
  return proposals
end

-- What the rule of a sweep said of these runs, in its order; a run went on after so many of them.
local function rungs_of(store, sweep_id, by_id)
  local list, places = json.array {}, {}
  for row in store:each("SELECT * FROM rung WHERE sweep_id = ? ORDER BY id", sweep_id) do
    local known = by_id[row.run_id]
    if known then list[#list + 1] = row end
    places[row.id] = #list
    row.run = known and known.ulid
  end
  for _, row in ipairs(list) do
    row.promoted_after = row.promoted_after and (places[row.promoted_after] or 0)
    plain(row, "id", "sweep_id", "run_id")
  end
  return list
end

-- The rows of the sweeps of loaded runs, with what is on record of their search, race and rule.
function records.add_sweeps(box, store, loaded)
  local by_id, done = {}, {}
  for _, run in ipairs(loaded) do by_id[run.id] = run end
  for _, run in ipairs(loaded) do
    if run.sweep_id and not done[run.sweep_id] then
      done[run.sweep_id] = true
      local sweep = store:one("SELECT * FROM sweep WHERE id = ?", run.sweep_id)
      plain(sweep, "id", "experiment_id")
      sweep.recipe_path = type(sweep.recipe_path) == "string" and sweep.recipe_path:match("[^/]*$")
        or sweep.recipe_path
      sweep.experiment, sweep.proposals = run.experiment, proposals_of(store, run.sweep_id, by_id)
      sweep.changes = list_of(store:rows("SELECT * FROM sweep_change WHERE sweep_id = ? ORDER BY number",
        run.sweep_id), "sweep_id")
      sweep.priors = list_of(store:rows("SELECT * FROM sweep_prior WHERE sweep_id = ? ORDER BY number",
        run.sweep_id), "sweep_id")
      sweep.rungs = rungs_of(store, run.sweep_id, by_id)
      box:json("sweep/" .. sweep.ulid .. ".json", sweep)
    end
  end
end

return records
