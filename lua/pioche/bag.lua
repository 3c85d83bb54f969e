-- bag.lua: what goes into a bundle: the records of runs, their code and their
-- checkpoints, as files for pioche.core.pack. Everything comes from the store, and
-- nothing from the exporter's machine, user or clock, so that the same export
-- gives the same bytes.
--
-- Under data/, for a bundle of one run (RUN/ is "") or of several (RUN/ is
-- "runs/<name>/", and there are runs.json, { format = "pioche/runs/1", runs[] { name,
-- ulid, folder } }, and compare.csv):
--
--   RUN/run/records.json   what it takes to have the run again in another store:
--     { format = "pioche/run/1", schema = user_version of the store,
--       experiment = { name, goal_key, goal, created_ns },
--       sweep = its ULID, commit = of its snapshot; null: none,
--       run, params[], tags[], attempts[], media[],
--       checkpoints[] with files[] { rank, role, sha256, bytes } }
--     Rows have the columns of schema.sql under their names, NULL left out, without
--     ids of rows: instead of attempt_id there is attempt = its number. Left out
--     are also agent_pid, pool_id, of checkpoints manifest, and of media data: with
--     inline = true the bytes were in the row, and sha256 is theirs. An attempt has
--     ranks[], checks[] (node_check) and environment[]. A text that is no UTF-8 is
--     { hex = "..." }.
--   RUN/run/events.jsonl   a row of event a line, in the order of their ids, as above
--   RUN/run/points.bin     every point of every attempt, bit for bit (store/points_file.h)
--   RUN/run/metrics.csv, config.json, env.json, git.txt, git.diff, recipe.lua
--                          the same for people and other programs; of several runs
--                          sweep/<ulid>.lua and code/<12 digits>.diff
--   RUN/run/logs/<attempt>/rank-<n>.out, .err
--   RUN/run/media/...      what media[] tells of
--   RUN/checkpoint.json, RUN/model/..., RUN/optim/...      of one checkpoint; of
--   RUN/checkpoints/<step>/checkpoint.json, ...            several
--   environment/<sha256>.json    documents that environment[] names
--   sweep/<ulid>.json      the row of a sweep, experiment = its name, and rows without sweep_id:
--                          proposals[], those of runs in the bundle and those that have none, with
--                          runs[] (proposal_run; run = its ULID), changes[] (sweep_change), priors[]
--                          (sweep_prior), and rungs[] of runs in the bundle, in their order, in which
--                          promoted_after is how many came before
--   code.json              an array of commits: the columns of snapshot but repository;
--                          object = the text of the git commit object, ref = below
--   code.bundle            a git bundle with the tree of each of them: its reference
--                          refs/heads/code-<first 12 digits of the commit> is a commit
--                          without parents, so that no history is told
--   code/...               the files as they are; of several commits code/<12 digits>/...
--
-- Bytes are told by their SHA-256 and each is there once: what a checkpoint or a
-- medium names is the file that manifest-sha256.txt lists with that digest, wherever
-- it lies. Weights of a checkpoint that are not there were left out on purpose.
local json = require "pioche.core.json"
local code = require "pioche.bag.code"
local describe = require "pioche.bag.describe"
local errors = require "pioche.errors"
local records = require "pioche.bag.records"
local runs = require "pioche.runs"
local weights = require "pioche.bag.weights"

local bag = {}

local function decoded(text)
  if type(text) ~= "string" then return json.null end
  local ok, value = pcall(json.decode, text)
  if not ok or value == nil then return json.null end
  return value
end

local function or_null(value)
  if value == nil then return json.null end
  return value
end

-- What was asked for: everything that decides the run.
local function config(run)
  return {
    id = run.name, ulid = run.ulid, experiment = run.experiment, identity = or_null(run.identity),
    params = run.params, tags = run.tags, seed = or_null(run.seed),
    program = decoded(run.program), launch = decoded(run.launch),
    from_checkpoint = or_null(run.from_checkpoint), commit = or_null(run.commit),
    goal = or_null(run.goal), goal_key = or_null(run.goal_key),
  }
end

-- What the nodes of an attempt were and had: { part, node, host, document =
-- its SHA-256 }, which is its name in environment/.
local function environment(store, attempt)
  local list = json.array {}
  for i, row in ipairs(store:rows("SELECT e.part, e.node, e.host, e.sha256"
    .. " FROM attempt_environment e WHERE e.attempt_id = ? ORDER BY e.part, e.node", attempt.id)) do
    list[i] = { part = row.part, node = row.node, host = row.host, document = row.sha256 }
  end
  return list
end

