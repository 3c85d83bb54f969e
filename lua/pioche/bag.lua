-- bag.lua: what goes into a bundle: the records of runs, their code and their
-- checkpoints, as files for pioche.core.pack. Everything comes from the store, and
-- nothing from the exporter's machine, user or clock, so that the same export
-- gives the same bytes.
--
-- Under data/, for a bundle of one run (RUN/ is "") or of several (RUN/ is
-- "runs/<name>/", and there is experiment.json, {"format": "pioche/bundle/1"}):
--
--   RUN/run/records.json   what it takes to have the run again in another store:
--     { format = "pioche/run/1", schema = user_version of the store,
--       experiment = { name, goal_key, goal, created_ns },
--       sweep = its ULID, commit = of its snapshot; null: none,
--       run, params[], tags[], attempts[] with ranks[] and environment[],
--       media[], checkpoints[] with files[] { rank, role, sha256, bytes } }
--     Rows have the columns of schema.sql under their names, NULL left out, without
--     ids of rows: instead of attempt_id there is attempt = its number. Left out
--     are also agent_pid, pool_id, and of media data: sha256 is of its bytes, too.
--     A text that is no UTF-8 is { hex = "..." }.
--   RUN/run/events.jsonl   a row of event a line, in the order of their ids, as above
--   RUN/run/points.bin     every point of every attempt, bit for bit (store/points_file.h)
--   RUN/run/metrics.csv, config.json, env.json, git.txt, git.diff, recipe.lua
--                          the same for people and other programs
--   RUN/run/logs/<attempt>/rank-<n>.out, .err
--   RUN/run/media/...      what media[] tells of
--   RUN/checkpoint.json, RUN/model/..., RUN/optim/...      of one checkpoint; of
--   RUN/checkpoints/<step>/checkpoint.json, ...            several
--   environment/<sha256>.json    documents that environment[] names
--   sweep/<ulid>.json      the row of a sweep, and proposals[] { number, params, runs[]
--                          { seed, run = its ULID } } of those runs that are in the bundle
--   code.json              an array of commits: the columns of snapshot but repository,
--                          and object = the text of the git commit object
--   code.bundle            a git bundle with the tree of each of them: its reference
--                          refs/heads/code-<first 12 digits of the commit> is a commit
--                          without parents, so that no history is told
--   code/...               the files as they are; of several commits code/<12 digits>/...
--
-- Bytes are told by their SHA-256 and each is there once: what a checkpoint or a
-- medium names is the file that manifest-sha256.txt lists with that digest, wherever
-- it lies. Weights of a checkpoint that are not there were left out on purpose.
local git = require "pioche.core.git"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local runs = require "pioche.runs"

local bag = {}

local function pretty(value)
  return json.encode(value, { pretty = true }) .. "\n"
end

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
local function config_json(run)
  return pretty {
    id = run.name, ulid = run.ulid, experiment = run.experiment, identity = or_null(run.identity),
    params = run.params, tags = run.tags, seed = or_null(run.seed),
    program = decoded(run.program), launch = decoded(run.launch),
    from_checkpoint = or_null(run.from_checkpoint), commit = or_null(run.commit),
    goal = or_null(run.goal), goal_key = or_null(run.goal_key),
  }
end

-- What the nodes of an attempt were and had: { part, node, host, document =
-- its SHA-256 }; the documents go into `documents`, each once.
local function environment(store, attempt, documents)
  local list = json.array {}
  for i, row in ipairs(store:rows("SELECT e.part, e.node, e.host, e.sha256, d.document"
    .. " FROM attempt_environment e JOIN environment d ON d.sha256 = e.sha256"
    .. " WHERE e.attempt_id = ? ORDER BY e.part, e.node", attempt.id)) do
    list[i] = { part = row.part, node = row.node, host = row.host, document = row.sha256 }
    documents[row.sha256] = decoded(row.document)
  end
  return list
end

-- What it met: nodes, processes, how every attempt ended.
local function env_json(store, run)
  local attempts, documents = json.array {}, {}
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
      environment = environment(store, attempt, documents) }
  end
  return pretty { status = run.status, reason = or_null(run.reason),
    created = runs.time(run.created_ns), started = or_null(runs.time(run.started_ns)),
    ended = or_null(runs.time(run.ended_ns)),
    attempts = attempts, environments = next(documents) and documents or json.null }
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

-- File names of the shards of one role.
local function shard_name(role, i, count)
  local stem = role:gsub("[^%w._-]", "_")
  if count == 1 then return stem .. ".safetensors" end
  return string.format("%s-%05d-of-%05d.safetensors", stem, i, count)
end

