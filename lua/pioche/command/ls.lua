-- ls: runs, newest first; or experiments.
local json = require "pioche.core.json"
local marks = require "pioche.sweep.marks"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local query = require "pioche.query"
local runs = require "pioche.runs"
local tables = require "pioche.table"

local default_limit = 20

local function wanted_statuses(ctx)
  if not ctx.options.status then return nil end
  local wanted = {}
  for word in ctx.options.status:gmatch("[^,%s]+") do
    local known = false
    for _, status in ipairs(runs.statuses) do known = known or status == word end
    if not known then
      errors.raise("usage", "--status: unknown status '%s'%s; expected some of %s", word,
        errors.suggestion(word, runs.statuses), table.concat(runs.statuses, ", "))
    end
    wanted[#wanted + 1] = word
  end
  return wanted
end

-- Ids to show, newest first, and how many there are in all.
local function choose(ctx, store)
  local options = ctx.options
  return query.choose(store, ctx.args, { newest_first = true, status = wanted_statuses(ctx),
    sort = options.sort, limit = options.limit or (options.all and -1), or_limit = default_limit })
end

local function print_csv(ctx, store, ids)
  local loaded = runs.load(store, ids, { params = true, metrics = true, attempts = true })
  runs.add_asked(store, loaded, ctx.options.metric)
  local params, metrics = {}, {}
  for _, run in ipairs(loaded) do
    for name in pairs(run.params) do params[name] = true end
    for key in pairs(run.metrics) do metrics[key] = true end
  end
  local function sorted(set)
    local list = {}
    for name in pairs(set) do list[#list + 1] = name end
    table.sort(list)
    return list
  end
  params, metrics = sorted(params), sorted(metrics)
  local header = { "run", "ulid", "experiment", "status", "seed", "created", "started", "ended",
    "commit", "reason" }
  for _, name in ipairs(params) do header[#header + 1] = "param." .. name end
  for _, key in ipairs(metrics) do header[#header + 1] = "metric." .. key end
  ctx.out(csv.line(header))
  for _, run in ipairs(loaded) do
    local line = { run.name, run.ulid, run.experiment, run.status, run.seed,
      runs.time(run.created_ns), runs.time(run.started_ns), runs.time(run.ended_ns), run.commit,
      run.reason }
    local n = 10
    for _, name in ipairs(params) do
      n = n + 1
      local value = run.params[name]
      line[n] = type(value) == "table" and json.encode(value) or value
    end
    for _, key in ipairs(metrics) do
      n = n + 1
      line[n] = run.metrics[key] and run.metrics[key].last
    end
    ctx.out(csv.line(line, n))
  end
end

-- Goal values of the runs as texts, and the column's title.
local function goal_column(store, loaded)
  local by_goal, titles = {}, {}
  for _, run in ipairs(loaded) do
    if run.goal_key then
      if not by_goal[run.goal_key] then
        by_goal[run.goal_key] = {}
        titles[#titles + 1] = run.goal_key
      end
      table.insert(by_goal[run.goal_key], run)
    end
  end
  if #titles == 0 then return nil end
  local values = {}
  for _, key in ipairs(titles) do
    for id, value in pairs(runs.values(store, by_goal[key], runs.metric(store, key))) do
      values[id] = value
    end
  end
  local list = {}
  for i, run in ipairs(loaded) do list[i] = values[run.id] end
  local texts = format.column(list, #loaded)
  if #titles > 1 then
    for i, run in ipairs(loaded) do
      if texts[i] ~= "" then texts[i] = run.goal_key .. " " .. texts[i] end
    end
  end
  return #titles == 1 and titles[1] or "goal", texts
end

-- Texts of the metrics that were asked for, a list a column.
local function add_metrics(ctx, store, loaded, columns, cells)
  for _, text in ipairs(ctx.options.metric or {}) do
    local values, list = runs.asked(store, loaded, text), {}
    for k, run in ipairs(loaded) do list[k] = values[run.id] end
    columns[#columns + 1] = { title = text, align = "right" }
    cells[#cells + 1] = format.column(list, #loaded)
  end
end

local function print_table(ctx, store, ids)
  local loaded = runs.load(store, ids, { attempts = true })
  local names = runs.add_differing(store, loaded)
  local columns = { { title = "run" }, { title = "status" },
    { title = "age", align = "right", drop = 2 }, { title = "took", align = "right", drop = 1 } }
  local title, goals = goal_column(store, loaded)
  if title then columns[#columns + 1] = { title = title, align = "right", drop = 1 } end
  local cells = {}
  if marks.new(store):add(loaded) then
    columns[#columns + 1], cells[1] = { title = "", drop = 2 }, {}
    for i, run in ipairs(loaded) do cells[1][i] = run.on_front and { "front", "green" } or "" end
  end
  add_metrics(ctx, store, loaded, columns, cells)
  local called = runs.names(store, loaded)
  if next(called) then
    columns[#columns + 1] = { title = "name", flex = true, min = 8, drop = 3 }
    cells[#cells + 1] = {}
    for i, run in ipairs(loaded) do cells[#cells][i] = called[run.id] or "" end
  end
  for _, name in ipairs(names) do
    local column = runs.param_column(name, runs.param_values(loaded, name), #loaded)
    column.drop = 4
    columns[#columns + 1], cells[#cells + 1] = column, column.cells
  end
  local notes = ctx.options.notes and runs.notes(store, loaded)
  local losses = runs.losses(store, loaded)
  local rows, now, blamed = {}, sys.now_ns(), false
  for i, run in ipairs(loaded) do
    local took = runs.took_ns(run)
    local row = { { run.name, "bold" }, runs.status_cell(ctx, run.status),
      format.age(now - (run.started_ns or run.created_ns)), took and format.duration(took) or "" }
    local n = 4
    if title then
      n = n + 1
      row[n] = goals[i]
    end
    for _, texts in ipairs(cells) do
      n = n + 1
      row[n] = texts[i]
    end
    local blame = losses[run.id] or run.status ~= "finished" and runs.blame(run)
    blamed = blamed or (blame and true)
    local alarming = losses[run.id] or run.status == "failed"
    row[n + 1] = blame and { blame, alarming and "red" or "dim" } or nil
    if notes then row[n + 2] = table.concat(notes[run.id] or {}, "; ") end
    rows[i] = row
  end
  if blamed or notes then
    columns[#columns + 1] = { title = "message", flex = true, min = 24, drop = 3 }
  end
  if notes then columns[#columns + 1] = { title = "notes", flex = true, min = 24 } end
  tables.print(ctx, columns, rows)
end

local function experiments(ctx, store)
  local rows = store:rows("SELECT e.name, e.goal, e.goal_key, e.created_ns, count(r.id) AS runs,"
    .. " sum(r.status = 'finished') AS finished, sum(r.status = 'running') AS running,"
    .. " sum(r.status = 'failed') AS failed, max(r.created_ns) AS newest_ns"
    .. " FROM experiment e LEFT JOIN run r ON r.experiment_id = e.id GROUP BY e.id"
    .. " ORDER BY coalesce(max(r.created_ns), e.created_ns) DESC, e.id DESC")
  local counts = { "runs", "finished", "running", "failed" }
  if ctx.json then
    local list = json.array {}
    for i, row in ipairs(rows) do
      list[i] = { experiment = row.name, goal = row.goal or json.null,
        goal_key = row.goal_key or json.null, created = runs.time(row.created_ns),
        newest = runs.time(row.newest_ns) or json.null }
      for _, name in ipairs(counts) do list[i][name] = row[name] or 0 end
    end
    ctx.out(ctx.encode(list) .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "experiment", "goal", "goal_key", "runs", "finished", "running", "failed",
      "created", "newest" })
    for _, row in ipairs(rows) do
      ctx.out(csv.line({ row.name, row.goal, row.goal_key, row.runs, row.finished or 0,
        row.running or 0, row.failed or 0, runs.time(row.created_ns), runs.time(row.newest_ns) },
        9))
    end
  else
    local lines = {}
    for i, row in ipairs(rows) do
      lines[i] = { { row.name, "bold" }, tostring(row.runs), tostring(row.finished or 0),
        tostring(row.running or 0), { tostring(row.failed or 0),
          (row.failed or 0) > 0 and "red" or nil },
        format.age(sys.now_ns() - (row.newest_ns or row.created_ns)),
        row.goal_key and row.goal .. " " .. row.goal_key or "" }
    end
    tables.print(ctx, { { title = "experiment", flex = true }, { title = "runs", align = "right" },
      { title = "finished", align = "right", drop = 2 },
      { title = "running", align = "right", drop = 2 },
      { title = "failed", align = "right", drop = 2 },
      { title = "newest", align = "right", drop = 3 }, { title = "goal", flex = true, drop = 1 } },
      lines)
  end
  return 0
end

local function run(ctx)
  local store = ctx.reading()
  if ctx.options.experiments then return experiments(ctx, store) end
  local ids, total = choose(ctx, store)
  if ctx.json then
    runs.print_json(ctx, store, ids, ctx.options.metric, ctx.options.notes)
  elseif ctx.csv then
    print_csv(ctx, store, ids)
  elseif total == 0 then
    ctx.note(#ctx.args == 0 and not ctx.options.status and "no runs yet\n" or "no such run\n")
  else
    if #ids > 0 then print_table(ctx, store, ids) end
    if #ids < total then
      ctx.note(string.format("%s of %s runs: --all, --limit N or --status shows others\n",
        format.count(#ids), format.count(total)))
    end
  end
  return 0
end

return {
  summary = "list runs, newest first",
  usage = "ls [EXPERIMENT|RUN...] [QUERY] [--sort NAME,...] [--limit N | --all]\nls --experiments",
  help = [[
Without arguments: the newest runs of all experiments. Columns are the run's
status, its age, how long it took, its experiment's goal metric (last value),
front where its sweep has several goals and no run of it is better in all of them
(in the JSON front is true or false, of one goal null), the tag `name` (what an
imported run was called), the parameters that are not the same in all listed runs,
and, where something went wrong, what. --json and --csv give every parameter and
metric.

QUERY is one argument, as 'lr > 1e-3 and val/loss.min < 2 sort by val/loss':
`pioche help query` explains the language. With names of experiments and runs
it chooses among those. KEY may end in a reduction across ranks and a
statistic, as val/loss@mean.min; it stands in the JSON's metrics under that name.

Status: planned queued running finished failed stopped cancelled. A run is
stopped by a rule and cancelled by a person.]],
  options = {
    { name = "status", arg = "S,...", help = "only runs with one of these statuses" },
    { name = "sort", arg = "NAME,...", help = "order by these, each maybe followed by desc" },
    { name = "limit", short = "n", arg = "N", type = "integer", min = 0,
      help = "at most N runs (20 unless told)" },
    { name = "metric", short = "m", arg = "KEY", multi = true,
      help = "a column with this metric; may be repeated" },
    { name = "notes", help = "a column with the notes on each run" },
    { name = "all", short = "a", help = "all of them" },
    { name = "experiments", short = "e", help = "list experiments instead of runs" },
    { name = "wide", short = "w", help = "every column, whatever the terminal's width" },
  },
  examples = [[
pioche ls gpt 'optimizer.lr > 1e-3 and val/loss.min < 2'
pioche ls 'status in (failed, lost) and created > 3d'
pioche ls gpt --sort 'val/loss' --metric grad/norm@max
pioche ls --all --json | jq -r '.[] | select(.params.lr > 1e-3) | .id'
pioche ls gpt --csv > gpt.csv]],
  run = run,
}
