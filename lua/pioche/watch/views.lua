-- watch/views.lua: the pictures of `pioche watch`: each a function that gives lines of
-- at most `cols` columns from what watch/data.lua read.
local chart = require "pioche.chart"
local data = require "pioche.watch.data"
local format = require "pioche.format"
local output = require "pioche.output"
local runs = require "pioche.runs"
local sys = require "pioche.core.sys"
local term = require "pioche.term"

local views = {}

local function clock(ns)
  return ns and sys.format_time(ns):sub(12, 19) or ""
end

local function plain(text, cols)
  return term.cut(term.clean(text), cols)
end

-- A line of cells { text, width, style, align }; the last takes what is left.
local function row_of(cells, cols, color, is_chosen)
  local parts, left = {}, cols
  for i, cell in ipairs(cells) do
    local width = i == #cells and left or math.min(cell[2], left)
    local text = term.pad(term.cut(term.clean(cell[1] or ""), width), width, cell[4])
    parts[i] = is_chosen and text or term.paint(text, cell[3], color)
    left = left - width
    if i < #cells and left > 0 then
      parts[i] = parts[i] .. " "
      left = left - 1
    end
    if left <= 0 then break end
  end
  local line = table.concat(parts)
  return is_chosen and "\27[7m" .. line .. "\27[0m" or line
end

-- The part of a list that a window of `height` shows, so that `chosen` is in it.
local function window(state, name, count, height, chosen)
  local first = state.first[name] or 1
  first = math.max(1, math.min(first, count - height + 1))
  if chosen < first then first = chosen end
  if chosen > first + height - 1 then first = chosen - height + 1 end
  state.first[name] = first
  return first, math.min(count, first + height - 1)
end

-- A duration that is drawn anew each second: in whole ones.
local function seconds_text(ns)
  local seconds = ns // 1000000000
  return seconds < 60 and seconds .. "s" or format.duration(seconds * 1000000000)
end

-- ---- all runs -----------------------------------------------------------------------

local function step_text(run)
  local steps = math.tointeger(tonumber(run.params.steps))
  if not run.step then return "" end
  return steps and ("%d/%d"):format(run.step, steps) or tostring(run.step)
end

local function list_row(state, run, is_chosen)
  local sign = runs.signs[run.status] or { "?", nil }
  local eta = data.eta_ns(run)
  local took = runs.took_ns(run)
  local value = run.goal_key and run.series and run.series.last
  run.spark = run.spark or state.data:spark(run)
  local what = runs.blame { reason = run.reason, status = run.status, attempts = { run.attempt } }
    or run.status == "running" and run.attempt and run.attempt.number > 1
    and "attempt " .. run.attempt.number or ""
  return row_of({
    { run.name, state.name_width, "bold" }, { sign[1] .. " " .. run.status, 11, sign[2] },
    { step_text(run), 13, nil, "right" },
    { eta and "ETA " .. seconds_text(eta) or took and seconds_text(took) or "", 11, "dim", "right" },
    { value and format.number(value) or "", 10, nil, "right" }, { run.spark, 12, "cyan" }, { what, 0, "dim" },
  }, state.cols, state.color, is_chosen)
end

