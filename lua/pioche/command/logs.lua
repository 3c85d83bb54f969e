-- logs: what the ranks of a run wrote to stdout and stderr.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local output = require "pioche.output"
local runs = require "pioche.runs"
local term = require "pioche.term"

local follow_ms = 200
local follow_share = 1048576   -- bytes of a stream in one turn of following
local idle_part = 10           -- following sleeps this many times as long as it looks
local files_s = 2              -- between two looks for files that are new
local gone_s = 20              -- nothing written and no supervisor: then it is over

-- ---- what is asked for ------------------------------------------------------------

-- The set of ranks in "0,3-5", or nil for all; raises on other words.
local function parse_ranks(text)
  if not text or text == "all" then return nil end
  local set = { low = {}, high = {}, max = 0 }
  for part in (text .. ","):gmatch("([^,]*),") do
    local first, last = part:match("^(%d+)%-(%d+)$")
    first = math.tointeger(tonumber(first or part:match("^%d+$")))
    last = last and math.tointeger(tonumber(last)) or first
    if not first or not last then
      errors.raise("usage", "--rank: expected numbers and ranges, as 0,3-5, or all, got '%s'", text)
    elseif last < first then
      errors.raise("usage", "--rank: the range '%s' ends before it begins", part)
    end
    set.low[#set.low + 1], set.high[#set.high + 1] = first, last
    set.max = math.max(set.max, last)
  end
  return set
end

local function has_rank(set, rank)
  if not set then return true end
  for i, low in ipairs(set.low) do
    if rank >= low and rank <= set.high[i] then return true end
  end
  return false
end

-- What the options ask for: { ranks, want(rank, stream), pattern or nil }.
local function parse(options)
  local asked = { ranks = parse_ranks(options.rank) }
  function asked.want(rank, stream)
    return has_rank(asked.ranks, rank)
      and not (options.stdout and not options.stderr and stream == "err")
      and not (options.stderr and not options.stdout and stream == "out")
  end
  if options.ignore_case and not options.grep then
    errors.raise("usage", "--ignore-case belongs to --grep PATTERN")
  elseif options.grep then
    local pattern, message = sys.regex(options.grep, options.ignore_case)
    if not pattern then errors.raise("usage", "--grep: %s", message) end
    asked.pattern = pattern
  end
  return asked
end

local function find_attempt(ctx, store, run)
  local wanted = ctx.options.attempt
  local row = wanted
    and store:one("SELECT * FROM attempt WHERE run_id = ? AND number = ?", run.id, wanted)
    or not wanted
    and store:one("SELECT * FROM attempt WHERE run_id = ? ORDER BY number DESC LIMIT 1", run.id)
  if not row and wanted then
    local count = store:one("SELECT count(*) AS n FROM attempt WHERE run_id = ?", run.id).n
    errors.raise("not_found", "%s has no attempt %d: it has %d", run.name, wanted, count)
  elseif not row and not ctx.options.follow then
    errors.raise("not_found", "%s has no logs: it is %s and was not launched", run.name,
      run.status)
  end
  return row
end

-- ---- printing ---------------------------------------------------------------------

local rank_colors = { "cyan", "green", "yellow", "magenta", "blue", "bold+cyan", "bold+green",
  "bold+yellow", "bold+magenta", "bold+blue" }

-- show(stream, line): with the rank before it where several are shown, in a colour
-- of the rank's own. And whether lines are passed on just as they are.
local function printer(ctx, asked, attempt)
  local only = asked.ranks and #asked.ranks.low == 1 and asked.ranks.low[1] == asked.ranks.high[1]
  local is_one = only or attempt.world_size == 1
  local is_safe = ctx.stdout_tty and not ctx.options.raw
  local prefixes = {}
  local function prefix_of(stream)
    local style = rank_colors[stream.rank % #rank_colors + 1]
    local text = "[" .. stream.rank
    if stream.stream == "out" then return term.paint(text .. "] ", style, ctx.color) end
    return term.paint(text .. " ", style, ctx.color) .. term.paint("err", "red", ctx.color)
      .. term.paint("] ", style, ctx.color)
  end
  return function(stream, line)
    if asked.pattern and not asked.pattern:matches(line) then return end
    local key = stream.rank .. stream.stream
    prefixes[key] = prefixes[key] or is_one and "" or prefix_of(stream)
    ctx.out(prefixes[key] .. (is_safe and term.clean_output(line, ctx.color) or line) .. "\n")
  end, is_one and not is_safe and not asked.pattern
end

local function print_structured(ctx, run, attempt, streams, asked)
  local list = json.array {}
  if ctx.csv then ctx.out(csv.line { "run", "attempt", "rank", "stream", "line" }) end
  for i, stream in ipairs(streams) do
    local lines = json.array {}
    local name = stream.stream == "err" and "stderr" or "stdout"
    output.merge({ stream }, true, math.huge, function(_, line)
      if asked.pattern and not asked.pattern:matches(line) then return end
      if ctx.csv then
        ctx.out(csv.line { run.name, attempt.number, stream.rank, name, line })
      else
        lines[#lines + 1] = term.utf8(line)
      end
    end)
    stream:close()
    list[i] = { rank = stream.rank, stream = name, attempt = attempt.number, lines = lines }
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
end

-- ---- following ----------------------------------------------------------------------

-- Add the streams whose files came since.
local function add_streams(store, attempt, asked, streams)
  local known = {}
  for _, stream in ipairs(streams) do known[stream.path or ""] = true end
  for _, stream in ipairs(output.find(store, attempt, asked.want)) do
    if stream.path and not known[stream.path] then streams[#streams + 1] = stream end
  end
  for i, stream in ipairs(streams) do stream.number = i end
end

local function is_supervised(store)
  local state = store:lease_look().state
  return state == "held" or state == "far"
end

-- Show what an attempt writes until it has ended; false when its supervisor is gone
-- and nothing comes any more.
local function follow_attempt(ctx, store, attempt, asked, streams, show)
  local looked_ns, heard_ns = sys.mono_ns(), sys.mono_ns()
  local function hear(stream, line)
    heard_ns = sys.mono_ns()
    show(stream, line)
  end
  while true do
    local begin_ns = sys.mono_ns()
    local row = store:one("SELECT state FROM attempt WHERE id = ?", attempt.id)
    local is_over = not row or row.state == "ended"
    if is_over or #streams == 0 or begin_ns - looked_ns > files_s * 1000000000 then
      looked_ns = begin_ns
      add_streams(store, attempt, asked, streams)
    end
    local has_more = output.merge(streams, is_over, follow_share, hear)
    ctx.flush()
    if is_over and not has_more then
      for _, stream in ipairs(streams) do stream:close() end
      return true
    elseif not has_more then
      if sys.mono_ns() - heard_ns > gone_s * 1000000000 then
        if attempt.launcher ~= "standalone" and not is_supervised(store) then return false end
        heard_ns = sys.mono_ns()
      end
      sys.sleep_ms(math.max(follow_ms, (sys.mono_ns() - begin_ns) * idle_part // 1000000))
    end
  end
end

local over = { finished = true, failed = true, stopped = true, cancelled = true }

-- The next attempt of a run, when it begins; nil when the run has ended, or nobody
-- is there who would begin one.
local function next_attempt(store, run, number)
  local free_ns
  while true do
    local row = store:one("SELECT * FROM attempt WHERE run_id = ? AND number > ? ORDER BY number"
      .. " LIMIT 1", run.id, number)
    if row then return row end
    local status = store:one("SELECT status FROM run WHERE id = ?", run.id).status
    if over[status] then return nil end
    if is_supervised(store) then
      free_ns = nil
    else
      free_ns = free_ns or sys.mono_ns()
      if sys.mono_ns() - free_ns > 1000000000 then return nil, status end
    end
    sys.sleep_ms(follow_ms)
  end
end

local function follow(ctx, store, run, attempt, asked, streams)
  local status
  if not attempt then
    attempt, status = next_attempt(store, run, 0)
    streams = {}
  end
  while attempt do
    local show = printer(ctx, asked, attempt)
    if not follow_attempt(ctx, store, attempt, asked, streams, show) then
      status = "running"
      break
    elseif ctx.options.attempt then
      return 0
    end
    local number = attempt.number
    attempt, status = next_attempt(store, run, number)
    streams = {}
    if attempt then ctx.note(("%s: attempt %d\n"):format(run.name, attempt.number)) end
  end
  if status then
    ctx.note(("%s is %s, and nobody supervises it: `pioche supervise` goes on with it\n"):format(
      run.name, status))
  end
  return 0
end

-- ---- the verb -----------------------------------------------------------------------

local function nothing(ctx, run, attempt, asked)
  if asked.ranks and asked.ranks.max >= attempt.world_size then
    errors.raise("not_found", "attempt %d of %s has no rank %d: ranks are 0 to %d",
      attempt.number, run.name, asked.ranks.max, attempt.world_size - 1)
  end
  ctx.note(string.format("%s, attempt %d: no output on record%s\n", run.name, attempt.number,
    attempt.launcher == "standalone" and ": it was started without pioche, which kept none" or ""))
  if ctx.json then ctx.out("[]\n") end
  return 0
end

local function run(ctx)
  local options = ctx.options
  local asked = parse(options)
  if options.follow and (ctx.json or ctx.csv) then
    errors.raise("usage", "--follow prints lines as they come: without --json and --csv")
  end
  local store = ctx.reading()
  local found = runs.load(store, { runs.find(store, ctx.args[1]) })[1]
  local attempt = find_attempt(ctx, store, found)
  local streams = attempt and output.find(store, attempt, asked.want) or {}
  if #streams == 0 and not options.follow then return nothing(ctx, found, attempt, asked) end
  if options.tail then
    for _, stream in ipairs(streams) do stream:tail(options.tail) end
  end
  if ctx.json or ctx.csv then
    print_structured(ctx, found, attempt, streams, asked)
    return 0
  elseif options.follow then
    return follow(ctx, store, found, attempt, asked, streams)
  end
  local show, is_plain = printer(ctx, asked, attempt)
  if #streams == 1 and is_plain then
    for text in function() return streams[1]:block(true) end do ctx.out(text) end
  else
    output.merge(streams, true, math.huge, show)
  end
  return 0
end

return {
  summary = "what the ranks of a run wrote",
  usage = "logs RUN [--rank LIST] [--grep PATTERN] [--stdout | --stderr] [--tail N] [--follow]\n"
    .. "logs RUN --attempt N ...",
  help = [[
The output of the newest attempt. Of several ranks the lines are merged in the
order of the times that they begin with (2026-11-29 20:22:57,123 and its like);
a line without one stays behind the line before it, and ranks that write no
times come one after the other, each rank's stdout before its stderr. --follow
shows lines as they come. Where the attempt has several ranks a line begins with
[RANK] or [RANK err], in a colour of the rank's own.

A terminal gets a program's colours, but no other control characters, and of a
progress bar what came last; --raw passes everything on as it is, which a pipe
gets anyway.

--follow goes on through the attempts of a run until the run ends, with --attempt
until that attempt does. Ctrl-C ends it, and nothing else.

PATTERN is an extended regular expression, as of grep -E. LIST is ranks and
ranges of them: 0,3-5. When the files are gone, the last lines that the store
keeps are shown.

JSON: an array of {rank, stream, attempt, lines[]}.]],
  options = {
    { name = "rank", short = "r", arg = "LIST", help = "only these ranks: 371, 0,3-5, all" },
    { name = "grep", short = "g", arg = "PATTERN", help = "only lines that match" },
    { name = "ignore-case", short = "i", help = "--grep takes no heed of case" },
    { name = "attempt", arg = "N", type = "integer", min = 1, help = "this attempt, not the newest" },
    { name = "stdout", help = "only stdout" },
    { name = "stderr", help = "only stderr" },
    { name = "tail", short = "n", arg = "N", type = "integer", min = 0,
      help = "only the last N lines of each file" },
    { name = "follow", short = "f", help = "go on until the run ends" },
    { name = "raw", help = "control characters as they are, also to a terminal" },
  },
  examples = "pioche logs gpt-17 --stderr --tail 50\npioche logs gpt/last --follow --rank 371\n"
    .. "pioche logs gpt-17 --rank 0,8-15 --grep 'nan|inf' --ignore-case",
  args = { 1, 1, what = "one RUN" },
  run = run,
}
