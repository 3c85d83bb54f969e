-- export: one run as one archive that needs no pioche to be opened or checked.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local bag = require "pioche.bag"
local boxes = require "pioche.bag.box"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local outlet = require "pioche.bag.outlet"
local query = require "pioche.query"
local runs = require "pioche.runs"
local tensorboard = require "pioche.tensorboard"
local term = require "pioche.term"
local weights = require "pioche.bag.weights"

local ongoing = { running = true, planned = true, queued = true }

-- ---- one bundle: of one run, or of a group of runs -------------------------------

-- What is made on the way lies in the store, or beside the bundle where the store
-- cannot be written.
local function spool_folder(store, path)
  if store:is_writable() then return store:path() .. "/staging" end
  return path and (path:match("^(.*)/[^/]*$") or ".") or sys.getenv("TMPDIR") or "/tmp"
end

-- The folder inside is named after the run, or after the experiment of all runs,
-- whatever the file is called.
local function name_of(group)
  if #group == 1 then return group[1].name end
  for _, run in ipairs(group) do
    if run.experiment ~= group[1].experiment then return "runs" end
  end
  return group[1].experiment
end

local function time_of(group)
  local newest = 0
  for _, run in ipairs(group) do newest = math.max(newest, run.created_ns) end
  return newest // 1000000000
end

-- { sha256, bytes } of what was written, and how many files are in it.
local function write_bundle(ctx, store, group, way, checkpoints)
  local name = name_of(group)
  local progress = term.progress("exporting " .. name, format.bytes)
  local box = boxes.new { path = way.path or "standard output", name = name, mtime = time_of(group),
    zstd = way.zstd, spool = spool_folder(store, way.path), note = ctx.note }
  local ok, written = pcall(function()
    bag.fill(box, store, group, { checkpoints = checkpoints,
      weights_only = ctx.options.weights_only, history = ctx.options.history })
    return outlet.write(way, box.bundle, function(_, done, total) progress(done, total) end)
  end)
  progress()
  box.bundle:close()
  if not ok then error(written, 0) end
  return written, #box.entries
end