function views.runs(state, height)
  local lines, list = {}, state.list
  if #list == 0 then return { "", "  no run yet" } end
  state.name_width = 6
  for _, run in ipairs(list) do
    state.name_width = math.min(30, math.max(state.name_width, term.width(run.name)))
  end
  local goal = list[state.chosen].goal_key
  lines[1] = term.paint(row_of({ { "run", state.name_width }, { "status", 11 }, { "step", 13, nil, "right" },
    { "time", 11, nil, "right" }, { goal or "", 10, nil, "right" }, { "", 12 }, { "", 0 } },
    state.cols, false), "dim", state.color)
  local first, last = window(state, "runs", #list, height - 1, state.chosen)
  for i = first, last do lines[#lines + 1] = list_row(state, list[i], i == state.chosen) end
  return lines
end

-- ---- one run ------------------------------------------------------------------------

local function headline(state, run)
  local sign = runs.signs[run.status] or { "?", nil }
  local words, eta, left = {}, data.eta_ns(run), state.cols
  local function add(text, style)
    text = term.cut(text, left)
    words[#words + 1] = term.paint(text, style, state.color)
    left = math.max(0, left - term.width(text) - 2)
  end
  add(run.name, "bold")
  add(sign[1] .. " " .. run.status, sign[2])
  if run.attempt then add("attempt " .. run.attempt.number) end
  if run.step then add("step " .. step_text(run)) end
  if eta then add("ETA " .. seconds_text(eta)) end
  if run.goal_key and run.series and run.series.last then
    add(term.clean(run.goal_key) .. " " .. format.number(run.series.last))
  end
  return table.concat(words, "  ")
end

local function params_text(run)
  local names, words = {}, {}
  for name in pairs(run.params) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do words[i] = runs.title(name) .. "=" .. runs.value_text(run.params[name]) end
  return table.concat(words, " ")
end

local function event_line(state, event)
  return row_of({ { clock(event.time_ns), 8, "dim" }, { event.kind, 14, "cyan" },
    { (event.rank and "rank " .. event.rank .. " " or "") .. event.message:gsub("\n", " "), 0 } },
    state.cols, state.color)
end

-- The metric that is drawn: what was chosen, else the goal, else the first.
function views.metric(state, run)
  local keys = state.keys
  for i, key in ipairs(keys) do
    if key == (state.metric or run.goal_key) then return key, i end
  end
  return keys[1], 1
end

function views.run(state, height)
  local run = state.run
  local lines = { headline(state, run), term.paint(plain(params_text(run), state.cols), "dim", state.color) }
  local blame = runs.blame { reason = run.reason, status = run.status, attempts = { run.attempt } }
  if blame then lines[3] = term.paint(plain(blame, state.cols), "red", state.color) end
  local events = state.data:events(run)
  local shown = math.min(#events, math.max(3, height // 4))
  local rest = height - #lines - shown - (shown > 0 and 1 or 0)
  local key = views.metric(state, run)
  local curve = key and rest >= 8 and state.data:curve(run, key, 2 * state.cols)
  local drawn = curve and #curve.x > 0 and chart.render({ curve }, { title = term.clean(key),
    width = math.min(state.cols, 160), height = math.max(8, rest - 4), color = state.color,
    x_label = "step" })
  for line in (drawn or "\n  nothing logged yet\n"):gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  while #lines > height - shown do lines[#lines] = nil end
  while #lines < height - shown do lines[#lines + 1] = "" end
  for i = #events - shown + 1, #events do lines[#lines + 1] = event_line(state, events[i]) end
  return lines
end

-- ---- ranks, events, logs --------------------------------------------------------------

-- The last lines that these ranks wrote, {rank = line}: of stderr, where there is one.
local function last_lines(state, run, first, last)
  local said = {}
  for _, stream in ipairs(output.find(state.data.store, run.attempt, function(rank)
    return rank >= first and rank <= last
  end)) do
    stream:tail(1)
    local text = stream:block(true)
    if text then said[stream.rank] = text:gsub("[\r\n]+$", ""):match("[^\r]*$") end
    stream:close()
  end
  return said
end

function views.ranks(state, height)
  local run, list = state.run, state.data:ranks(state.run)
  local lines = { headline(state, run) }
  if #list == 0 then return { lines[1], "", "  no attempt yet" } end
  local newest = 0
  for _, item in ipairs(list) do newest = math.max(newest, item.step or 0) end
  state.rank = math.max(0, math.min(state.rank, #list - 1))
  lines[2] = term.paint(row_of({ { "rank", 5, nil, "right" }, { "step", 10, nil, "right" },
    { "behind", 8, nil, "right" }, { "ended", 12 }, { "last line", 0 } }, state.cols, false), "dim",
    state.color)
  local first, last = window(state, "ranks", #list, height - 2, state.rank + 1)
  local said = last_lines(state, run, first - 1, last - 1)
  for i = first, last do
    local item = list[i]
    local ended = item.signal and sys.signal_name(item.signal)
      or item.exit_code and "exit " .. item.exit_code or ""
    lines[#lines + 1] = row_of({ { tostring(item.rank), 5, "bold", "right" },
      { item.step and tostring(item.step) or "", 10, nil, "right" },
      { item.step and newest > item.step and tostring(newest - item.step) or "", 8, "yellow", "right" },
      { ended, 12, (item.signal or (item.exit_code or 0) > 0) and "red" or "dim" },
      { said[item.rank] or "", 0 } }, state.cols, state.color, item.rank == state.rank)
  end
  return lines
end

-- `scroll` lines up from the end of a list.
local function from_end(state, count, height)
  state.scroll = math.max(0, math.min(state.scroll, count - height))
  local last = count - state.scroll
  return math.max(1, last - height + 1), last
end

function views.events(state, height)
  local events = state.data:events(state.run)
  local lines = { headline(state, state.run) }
  if #events == 0 then return { lines[1], "", "  no events yet" } end
  local first, last = from_end(state, #events, height - 1)
  for i = first, last do lines[#lines + 1] = event_line(state, events[i]) end
  return lines
end

function views.logs(state, height)
  local run = state.run
  local lines = { headline(state, run) }
  if not run.attempt then return { lines[1], "", "  no attempt yet" } end
  state.rank = math.max(0, math.min(state.rank, run.attempt.world_size - 1))
  lines[2] = term.paint(plain(("rank %d of %d"):format(state.rank, run.attempt.world_size), state.cols),
    "dim", state.color)
  local streams = output.find(state.data.store, run.attempt, function(rank) return rank == state.rank end)
  local text = {}
  for _, stream in ipairs(streams) do stream:tail(height + state.scroll) end
  output.merge(streams, true, math.huge, function(stream, line)
    text[#text + 1] = { line:gsub("\r+$", ""):match("[^\r]*$"), stream.stream }
  end)
  for _, stream in ipairs(streams) do stream:close() end
  local first, last = from_end(state, #text, height - 2)
  for i = first, last do
    local line = term.cut(term.clean_output(text[i][1], false):gsub("\t", "  "), state.cols)
    lines[#lines + 1] = term.paint(line, text[i][2] == "err" and "red" or nil, state.color)
  end
  return lines
end

-- ---- the frame ----------------------------------------------------------------------

local help = {
  runs = "↑↓ choose  enter run  l logs  e events  r ranks  q quit",
  run = "↑↓ run  ←→ metric  r ranks  e events  l logs  backspace back  q quit",
  ranks = "↑↓ rank  l its log  e events  backspace back  q quit",
  events = "↑↓ scroll  r ranks  l logs  backspace back  q quit",
  logs = "↑↓ scroll  ←→ rank  r ranks  e events  backspace back  q quit",
}

local function counts_text(counts)
  local words = {}
  for _, status in ipairs(runs.statuses) do
    if counts[status] then words[#words + 1] = counts[status] .. " " .. status end
  end
  return #words > 0 and table.concat(words, ", ") or "no runs"
end

-- All lines of the screen.
function views.frame(state)
  local height = math.max(1, state.rows - 2)
  local title = ("pioche watch  %s  %s"):format(counts_text(state.counts),
    state.data.holder and "supervised by " .. state.data.holder or "nobody supervises")
  local lines = { term.paint(term.pad(plain(title, state.cols), state.cols), "bold", state.color) }
  local body = views[state.view](state, height)
  for i = 1, height do lines[i + 1] = body[i] or "" end
  if state.rows > 1 then
    local told = state.said or (state.data:is_unattended() and "s supervise  " or "") .. help[state.view]
    lines[state.rows] = term.paint(plain(told, state.cols), "dim", state.color)
  end
  return lines
end

return views
