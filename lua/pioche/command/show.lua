-- show: everything about one run on one screen.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local environment = require "pioche.environment"
local errors = require "pioche.errors"
local format = require "pioche.format"
local marks = require "pioche.sweep.marks"
local media = require "pioche.media"
local ranks = require "pioche.ranks"
local runs = require "pioche.runs"
local tables = require "pioche.table"
local term = require "pioche.term"

local metrics_shown = 40      -- on a terminal, unless --all
local metrics_piped = 1000    -- elsewhere; and with --all in one table
local spark_columns = 20

local function sorted_keys(map)
  local list = {}
  for key in pairs(map) do list[#list + 1] = key end
  table.sort(list)
  return list
end

local function decode(text)
  if type(text) ~= "string" then return {} end
  local ok, value = pcall(json.decode, text)
  return ok and type(value) == "table" and value or {}
end

local function heading(ctx, text)
  ctx.out("\n" .. term.paint(text, "bold", ctx.color) .. "\n")
end

local function line(ctx, label, text)
  if not text or text == "" then return end
  ctx.out("  " .. term.pad(label, 12) .. text .. "\n")
end

local function checkpoints(store, run)
  return store:rows("SELECT c.step, c.manifest_sha256, c.bytes, c.created_ns, c.stall_ns,"
    .. " a.number AS attempt, (SELECT count(*) FROM checkpoint_file f"
    .. " WHERE f.checkpoint_id = c.id) AS files FROM checkpoint c"
    .. " JOIN attempt a ON a.id = c.attempt_id"
    .. " WHERE c.run_id = ? AND c.state = 'sealed' ORDER BY c.step, c.id", run.id)
end

-- Input files as {name, path, sha256}, sorted by name; how a recipe wrote them
-- and what the run recorded may be a path alone or a table with its digest.
local function inputs(run)
  local declared, list = decode(run.program).inputs or {}, {}
  if type(declared) ~= "table" then return list end
  for _, name in ipairs(sorted_keys(declared)) do
    local value = declared[name]
    if type(value) == "table" then
      list[#list + 1] = { name = name, path = value.path,
        sha256 = value.sha256 or value.digest, bytes = value.bytes }
    else
      list[#list + 1] = { name = tostring(name), path = tostring(value) }
    end
  end
  return list
end

local function events(store, run, where, limit)
  local rows = store:rows("SELECT e.time_ns, e.kind, e.key, e.message, e.step, e.rank,"
    .. " a.number AS attempt FROM event e LEFT JOIN attempt a ON a.id = e.attempt_id"
    .. " WHERE e.run_id = ? AND " .. where .. " ORDER BY e.id DESC LIMIT ?", run.id, limit)
  local ordered = {}
  for i = #rows, 1, -1 do ordered[#ordered + 1] = rows[i] end
  return ordered
end

local function run_json(ctx, store, run)
  marks.new(store):add { run }
  local value = runs.to_json(run)
  value.checkpoints, value.inputs = json.array {}, json.array {}
  for i, c in ipairs(checkpoints(store, run)) do
    value.checkpoints[i] = { step = c.step, id = c.manifest_sha256, bytes = c.bytes,
      files = c.files, attempt = c.attempt, created = runs.time(c.created_ns) }
  end
  for i, input in ipairs(inputs(run)) do value.inputs[i] = input end
  local function event_list(where)
    local list = json.array {}
    for i, e in ipairs(events(store, run, where, -1)) do
      list[i] = { time = runs.time(e.time_ns), kind = e.kind, key = e.key, step = e.step,
        rank = e.rank, attempt = e.attempt, message = term.utf8(e.message) }
    end
    return list
  end
  value.media = json.array {}
  for i, item in ipairs(media.list(store, run)) do value.media[i] = media.to_json(item) end
  value.notes = json.array {}
  for i, e in ipairs(events(store, run, "e.kind = 'note'", -1)) do
    value.notes[i] = { time = runs.time(e.time_ns), text = term.utf8(e.message) }
  end
  if ctx.options.environment then
    local found = environment.of(store, run)
    value.environment = found and environment.to_json(found) or json.null
  end
  if ctx.options.ranks then
    value.ranks = json.array {}
    for i, rank in ipairs(ranks.list(store, run)) do value.ranks[i] = ranks.to_json(rank) end
  end
  if ctx.options.texts then value.texts = event_list("e.kind = 'text'") end
  if ctx.options.events then value.events = event_list("e.kind <> 'text'") end
  if ctx.options.metric then
    ctx.out(ctx.encode(value) .. "\n")
  else
    runs.print_whole(ctx, store, run, value)
  end
end

local function print_head(ctx, run)
  local status = runs.status_cell(ctx, run.status)
  ctx.out(term.paint(run.name, "bold", ctx.color) .. "  "
    .. term.paint(status[1], status[2], ctx.color) .. "  " .. run.ulid .. "\n")
  local blame = run.status ~= "finished" and runs.blame(run)
  if blame then
    ctx.out("  " .. term.paint(term.clean(blame), run.status == "failed" and "red" or "yellow",
      ctx.color) .. "\n")
  end
  ctx.out("\n")
  local age = format.age(sys.now_ns() - run.created_ns)
  line(ctx, "created", string.format("%s (%s)", runs.time(run.created_ns),
    age == "now" and "just now" or age .. " ago"))
  local took = runs.took_ns(run)
  line(ctx, "took", took and format.duration(took) .. (run.ended_ns and "" or " so far"))
  if run.commit then
    local parent = run.parent and run.parent ~= "" and run.parent:sub(1, 12)
    local state = runs.is_kept_by_store(run) and "no git: a snapshot in the store"
      or not parent and "no commit before it"
      or (run.dirty == 1 and "uncommitted changes on " or "clean at ") .. parent
    line(ctx, "code", string.format("%s (%s%s)", run.commit:sub(1, 12), state,
      run.branch and run.branch ~= "" and not runs.is_kept_by_store(run)
        and ", " .. term.clean(run.branch) or ""))
  end
end

local function print_origin(ctx, run)
  if not run.origin_bundle then return end
  line(ctx, "origin", ("%s, where it is %s (%s), imported %s"):format(term.clean(run.origin_bundle),
    term.clean(run.origin_name), run.origin_sha256:sub(1, 12), runs.time(run.origin_ns)))
end

local function print_program(ctx, run)
  local program, launch = decode(run.program), decode(run.launch)
  if type(program.command) == "table" then
    line(ctx, "command", term.clean(table.concat(program.command, " ")))
  elseif type(program.command) == "string" then
    line(ctx, "command", term.clean(program.command))
  end
  local shape = {}
  for _, key in ipairs(sorted_keys(launch)) do
    local value = launch[key]
    if type(value) ~= "table" then shape[#shape + 1] = key .. "=" .. runs.value_text(value) end
  end
  line(ctx, "launch", term.clean(table.concat(shape, " ")))
  line(ctx, "seed", run.seed and tostring(run.seed))
  line(ctx, "from", run.from_checkpoint and "checkpoint " .. run.from_checkpoint:sub(1, 16))
  if run.goal_key then line(ctx, "goal", run.goal .. " " .. term.clean(run.goal_key)) end
  for _, input in ipairs(inputs(run)) do
    line(ctx, "input", term.clean(input.name .. " = " .. (input.path or "")
      .. (input.sha256 and "  sha256 " .. input.sha256:sub(1, 16) or "")))
  end
end

local function print_pairs(ctx, title, map, text_of)
  local names = sorted_keys(map)
  if #names == 0 then return end
  heading(ctx, title)
  local rows = {}
  for i, name in ipairs(names) do rows[i] = { name, text_of(map[name]) } end
  tables.print(ctx, { { title = "", flex = true, min = 16 }, { title = "", flex = true, min = 20 } },
    rows, { header = false, indent = 2 })
end

local function exact_text(value)
  if type(value) == "number" then return format.exact(value) end
  return runs.value_text(value)
end

-- For key, metric of what is to be shown, in order of the keys.
local function each_metric(ctx, store, run, limit)
  if not ctx.options.metric then return runs.each_metric(store, run, limit) end
  local keys, at = sorted_keys(run.metrics), 0
  return function()
    at = at + 1
    return keys[at], run.metrics[keys[at]]
  end
end

local function spark(store, metric)
  if metric.count < 2 or not metric.series_id then return "" end
  local buckets = store:buckets(metric.series_id, spark_columns, {})
  local values = {}
  for i, bucket in ipairs(buckets or {}) do values[i] = bucket.mean end
  return format.sparkline(values)
end

-- The steps of a metric; those of an argmax are ranks, and say nothing.
local function steps_text(m)
  return m.first_step and m.last_step and string.format("%.0f..%.0f", m.first_step, m.last_step) or ""
end

local function metric_row(store, key, m)
  local texts = format.column({ m.last, m.min, m.max, m.mean }, 4)
  local rank = m.series_id and m.rank ~= 0 and "@" .. m.rank or ""
  return { key .. rank, { texts[1], "bold" }, texts[2], texts[3], texts[4], format.count(m.count),
    steps_text(m), m.nans > 0 and { tostring(m.nans), "red" } or nil, { spark(store, m), "cyan" } }
end

local function print_metrics_table(ctx, rows)
  tables.print(ctx, { { title = "key", flex = true, min = 16 }, { title = "last", align = "right" },
    { title = "min", align = "right", drop = 2 }, { title = "max", align = "right", drop = 2 },
    { title = "mean", align = "right", drop = 4 }, { title = "count", align = "right", drop = 4 },
    { title = "steps", align = "right", drop = 5 }, { title = "NaN", align = "right", drop = 6 },
    { title = "", drop = 3 } }, rows, { indent = 2 })
end

local function print_metrics(ctx, store, run)
  local limit = not ctx.options.all and (ctx.stdout_tty and metrics_shown or metrics_piped) or nil
  local rows, shown = {}, 0
  for key, m in each_metric(ctx, store, run, limit) do
    if shown == 0 then heading(ctx, "metrics") end
    shown = shown + 1
    rows[#rows + 1] = metric_row(store, key, m)
    if #rows == metrics_piped then
      print_metrics_table(ctx, rows)
      rows = {}
    end
  end
  if #rows > 0 then print_metrics_table(ctx, rows) end
  if shown == limit and not ctx.options.metric then
    local more = runs.count_metrics(store, run) - shown
    if more > 0 then
      ctx.out(term.paint(string.format("  +%s metric%s: --all, --metric KEY or --json\n", format.count(more),
        more == 1 and "" or "s"), "dim", ctx.color))
    end
  end
end

local function print_attempts(ctx, run)
  if #run.attempts == 0 then return end
  heading(ctx, "attempts")
  local rows = {}
  for i, a in ipairs(run.attempts) do
    local result = a.result or a.state
    local cause = a.signal and (sys.signal_name(a.signal) or "signal " .. a.signal)
      or (a.exit_code and "exit " .. a.exit_code) or ""
    local took = a.started_ns and (a.ended_ns or sys.now_ns()) - a.started_ns
    rows[i] = { tostring(a.number), { result, result == "ok" and "green"
      or (a.result and "red") or "cyan" }, took and format.duration(took) or "",
      tostring(a.world_size), a.energy_j and format.energy(a.energy_j) or "", a.node or "",
      a.rank and tostring(a.rank) or "", cause,
      a.step and tostring(a.step) or "",
      a.resume_checkpoint and a.resume_checkpoint:sub(1, 12) or "", a.message or "" }
  end
  tables.print(ctx, { { title = "#", align = "right" }, { title = "result" },
    { title = "took", align = "right" }, { title = "ranks", align = "right", drop = 3 },
    { title = "GPUs took", align = "right", drop = 3 }, { title = "node", drop = 2 },
    { title = "rank", align = "right", drop = 1 },
    { title = "cause", drop = 1 }, { title = "step", align = "right", drop = 2 },
    { title = "from", drop = 3 }, { title = "message", flex = true, min = 20, drop = 2 } }, rows,
    { indent = 2 })
end

local function print_ranks(ctx, store, run)
  local list = ctx.options.ranks and ranks.list(store, run) or {}
  if #list == 0 then return end
  heading(ctx, "ranks")
  ranks.print(ctx, list)
end

local function print_environment(ctx, store, run)
  local found = ctx.options.environment and environment.of(store, run)
  if not found then return end
  heading(ctx, "environment")
  environment.print(ctx, found)
end

local function print_checkpoints(ctx, store, run)
  local rows = {}
  for i, c in ipairs(checkpoints(store, run)) do
    rows[i] = { tostring(c.step), c.manifest_sha256:sub(1, 16), format.bytes(c.bytes),
      tostring(c.files), format.duration(c.stall_ns), runs.time(c.created_ns) }
  end
  if #rows == 0 then return end
  heading(ctx, "checkpoints")
  tables.print(ctx, { { title = "step", align = "right" }, { title = "id" },
    { title = "size", align = "right" }, { title = "files", align = "right", drop = 1 },
    { title = "stall", align = "right", drop = 2 }, { title = "saved", drop = 1 } }, rows,
    { indent = 2 })
end

local function print_media(ctx, store, run)
  local rows = {}
  for i, item in ipairs(media.newest(media.list(store, run))) do
    rows[i] = { item.kind, item.key, item.step and tostring(item.step) or "",
      item.rank > 0 and tostring(item.rank) or "", tostring(item.times), item.mime,
      format.bytes(item.bytes), item.name or "" }
  end
  if #rows == 0 then return end
  heading(ctx, "media")
  tables.print(ctx, { { title = "kind" }, { title = "key", flex = true, min = 12 },
    { title = "step", align = "right", drop = 1 }, { title = "rank", align = "right", drop = 5 },
    { title = "times", align = "right", drop = 4 }, { title = "type", drop = 6 },
    { title = "size", align = "right", drop = 2 }, { title = "name", drop = 3 } }, rows, { indent = 2 })
end

-- --media KEY: show one, or write it to a file.
local function show_media(ctx, store, run)
  local options = ctx.options
  local item = media.find(store, run, options.media, options.step, options.rank)
  if ctx.csv and options.save then
    errors.raise("usage", "--save and --csv exclude each other")
  elseif options.save then
    local path = media.save(store, item, options.save, options.force)
    if ctx.json then
      local value = media.to_json(item)
      value.path = path
      ctx.out(ctx.encode(value) .. "\n")
    else
      ctx.out(string.format("%s  %s\n", path, media.title(item)))
    end
  elseif ctx.json then
    ctx.out(ctx.encode(media.whole_json(store, item)) .. "\n")
  elseif ctx.csv then
    media.print_csv(ctx, store, item)
  else
    media.show(ctx, store, item)
  end
  return 0
end

-- Load the metrics that --metric names, with their ranks and reductions.
local function load_asked(ctx, store, run)
  local kept = {}
  for _, text in ipairs(ctx.options.metric) do runs.add_metric(store, run, runs.metric(store, text).key) end
  runs.add_asked(store, { run }, ctx.options.metric)
  for _, text in ipairs(ctx.options.metric) do
    local spec = runs.metric(store, text)
    local name = spec.rank and text or spec.key
    if not run.metrics[name] then
      errors.raise("not_found", "%s has not logged '%s'", run.name, text)
    end
    kept[name] = run.metrics[name]
  end
  run.metrics = kept
end

local text_lines = 12    -- of a sample, unless --texts

-- Text samples: each key's newest, or all with --texts; whole lines, indented.
-- Of a long one the beginning, but of a traceback the end: what happened is there.
local function print_texts(ctx, store, run)
  local all = ctx.options.texts
  local where = "e.kind = 'text'" .. (all and "" or " AND e.id IN (SELECT max(id) FROM event"
    .. " WHERE run_id = e.run_id AND kind = 'text' GROUP BY key)")
  local list = events(store, run, where, all and -1 or 4)
  if #list == 0 then return end
  heading(ctx, "text")
  for _, e in ipairs(list) do
    local label = (e.key or "text") .. (e.step and " at step " .. e.step or "")
      .. ((e.rank or 0) > 0 and " of rank " .. e.rank or "")
    ctx.out("  " .. term.paint(term.clean(label), "dim", ctx.color) .. "\n")
    local lines = {}
    for text in (e.message:gsub("\n$", "") .. "\n"):gmatch("([^\n]*)\n") do lines[#lines + 1] = text end
    local cut = not all and #lines > text_lines
    local first = cut and e.key == "traceback" and #lines - text_lines + 1 or 1
    local last = cut and first == 1 and text_lines or #lines
    local more = "    " .. term.paint("...: --texts", "dim", ctx.color) .. "\n"
    if first > 1 then ctx.out(more) end
    for i = first, last do ctx.out("    " .. term.clean(lines[i]) .. "\n") end
    if last < #lines then ctx.out(more) end
  end
end

local function print_notes(ctx, store, run)
  local list = events(store, run, "e.kind = 'note'", -1)
  if #list == 0 then return end
  heading(ctx, "notes")
  for _, e in ipairs(list) do
    ctx.out("  " .. term.paint(runs.time(e.time_ns):sub(1, 16):gsub("T", " "), "dim", ctx.color) .. "  "
      .. term.clean_lines(e.message:gsub("\n$", "")):gsub("\n", "\n" .. (" "):rep(20)) .. "\n")
  end
end

local function print_events(ctx, store, run)
  local list = events(store, run, "e.kind NOT IN ('text', 'note')", ctx.options.events and -1 or 5)
  if #list == 0 then return end
  heading(ctx, "events")
  local rows = {}
  for i, e in ipairs(list) do
    rows[i] = { runs.time(e.time_ns), e.kind, e.step and tostring(e.step) or "",
      e.rank and tostring(e.rank) or "", (e.key and e.key .. ": " or "") .. e.message }
  end
  tables.print(ctx, { { title = "time", drop = 3 }, { title = "kind" },
    { title = "step", align = "right", drop = 1 }, { title = "rank", align = "right", drop = 2 },
    { title = "message", flex = true, min = 20 } }, rows, { indent = 2 })
end

local function metrics_csv(ctx, store, run)
  ctx.out(csv.line { "key", "rank", "last", "min", "max", "mean", "count", "first_step",
    "last_step" })
  for key, m in each_metric(ctx, store, run) do
    ctx.out(csv.line({ key, m.rank, m.last, m.min, m.max, m.mean, m.count, m.first_step,
      m.last_step }, 9))
  end
end

local function run(ctx)
  local store = ctx.reading()
  local id = runs.find(store, ctx.args[1])
  local found = runs.load(store, { id }, { params = true, tags = true, attempts = true })[1]
  if not found then errors.raise("not_found", "no run '%s'", ctx.args[1]) end
  if ctx.options.media then return show_media(ctx, store, found) end
  if ctx.options.save or ctx.options.step or ctx.options.rank then
    errors.raise("usage", "--save, --step and --rank go with --media KEY")
  end
  if ctx.options.metric then load_asked(ctx, store, found) end
  if ctx.json then
    run_json(ctx, store, found)
    return 0
  elseif ctx.csv then
    metrics_csv(ctx, store, found)
    return 0
  end
  print_head(ctx, found)
  print_origin(ctx, found)
  print_program(ctx, found)
  local params, summary = {}, {}
  for name, value in pairs(found.params) do
    local said = runs.title(name)
    if said ~= name then summary[said] = value else params[name] = value end
  end
  print_pairs(ctx, "params", params, exact_text)
  print_pairs(ctx, "summary", summary, exact_text)
  print_pairs(ctx, "tags", found.tags, tostring)
  print_notes(ctx, store, found)
  print_metrics(ctx, store, found)
  print_attempts(ctx, found)
  print_ranks(ctx, store, found)
  print_environment(ctx, store, found)
  print_checkpoints(ctx, store, found)
  print_media(ctx, store, found)
  print_texts(ctx, store, found)
  print_events(ctx, store, found)
  return 0
end

return {
  summary = "everything about one run",
  usage = "show RUN [--metric KEY]... [--ranks] [--environment] [--texts] [--events] [--all]\n"
    .. "show RUN --media KEY [--step N] [--rank N] [--save PATH]",
  help = [[
Status and what went wrong, the exact code, command, launch shape, parameters,
tags, metrics of rank 0 (last, min, max, mean, count, steps and the curve in
small; of very many the first, --all shows the rest), attempts and how each
ended, checkpoints, histograms, images, tables and files, notes, the newest
text samples and events. --metric shows these metrics alone, also with a rank
or a reduction (val/loss@mean). --ranks shows how each process of the newest
attempt ended, and the CPUs and memory it was bound to; --environment shows what
that ran on and with: kernel, CPU, driver, limits, variables such as NCCL_DEBUG,
Python and its packages, and where nodes differ.

--media shows one histogram as a chart, table, text file, or image (in kitty,
Ghostty, iTerm2 and WezTerm), the newest step unless told; --save writes the
bytes as they were logged.

--json prints the run as `ls --json` does, with checkpoints, inputs, notes and
media, and with ranks, environment, texts and events where those are asked for; --csv its
metrics. With --media they print what is in a histogram or table.]],
  options = {
    { name = "ranks", help = "the processes of the newest attempt" },
    { name = "environment", help = "what the newest attempt ran on and with" },
    { name = "texts", help = "all text samples, whole" },
    { name = "events", help = "all events, not only the newest five" },
    { name = "all", short = "a", help = "all metrics, or rows of a table, however many" },
    { name = "metric", short = "m", arg = "KEY", multi = true, help = "only this metric; repeatable" },
    { name = "media", arg = "KEY", help = "show this histogram, image, table or file" },
    { name = "step", arg = "N", type = "integer", help = "of --media: the one logged at this step" },
    { name = "rank", arg = "N", type = "integer", min = 0, help = "of --media: by this rank" },
    { name = "save", arg = "PATH", help = "of --media: write its bytes to this file or folder" },
    { name = "force", short = "f", help = "of --save: replace an existing file" },
    { name = "wide", short = "w", help = "every column, whatever the terminal's width" },
  },
  examples = "pioche show gpt/best\npioche show gpt-17 --json | jq .params\n"
    .. "pioche show gpt-17 --media grad/histogram --step 400\n"
    .. "pioche show gpt-17 --media sample.png --save .",
  args = { 1, 1, what = "one RUN" },
  run = run,
}
