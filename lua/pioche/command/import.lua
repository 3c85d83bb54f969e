-- import: runs out of bundles, and those that other trackers wrote down.
local age = require "pioche.age"
local exchange = require "pioche.core.exchange"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local sources = require "pioche.sources"
local term = require "pioche.term"

local look_again_ms = 1000
local lines_max = 20

-- ---- the store --------------------------------------------------------------------

-- Where the runs go: made where there is none, as pioche.init() would; a dry run
-- reads the one that is there, if there is one.
local function open_store(ctx)
  if not ctx.options.dry_run then return ctx.store("create") end
  local ok, store = pcall(ctx.store, "read")
  return ok and store or nil
end

local function run_name(store, id)
  local row = store and id and store:one("SELECT e.name || '-' || r.number AS name FROM run r"
    .. " JOIN experiment e ON e.id = r.experiment_id WHERE r.id = ?", id)
  return row and row.name
end

-- ---- one pass over the sources -------------------------------------------------------

local function new_totals()
  return { runs = {}, skips = {}, skip_order = {}, failures = {}, fresh = 0, grown = 0, same = 0,
    points = 0, texts = 0, media = 0, lines = 0, checkpoints = 0 }
end

local counted = { "points", "texts", "media", "lines", "checkpoints" }

local function add_run(totals, source, run, name)
  local any = run.is_new
  for _, what in ipairs(counted) do
    totals[what] = totals[what] + run[what]
    any = any or run[what] > 0
  end
  local kind = run.is_new and "fresh" or any and "grown" or "same"
  totals[kind] = totals[kind] + 1
  run.name, run.format, run.kind = name, source.format, kind
  totals.runs[#totals.runs + 1] = run
end

local function add_skip(totals, skip)
  if not totals.skips[skip.reason] then
    totals.skips[skip.reason] = 0
    totals.skip_order[#totals.skip_order + 1] = skip.reason
  end
  totals.skips[skip.reason] = totals.skips[skip.reason] + skip.count
end

-- What the core does with a source; of one that is encrypted, with what age makes of it.
local function import_one(ctx, store, source, request)
  if not source.encrypted then return exchange.import(store, request) end
  local way = age.open(source.path, ctx.options)
  request.path = way.path
  local report = exchange.import(store, request)
  local failure = way.close()
  report.message = report.message and way.told(report.message)
  if failure and (report.message or #report.runs == 0) then
    report.message, report.code = failure, "corrupt"
  end
  for _, run in ipairs(report.runs) do run.source = source.path end
  return report
end

-- Everything that is new in these sources. `told` hears of each run at once.
local function import_all(ctx, store, list, totals, told)
  local weight, done_before = 0, 0
  for _, source in ipairs(list) do weight = weight + source.bytes end
  local progress = term.progress("importing", format.bytes)
  for _, source in ipairs(list) do
    local report = import_one(ctx, store, source, { format = source.format, path = source.path,
      experiment = ctx.options.experiment, otherwise = source.experiment, name = source.name,
      dry = ctx.options.dry_run,
      progress = function(_, done, total)
        progress(done_before + (total > 0 and source.bytes * done // total or 0), weight)
      end })
    done_before = done_before + source.bytes
    for _, run in ipairs(report.runs) do
      add_run(totals, source, run, run_name(store, run.id))
      if told then told(run) end
    end
    for _, skip in ipairs(report.skips) do add_skip(totals, skip) end
    if report.message then
      totals.failures[#totals.failures + 1] = { source = source.path, message = report.message,
        code = report.code }
    end
  end
  progress()
end

-- ---- telling ---------------------------------------------------------------------------

local function plural(n, word, words)
  return format.count(n) .. " " .. (n == 1 and word or words or word .. "s")
end

local function amounts(counts)
  local words = {}
  for _, what in ipairs { { "points", "point" }, { "texts", "text" }, { "media", "image or file",
    "images and files" }, { "lines", "line of output", "lines of output" },
    { "checkpoints", "checkpoint" } } do
    local n = counts[what[1]]
    if n > 0 then words[#words + 1] = plural(n, what[2], what[3]) end
  end
  return #words > 0 and table.concat(words, ", ") or "nothing"
end

local function print_run(ctx, run)
  local name = run.name or "(new)"
  ctx.out(string.format("%s  %s  %s  %s%s\n", name, run.status, amounts(run), term.clean(run.source),
    run.is_new and run.was and run.was ~= name and ", where it is " .. term.clean(run.was)
      .. ": that name is another's here" or ""))
end

local function print_failures(ctx, totals)
  for _, failure in ipairs(totals.failures) do
    ctx.note("pioche: " .. term.clean(failure.message) .. "\n")
  end
end

local function print_summary(ctx, totals, took_ns)
  local words = {}
  for _, kind in ipairs { { "fresh", "new run" }, { "grown", "run that grew", "runs that grew" },
    { "same", "run as before", "runs as before" } } do
    local n = totals[kind[1]]
    if n > 0 then words[#words + 1] = plural(n, kind[2], kind[3]) end
  end
  local text = #words > 0 and table.concat(words, ", ") or "no runs"
  ctx.out(string.format("%s%s: %s in %s\n", ctx.options.dry_run and "would take " or "", text,
    amounts(totals), format.duration(took_ns)))
  for _, reason in ipairs(totals.skip_order) do
    ctx.out(string.format("passed over: %s (%s)\n", term.clean(reason),
      format.count(totals.skips[reason])))
  end
end

local function print_json(ctx, totals)
  local runs, skips, failures = json.array {}, json.array {}, json.array {}
  for i, run in ipairs(totals.runs) do
    runs[i] = { id = run.name or json.null, was = run.was or json.null, source = run.source,
      format = run.format,
      new = run.is_new, status = run.status, points = run.points, texts = run.texts,
      media = run.media, lines = run.lines, checkpoints = run.checkpoints }
  end
  for i, reason in ipairs(totals.skip_order) do
    skips[i] = { reason = reason, count = totals.skips[reason] }
  end
  for i, failure in ipairs(totals.failures) do
    failures[i] = { source = failure.source, message = failure.message }
  end
  ctx.out(ctx.encode { runs = runs, passed_over = skips, failures = failures,
    dry_run = ctx.options.dry_run or false } .. "\n")
end

local function print_csv(ctx, totals)
  ctx.out(csv.line { "run", "format", "source", "new", "status", "points", "texts", "media",
    "lines", "checkpoints", "was" })
  for _, run in ipairs(totals.runs) do
    ctx.out(csv.line { run.name or "", run.format, run.source, run.is_new, run.status, run.points,
      run.texts, run.media, run.lines, run.checkpoints, run.was or "" })
  end
end

-- ---- the verb ----------------------------------------------------------------------------

-- Look again every second, and take what is new in sources that changed.
local function follow(ctx, store, marks)
  while true do
    local list = {}
    for _, source in ipairs(sources.find(ctx.args, ctx.options.format)) do
      local mark = sources.mark(source)
      if marks[source.path] ~= mark then list[#list + 1] = source end
      marks[source.path] = mark
    end
    local totals = new_totals()
    import_all(ctx, store, list, totals, function(run)
      if run.kind ~= "same" then print_run(ctx, run) end
    end)
    for _, failure in ipairs(totals.failures) do marks[failure.source] = nil end
    print_failures(ctx, totals)
    ctx.flush()
    sys.sleep_ms(look_again_ms)
  end
end

local function run(ctx)
  local options = ctx.options
  if options.follow and (ctx.json or ctx.csv or options.dry_run) then
    errors.raise("usage", "--follow prints runs as they grow: without --json, --csv and --dry-run")
  end
  local experiment = options.experiment
  if experiment and (not experiment:find("^[%w_][%w._-]*$") or #experiment > 200) then
    errors.raise("invalid", "--experiment %s: expected 1 to 200 letters, digits, '.', '_' or '-'",
      term.clean(experiment))
  end
  local began = sys.mono_ns()
  local list = sources.find(ctx.args, options.format)
  for _, source in ipairs(list) do
    if source.format == "bundle" and (experiment or options.follow) then
      errors.raise("usage", "%s: a bundle is whole, and its runs keep their experiment: without"
        .. " --experiment and --follow", source.path)
    end
  end
  local store = open_store(ctx)
  local totals, marks = new_totals(), {}
  for _, source in ipairs(list) do marks[source.path] = sources.mark(source) end
  import_all(ctx, store, list, totals)
  if ctx.json then
    print_json(ctx, totals)
  elseif ctx.csv then
    print_csv(ctx, totals)
  else
    local shown = 0
    for _, entry in ipairs(totals.runs) do
      if entry.kind ~= "same" and shown < lines_max then
        shown = shown + 1
        print_run(ctx, entry)
      end
    end
    local more = totals.fresh + totals.grown - shown
    if more > 0 then ctx.out("and " .. plural(more, "other") .. "\n") end
    print_summary(ctx, totals, sys.mono_ns() - began)
  end
  print_failures(ctx, totals)
  if options.follow then
    for _, failure in ipairs(totals.failures) do marks[failure.source] = nil end
    follow(ctx, store, marks)
  end
  return totals.failures[1] and errors.exit_status(totals.failures[1].code) or 0
end

return {
  summary = "take in bundles, and what TensorBoard, W&B, trackio and MLflow wrote down",
  usage = "import X.tar|- ...\nimport PATH... [--experiment NAME] [--follow] [--dry-run]",
  help = [[
X.tar is a bundle of `pioche export`, maybe compressed by zstd or encrypted; - reads one from
the standard input. It is verified while it is read, and then all of its runs are
here, or none: with their ULIDs, parameters, points bit for bit, events, media, logs,
code and checkpoints. Their names are kept where they are free. A run that is here
already is left as it is, but for checkpoints that it lacks; one that went on since
is an error. Runs from elsewhere have an `origin` in `pioche show` and in the JSON of
`ls`, and what was not over where they were made is over here.

Other trackers' files: PATH is a file or a directory, which is searched. What is in
a file decides what it is, not its name:

  TensorBoard  a directory of event files (*tfevents*) is a run: scalars, text,
               histograms, images, hparams as parameters. A START that is logged
               later on is a new attempt, as a restart of pioche itself is
  W&B          a .wandb file of offline mode is a run: config, history, summary,
               console, system metrics as system/..., media, and how it ended
  trackio      PROJECT.db: each of its runs
  MLflow       mlflow.db, or whatever its SQLite file is called: each of its runs
               that is not deleted

A run imported again is the same run, known by the absolute path of its source:
what is new is added, exactly once, and an import that was killed goes on where
its last transaction ended. The sources are only read, also while their program
writes; --follow looks again each second, until it is interrupted.

The experiment is W&B's project, MLflow's experiment, trackio's project, and for
TensorBoard the name of PATH, unless --experiment says another. The run's own
name, group, notes and tags become tags. Names of nested values are joined by
'/'. A run whose source does not know of its end is `failed` with that reason;
TensorBoard and trackio never tell, and their runs are `finished`.

What cannot be taken (graphs, audio, damaged records) is counted with its reason,
here and as an event of the run. A short tail is not damage: it may still grow.

Another tracker's path into pioche: `pioche import`, then any verb. The way back
is `pioche export RUN... --tensorboard DIR`.

JSON: {runs[{id, was, source, format, new, status, points, texts, media, lines,
checkpoints}], passed_over[{reason, count}], failures[{source, message}], dry_run};
`was` is a run's name where its bundle was made.]],
  options = {
    { name = "experiment", short = "e", arg = "NAME", help = "of the runs that are new" },
    { name = "format", arg = "NAME", choices = { "tensorboard", "wandb", "trackio", "mlflow",
      "bundle" },
      help = "tensorboard, wandb, trackio, mlflow or bundle, where PATH would be taken for another" },
    { name = "follow", short = "f", help = "go on as the sources grow" },
    { name = "dry-run", short = "n", help = "count what is new, and write nothing" },
    age.options[1], age.options[2],
  },
  examples = "pioche import gpt-4.tar\nssh lab pioche export gpt/best --to - | pioche import -\n"
    .. "pioche import runs/ --experiment gpt --follow\n"
    .. "pioche import wandb/ mlflow.db\npioche import ~/.cache/huggingface/trackio --dry-run",
  args = { 1, nil, what = "a file or directory" },
  run = run,
}
