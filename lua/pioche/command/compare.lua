-- compare: which run is better, and what made it so.
local git = require "pioche.core.git"
local json = require "pioche.core.json"
local compared = require "pioche.sweep.compared"
local csv = require "pioche.csv"
local environment = require "pioche.environment"
local errors = require "pioche.errors"
local format = require "pioche.format"
local query = require "pioche.query"
local runs = require "pioche.runs"
local seed_groups = require "pioche.seeds"
local stats = require "pioche.stats"
local tables = require "pioche.table"
local term = require "pioche.term"

local extra_metrics = 4      -- besides the goal, where none was asked for
local keys_considered = 40   -- of what was logged by most runs ...
local keys_sampled = 50      -- ... of so many

-- ---- what to compare -----------------------------------------------------------

local function chosen(ctx, store)
  local words = ctx.args
  if #words == 0 then
    local newest = store:one("SELECT e.name FROM run r JOIN experiment e ON e.id = r.experiment_id"
      .. " ORDER BY r.id DESC LIMIT 1")
    if not newest then errors.raise("not_found", "nothing to compare: the store has no runs") end
    words = { newest.name .. "/all" }
  end
  local ids, _, ordered = query.choose(store, words,
    { sort = ctx.options.sort, limit = ctx.options.limit })
  return ids, ordered
end

-- The metric that decides and its direction: what was asked for, else the goal
-- that all the runs' experiments share.
local function goal_of(ctx, loaded)
  if ctx.options.minimize then return ctx.options.minimize, "minimize" end
  if ctx.options.maximize then return ctx.options.maximize, "maximize" end
  local key, goal
  for _, run in ipairs(loaded) do
    if run.goal_key then
      if key and (key ~= run.goal_key or goal ~= run.goal) then return nil end
      key, goal = run.goal_key, run.goal
    end
  end
  return key, goal
end