-- The checkpoint's files by role, in rank order: { role, files = {...} }.
local function roles_of(store, checkpoint)
  local roles, by_role = {}, {}
  for _, row in ipairs(store:rows("SELECT f.rank, f.role, f.sha256, o.bytes FROM checkpoint_file f"
    .. " JOIN object o ON o.sha256 = f.sha256 WHERE f.checkpoint_id = ?"
    .. " ORDER BY f.role, f.rank", checkpoint.id)) do
    local group = by_role[row.role]
    if not group then
      group = { role = row.role, files = {} }
      by_role[row.role] = group
      roles[#roles + 1] = group
    end
    table.insert(group.files, row)
  end
  return roles
end

-- Index of the Hugging Face layout: which file holds which tensor.
local function index_json(store, files, names)
  local map, total = {}, 0
  for i, file in ipairs(files) do
    for _, row in ipairs(store:rows("SELECT name, bytes FROM tensor WHERE sha256 = ?"
      .. " ORDER BY name", file.sha256)) do
      map[row.name] = map[row.name] or names[i]
      total = total + row.bytes
    end
  end
  return pretty { metadata = { total_size = total }, weight_map = map }
end

local function add_weights(entries, store, checkpoint, weights_only)
  for _, group in ipairs(roles_of(store, checkpoint)) do
    local model = group.role == "model"
    if model or not weights_only then
      local folder = model and "model/" or "optim/"
      local names = {}
      for i, file in ipairs(group.files) do
        names[i] = shard_name(group.role, i, #group.files)
        entries[#entries + 1] = { path = folder .. names[i], file = store:object_path(file.sha256),
          sha256 = file.sha256, bytes = file.bytes }
      end
      if model and #names > 1 then
        entries[#entries + 1] = { path = "model/model.safetensors.index.json",
          data = index_json(store, group.files, names) }
      end
    end
  end
end

local function size_and_digest(entry)
  if entry.data then return #entry.data, sys.sha256(entry.data) end
  return entry.bytes, entry.sha256
end

local function by_path(a, b) return a.path < b.path end

-- Who made what from what, as an in-toto Statement v1 with SLSA provenance, not
-- signed: sign it beside the bundle.
local function attestation(run, entries)
  local subject = json.array {}
  for i, entry in ipairs(entries) do
    local _, digest = size_and_digest(entry)
    subject[i] = { name = entry.path, digest = { sha256 = digest } }
  end
  local sources = json.array {}
  if run.commit then sources[1] = { uri = "git:commit", digest = { gitCommit = run.commit } } end
  return pretty {
    _type = "https://in-toto.io/Statement/v1", subject = subject,
    predicateType = "https://slsa.dev/provenance/v1",
    predicate = {
      buildDefinition = { buildType = "pioche/run/1", externalParameters = run.params,
        internalParameters = { program = decoded(run.program), launch = decoded(run.launch) },
        resolvedDependencies = sources },
      runDetails = { builder = { id = "pioche" }, metadata = { invocationId = run.ulid,
        startedOn = or_null(runs.time(run.started_ns)),
        finishedOn = or_null(runs.time(run.ended_ns)) } },
    },
  }
end

local media = { json = "application/json", csv = "text/csv", lua = "text/x-lua",
  txt = "text/plain", diff = "text/x-diff", safetensors = "application/octet-stream" }

local function ro_crate(run, entries)
  local parts, graph = json.array {}, json.array {}
  for i, entry in ipairs(entries) do
    local id = entry.path
    local size = size_and_digest(entry)
    parts[i] = { ["@id"] = id }
    graph[i + 2] = { ["@id"] = id, ["@type"] = "File", name = id:match("[^/]+$"),
      contentSize = tostring(size),
      encodingFormat = media[id:match("[^.]+$")] or "application/octet-stream" }
  end
  graph[1] = { ["@id"] = "ro-crate-metadata.json", ["@type"] = "CreativeWork",
    about = { ["@id"] = "./" }, conformsTo = { ["@id"] = "https://w3id.org/ro/crate/1.1" } }
  graph[2] = { ["@id"] = "./", ["@type"] = "Dataset", name = run.name, identifier = run.ulid,
    description = "Run " .. run.name .. " of experiment " .. run.experiment
      .. ": recipe, code, metrics, checkpoint",
    datePublished = runs.time(run.ended_ns or run.created_ns), hasPart = parts }
  return pretty { ["@context"] = "https://w3id.org/ro/crate/1.1/context", ["@graph"] = graph }
end

-- Lines of bag-info.txt.
function bag.info(run)
  return {
    { label = "External-Identifier", value = run.ulid },
    { label = "External-Description", value = "run " .. run.name .. " of experiment "
      .. run.experiment },
  }
end

-- Entries of the bundle of a loaded run (params, tags and attempts loaded).
-- `options`: checkpoint (a row of the table, or nil), weights_only, metrics_csv
-- (path of the metrics, already written), note(text).
function bag.entries(store, run, options)
  local entries = {}
  local function add(path, data)
    if data then entries[#entries + 1] = { path = path, data = data } end
  end
  if options.checkpoint then
    add("checkpoint.json", options.checkpoint.manifest)
    add_weights(entries, store, options.checkpoint, options.weights_only)
  end
  local sweep = run.sweep_id and store:one("SELECT recipe FROM sweep WHERE id = ?", run.sweep_id)
  add("run/recipe.lua", sweep and sweep.recipe)
  add("run/config.json", config_json(run))
  add("run/env.json", env_json(store, run))
  local digest, bytes = errors.check(sys.sha256_file(options.metrics_csv))
  entries[#entries + 1] = { path = "run/metrics.csv", file = options.metrics_csv,
    sha256 = digest, bytes = bytes }
  if run.commit then
    add("run/git.txt", git_txt(run))
    local diff, message = git.diff_parent(run.repository, run.commit)
    if not diff then options.note("git.diff is left out: " .. message .. "\n") end
    add("run/git.diff", diff)
  end
  table.sort(entries, by_path)
  add("attestation.intoto.json", attestation(run, entries))
  table.sort(entries, by_path)
  add("ro-crate-metadata.json", ro_crate(run, entries))
  table.sort(entries, by_path)
  return entries
end

return bag
