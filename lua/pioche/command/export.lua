-- export: one run as one archive that needs no pioche to be opened or checked.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local bag = require "pioche.bag"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local query = require "pioche.query"
local runs = require "pioche.runs"
local tensorboard = require "pioche.tensorboard"
local term = require "pioche.term"

-- The row of the checkpoint that --checkpoint names, or nil for none.
local function choose_checkpoint(ctx, store, run)
  local wanted = ctx.options.checkpoint
  if wanted == "none" then return nil end
  if wanted == "best" and not run.goal_key then
    errors.raise("invalid", "--checkpoint best: experiment '%s' has no goal; say last",
      run.experiment)
  end
  local id
  if wanted ~= "last" and run.goal_key then
    id = store:checkpoint_best(run.id, runs.metric(store, run.goal_key).key, run.goal)
  else
    id = store:checkpoint_newest(run.id)
  end
  if not id or id == 0 then
    if wanted then
      errors.raise("not_found", "--checkpoint %s: %s has no checkpoint", wanted, run.name)
    end
    ctx.note(run.name .. " has no checkpoint: the bundle holds its records alone\n")
    return nil
  end
  return store:one("SELECT * FROM checkpoint WHERE id = ?", id)
end

local function output_path(ctx, run)
  local path = ctx.options.output or (run.name .. ".tar")
  if sys.type(path) == "dir" then path = path:gsub("/+$", "") .. "/" .. run.name .. ".tar" end
  if sys.type(path) and not ctx.options.force then
    errors.raise("exists", "%s: exists already; --force replaces it", path)
  end
  local folder = path:match("^(.*)/[^/]*$")
  if folder and folder ~= "" and sys.type(folder) ~= "dir" then
    errors.raise("not_found", "%s: there is no folder %s", path, folder)
  end
  return path
end

local stale_ns = 3600 * 1000000000   -- a process we cannot see may run elsewhere