-- At most `most` runs, evenly spread.
local function sample(loaded, most)
  local some, n = {}, math.min(most, #loaded)
  for i = 1, n do some[i] = loaded[1 + (i - 1) * (#loaded - 1) // math.max(1, n - 1)] end
  return some
end

-- {key = value} of those of the keys that have the same last value in all runs.
local function shared_values(store, loaded, keys)
  local shared = {}
  if #loaded < 2 or #keys == 0 then return shared end
  for _, row in ipairs(runs.metric_ranges(store, loaded, keys)) do
    if row.valued == #loaded and row.low == row.high then shared[row.key] = row.low end
  end
  return shared
end

-- The keys that most of the runs logged, but no echoes of parameters; and those
-- of them, {key = value}, whose last value is the same in all runs.
local function common_keys(store, loaded, params, except)
  local ids, candidates, keys, some = {}, {}, {}, sample(loaded, keys_sampled)
  for i, run in ipairs(some) do ids[i] = run.id end
  for _, row in ipairs(store:rows("SELECT key, count(DISTINCT run_id) AS n FROM series"
    .. " WHERE run_id IN (SELECT value FROM json_each(?)) AND key NOT GLOB 'sys/*' GROUP BY key"
    .. " ORDER BY n DESC, key LIMIT ?", "[" .. table.concat(ids, ",") .. "]", keys_considered)) do
    if row.key ~= except and not params[row.key] then candidates[#candidates + 1] = row.key end
  end
  -- What differs among a few need not be asked of all.
  local maybe, among = {}, shared_values(store, some, candidates)
  for _, key in ipairs(candidates) do
    if among[key] ~= nil then maybe[#maybe + 1] = key end
  end
  local constant = shared_values(store, loaded, maybe)
  for _, key in ipairs(candidates) do
    if constant[key] == nil and #keys < extra_metrics then keys[#keys + 1] = key end
  end
  return keys, constant
end

-- The metric columns: { spec, title, goal, values = {run id = value} }, and the
-- metrics that are the same in all runs.
local function metric_columns(ctx, store, loaded, params, sweep)
  local goal_key, goal = goal_of(ctx, loaded)
  local goals, goal_keys = compared.goals(not ctx.options.minimize and not ctx.options.maximize and sweep)
  local goal_spec = goal_key and runs.metric(store, goal_key)
  local asked, texts, seen = ctx.options.metric, {}, {}
  if goal_key then texts[1] = goal_key end
  table.move(goal_keys, 1, #goal_keys, #texts + 1, texts)
  local common, constant = {}, {}
  if not asked then
    common, constant = common_keys(store, loaded, params, goal_spec and goal_spec.key)
  end
  table.move(asked or common, 1, #(asked or common), #texts + 1, texts)
  local columns = {}
  for _, text in ipairs(texts) do
    if not seen[text] then
      seen[text] = true
      local spec = runs.metric(store, text)
      local column = { spec = spec, title = text, values = runs.values(store, loaded, spec),
        goal = goal_spec and spec.key == goal_spec.key and spec.stat ~= "count" and goal or goals[text],
        decides = text == goal_key, is_goal = goals[text] ~= nil }
      local asked_for = asked or ctx.options.minimize or ctx.options.maximize
      if asked_for and next(column.values) == nil then
        errors.raise("not_found", "none of these runs has logged '%s'%s", spec.key,
          errors.suggestion(spec.key, runs.metric_keys(store)))
      end
      columns[#columns + 1] = column
    end
  end
  return columns, constant
end

-- ---- rows ---------------------------------------------------------------------------

local function group_name(group)
  local first, last = group[1], group[#group]
  if #group == 1 then return first.name end
  if last.number - first.number == #group - 1 then
    return first.name .. ".." .. last.number
  end
  return string.format("%s +%d", first.name, #group - 1)
end

-- A row: { runs, n (of these, those that count), name, status, bad, cells = {[column] = {mean, std, n}} }.
local function make_row(group, columns, names)
  local row = { runs = group, params = group[1].params, cells = {}, status = group[1].status }
  if #group > 1 then
    table.sort(group, function(a, b)
      if a.experiment_id ~= b.experiment_id then return a.experiment_id < b.experiment_id end
      return a.number < b.number
    end)
    row.params = {}
    for _, name in ipairs(names) do
      local first = group[1].params[name]
      row.params[name] = first
      for _, run in ipairs(group) do
        local value = run.params[name]
        if value ~= first and (value == nil or first == nil
          or runs.value_key(value) ~= runs.value_key(first)) then
          row.params[name] = nil
        end
      end
    end
  end
  row.name = group_name(group)
  local good = {}
  for _, run in ipairs(group) do
    if run.status ~= row.status then row.status = "mixed" end
    if not runs.is_bad(run) then good[#good + 1] = run end
  end
  row.bad = #good == 0
  row.n = row.bad and #group or #good
  for c, column in ipairs(columns) do
    local values = {}
    for _, run in ipairs(row.bad and group or good) do values[#values + 1] = column.values[run.id] end
    row.cells[c] = stats.summary(values)
  end
  return row
end

local function sort_rows(rows, columns)
  local c
  for i, column in ipairs(columns) do c = c or (column.decides and i) end
  if not c then return end
  local sign = columns[c].goal == "maximize" and -1 or 1
  for i, row in ipairs(rows) do
    local mean = row.cells[c].mean
    row.order, row.place = mean == mean and mean and sign * mean or math.huge, i
  end
  table.sort(rows, function(a, b)
    if a.bad ~= b.bad then return b.bad end
    if a.violates ~= b.violates then return b.violates end
    if a.order ~= b.order then return a.order < b.order end
    return a.place < b.place
  end)
end

-- Row number of the best value of a column that has a direction.
local function best_row(rows, column, c)
  if not column.goal then return nil end
  local best
  for _, bad in ipairs { false, true } do
    for i, row in ipairs(rows) do
      local mean = row.cells[c].mean
      if row.bad == bad and not row.violates and mean and mean == mean then
        local better = best and rows[best].cells[c].mean
        if not best or (column.goal == "maximize" and mean > better)
          or (column.goal == "minimize" and mean < better) then
          best = i
        end
      end
    end
    if best then return best end
  end
  return nil
end

-- ---- printing ------------------------------------------------------------------

local function trees_differ(loaded)
  for _, run in ipairs(loaded) do
    if run.tree ~= loaded[1].tree then return true end
  end
  return false
end

-- Was a row's run proved to go on from a checkpoint as it did? Of several runs: all.
local function proof_of(view, row)
  local result = view.proofs[row.runs[1].id]
  for _, run in ipairs(row.runs) do
    if view.proofs[run.id] ~= result then return nil end
  end
  return result
end

local function print_json(ctx, view)
  local list = json.array {}
  for i, row in ipairs(view.rows) do
    local ids, seeds, params, metrics, best = {}, {}, {}, {}, {}
    for k, run in ipairs(row.runs) do
      ids[k] = run.name
      seeds[#seeds + 1] = run.seed
    end
    for _, name in ipairs(view.params) do params[name] = row.params[name] end
    for c, column in ipairs(view.columns) do
      local cell = row.cells[c]
      if cell.mean then
        metrics[column.title] = { mean = cell.mean, n = cell.n,
          std = cell.std == nil and json.null or cell.std }
      end
      if view.best[c] == i then best[#best + 1] = column.title end
    end
    list[i] = { id = row.runs[1].name, runs = json.array(ids), seeds = json.array(seeds),
      n = row.n, status = row.status, commit = row.runs[1].commit or json.null,
      front = row.on_front == nil and json.null or row.on_front, violates = row.violates,
      params = params, metrics = metrics, best = json.array(best),
      chance = view.chances and view.chances[i] or json.null, proof = proof_of(view, row) or json.null }
  end
  ctx.out(ctx.encode(list) .. "\n")
end

local function print_csv(ctx, view)
  local header = { "run", "runs", "n", "status", "commit" }
  for _, name in ipairs(view.params) do header[#header + 1] = "param." .. name end
  for _, column in ipairs(view.columns) do
    header[#header + 1] = "metric." .. column.title
    if view.grouped then header[#header + 1] = "metric." .. column.title .. ".std" end
  end
  ctx.out(csv.line(header))
  for _, row in ipairs(view.rows) do
    local names = {}
    for k, run in ipairs(row.runs) do names[k] = run.name end
    local line = { row.runs[1].name, table.concat(names, " "), row.n, row.status,
      row.runs[1].commit }
    local n = 5
    for _, name in ipairs(view.params) do
      n = n + 1
      local value = row.params[name]
      line[n] = type(value) == "table" and json.encode(value) or value
    end
    for c in ipairs(view.columns) do
      line[n + 1] = row.cells[c].mean
      if view.grouped then line[n + 2] = row.cells[c].std end
      n = n + (view.grouped and 2 or 1)
    end
    ctx.out(csv.line(line, n))
  end
end

local function metric_texts(view, c)
  local means, stds = {}, {}
  for i, row in ipairs(view.rows) do means[i], stds[i] = row.cells[c].mean, row.cells[c].std end
  local texts, deviations = format.column(means, #view.rows, 5, stds)
  local cells = {}
  for i in ipairs(view.rows) do
    local text = texts[i] .. (stds[i] and " ± " .. deviations[i] or "")
    if not view.columns[c].goal then
      cells[i] = text
    elseif view.best[c] == i then
      cells[i] = { text .. "*", "bold+green" }
    else
      cells[i] = text .. " "
    end
  end
  return cells
end

local function print_table(ctx, view)
  local columns, cells = { { title = "run" } }, { {} }
  for i, row in ipairs(view.rows) do cells[1][i] = { row.name, "bold" } end
  local function add(column, texts)
    columns[#columns + 1], cells[#cells + 1] = column, texts
  end
  local counts, statuses, codes, cell_of, interesting = {}, {}, {}, {}, false
  for i, row in ipairs(view.rows) do
    local status = row.status
    counts[i] = tostring(row.n)
    cell_of[status] = cell_of[status] or runs.status_cell(ctx, status)
    statuses[i] = cell_of[status]
    interesting = interesting or status ~= "finished"
    codes[i] = row.runs[1].commit and row.runs[1].commit:sub(1, 8) or ""
  end
  local marks, violates = {}, false
  for i, row in ipairs(view.rows) do
    marks[i] = row.violates and { "violates", "yellow" } or row.on_front and { "front", "green" } or ""
    violates = violates or row.violates
  end
  if violates or view.has_front then add({ title = "" }, marks) end
  if next(view.names) then
    local names = {}
    for i, row in ipairs(view.rows) do names[i] = #row.runs == 1 and view.names[row.runs[1].id] or "" end
    add({ title = "name", flex = true, min = 8, drop = 1 }, names)
  end
  if interesting then add({ title = "status" }, statuses) end
  if view.grouped then add({ title = "n", align = "right" }, counts) end
  if view.code then add({ title = "code", drop = 3 }, codes) end
  if next(view.proofs) then
    local proofs = {}
    for i, row in ipairs(view.rows) do proofs[i] = proof_of(view, row) or "" end
    add({ title = "resumes", drop = 3 }, proofs)
  end
  for _, name in ipairs(view.params) do
    local column, texts = runs.param_column(view.rows, name)
    column.drop = 2
    add(column, texts)
  end
  for c, column in ipairs(view.columns) do
    add({ title = column.title .. (column.goal and " " or ""), align = "right",
      drop = not column.decides and 4 or nil }, metric_texts(view, c))
  end
  local lines = {}
  for i in ipairs(view.rows) do
    lines[i] = {}
    for c in ipairs(columns) do lines[i][c] = cells[c][i] end
  end
  tables.print(ctx, columns, lines)
end

-- What the table does not say: what is the same, and how sure the lead is.
local function print_footer(ctx, store, view)
  local fixed = {}
  for _, name in ipairs(view.same) do
    fixed[#fixed + 1] = runs.title(name) .. "=" .. runs.value_text(view.shared[name])
  end
  local keys = {}
  for key in pairs(view.constant) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    fixed[#fixed + 1] = key .. "=" .. format.number(view.constant[key])
  end
  if #fixed > 0 and #view.rows > 1 then
    local text = term.clean("same in all: " .. table.concat(fixed, " "))
    if ctx.stdout_tty and not ctx.options.wide then text = term.cut(text, ctx.cols) end
    ctx.out(term.paint(text, "dim", ctx.color) .. "\n")
  end
  for c, column in ipairs(view.columns) do
    if column.decides and not view.ordered then
      local verdict = stats.verdict(view.rows, c, column)
      if verdict then ctx.out(term.clean(verdict) .. "\n") end
      local winner = stats.winner(view.rows, view.chances)
      if winner then ctx.out(term.clean(winner) .. "\n") end
    end
  end
  local line = view.sweep and #view.rows > 1 and compared.line(store, view.sweep, view.params)
  if line then ctx.out(term.clean(line) .. "\n") end
end

-- Which rows violate a constraint, and which are on the front of several goals.
local function mark(store, loaded, view)
  local violates, front = compared.places(store, loaded, view.rows, view.columns)
  view.has_front = front ~= nil
  for i, row in ipairs(view.rows) do
    row.violates = violates[i] or false
    if front then row.on_front = front[i] or false end
  end
end

local function print_code(ctx, store, ids)
  if #ids ~= 2 then
    errors.raise("usage", "--code: expected exactly two runs, got %d", #ids)
  end
  local loaded = runs.load(store, ids)
  local a, b = loaded[1], loaded[2]
  for _, run in ipairs(loaded) do
    if not run.commit then
      errors.raise("not_found", "--code: %s has no code on record", run.name)
    end
  end
  if ctx.csv then errors.raise("usage", "--code: a difference is no table; expected --json or none") end
  local text = a.tree ~= b.tree and errors.check(git.diff(a.repository, a.commit, b.commit)) or ""
  if ctx.json then
    ctx.out(ctx.encode { runs = json.array { a.name, b.name },
      commits = json.array { a.commit, b.commit }, same = a.tree == b.tree, diff = text } .. "\n")
    return 0
  elseif a.tree == b.tree then
    ctx.note(string.format("%s and %s ran the same code\n", a.name, b.name))
    return 0
  elseif not ctx.stdout_tty then
    ctx.out(text)
    return 0
  end
  local styles = { ["+"] = "green", ["-"] = "red", ["@"] = "cyan", d = "bold" }
  for line in (text:gsub("\n$", "") .. "\n"):gmatch("([^\n]*)\n") do
    local shown = line:gsub("[^\t]+", term.clean)
    ctx.out(term.paint(shown, styles[line:sub(1, 1)], ctx.color) .. "\n")
  end
  return 0
end

-- Load the parameters that differ into all runs, those that do not into the
-- first alone: names of both, how many runs have each, and those that differ
-- (see runs.read_params).
local function load_params(ctx, store, loaded)
  local different, same, count, params = {}, {}, {}, {}
  for _, param in ipairs(runs.read_params(store, loaded)) do
    count[param.name] = param.count
    if param.values then
      different[#different + 1], params[#params + 1] = param.name, param
      runs.set_param(loaded, param)
    else
      same[#same + 1] = param.name
      loaded[1].params[param.name] = param.value
    end
  end
  if not ctx.json and not ctx.csv and not count.seed then
    runs.seed_as_param(loaded)
    local seeds, differs = 0, false
    for _, run in ipairs(loaded) do
      seeds = seeds + (run.seed and 1 or 0)
      differs = differs or run.seed ~= loaded[1].seed
    end
    if seeds > 0 then
      local list = differs and different or same
      list[#list + 1] = "seed"
      table.sort(list)
    end
  end
  return different, same, count, params
end

local function show_all_params(view)
  for _, row in ipairs(view.rows) do
    for _, name in ipairs(view.same) do row.params[name] = view.shared[name] end
  end
  table.move(view.same, 1, #view.same, #view.params + 1, view.params)
  table.sort(view.params)
  view.same = {}
end

local function run(ctx)
  local store = ctx.reading()
  local ids, ordered = chosen(ctx, store)
  if ctx.options.code then return print_code(ctx, store, ids) end
  if ctx.options.environment then return environment.compare(ctx, store, runs.load(store, ids)) end
  local loaded = runs.load(store, ids)
  if #loaded == 0 then errors.raise("not_found", "nothing to compare: no runs") end
  local different, same, names, params = load_params(ctx, store, loaded)
  local sweep = compared.sweep(store, loaded)
  local columns, constant = metric_columns(ctx, store, loaded, names, sweep)
  local groups, grouped
  if ctx.options.no_group then
    groups, grouped = seed_groups.single(loaded)
  else
    groups, grouped = seed_groups.groups(loaded, params)
  end
  local view = { columns = columns, rows = {}, best = {}, grouped = grouped,
    ordered = ordered, names = runs.names(store, loaded), proofs = runs.proofs(store, loaded),
    code = trees_differ(loaded), params = different, same = same, shared = loaded[1].params,
    constant = constant, sweep = sweep }
  for i, group in ipairs(groups) do view.rows[i] = make_row(group, columns, different) end
  mark(store, loaded, view)
  if not ordered then sort_rows(view.rows, columns) end
  for c, column in ipairs(columns) do
    view.best[c] = best_row(view.rows, column, c)
    if column.decides and not ordered then view.chances = stats.chances(view.rows, c) end
  end
  if grouped then
    for _, list in ipairs { view.params, view.same } do
      for i = #list, 1, -1 do
        if list[i] == "seed" then table.remove(list, i) end
      end
    end
  end
  if ctx.options.all_params then show_all_params(view) end
  if ctx.json then
    print_json(ctx, view)
  elseif ctx.csv then
    print_csv(ctx, view)
  else
    print_table(ctx, view)
    print_footer(ctx, store, view)
  end
  return 0
end

return {
  summary = "which run is better, and what made it so",
  usage = "compare [RUN|EXPERIMENT...] [QUERY] [--metric KEY]...\ncompare RUN RUN --code\n"
    .. "compare RUN RUN... --environment",
  help = [[
A row a run, best first by the experiment's goal (with --sort or `sort by` in
that order): the parameters that differ, the goal, other metrics. * marks the
best of a column whose direction is known.
Without arguments: the experiment of the newest run.

QUERY leaves the runs for which it holds, as 'width = 64 and status = finished'
(`pioche help query`); --sort and --limit choose among them: of `sort by
val/loss limit 5` the best five, without an order the oldest.

KEY is a metric, its last value unless it ends in .min, .max, .mean, .count,
.first_step or .last_step; rank 0 (or the lowest that logged it) unless
@rank=N, @mean, @min, @max or @argmax (across ranks) comes before: for example
step_ms@max.mean. A key that ends so is quoted: '"odd@mean".min'.

Runs that differ only in their seed become one row: mean ± standard deviation
of n runs; below the table, whether the lead over the next row is more than
the seeds' noise (Welch's interval, 95 %), and the probability that it is the best of
all, if all have the same noise. Failed and cancelled runs and those that
`pioche sweep drop` has set aside come last, are never the best while others are
there, and do not count in a mean nor in n. What violates a
constraint of its sweep is marked, comes behind what does not, and is never the best, with no
chance to be; of several goals the rows that nothing beats in all of them are marked as the front. The last
line tells which of the parameters that differ matter (`pioche sweep importance`).

JSON: an array of {id, runs[], seeds[], n, status, commit, params{} (those that
differ), metrics{KEY: {mean, std, n}}, best[] (metrics that it leads), chance (to be the best),
front (null of one goal), violates, proof (what
came of `pioche checkpoint prove`)}; with
--code {runs[], commits[], same, diff}; with --environment {runs[], different{NAME:
a value a run}, same}.]],
  options = {
    { name = "metric", short = "m", arg = "KEY", multi = true,
      help = "show this metric beside the goal; may be repeated" },
    { name = "minimize", arg = "KEY", help = "take this as the goal: smaller is better" },
    { name = "maximize", arg = "KEY", help = "take this as the goal: larger is better" },
    { name = "all-params", short = "p", help = "also parameters that are the same in all runs" },
    { name = "no-group", help = "a row a run, also where only the seed differs" },
    { name = "environment", short = "e",
      help = "what differs of machines, variables, Python and its packages" },
    { name = "code", short = "c", help = "the difference between the code of two runs" },
    query.options[1], query.options[2],
    { name = "wide", short = "w", help = "every column, whatever the terminal's width" },
  },
  examples = [[
pioche compare gpt
pioche compare gpt-3 gpt-7 --metric grad/norm.max
pioche compare 'width >= 64 and optimizer = adamw' -m step_ms@max
pioche compare gpt-3 gpt-7 --code
pioche compare gpt --csv > table.csv]],
  run = run,
}
