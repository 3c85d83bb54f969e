-- runs.lua: runs as commands need them: loading many of them with few queries,
-- the JSON form that scripts rely on, and what is told of a set of them.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local format = require "pioche.format"
local metric = require "pioche.query.metric"
local naming = require "pioche.naming"
local term = require "pioche.term"

local runs = setmetatable({}, { __index = naming })

runs.statuses = require "pioche.query.field".statuses

-- A double as it was: SQLite keeps a NaN as NULL and -0.0 as 0.0, and so their
-- IEEE 754 bits stand beside them.
local function real(value, bits)
  if bits == nil then return value end
  return (string.unpack("<d", string.pack("<i8", bits)))
end

-- ---- loading -----------------------------------------------------------------

-- What a comparison asks of a run, and where it stands.
local brief = "SELECT r.id, e.name || '-' || r.number AS name, r.experiment_id, r.number, e.goal_key, e.goal,"
  .. " r.status, r.seed, r.from_checkpoint, r.program, r.launch, s.commit_id AS \"commit\", s.tree_id AS tree,"
  .. " (SELECT value FROM tag t WHERE t.run_id = r.id AND t.name = 'aside') AS aside"
local from_run = " FROM run r JOIN experiment e ON e.id = r.experiment_id"
  .. " LEFT JOIN snapshot s ON s.id = r.snapshot_id"
local select_brief = brief .. from_run
local select_run = brief .. ", r.ulid, e.name AS experiment, r.reason, r.identity, r.generation, r.sweep_id,"
  .. " r.stop_requested_ns, r.created_ns, r.started_ns, r.ended_ns, s.parent_id AS parent, s.branch, s.dirty,"
  .. " s.repository, o.bundle AS origin_bundle, o.sha256 AS origin_sha256, o.name AS origin_name,"
  .. " o.imported_ns AS origin_ns" .. from_run .. " LEFT JOIN origin o ON o.run_id = r.id"

local in_ids = " IN (SELECT value FROM json_each(?))"

local function ids_json(ids)
  return "[" .. table.concat(ids, ",") .. "]"
end

local function load_params(store, by_id, list)
  for row in store:each("SELECT run_id, name, value, kind, bits FROM param WHERE run_id" .. in_ids, list) do
    local value = real(row.value, row.bits)
    if row.kind == "bool" then
      value = value == 1
    elseif row.kind == "json" and type(value) == "string" then
      local ok, decoded = pcall(json.decode, value)
      if ok and decoded ~= nil then value = decoded end
    end
    if value == nil then value = json.null end
    by_id[row.run_id].params[row.name] = value
  end
end

local series_columns = "id, run_id, key, count, first_step, last_step, last, last_bits, last_int, min,"
  .. " min_step, max, max_step, sum, sum_low, finite, nans"

local function metric_of(row)
  local mean
  if row.finite > 0 then
    mean = (row.sum or 0.0) + (row.sum_low or 0.0)
    mean = mean / row.finite
  end
  return { series_id = row.id, rank = row.rank, last = row.last_int or real(row.last, row.last_bits),
    min = row.min, max = row.max, mean = mean, count = row.count, first_step = row.first_step,
    last_step = row.last_step, min_step = row.min_step, max_step = row.max_step,
    nans = row.nans }
end

-- Metrics of rank 0, or of the lowest rank that logged the key.
local function load_metrics(store, by_id, list)
  local rows = store:each("SELECT " .. series_columns .. ", min(rank) AS rank FROM series"
    .. " WHERE run_id" .. in_ids .. " GROUP BY run_id, key", list)
  for row in rows do by_id[row.run_id].metrics[row.key] = metric_of(row) end
end

local page_keys = 1000

-- What the program logged comes before what pioche measured of the machine.
local metric_parts = { "(key < 'sys/' OR key >= 'sys0')", "key >= 'sys/' AND key < 'sys0'" }

