-- chart: metrics as line charts in the terminal.
local json = require "pioche.core.json"
local chart = require "pioche.chart"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local metric = require "pioche.query.metric"
local query = require "pioche.query"
local runs = require "pioche.runs"
local term = require "pioche.term"

local exact_points = 20000   -- up to so many points a series is read whole
local runs_shown = 12
local metrics_shown = 4      -- of an experiment without a goal

-- Of a run: what store:points and store:buckets take for the metric ({source,
-- options}), with its rank, count and last value; nil where it did not log it.
local function wanted_series(store, run, spec)
  if metric.is_reduced(spec) then
    local all = store:one("SELECT max(count) AS count, max(last_step) AS last_step FROM series"
      .. " WHERE run_id = ? AND key = ?", run.id, spec.key)
    if not all.count then return nil end
    return { source = { run = run.id, key = spec.key }, reduce = spec.rank, rank = spec.rank,
      count = all.count, last_step = all.last_step, last = runs.values(store, { run }, spec)[run.id] }
  end
  local sql = "SELECT id, id AS source, rank, count, first_step, last_step,"
    .. " coalesce(last_int, last) AS last, last_bits FROM series WHERE run_id = ? AND key = ?"
  if spec.rank then return store:one(sql .. " AND rank = ?", run.id, spec.key, spec.rank) end
  return store:one(sql .. " ORDER BY rank LIMIT 1", run.id, spec.key)
end

local function points_of(store, found)
  return errors.check(store:points(found.source, { reduce = found.reduce }))
end

local function buckets_of(store, found, count)
  return errors.check(store:buckets(found.source, count, { reduce = found.reduce }))
end

-- What pioche measures comes by the clock, whatever steps there are.
local function axis_of(ctx, spec)
  return ctx.options.x or (spec.key:find("^sys/") and "time") or "step"
end

-- Seconds since the first point, for --x time.
local function by_time(store, found)
  local x, y, low, high = {}, {}, {}, {}
  if found.count <= exact_points or found.reduce then
    local points = points_of(store, found)
    local start = points.time_ns[1] or 0
    for i = 1, #points.step do
      x[i], y[i] = (points.time_ns[i] - start) / 1e9, points.value[i]
    end
    return { x = x, y = y }
  end
  local start, newest
  for row in store:each("SELECT first_ns, last_ns, last_step, min, max, sum, sum_low, finite FROM chunk"
    .. " WHERE series_id = ? AND finite > 0 ORDER BY first_ns", found.id) do
    start, newest = start or row.first_ns, math.max(newest or row.last_step, row.last_step)
    local n = #x + 1
    x[n] = ((row.first_ns - start) + (row.last_ns - start)) / 2e9
    y[n] = (row.sum + (row.sum_low or 0.0)) / row.finite
    low[n], high[n] = row.min, row.max
  end
  -- Those that are no chunk yet, one by one.
  if not newest or newest < found.last_step then
    local points = errors.check(store:points(found.source, { min = newest and newest + 1 }))
    for i = 1, #points.step do
      local n = #x + 1
      start = start or points.time_ns[1]
      x[n], y[n] = (points.time_ns[i] - start) / 1e9, points.value[i]
      low[n], high[n] = y[n], y[n]
    end
  end
  return { x = x, y = y, low = low, high = high, band = true }
end

-- Mean per bucket for drawing, whole points where they are few.
local function by_step(store, found, columns, smooth)
  local x, y, low, high = {}, {}, {}, {}
  if found.count <= exact_points and (smooth or found.count <= columns) then
    local points = points_of(store, found)
    return { x = points.step, y = points.value }
  end
  local many = false
  for _, bucket in ipairs(buckets_of(store, found, columns)) do
    if bucket.count > 0 then
      local n = #x + 1
      x[n] = bucket.first_step / 2 + bucket.last_step / 2   -- their difference may overflow
      y[n], low[n], high[n] = bucket.mean, bucket.min, bucket.max
      many = many or bucket.count > 1
    end
  end
  return { x = x, y = y, low = low, high = high, band = many }
end

local function last_value(found)
  if found.last_bits == nil then return found.last end
  return (string.unpack("<d", string.pack("<i8", found.last_bits)))
end