-- { [run id] = rows } of a group, how many there are, and the last of them.
local function choose_checkpoints(ctx, store, group, words)
  local by_run, count, newest, without = {}, 0, nil, {}
  for _, run in ipairs(group) do
    local rows, missing = weights.choose(store, run, words)
    if missing and words and #group == 1 then
      errors.raise("not_found", "--checkpoints %s: %s has no checkpoint", missing, run.name)
    end
    if missing then without[#without + 1] = run.name end
    by_run[run.id], count, newest = rows, count + #rows, rows[#rows] or newest
  end
  if #without > 0 then
    ctx.note(#group == 1 and without[1] .. " has no checkpoint: the bundle holds its records alone\n"
      or ("%d of %d runs lack a checkpoint that was asked for: %s%s\n"):format(#without, #group,
        table.concat(without, ", ", 1, math.min(3, #without)), #without > 3 and ", ..." or ""))
  end
  return by_run, count, newest
end

-- Pack the runs of these ids; what there is to say of it.
local function export(ctx, store, ids, words)
  local group = runs.load(store, ids, { params = true, tags = true, attempts = true })
  local way = outlet.choose(ctx.options, name_of(group))
  for _, run in ipairs(group) do
    if ongoing[run.status] then
      ctx.note(("%s is %s: the bundle holds what is there now\n"):format(run.name, run.status))
    end
  end
  local checkpoints, count, newest = choose_checkpoints(ctx, store, group, words)
  local written, files = write_bundle(ctx, store, group, way, checkpoints)
  if (written.left or 0) > 0 then
    ctx.note(written.resumed > 0 and ("%s.part: %s of an interrupted export were there already\n"):format(
      way.path, format.bytes(written.resumed))
      or way.path .. ".part was of another export: written anew\n")
  end
  if store:is_writable() and way.path then
    for _, run in ipairs(group) do
      store:bundle_add { run_id = run.id, path = sys.realpath(way.path) or way.path,
        sha256 = written.sha256, bytes = written.bytes }
    end
  end
  return { id = name_of(group), path = way.path or "-", bytes = written.bytes,
    sha256 = written.sha256, signature = way.sign and way.path .. ".sig" or json.null,
    files = files, runs = #group, checkpoints = count,
    checkpoint = newest and newest.manifest_sha256 or json.null,
    step = newest and newest.step or json.null }
end

local function summary_line(done)
  return ("%s  %s%s%s\nsha256 %s\n"):format(done.path, format.bytes(done.bytes),
    done.runs > 1 and ("  %d runs"):format(done.runs) or "",
    done.checkpoints > 1 and ("  %d checkpoints"):format(done.checkpoints)
      or done.checkpoints == 1 and "  checkpoint of step " .. format.count(done.step) or "",
    done.sha256)
end

-- ---- which runs, and how many bundles ----------------------------------------------

local function sweep_runs(store, words)
  local sweep = #words == 1 and store:one("SELECT id FROM sweep WHERE ulid = ?", words[1]:upper())
  return sweep and store:column("SELECT id FROM run WHERE sweep_id = ?1 OR id IN"
    .. " (SELECT run_id FROM proposal_run WHERE sweep_id = ?1) ORDER BY id", sweep.id)
end

-- Ids of the runs, and whether one word names one run.
local function chosen_runs(ctx, store)
  local of_sweep = sweep_runs(store, ctx.args)
  if of_sweep then return of_sweep, false end
  if #ctx.args == 1 and not query.is_query(ctx.args[1]) and not runs.only_experiments(store, ctx.args) then
    return { runs.find(store, ctx.args[1]) }, true
  end
  return (query.choose(store, ctx.args, {})), false
end

-- A list of lists of ids, one for each bundle: all in one where a file is named for
-- them, else a bundle a run.
local function groups_of(ctx, ids, single)
  local output = ctx.options.output
  if ctx.options.to then return { ids } end
  if output and output:find("/$") and not sys.type(output) then
    errors.check(sys.mkdirs(output))
  elseif not single and output and sys.type(output) ~= "dir" then
    return { ids }
  end
  local groups = {}
  for i, id in ipairs(ids) do groups[i] = { id } end
  return groups
end

local function run(ctx)
  local store, options = ctx.reading(), ctx.options
  if options.output == "-" then options.to, options.output = "-", nil end
  local ids, single = chosen_runs(ctx, store)
  if #ids == 0 then errors.raise("not_found", "no run to export: none matches") end
  if ctx.options.tensorboard then return tensorboard.export(ctx, store, ids) end
  local words, list = weights.parse(ctx.options.checkpoints), json.array {}
  local groups = groups_of(ctx, ids, single)
  local tell = ctx.options.to and ctx.note or ctx.out   -- stdout is the bundle's then
  if ctx.csv then tell(csv.line { "run", "path", "bytes", "sha256" }) end
  for i, group in ipairs(groups) do
    local done = export(ctx, store, group, words)
    list[i] = done
    if ctx.csv then
      tell(csv.line { done.id, done.path, done.bytes, done.sha256 })
    elseif not ctx.json then
      tell(summary_line(done))
    end
  end
  if ctx.json then
    tell(ctx.encode((single or #groups == 1 and #ids > 1) and list[1] or list) .. "\n")
  elseif not ctx.csv and not ctx.options.to then
    tell("anybody checks " .. (#list == 1 and "it" or "one of them") .. " with:\n"
      .. outlet.instructions(ctx.options, list[1]))
  end
  return 0
end

return {
  summary = "pack runs into one archive that anybody can check",
  usage = "export RUN|SWEEP|EXPERIMENT|QUERY... -o X.tar [--checkpoints best,last|all|none]\n"
    .. "export RUN|SWEEP|EXPERIMENT|QUERY... [-o FOLDER/]\n"
    .. "export RUN|EXPERIMENT|QUERY... --tensorboard DIR",
  help = [[
A plain tar in BagIt layout with SHA-256 manifests: parameters, recipe, metrics.csv,
events, media, logs, environment; the exact code as a git bundle and as files; the
difference from HEAD; checkpoints as safetensors files (several shards with the
index that Hugging Face's loaders read, unless a tensor is in parts: those are put
together by `pioche checkpoint export --hf`); RO-Crate metadata and an in-toto statement.
The same export twice gives the same bytes. `pioche import` has it again elsewhere.

The checkpoint is the best by the experiment's goal, or the newest where there is no
goal, unless --checkpoints says otherwise. The git bundle tells no history unless
--history asks for it.

Several runs, an experiment, the ULID of a sweep or a QUERY (`pioche help query`)
become one bundle in X.tar, where what they share is once, with a table that compares
them; or a bundle a run in FOLDER/, which is made where there is none, or here.

Killed, it leaves X.tar.part, and goes on from there when it is run again: what is
in it counts where it is byte by byte what would be written.

--sign KEY makes X.tar.sig, which `pioche verify X.tar --signers FILE` checks, or
  ssh-keygen -Y verify -f FILE -I WHO -n file -s X.tar.sig < X.tar
with FILE in the format of ALLOWED SIGNERS of ssh-keygen. What is encrypted, by the
program age, is never on a disk in the clear. --passphrase has age ask for one on the
terminal; PIOCHE_PASSPHRASE or --passphrase-file say it where nobody sits. `pioche
verify` and `pioche import` take what is encrypted as it is, and anybody
  age -d gpt-17.tar.age | tar x

With --tensorboard: event files that TensorBoard shows, in DIR/RUN; ranks above 0
in DIR/RUN/rank-N. Keys are tags, parameters are hparams, values that no f32 holds
are written as f64. Nothing is overwritten. JSON: an array of {id, path, points,
texts, histograms, images, passed_over}.

JSON: {id, path, bytes, sha256, signature, files, runs, checkpoints, checkpoint, step},
the last two of the newest checkpoint; an array of these where there is a bundle a run.]],
  options = {
    { name = "output", short = "o", arg = "X.tar",
      help = "where to: a file, a folder, or - as --to - (RUN.tar here unless told)" },
    { name = "checkpoints", arg = "WHICH",
      help = "best, last, all or none; several with commas (best, or last where there is no goal)" },
    { name = "weights-only", help = "without optimizer state" },
    { name = "history", help = "the git bundle with all commits that led to the code" },
    { name = "zstd", help = "compressed: X.tar.zst, and X.tar.zst.sha256 beside it" },
    { name = "to", arg = "-", choices = { "-" }, help = "the standard output, for a pipe" },
    { name = "encrypt", arg = "RECIPIENT", help = "by age, for its public key (age1..., ssh-...) or"
      .. " a file of such keys" },
    { name = "passphrase", help = "encrypted by age, with a passphrase that it asks for, or which"
      .. " PIOCHE_PASSPHRASE is" },
    { name = "passphrase-file", arg = "FILE", help = "the same: it is the first line of this file" },
    { name = "sign", arg = "KEY", help = "X.tar.sig beside it, by this key of ssh-keygen" },
    { name = "tensorboard", arg = "DIR", help = "event files for TensorBoard instead, below DIR" },
    { name = "force", short = "f", help = "replace an existing file" },
  },
  examples = "pioche export gpt/best -o gpt.tar\npioche verify gpt.tar\n"
    .. "pioche export gpt 'val/loss < 1.8' -o best/",
  args = { 1, nil, what = "a RUN, an EXPERIMENT or a QUERY" },
  run = run,
}