-- What it met: nodes, processes, how every attempt ended.
local function met(store, run)
  local attempts = json.array {}
  for i, attempt in ipairs(run.attempts) do
    local ranks = json.array {}
    for k, row in ipairs(store:rows("SELECT rank, node, exit_code, signal, bind FROM rank"
      .. " WHERE attempt_id = ? ORDER BY rank", attempt.id)) do
      ranks[k] = { rank = row.rank, node = row.node ~= "" and row.node or json.null,
        exit_code = or_null(row.exit_code),
        signal = or_null(row.signal), bind = decoded(row.bind) }
    end
    attempts[i] = { number = attempt.number, launcher = attempt.launcher,
      world_size = attempt.world_size, result = or_null(attempt.result),
      message = or_null(attempt.message), resume_checkpoint = or_null(attempt.resume_checkpoint),
      started = or_null(runs.time(attempt.started_ns)),
      ended = or_null(runs.time(attempt.ended_ns)), ranks = ranks,
      environment = environment(store, attempt) }
  end
  return { status = run.status, reason = or_null(run.reason),
    created = runs.time(run.created_ns), started = or_null(runs.time(run.started_ns)),
    ended = or_null(runs.time(run.ended_ns)),
    attempts = attempts }
end

local function named(text)
  return text and text ~= "" and text or "none"
end

local function git_txt(run)
  local lines = { "commit " .. run.commit, "tree " .. (run.tree or "") }
  if runs.is_kept_by_store(run) then
    lines[3] = "repository none: pioche kept the files, all of them are in git.diff"
  else
    lines[3], lines[4] = "parent " .. named(run.parent), "branch " .. named(run.branch)
    lines[5] = "uncommitted changes " .. (run.dirty == 1 and "yes: in git.diff" or "no")
  end
  return table.concat(lines, "\n") .. "\n"
end

-- What of one run goes below `folder`.
local function add_run(box, store, run, folder, checkpoints, options)
  box:json(folder .. "run/config.json", config(run))
  box:json(folder .. "run/env.json", met(store, run))
  if run.commit then box:text(folder .. "run/git.txt", git_txt(run)) end
  weights.add(box, store, checkpoints, folder, options.weights_only)
  records.add(box, store, run, folder, checkpoints)
  records.add_logs(box, store, run, folder)
end

local function add_recipes(box, store, loaded)
  local done = {}
  for _, run in ipairs(loaded) do
    local sweep = run.sweep_id and not done[run.sweep_id]
      and store:one("SELECT ulid, recipe FROM sweep WHERE id = ?", run.sweep_id)
    if sweep then
      done[run.sweep_id] = true
      box:text(#loaded == 1 and "run/recipe.lua" or "sweep/" .. sweep.ulid .. ".lua", sweep.recipe)
    end
  end
end

-- What is in a bundle, for its title and for bag-info.txt.
local function title_of(loaded)
  local first = loaded[1]
  if #loaded == 1 then return "run " .. first.name .. " of experiment " .. first.experiment end
  local names, seen = {}, {}
  for _, run in ipairs(loaded) do
    if not seen[run.experiment] then
      seen[run.experiment] = true
      names[#names + 1] = run.experiment
    end
  end
  return ("%d runs of experiment%s %s"):format(#loaded, #names == 1 and "" or "s",
    table.concat(names, ", "))
end

-- What `pioche compare --csv` says of them.
local function compare_csv(store, loaded)
  local words, parts = {}, {}
  for i, run in ipairs(loaded) do words[i] = run.ulid end
  require("pioche.command.compare").run { args = words, options = {}, csv = true,
    reading = function() return store end, out = function(text) parts[#parts + 1] = text end,
    note = function() end }
  return table.concat(parts)
end

local function add_overview(box, store, loaded, folders)
  local list = json.array {}
  for i, run in ipairs(loaded) do
    list[i] = { name = run.name, ulid = run.ulid, status = run.status, folder = folders[i] }
  end
  box:json("runs.json", { format = "pioche/runs/1", runs = list })
  box:text("compare.csv", compare_csv(store, loaded))
end

-- The folder of each run: its name, or its ULID where names differ in case alone.
local function folders_of(loaded)
  local folders, seen = {}, {}
  for i, run in ipairs(loaded) do
    local name = seen[run.name:lower()] and run.ulid or run.name
    seen[name:lower()] = true
    folders[i] = #loaded == 1 and "" or "runs/" .. name .. "/"
  end
  return folders
end

local function fill_records(box, store, loaded, options)
  local folders = folders_of(loaded)
  if #loaded > 1 then add_overview(box, store, loaded, folders) end
  for i, run in ipairs(loaded) do
    add_run(box, store, run, folders[i], options.checkpoints[run.id], options)
  end
  add_recipes(box, store, loaded)
  records.add_sweeps(box, store, loaded)
end

-- Fill a box with loaded runs (params, tags and attempts loaded). `options`:
-- checkpoints = { [run id] = rows }, weights_only, history. All records are of one
-- state of the store, also while runs go on.
function bag.fill(box, store, loaded, options)
  errors.check(store:hold())
  local ok, failure = pcall(fill_records, box, store, loaded, options)
  store:release()
  if not ok then error(failure, 0) end
  code.add(box, store, loaded, options.history)
  local title = title_of(loaded)
  describe.attestation(box, loaded, options.checkpoints)
  describe.crate(box, title, "Everything that pioche recorded of " .. title
    .. ": parameters, metrics, logs, code, environment, checkpoints.", loaded)
  for _, line in ipairs { { "External-Identifier", loaded[1].ulid },
    { "External-Description", title } } do
    errors.check(box.bundle:info(line[1], line[2]))
  end
end

return bag