-- Where the metrics wait: in the store, under this process's name, so that what
-- an interrupted export left is known for that; beside the bundle where the
-- store cannot be written.
local function metrics_path(store, path)
  if not store:is_writable() then return path .. ".metrics.part" end
  local staging, host = store:path() .. "/staging", sys.hostname():gsub("[^%w.]", "_")
  local head = "export-" .. host .. "-"
  for _, name in ipairs(sys.list(staging) or {}) do
    local pid = name:sub(1, #head) == head and name:match("^(%d+)%.csv$", #head + 1)
    local stat = pid and not sys.type("/proc/" .. pid) and sys.stat(staging .. "/" .. name)
    if stat and sys.now_ns() - stat.mtime_ns > stale_ns then os.remove(staging .. "/" .. name) end
  end
  return staging .. "/" .. head .. sys.pid() .. ".csv"
end

-- The folder inside is named after the run, whatever the file is called.
local function write_bundle(ctx, store, run, path, checkpoint)
  local pack = require "pioche.core.pack"
  local metrics = metrics_path(store, path)
  local progress = term.progress("exporting " .. run.name, format.bytes)
  local ok, digest, bytes, files = pcall(function()
    store:export_csv(run.id, metrics)
    local entries = bag.entries(store, run, { checkpoint = checkpoint, metrics_csv = metrics,
      weights_only = ctx.options.weights_only, note = ctx.note })
    local sha256, size = errors.check(pack.bundle { path = path, name = run.name,
      mtime = run.created_ns // 1000000000,
      info = bag.info(run), entries = entries,
      progress = function(_, done, total) progress(done, total) end })
    return sha256, size, #entries
  end)
  progress()
  pcall(os.remove, metrics)
  if not ok then error(digest, 0) end
  return digest, bytes, files
end

-- Pack one run; what there is to say of it.
local function export(ctx, store, id)
  local found = runs.load(store, { id }, { params = true, tags = true, attempts = true })[1]
  local path = output_path(ctx, found)
  if found.status == "running" or found.status == "planned" or found.status == "queued" then
    ctx.note(string.format("%s is %s: the bundle holds what is there now\n", found.name,
      found.status))
  end
  local checkpoint = choose_checkpoint(ctx, store, found)
  local digest, bytes, files = write_bundle(ctx, store, found, path, checkpoint)
  if store:is_writable() then
    store:bundle_add { run_id = found.id, path = sys.realpath(path) or path, sha256 = digest,
      bytes = bytes }
  end
  return { id = found.name, path = path, bytes = bytes, sha256 = digest,
    files = files, checkpoint = checkpoint and checkpoint.manifest_sha256 or json.null,
    step = checkpoint and checkpoint.step or json.null }
end

local function summary_line(done)
  return string.format("%s  %s%s\nsha256 %s\n", done.path, format.bytes(done.bytes),
    done.step ~= json.null and "  checkpoint of step " .. format.count(done.step) or "", done.sha256)
end

-- One word that names one run is one bundle; everything else is a bundle a run.
local function is_single(ctx, store)
  return #ctx.args == 1 and not query.is_query(ctx.args[1])
    and not runs.only_experiments(store, ctx.args)
end

local function run(ctx)
  local store = ctx.reading()
  local single = is_single(ctx, store)
  local ids = single and { runs.find(store, ctx.args[1]) } or query.choose(store, ctx.args, {})
  if #ids == 0 then errors.raise("not_found", "no run to export: none matches") end
  if ctx.options.tensorboard then return tensorboard.export(ctx, store, ids) end
  local output = ctx.options.output
  if output and output:find("/$") and not sys.type(output) then
    errors.check(sys.mkdirs(output))
  elseif not single and output and sys.type(output) ~= "dir" then
    errors.raise("usage", "--output %s: expected a folder, for a bundle a run; one that ends in / is made",
      output)
  end
  local list = json.array {}
  if ctx.csv then ctx.out(csv.line { "run", "path", "bytes", "sha256" }) end
  for i, id in ipairs(ids) do
    list[i] = export(ctx, store, id)
    local done = list[i]
    if ctx.csv then
      ctx.out(csv.line { done.id, done.path, done.bytes, done.sha256 })
    elseif not ctx.json then
      ctx.out(summary_line(done))
    end
  end
  if ctx.json then
    ctx.out(ctx.encode(single and list[1] or list) .. "\n")
  elseif not ctx.csv then
    ctx.out("anybody checks " .. (single and "it" or "one of them") .. " with:\n  tar xf "
      .. list[1].path .. " && cd " .. list[1].id
      .. "\n  sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt\n")
  end
  return 0
end

return {
  summary = "pack a run into one archive that anybody can check",
  usage = "export RUN [-o X.tar] [--checkpoint best|last|none] [--weights-only]\n"
    .. "export RUN|EXPERIMENT|QUERY... [-o FOLDER]\n"
    .. "export RUN|EXPERIMENT|QUERY... --tensorboard DIR",
  help = [[
A plain tar in BagIt layout: recipe, parameters, environment, metrics.csv, git
commit and its difference from HEAD, a checkpoint as safetensors files (several
shards with the index that Hugging Face's loaders read), SHA-256 manifests. The
same export twice gives the same bytes. The checkpoint is the best by the
experiment's goal, or the newest where there is no goal.

Several runs, an experiment or a QUERY (`pioche help query`) become a bundle a
run, in FOLDER/, which is made where there is none, or here.

With --tensorboard: event files that TensorBoard shows, in DIR/RUN; ranks above 0
in DIR/RUN/rank-N. Keys are tags, parameters are hparams, values that no f32 holds
are written as f64. Nothing is overwritten. JSON: an array of {id, path, points,
texts, histograms, images, passed_over}.

JSON: {id, path, bytes, sha256, files, checkpoint, step}; of several runs an
array of these.]],
  options = {
    { name = "output", short = "o", arg = "X.tar",
      help = "where to: a file or a folder (RUN.tar here unless told)" },
    { name = "checkpoint", arg = "WHICH", choices = { "best", "last", "none" },
      help = "best, last or none" },
    { name = "weights-only", help = "without optimizer state" },
    { name = "tensorboard", arg = "DIR", help = "event files for TensorBoard instead, below DIR" },
    { name = "force", short = "f", help = "replace an existing file" },
  },
  examples = "pioche export gpt/best -o gpt.tar\npioche verify gpt.tar\n"
    .. "pioche export gpt 'val/loss < 1.8' -o best/",
  args = { 1, nil, what = "a RUN, an EXPERIMENT or a QUERY" },
  run = run,
}