-- Metrics of one run, as run.metrics has them, for key, metric in order of their
-- keys, those of sys/ last: read a page at a time, since a run may have a million.
-- `limit`: at most so many.
function runs.each_metric(store, run, limit)
  return coroutine.wrap(function()
    local left = limit or math.maxinteger
    for _, part in ipairs(metric_parts) do
      local sql = "SELECT " .. series_columns .. ", min(rank) AS rank FROM series WHERE run_id = ? AND "
        .. part .. " AND key > ? GROUP BY key ORDER BY key LIMIT ?"
      local after = ""
      repeat
        local page = store:rows(sql, run.id, after, math.min(page_keys, left))
        for _, row in ipairs(page) do coroutine.yield(row.key, metric_of(row)) end
        left, after = left - #page, #page > 0 and page[#page].key
      until not after or left == 0
    end
  end)
end

-- Keys that a run has logged, in that order, at most `limit`.
function runs.keys(store, run_id, limit)
  local keys = {}
  for _, part in ipairs(metric_parts) do
    for _, row in ipairs(store:rows("SELECT DISTINCT key FROM series WHERE run_id = ? AND count > 0 AND "
      .. part .. " ORDER BY key LIMIT ?", run_id, limit - #keys)) do
      keys[#keys + 1] = row.key
    end
  end
  return keys
end

-- How many keys a run has logged.
function runs.count_metrics(store, run)
  return store:one("SELECT count(*) AS n FROM (SELECT 1 FROM series WHERE run_id = ? GROUP BY key)", run.id).n
end

-- Load the metric of this key alone into a loaded run, where it has logged it.
function runs.add_metric(store, run, key)
  local row = store:one("SELECT " .. series_columns .. ", rank FROM series WHERE run_id = ? AND key = ?"
    .. " ORDER BY rank LIMIT 1", run.id, key)
  run.metrics[key] = row and metric_of(row)
end

-- A program that failed without a launcher to read its stderr has told why in
-- its traceback: the last line of it says more than that the run failed.
local function add_reasons(store, by_id, attempts)
  local silent = {}
  for _, attempt in ipairs(attempts) do
    if attempt.launcher == "standalone" and attempt.result == "failed" then
      silent[attempt.id] = attempt
    end
  end
  if next(silent) == nil then return end
  local ids = {}
  for id in pairs(silent) do ids[#ids + 1] = id end
  table.sort(ids)
  for row in store:each("SELECT attempt_id, message FROM event WHERE run_id IN (SELECT run_id"
    .. " FROM attempt WHERE id" .. in_ids .. ") AND kind = 'text' AND key = 'traceback'",
    ids_json(ids)) do
    local attempt, last = silent[row.attempt_id], nil
    for line in (row.message or ""):gmatch("[^\n]+") do
      if line:find("^%S") then last = line end
    end
    if attempt and last then
      local run = by_id[attempt.run_id]
      if run.reason == attempt.message then run.reason = last end
      attempt.message = last
    end
  end
end

-- Joules that the GPUs of an attempt took: what the driver has counted for each until
-- its end, or until it was folded last.
local function add_energy(store, by_id, list)
  for row in store:each("SELECT run_id, attempt, sum(joules) AS joules FROM (SELECT s.run_id, c.attempt,"
    .. " max(c.max) AS joules FROM series s JOIN chunk c ON c.series_id = s.id WHERE s.run_id" .. in_ids
    .. " AND s.key >= 'sys/gpu' AND s.key < 'sys/gpv' AND s.key GLOB 'sys/gpu*/energy_j'"
    .. " GROUP BY s.id, c.attempt) GROUP BY run_id, attempt", list) do
    for _, attempt in ipairs(by_id[row.run_id].attempts) do
      if attempt.number == row.attempt then attempt.energy_j = row.joules end
    end
  end
end

local function load_attempts(store, by_id, list)
  local all = {}
  for row in store:each("SELECT * FROM attempt WHERE run_id" .. in_ids
    .. " ORDER BY run_id, number", list) do
    table.insert(by_id[row.run_id].attempts, row)
    all[#all + 1] = row
  end
  add_reasons(store, by_id, all)
  add_energy(store, by_id, list)
end

-- Runs of these ids, in the same order. `want`: params, tags, metrics, attempts = true;
-- brief = true for no more of each than a comparison asks.
function runs.load(store, ids, want)
  want = want or {}
  local list, by_id, result = ids_json(ids), {}, {}
  for row in store:each((want.brief and select_brief or select_run) .. " WHERE r.id" .. in_ids, list) do
    if not want.brief then row.params, row.tags, row.metrics, row.attempts = {}, {}, {}, {} end
    by_id[row.id] = row
  end
  for _, id in ipairs(ids) do
    if by_id[id] then result[#result + 1] = by_id[id] end
  end
  if want.params then load_params(store, by_id, list) end
  if want.tags then
    for row in store:each("SELECT run_id, name, value FROM tag WHERE run_id" .. in_ids, list) do
      by_id[row.run_id].tags[row.name] = row.value
    end
  end
  if want.metrics then load_metrics(store, by_id, list) end
  if want.attempts then load_attempts(store, by_id, list) end
  return result
end

local function ids_of(loaded)
  local ids = {}
  for i, run in ipairs(loaded) do ids[i] = run.id end
  return ids
end

-- Values of one metric (see runs.metric) of loaded runs: {run id = value}.
function runs.values(store, loaded, spec)
  local stat = metric.stat_expr[spec.stat] .. ", " .. (spec.stat == "last" and "s.last_bits" or "NULL")
  local ids = ids_of(loaded)
  if not spec.rank then
    return store:of_runs("SELECT s.run_id, " .. stat .. " FROM series s WHERE s.run_id >= ? AND s.key = ?"
      .. " ORDER BY s.run_id, s.rank", ids, spec.key)
  end
  local reduced = metric.is_reduced(spec)
  return store:map("SELECT s.run_id, " .. (reduced and metric.reduced(spec.rank, spec.stat) or stat)
    .. " FROM json_each(?) i CROSS JOIN series s ON s.key = ? AND s.run_id = i.value"
    .. (reduced and " GROUP BY s.run_id" or " AND s.rank = " .. spec.rank), ids_json(ids), spec.key)
end

-- Values of a metric that a person asked for; raises where no run has it.
function runs.asked(store, loaded, text)
  local spec = runs.metric(store, text)
  if not spec.known then
    errors.raise("not_found", "no run has logged '%s'%s", spec.key,
      errors.suggestion(spec.key, runs.metric_keys(store)))
  end
  return runs.values(store, loaded, spec), spec
end

-- Add metrics that were asked for with a rank or a reduction to loaded runs,
-- under the name that was written, with all statistics.
function runs.add_asked(store, loaded, texts)
  for _, text in ipairs(texts or {}) do
    local _, spec = runs.asked(store, loaded, text)
    if spec.rank then
      for _, stat in ipairs(runs.stats) do
        local values = runs.values(store, loaded, { key = spec.key, rank = spec.rank, stat = stat })
        for _, run in ipairs(loaded) do
          local value = values[run.id]
          if value ~= nil then
            run.metrics[text] = run.metrics[text] or { count = 0, nans = 0, rank = spec.rank }
            run.metrics[text][stat] = value
          end
        end
      end
    end
  end
end

-- Notes on loaded runs, {run id = array of texts}, oldest first.
function runs.notes(store, loaded)
  local list = ids_json(ids_of(loaded))
  local notes = {}
  for row in store:each("SELECT run_id, message FROM event WHERE kind = 'note' AND run_id" .. in_ids
    .. " ORDER BY id", list) do
    notes[row.run_id] = notes[row.run_id] or {}
    table.insert(notes[row.run_id], row.message)
  end
  return notes
end

-- By id, the names that runs brought from another tracker, or were given: tag `name`.
function runs.names(store, loaded)
  return store:of_runs("SELECT run_id, value FROM tag WHERE run_id >= ? AND name = 'name' ORDER BY run_id",
    ids_of(loaded))
end

-- By id, what came of the newest `pioche checkpoint prove` of a run.
function runs.proofs(store, loaded)
  return store:of_runs("SELECT run_id, result FROM proof WHERE run_id >= ? ORDER BY run_id, id DESC", ids_of(loaded))
end

-- By id, what was lost of a run's points and why: a full disk, say.
function runs.losses(store, loaded)
  local list = ids_json(ids_of(loaded))
  return store:map("SELECT run_id, message FROM event WHERE kind = 'log.lost' AND run_id"
    .. in_ids .. " ORDER BY id", list)
end

-- Is it one that is never the best while others are there?
function runs.is_bad(run)
  return run.status == "failed" or run.status == "cancelled" or run.aside ~= nil
end

-- The runs, best first where they share a goal and it is this metric; failed and
-- cancelled ones and those set aside last, as they were where nothing tells.
function runs.best_first(store, loaded, spec)
  local first = loaded[1]
  for _, run in ipairs(loaded) do
    if run.goal_key ~= first.goal_key or run.goal ~= first.goal then return loaded end
  end
  local goal = first and first.goal_key and runs.metric(store, first.goal_key)
  if not goal or goal.key ~= spec.key or spec.rank then return loaded end
  local values, sign, list = runs.values(store, loaded, goal), first.goal == "maximize" and -1 or 1, {}
  for i, run in ipairs(loaded) do
    local value = values[run.id]
    list[i] = { run = run, place = i, bad = runs.is_bad(run),
      order = value and value == value and sign * value or math.huge }
  end
  table.sort(list, function(a, b)
    if a.bad ~= b.bad then return b.bad end
    if a.order ~= b.order then return a.order < b.order end
    return a.place < b.place
  end)
  for i, item in ipairs(list) do list[i] = item.run end
  return list
end

-- ---- JSON ----------------------------------------------------------------------

function runs.time(ns)
  return ns and sys.format_time(ns) or nil
end

local function or_null(value)
  if value == nil then return json.null end
  return value
end

local function attempt_json(attempt)
  return {
    number = attempt.number, result = or_null(attempt.result), node = or_null(attempt.node),
    rank = or_null(attempt.rank), signal = or_null(attempt.signal),
    exit_code = or_null(attempt.exit_code), step = or_null(attempt.step),
    message = or_null(attempt.message), started = or_null(runs.time(attempt.started_ns)),
    ended = or_null(runs.time(attempt.ended_ns)), job = or_null(attempt.job),
    energy_j = or_null(attempt.energy_j),
  }
end

-- Where a run came from that was not made here.
function runs.origin_json(run)
  if not run.origin_bundle then return json.null end
  return { bundle = term.utf8(run.origin_bundle), sha256 = run.origin_sha256, id = run.origin_name,
    imported = runs.time(run.origin_ns) }
end

-- The run as scripts see it; everything in `want` of runs.load must be loaded.
function runs.to_json(run)
  local metrics, attempts = {}, {}
  for key, m in pairs(run.metrics) do
    metrics[key] = { last = or_null(m.last), min = or_null(m.min), max = or_null(m.max),
      mean = or_null(m.mean), count = m.count, first_step = or_null(m.first_step),
      last_step = or_null(m.last_step) }
  end
  for i, attempt in ipairs(run.attempts) do attempts[i] = attempt_json(attempt) end
  return {
    id = run.name, ulid = run.ulid, experiment = run.experiment, status = run.status,
    reason = or_null(run.reason), seed = or_null(run.seed), params = run.params, tags = run.tags,
    metrics = metrics, origin = runs.origin_json(run), commit = or_null(run.commit),
    attempts = json.array(attempts), front = or_null(run.on_front),
    created = runs.time(run.created_ns), started = or_null(runs.time(run.started_ns)),
    ended = or_null(runs.time(run.ended_ns)),
  }
end

local params_sql = "SELECT run_id, json_members(name, value, kind, bits) AS text FROM param"
  .. " WHERE run_id" .. in_ids .. " GROUP BY run_id"
local tags_sql = "SELECT run_id, json_members(name, value, 'text', NULL) AS text FROM tag"
  .. " WHERE run_id" .. in_ids .. " GROUP BY run_id"
local metrics_sql = "SELECT run_id, json_series(key, count, first_step, last_step, last, last_int,"
  .. " last_bits, min, max, sum, sum_low, finite) AS text FROM series s"
  .. " WHERE run_id" .. in_ids .. " AND " .. metric.lowest_rank .. " GROUP BY run_id"

local page_sql = "SELECT json_series(key, count, first_step, last_step, last, last_int, last_bits, min, max,"
  .. " sum, sum_low, finite) AS text, max(key) AS last, count(*) AS n FROM (SELECT * FROM series s"
  .. " WHERE run_id = ? AND key > ? AND " .. metric.lowest_rank .. " ORDER BY key LIMIT ?)"

-- Print the JSON object of a run, `value` being what runs.to_json gives without
-- metrics, and more: the metrics go where they belong, a page at a time.
function runs.print_whole(ctx, store, run, value)
  local before, behind = {}, {}
  for name, item in pairs(value) do
    if name ~= "metrics" then (name < "metrics" and before or behind)[name] = item end
  end
  ctx.out(ctx.encode(before):sub(1, -2) .. ',"metrics":{')
  local key, lead = "", ""
  repeat
    local page = store:one(page_sql, run.id, key, page_keys)
    if page.n > 0 then ctx.out(lead .. page.text:sub(2, -2)) end
    key, lead = page.last, ","
  until page.n < page_keys
  ctx.out("}," .. ctx.encode(behind):sub(2) .. "\n")
end

-- Runs as JSON texts, the same as runs.to_json gives: what there is much of,
-- parameters and metrics, is written by SQL.
local function json_texts(ctx, store, ids, loaded)
  local list = ids_json(ids)
  local params, tags = store:map(params_sql, list), store:map(tags_sql, list)
  local metrics, texts = store:map(metrics_sql, list), {}
  for i, run in ipairs(loaded) do
    -- In the order of names; these three stand where theirs come.
    local value = runs.to_json(run)
    value.params, value.tags, value.metrics = nil, nil, nil
    local origin = ctx.encode { origin = value.origin }
    local head = { attempts = value.attempts, commit = value.commit, created = value.created,
      ended = value.ended, experiment = value.experiment, front = value.front, id = value.id }
    local middle = { reason = value.reason, seed = value.seed, started = value.started,
      status = value.status }
    texts[i] = table.concat { ctx.encode(head):sub(1, -2), ',"metrics":', metrics[run.id] or "{}",
      ",", origin:sub(2, -2), ',"params":', params[run.id] or "{}", ",", ctx.encode(middle):sub(2, -2),
      ',"tags":',
      tags[run.id] or "{}", ',"ulid":"', run.ulid, '"}' }
  end
  return texts
end

-- Print runs as a JSON array, one a line, loading a few hundred at a time;
-- `asked`: metrics with a rank or a reduction (runs.add_asked).
function runs.print_json(ctx, store, ids, asked, with_notes)
  local batch, lead, marks = 200, "[", require("pioche.sweep.marks").new(store)
  for first = 1, #ids, batch do
    local part = table.move(ids, first, math.min(first + batch - 1, #ids), 1, {})
    local texts = {}
    if asked or with_notes then
      local loaded = runs.load(store, part, { params = true, tags = true, metrics = true, attempts = true })
      runs.add_asked(store, loaded, asked)
      marks:add(loaded)
      local notes = with_notes and runs.notes(store, loaded)
      for i, run in ipairs(loaded) do
        local value = runs.to_json(run)
        if notes then value.notes = json.array(notes[run.id] or {}) end
        texts[i] = ctx.encode(value)
      end
    else
      local loaded = runs.load(store, part, { attempts = true })
      marks:add(loaded)
      texts = json_texts(ctx, store, part, loaded)
    end
    for _, text in ipairs(texts) do
      ctx.out(lead .. text)
      lead = ",\n"
    end
  end
  ctx.out((lead == "[" and "[" or "") .. "]\n")
end

-- ---- facts about a set of runs ---------------------------------------------------

-- A value of a parameter as text that identifies it.
function runs.value_key(value)
  if type(value) == "string" then return "s" .. value end
  if type(value) == "number" then
    local whole = math.tointeger(value)
    if whole and (whole ~= 0 or 1 / value > 0) then return "n" .. whole end
    return string.pack("<c1d", "n", value)
  end
  if type(value) == "boolean" then return "b" .. tostring(value) end
  return "j" .. json.encode(value)
end

-- For tables: a seed that is no parameter of the program is shown as one.
function runs.seed_as_param(loaded)
  for _, run in ipairs(loaded) do
    if run.params.seed == nil then run.params.seed = run.seed end
  end
end

-- The parameters of loaded runs, sorted by name: an array of {name, count = of
-- the runs that have it} with `value` where all runs say the same, else with
-- `values` and `same` by the runs' places (core/bind/store_param.c).
function runs.read_params(store, loaded)
  local params = store:params(ids_of(loaded))
  table.sort(params, function(a, b) return a.name < b.name end)
  return params
end

-- Put a parameter (see runs.read_params) into the runs that it was read of.
function runs.set_param(loaded, param)
  local name, values, value = param.name, param.values, param.value
  for i, run in ipairs(loaded) do
    if values then value = values[i] end
    run.params[name] = value
  end
end

-- Load the parameters in which runs of one experiment differ among these, and
-- return their names, sorted. The seed is shown as one.
function runs.add_differing(store, loaded)
  local groups, by_id, set, list = {}, {}, {}, {}
  for _, run in ipairs(loaded) do
    local group = by_id[run.experiment_id]
    if not group then
      group = { seed = run.seed }
      by_id[run.experiment_id], groups[#groups + 1] = group, group
    end
    group[#group + 1] = run
    set.seed = set.seed or run.seed ~= group.seed
  end
  for _, group in ipairs(groups) do
    group.params = runs.read_params(store, group)
    for _, param in ipairs(group.params) do set[param.name] = set[param.name] or param.values ~= nil end
  end
  for name, wanted in pairs(set) do
    if wanted then list[#list + 1] = name end
  end
  table.sort(list)
  for _, group in ipairs(groups) do
    for _, param in ipairs(group.params) do
      if set[param.name] then runs.set_param(group, param) end
    end
  end
  runs.seed_as_param(loaded)
  return list
end

-- A parameter's name for people. What a program said at its end is kept as a
-- parameter named summary/NAME.
function runs.title(name)
  return name:match("^summary/(.+)$") or name
end

-- A parameter's value as text for people.
function runs.value_text(value)
  if value == nil then return "" end
  if value == json.null then return "null" end
  if type(value) == "table" then return json.encode(value) end
  return format.value(value)
end

-- A table column, cells and all, of a parameter's `count` values: numbers are exact
-- where that is short, else equally precise down the column.
function runs.param_column(name, values, count)
  local cells, numbers, short = {}, true, true
  for i = 1, count do
    local value = values[i]
    if value ~= nil and type(value) ~= "number" then
      numbers = false
      break
    elseif short then
      cells[i] = value and format.exact(value) or ""
      short = #cells[i] <= 7
    end
  end
  local column = { title = runs.title(name), align = numbers and "right" or "left", flex = not numbers,
    min = 6 }
  if not numbers then
    for i = 1, count do cells[i] = runs.value_text(values[i]) end
  end
  column.cells = (short or not numbers) and cells or format.column(values, count, 4)
  return column
end

-- By their places, what these say of a parameter.
function runs.param_values(loaded, name)
  local values = {}
  for i, run in ipairs(loaded) do values[i] = run.params[name] end
  return values
end

-- Sign and colour of a status.
runs.signs = {
  planned = { "·", "dim" }, queued = { "◦", "dim" }, running = { "▶", "cyan" },
  finished = { "✓", "green" }, failed = { "✗", "red" }, stopped = { "■", "yellow" },
  cancelled = { "⊘", "yellow" }, mixed = { "◐", "yellow" },
}

-- A status as a table cell: a sign before the word on a terminal.
function runs.status_cell(ctx, status)
  local sign = runs.signs[status] or { "?", nil }
  return { (ctx.stdout_tty and sign[1] .. " " or "") .. status, sign[2] }
end

-- Nanoseconds a run took so far, nil before it starts.
function runs.took_ns(run)
  if not run.started_ns then return nil end
  return (run.ended_ns or sys.now_ns()) - run.started_ns
end

-- Is the run's code in a repository of the store's own, there being no other?
function runs.is_kept_by_store(run)
  return (run.repository or ""):match("/code%.git/?$") ~= nil
end

-- Why a run is not well, in one line: its reason, else its last attempt's message.
function runs.blame(run)
  if run.reason then return run.reason end
  local last = run.attempts[#run.attempts]
  if last and run.status ~= "finished" then return last.message end
  return nil
end

return runs