-- What the runs logged, in the order of names; not what pioche measured.
local function keys_of(store, loaded)
  local ids, keys = {}, {}
  for i, run in ipairs(loaded) do ids[i] = run.id end
  for i, row in ipairs(store:rows("SELECT DISTINCT key FROM series WHERE run_id IN"
    .. " (SELECT value FROM json_each(?)) AND key NOT GLOB 'sys/*' ORDER BY key LIMIT 1000",
    "[" .. table.concat(ids, ",") .. "]")) do
    keys[i] = row.key
  end
  return keys
end

-- The goals; without one, all that was logged where it is little.
local function default_metrics(store, loaded)
  local texts, seen = {}, {}
  for _, run in ipairs(loaded) do
    if run.goal_key and not seen[run.goal_key] then
      seen[run.goal_key] = true
      texts[#texts + 1] = run.goal_key
    end
  end
  if #texts > 0 then return texts end
  local keys = keys_of(store, loaded)
  if #keys == 0 then
    errors.raise("not_found", "chart: %s", #loaded == 1
      and loaded[1].name .. " has logged nothing yet" or "none of these runs has logged anything yet")
  elseif #keys <= metrics_shown then
    return keys
  end
  errors.raise("usage", "chart: the experiment has no goal, so expected --metric KEY; logged are: %s%s",
    table.concat(keys, ", ", 1, math.min(#keys, 12)),
    #keys > 12 and string.format(" and %d more", #keys - 12) or "")
end

-- The metric's spec; a statistic in it (val/loss.min) has no curve of its own.
local function curve_of(store, text)
  local spec = runs.metric(store, text)
  spec.title = spec.key .. (spec.rank and "@" .. spec.rank or "")
  return spec
end

-- The curves of the runs that logged the metric, and how many runs were not
-- looked at because there are enough.
local function collect(ctx, store, loaded, spec, columns)
  local series, hidden = {}, 0
  for i, run in ipairs(loaded) do
    if #series == runs_shown and not ctx.options.all then
      hidden = #loaded - i + 1
      break
    end
    local found = wanted_series(store, run, spec)
    if found and found.count > 0 then
      local s = axis_of(ctx, spec) == "time" and by_time(store, found)
        or by_step(store, found, columns, ctx.options.smooth)
      if ctx.options.smooth then
        s.y = chart.smooth(s.y, ctx.options.smooth)
        s.low, s.high, s.band = nil, nil, false
      end
      s.run = run
      s.label = string.format("%s  last %s at step %s%s", run.name,
        format.number(last_value(found)), format.count(found.last_step),
        run.status == "finished" and "" or "  " .. run.status)
      series[#series + 1] = s
    end
  end
  if #series == 0 then
    errors.raise("not_found", "none of these runs has logged '%s'%s", spec.key,
      errors.suggestion(spec.key, runs.metric_keys(store)))
  end
  return series, hidden
end

local function each_bucket(ctx, store, loaded, texts, visit)
  for _, text in ipairs(texts) do
    local spec = curve_of(store, text)
    local any = false
    for _, run in ipairs(loaded) do
      local found = wanted_series(store, run, spec)
      if found then
        any = true
        visit(run, spec, found, buckets_of(store, found, ctx.options.buckets or 200))
      end
    end
    if not any then
      errors.raise("not_found", "none of these runs has logged '%s'%s", spec.key,
        errors.suggestion(spec.key, runs.metric_keys(store)))
    end
  end
end

local function print_json(ctx, store, loaded, texts)
  local list = json.array {}
  each_bucket(ctx, store, loaded, texts, function(run, spec, found, buckets)
    list[#list + 1] = { id = run.name, metric = spec.key, rank = found.rank, count = found.count,
      buckets = json.array(buckets) }
  end)
  ctx.out(ctx.encode(list) .. "\n")
end

local function print_csv(ctx, store, loaded, texts)
  ctx.out(csv.line { "run", "metric", "rank", "first_step", "last_step", "count", "min", "max",
    "mean" })
  each_bucket(ctx, store, loaded, texts, function(run, spec, found, buckets)
    for _, b in ipairs(buckets) do
      ctx.out(csv.line({ run.name, spec.key, found.rank, b.first_step, b.last_step, b.count,
        b.min, b.max, b.mean }, 9))
    end
  end)
end

local function time_text(seconds)
  return seconds <= 0 and "0" or format.duration(math.floor(seconds * 1e9))
end

local function print_charts(ctx, store, loaded, texts, ordered)
  local width = ctx.options.width or math.min(ctx.cols, 120)
  for i, text in ipairs(texts) do
    local spec = curve_of(store, text)
    local series, hidden = collect(ctx, store, ordered and loaded
      or runs.best_first(store, loaded, spec), spec, 2 * width)
    local band, timed = false, axis_of(ctx, spec) == "time"
    for _, s in ipairs(series) do band = band or s.band end
    local title = spec.title .. (ctx.options.log_y and "  (log)" or "")
      .. (ctx.options.smooth and "  (smoothed " .. ctx.options.smooth .. ")" or "")
    local drawn = chart.render(series, { title = term.clean(title), width = width,
      height = ctx.options.height or 20, color = ctx.color, log = ctx.options.log_y,
      band = band and ctx.color and #series == 1, x_label = timed and "time" or "step",
      x_format = timed and time_text or nil })
    if not drawn then
      errors.raise("invalid", "'%s': nothing to draw: no value is finite%s", spec.key,
        ctx.options.log_y and " and positive" or "")
    end
    if i > 1 then ctx.out("\n") end
    ctx.out(drawn)
    if hidden > 0 then ctx.note(string.format("+%d run%s: --all\n", hidden,
      hidden == 1 and "" or "s")) end
  end
end

local function run(ctx)
  local store = ctx.reading()
  local ids, _, ordered = query.choose(store, ctx.args,
    { sort = ctx.options.sort, limit = ctx.options.limit })
  local loaded = runs.load(store, ids)
  if #loaded == 0 then errors.raise("not_found", "chart: no runs") end
  local smooth = ctx.options.smooth
  if smooth and not (smooth >= 0 and smooth < 1) then
    errors.raise("usage", "--smooth: expected a number from 0 to below 1, got %s", smooth)
  end
  local texts = ctx.options.metric or default_metrics(store, loaded)
  if ctx.json then
    print_json(ctx, store, loaded, texts)
  elseif ctx.csv then
    print_csv(ctx, store, loaded, texts)
  else
    print_charts(ctx, store, loaded, texts, ordered)
  end
  return 0
end

return {
  summary = "metrics as line charts in the terminal",
  usage = "chart RUN|EXPERIMENT|QUERY... [--metric KEY]...",
  help = [[
One chart a metric (the goal unless told; without a goal everything, where that
is up to 4 metrics), one curve a run, best first where the metric is the goal
(with --sort or `sort by` in that order), each point the mean of its bucket of
steps; with one run and colours the shaded band is the bucket's minimum to
maximum. Rank 0, or the rank in KEY@rank=N, or all ranks step by step in
KEY@mean, @max, @min or @argmax. Values that are not finite are gaps. A series
of more than 20,000 points is smoothed over its buckets.

JSON: an array of {id, metric, rank, count, buckets[{first_step, last_step,
count, min, max, mean}]}.]],
  options = {
    { name = "metric", short = "m", arg = "KEY", multi = true, help = "what to draw; repeatable" },
    { name = "log-y", help = "logarithmic y axis; values not above 0 are left out" },
    { name = "smooth", arg = "F", type = "number",
      help = "exponential moving average with factor F, 0 <= F < 1, without initial bias" },
    { name = "x", arg = "AXIS", choices = { "step", "time" },
      help = "step, or time since the first point; of sys/... time unless told" },
    { name = "width", arg = "N", type = "integer", min = 20, max = 1000, help = "columns" },
    { name = "height", arg = "N", type = "integer", min = 8, max = 200, help = "lines (20)" },
    { name = "buckets", arg = "N", type = "integer", min = 1, max = 100000,
      help = "of --json and --csv (200)" },
    query.options[1], query.options[2],
    { name = "all", short = "a", help = "all runs, also more than " .. runs_shown },
  },
  examples = [[
pioche chart gpt
pioche chart gpt/best -m train/loss -m val/loss --log-y
pioche chart gpt-3 gpt-7 -m train/loss --smooth 0.9 --x time]],
  args = { 1, nil, what = "a RUN, an EXPERIMENT or a QUERY" },
  run = run,
}
