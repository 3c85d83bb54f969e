-- watch: the runs of a store on the whole screen, as they go.
local data = require "pioche.watch.data"
local errors = require "pioche.errors"
local runs = require "pioche.runs"
local screen = require "pioche.screen"
local supervise = require "pioche.supervise"
local sys = require "pioche.core.sys"
local views = require "pioche.watch.views"

local look_ms = 1000

-- ---- keys ---------------------------------------------------------------------------

local function choose(state, index)
  state.chosen = math.max(1, math.min(#state.list, index))
  state.run = state.list[state.chosen]
  state.keys, state.scroll = nil, 0
end

local function show(state, view)
  if view ~= "runs" and not state.run then return end
  state.view, state.scroll = view, 0
end

local function next_metric(state, by)
  local _, at = views.metric(state, state.run)
  if #state.keys > 0 then state.metric = state.keys[(at - 1 + by) % #state.keys + 1] end
end

local function page(state)
  return math.max(1, state.rows - 4)
end

-- What `by` lines down, negative up, means where one looks.
local function move(state, by)
  if state.view == "runs" or state.view == "run" then
    choose(state, state.chosen + by)
  elseif state.view == "ranks" then
    state.rank = math.max(0, state.rank + by)
  else
    state.scroll = math.max(0, state.scroll - by)
  end
end

local function sideways(state, by)
  if state.view == "run" then next_metric(state, by) end
  if state.view == "logs" then state.rank, state.scroll = math.max(0, state.rank + by), 0 end
end

local function back(state)
  if state.view == "runs" then return "quit" end
  show(state, state.view == "run" and "runs" or "run")
end

-- Where nobody supervises: start one that goes on with what is open, and stays.
local function go_on(state)
  if state.data.holder then return end
  local ok, pid, _, words = pcall(supervise.detach, state.data.store, {})
  if not ok then
    if not errors.is(pid) then error(pid, 0) end
    state.said = "no supervisor: " .. pid.message
  elseif not pid then
    state.said = "no supervisor: " .. (words:match("([^\n]+)\n*$") or "it ended at once")
  end
end

local keys = {
  up = function(state) move(state, -1) end, down = function(state) move(state, 1) end,
  k = function(state) move(state, -1) end, j = function(state) move(state, 1) end,
  ["page up"] = function(state) move(state, -page(state)) end,
  ["page down"] = function(state) move(state, page(state)) end,
  home = function(state) move(state, math.mininteger // 2) end,
  ["end"] = function(state) move(state, math.maxinteger // 2) end,
  left = function(state) sideways(state, -1) end, right = function(state) sideways(state, 1) end,
  h = function(state) sideways(state, -1) end,
  enter = function(state) show(state, state.view == "ranks" and "logs" or "run") end,
  r = function(state) show(state, "ranks") end, e = function(state) show(state, "events") end,
  l = function(state) show(state, "logs") end, s = go_on,
  tab = function(state)
    local order = { runs = "run", run = "ranks", ranks = "events", events = "logs", logs = "runs" }
    show(state, order[state.view])
  end,
  backspace = back, escape = back,
  q = function() return "quit" end,
}

-- ---- the loop -------------------------------------------------------------------------

-- Read the store anew; the chosen run stays chosen where it still is.
local function reload(state)
  state.list, state.counts = state.data:list()
  local now_ns, at = sys.now_ns(), nil
  for i, run in ipairs(state.list) do
    run.seen_ns = now_ns
    if state.run and run.id == state.run.id then at = i end
  end
  choose(state, at or math.min(state.chosen, #state.list))
end

local function loop(state, display)
  local has_changed = true
  while true do
    state.cols, state.rows = display.cols, display.rows
    if state.data:has_changed() or has_changed then
      local scroll = state.scroll
      reload(state)
      state.scroll, has_changed = scroll, false
    end
    if state.run and not state.keys then state.keys = state.data:keys(state.run) end
    display:draw(views.frame(state))
    local pressed = display:read(look_ms)
    if not pressed then return 0 end
    if #pressed > 0 then state.said = nil end
    for _, key in ipairs(pressed) do
      if keys[key] and keys[key](state) == "quit" then return 0 end
    end
  end
end

-- What is watched: everything, an experiment, or one run.
local function scope_of(store, word)
  if not word then return {}, "runs" end
  local row = store:one("SELECT id FROM experiment WHERE name = ?", word)
  if row then return { experiment = row.id }, "runs" end
  return { run = runs.find(store, word) }, "run"
end

local function watch(ctx)
  if not ctx.stdout_tty or ctx.json then
    errors.raise("usage", "watch draws on a terminal%s: `pioche ls`, `pioche attach RUN` and"
      .. " `pioche logs RUN --follow` print lines", ctx.json and "" or ", and standard output is none")
  end
  local store = ctx.reading()
  local scope, view = scope_of(store, ctx.args[1])
  local state = { data = data.new(store, scope), view = view, chosen = 1, rank = 0, scroll = 0,
    first = {}, color = ctx.color, list = {}, counts = {} }
  local display, message, word = screen.open()
  if not display then errors.raise(word, "watch: %s", message) end
  local ok, result = xpcall(loop, function(e)
    return errors.is(e) and e or debug.traceback(tostring(e), 2)
  end, state, display)
  display:close()
  if not ok then error(result, 0) end
  return result
end

return {
  summary = "the runs on the whole screen, as they go",
  usage = "watch [EXPERIMENT|RUN]",
  help = [[
Shows runs with status, step, time left, the goal's value and its course; of one
run a chart, its ranks, events and the output of each rank. It reads the store and
holds nothing, so any number of people may watch, and what they watch goes on when
they stop. The screen follows the store once a second, and the terminal's size. Where
nobody supervises what is open, s starts `pioche supervise --detach`: it settles what
came of it meanwhile, and goes on.

  ↑ ↓ j k, PgUp PgDn, Home End   choose a run or rank, scroll events and logs
  Enter, Tab                     into the run; the next view
  ← →                            the run's metrics; in the logs, its ranks
  r e l                          ranks, events, logs
  s                              supervise in the background, where nobody does
  Backspace, Esc                 back
  Ctrl-L  q                      draw anew; quit]],
  options = {},
  examples = "pioche watch\npioche watch gpt\npioche watch gpt-17",
  args = { 0, 1 },
  run = watch,
}
