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
  for _, key in ipairs(#loaded > 1 and keys or {}) do
    local values = runs.values(store, loaded, { key = key, stat = "last" })
    local first = values[loaded[1].id]
    for _, run in ipairs(loaded) do
      if values[run.id] ~= first then first = nil end
      if first == nil then break end
    end
    if first and first == first then shared[key] = first + 0.0 end
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

-- The metric columns: { title, goal, values = {run id = value} }, which get what
-- `summarize` makes of their values, and the metrics that are the same in all runs.
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
      local column = { title = text, values = runs.values(store, loaded, spec),
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

-- A row: { runs, counted (those of them that count), n (how many), name, status, bad }.
local function make_row(group)
  local row = { runs = group, counted = group, status = group[1].status }
  if #group > 1 then
    table.sort(group, function(a, b)
      if a.experiment_id ~= b.experiment_id then return a.experiment_id < b.experiment_id end
      return a.number < b.number
    end)
    row.counted = {}
    for _, run in ipairs(group) do
      if run.status ~= row.status then row.status = "mixed" end
      if not runs.is_bad(run) then row.counted[#row.counted + 1] = run end
    end
    if #row.counted == 0 then row.counted = group end
  end
  row.name, row.n, row.bad = group_name(group), #row.counted, runs.is_bad(row.counted[1])
  return row
end

-- Give a metric column what its values come to in these rows: means, stds and
-- counts by the rows' places.
local function summarize(column, rows)
  local values, means, stds, counts = column.values, {}, {}, {}
  for i, row in ipairs(rows) do
    if row.n == 1 then
      means[i] = values[row.counted[1].id]
      counts[i] = means[i] and 1 or 0
    else
      local list = {}
      for _, run in ipairs(row.counted) do list[#list + 1] = values[run.id] end
      local all = stats.summary(list)
      means[i], stds[i], counts[i] = all.mean, all.std, all.n
    end
  end
  column.means, column.stds, column.counts = means, stds, counts
end

-- A parameter's value in each row, nil where the runs of one differ.
local function row_values(param, rows)
  local list, same = {}, param.same
  for i, row in ipairs(rows) do
    local first = row.runs[1].place
    local value = param.values[first]
    for k = 2, #row.runs do
      local place = row.runs[k].place
      if param.values[place] ~= param.values[first] and same[place] ~= same[first] then value = nil end
    end
    list[i] = value
  end
  return list
end

-- Best first by the column that decides: what counts for nothing behind all else,
-- before it what violates a constraint.
local function sort_rows(rows, column)
  summarize(column, rows)
  local sign, means = column.goal == "maximize" and -1 or 1, column.means
  for i, row in ipairs(rows) do
    local mean = means[i]
    row.order, row.place = mean == mean and mean and sign * mean or math.huge, i
    row.level = (row.bad and 2 or 0) + (row.violates and 1 or 0)
  end
  table.sort(rows, function(a, b)
    if a.level ~= b.level then return a.level < b.level end
    if a.order ~= b.order then return a.order < b.order end
    return a.place < b.place
  end)
end

-- Row number of the best value of a column that has a direction.
local function best_row(rows, column)
  if not column.goal then return nil end
  local best
  for _, bad in ipairs { false, true } do
    for i, row in ipairs(rows) do
      local mean = column.means[i]
      if row.bad == bad and not row.violates and mean and mean == mean then
        local better = best and column.means[best]
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
    for _, param in ipairs(view.params) do params[param.name] = param.cells[i] end
    for _, column in ipairs(view.columns) do
      if column.means[i] then
        metrics[column.title] = { mean = column.means[i], n = column.counts[i],
          std = column.stds[i] == nil and json.null or column.stds[i] }
      end
      if column.best == i then best[#best + 1] = column.title end
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
  for _, param in ipairs(view.params) do header[#header + 1] = "param." .. param.name end
  for _, column in ipairs(view.columns) do
    header[#header + 1] = "metric." .. column.title
    if view.grouped then header[#header + 1] = "metric." .. column.title .. ".std" end
  end
  ctx.out(csv.line(header))
  for i, row in ipairs(view.rows) do
    local names = {}
    for k, run in ipairs(row.runs) do names[k] = run.name end
    local line = { row.runs[1].name, table.concat(names, " "), row.n, row.status,
      row.runs[1].commit }
    local n = 5
    for _, param in ipairs(view.params) do
      n = n + 1
      local value = param.cells[i]
      line[n] = type(value) == "table" and json.encode(value) or value
    end
    for _, column in ipairs(view.columns) do
      line[n + 1] = column.means[i]
      if view.grouped then line[n + 2] = column.stds[i] end
      n = n + (view.grouped and 2 or 1)
    end
    ctx.out(csv.line(line, n))
  end
end

local function metric_cells(column, count)
  local cells, deviations = format.column(column.means, count, 5, column.stds)
  for i in pairs(column.stds) do cells[i] = cells[i] .. " ± " .. deviations[i] end
  if column.goal then
    for i = 1, count do cells[i] = cells[i] .. (column.best == i and "*" or " ") end
    if column.best then cells[column.best] = { cells[column.best], "bold+green" } end
  end
  return cells
end

-- What is to be said of a row beside its parameters and metrics: columns as
-- pioche.table has them.
local function row_columns(ctx, view)
  local columns, interesting, marked = { { title = "run", cells = {} } }, false, view.has_front
  local function column(title, cell, options)
    local one = options or {}
    one.title, one.cells = title, {}
    for i, row in ipairs(view.rows) do one.cells[i] = cell(row) end
    columns[#columns + 1] = one
  end
  for i, row in ipairs(view.rows) do
    columns[1].cells[i] = { row.name, "bold" }
    interesting = interesting or row.status ~= "finished"
    marked = marked or row.violates
  end
  if marked then
    column("", function(row)
      return row.violates and { "violates", "yellow" } or row.on_front and { "front", "green" } or ""
    end)
  end
  if next(view.names) then
    column("name", function(row) return #row.runs == 1 and view.names[row.runs[1].id] or "" end,
      { flex = true, min = 8, drop = 1 })
  end
  if interesting then
    local cells = {}
    column("status", function(row)
      cells[row.status] = cells[row.status] or runs.status_cell(ctx, row.status)
      return cells[row.status]
    end)
  end
  if view.grouped then
    column("n", function(row) return tostring(row.n) end, { align = "right" })
  end
  if view.code then
    column("code", function(row) return row.runs[1].commit and row.runs[1].commit:sub(1, 8) or "" end,
      { drop = 3 })
  end
  if next(view.proofs) then
    column("resumes", function(row) return proof_of(view, row) or "" end, { drop = 3 })
  end
  return columns
end

local function print_table(ctx, view)
  local columns, count = row_columns(ctx, view), #view.rows
  for _, param in ipairs(view.params) do
    local column = runs.param_column(param.name, param.cells, count)
    column.drop = 2
    columns[#columns + 1] = column
  end
  for _, column in ipairs(view.columns) do
    columns[#columns + 1] = { title = column.title .. (column.goal and " " or ""), align = "right",
      drop = not column.decides and 4 or nil, cells = metric_cells(column, count) }
  end
  tables.print_columns(ctx, columns, count)
end

-- What the table does not say: what is the same, and how sure the lead is.
local function print_footer(ctx, store, view)
  local fixed = {}
  for _, param in ipairs(view.same) do
    fixed[#fixed + 1] = runs.title(param.name) .. "=" .. runs.value_text(param.value)
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
  for _, column in ipairs(view.columns) do
    if column.decides and not view.ordered then
      local verdict = stats.verdict(view.rows, column)
      if verdict then ctx.out(term.clean(verdict) .. "\n") end
      local winner = stats.winner(view.rows, view.chances)
      if winner then ctx.out(term.clean(winner) .. "\n") end
    end
  end
  local line = view.sweep and #view.rows > 1 and compared.line(store, view.sweep, view.params)
  if line then ctx.out(term.clean(line) .. "\n") end
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

-- The parameters of the runs (see runs.read_params), sorted by name: those that
-- differ, those that do not, and all their names as a set. In a table a seed that
-- is no parameter of the program is shown as one.
local function read_params(ctx, store, loaded)
  local different, same, names = {}, {}, {}
  for _, param in ipairs(runs.read_params(store, loaded)) do
    names[param.name] = true
    local list = param.values and different or same
    list[#list + 1] = param
  end
  if not ctx.json and not ctx.csv and not names.seed then
    local seeds, any, differs = {}, false, false
    for i, run in ipairs(loaded) do
      seeds[i] = run.seed
      any = any or run.seed ~= nil
      differs = differs or run.seed ~= loaded[1].seed
    end
    if differs then
      different[#different + 1] = { name = "seed", values = seeds, same = seeds }
    elseif any then
      same[#same + 1] = { name = "seed", value = loaded[1].seed }
    end
  end
  return different, same, names
end

local function by_name(a, b)
  return a.name < b.name
end

-- What is shown of the parameters, their `cells` being their values in the rows.
local function shown_params(view, different, same, all)
  view.params, view.same = {}, {}
  for _, param in ipairs(different) do
    if not (view.grouped and param.name == "seed") then
      param.cells = row_values(param, view.rows)
      view.params[#view.params + 1] = param
    end
  end
  for _, param in ipairs(same) do
    if not (view.grouped and param.name == "seed") then
      local list = all and view.params or view.same
      list[#list + 1] = param
      param.cells = {}
      for i = 1, all and #view.rows or 0 do param.cells[i] = param.value end
    end
  end
  table.sort(view.params, by_name)
  table.sort(view.same, by_name)
end

-- Rows, best first where no other order is asked for, and what is known of them.
local function view_of(ctx, store, loaded, ordered)
  local different, same, names = read_params(ctx, store, loaded)
  local sweep = compared.sweep(store, loaded)
  local columns, constant = metric_columns(ctx, store, loaded, names, sweep)
  local groups, grouped
  if ctx.options.no_group then
    groups, grouped = seed_groups.single(loaded)
  else
    groups, grouped = seed_groups.groups(loaded, different)
  end
  local view = { columns = columns, rows = {}, grouped = grouped, ordered = ordered,
    names = runs.names(store, loaded), proofs = runs.proofs(store, loaded), code = trees_differ(loaded),
    constant = constant, sweep = sweep }
  for i, run in ipairs(loaded) do run.place = i end
  for i, group in ipairs(groups) do view.rows[i] = make_row(group) end
  compared.mark_violating(store, loaded, view.rows)
  local deciding
  for _, column in ipairs(columns) do deciding = deciding or column.decides and column end
  if deciding and not ordered then sort_rows(view.rows, deciding) end
  for _, column in ipairs(columns) do
    summarize(column, view.rows)
    column.best = best_row(view.rows, column)
  end
  view.has_front = compared.mark_front(view.rows, columns)
  view.chances = deciding and not ordered and stats.chances(view.rows, deciding) or nil
  shown_params(view, different, same, ctx.options.all_params)
  return view
end

local function run(ctx)
  local store = ctx.reading()
  local ids, ordered = chosen(ctx, store)
  if ctx.options.code then return print_code(ctx, store, ids) end
  if ctx.options.environment then return environment.compare(ctx, store, runs.load(store, ids)) end
  local loaded = runs.load(store, ids, { brief = true })
  if #loaded == 0 then errors.raise("not_found", "nothing to compare: no runs") end
  local view = view_of(ctx, store, loaded, ordered)
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
