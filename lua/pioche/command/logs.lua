-- logs: what the ranks of a run wrote to stdout and stderr.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local runs = require "pioche.runs"
local term = require "pioche.term"

local block = 65536
local follow_ms = 200

-- ---- which files ----------------------------------------------------------------

local function find_attempt(ctx, store, run)
  local wanted = ctx.options.attempt
  local row = wanted
    and store:one("SELECT * FROM attempt WHERE run_id = ? AND number = ?", run.id, wanted)
    or not wanted
    and store:one("SELECT * FROM attempt WHERE run_id = ? ORDER BY number DESC LIMIT 1", run.id)
  if not row and wanted then
    local count = store:one("SELECT count(*) AS n FROM attempt WHERE run_id = ?", run.id).n
    errors.raise("not_found", "%s has no attempt %d: it has %d", run.name, wanted, count)
  elseif not row then
    errors.raise("not_found", "%s has no logs: it is %s and was not launched", run.name,
      run.status)
  end
  return row
end

-- Wanted streams: array of { rank, stream = "out"|"err", path, text }, sorted
-- by rank, stdout first. From the attempt's files, else from the tails that the
-- store keeps.
local function find_streams(ctx, store, attempt)
  local dir = store:path() .. "/" .. attempt.dir
  local list = {}
  local function want(rank, stream)
    local options = ctx.options
    return (not options.rank or options.rank == rank)
      and not (options.stdout and not options.stderr and stream == "err")
      and not (options.stderr and not options.stdout and stream == "out")
  end
  for _, name in ipairs(sys.type(dir) == "dir" and sys.list(dir) or {}) do
    local rank, stream = name:match("^rank%-(%d+)%.(%l+)$")
    rank = math.tointeger(tonumber(rank))
    if rank and (stream == "out" or stream == "err") and want(rank, stream) then
      list[#list + 1] = { rank = rank, stream = stream, path = dir .. "/" .. name }
    end
  end
  if #list == 0 then
    for _, row in ipairs(store:rows("SELECT rank, stdout_tail, stderr_tail FROM rank"
      .. " WHERE attempt_id = ?", attempt.id)) do
      for stream, text in pairs { out = row.stdout_tail, err = row.stderr_tail } do
        if want(row.rank, stream) then
          list[#list + 1] = { rank = row.rank, stream = stream, text = text }
        end
      end
    end
  end
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    return a.stream == "out" and b.stream == "err"
  end)
  return list
end

-- ---- reading ----------------------------------------------------------------------

-- Offset where the last `count` lines of an open file begin.
local function tail_offset(file, count)
  local size = file:seek("end")
  local at, lines = size, 0
  while at > 0 do
    local from = math.max(0, at - block)
    file:seek("set", from)
    local text = file:read(at - from) or ""
    for i = #text, 1, -1 do
      if text:byte(i) == 10 and from + i < size then
        lines = lines + 1
        if lines == count then return from + i end
      end
    end
    at = from
  end
  return 0
end

local function tail_text(text, count)
  local lines = 0
  for i = #text - 1, 1, -1 do
    if text:byte(i) == 10 then
      lines = lines + 1
      if lines == count then return text:sub(i + 1) end
    end
  end
  return text
end

-- Give visit() the stream's bytes in blocks of whole lines, from source.offset
-- on; an unfinished last line only when `all`.
local function read_more(source, all, visit)
  if source.text then
    if source.text ~= "" then visit(source.text) end
    source.text = ""
    return
  end
  local file = source.file or io.open(source.path, "rb")
  if not file then return end
  source.file = file
  file:seek("set", source.offset or 0)
  local rest = ""
  while true do
    local text = file:read(block)
    if not text then break end
    text = rest .. text
    local last = text:match("^.*()\n")
    if last then visit(text:sub(1, last)) end
    rest = last and text:sub(last + 1) or text
    if #rest > 16 * block then
      visit(rest .. "\n")
      rest = ""
    end
  end
  source.offset = file:seek("cur") - #rest
  if all and rest ~= "" then
    visit(rest .. "\n")
    source.offset = source.offset + #rest
  end
end

local function start_at_tail(source, count)
  if source.text then
    source.text = count == 0 and "" or tail_text(source.text, count)
    return
  end
  local file = io.open(source.path, "rb")
  if not file then return end
  source.file = file
  source.offset = count == 0 and file:seek("end") or tail_offset(file, count)
end

-- ---- printing ---------------------------------------------------------------------

local function printer(ctx, sources)
  local ranks, seen = 0, {}
  for _, source in ipairs(sources) do
    if not seen[source.rank] then
      seen[source.rank] = true
      ranks = ranks + 1
    end
  end
  return function(source, text)
    if text:sub(-1) ~= "\n" then text = text .. "\n" end
    local style = source.stream == "err" and "red" or "cyan"
    local prefix = ranks > 1 and string.format("[%d%s] ", source.rank,
      source.stream == "err" and " err" or "") or ""
    if prefix == "" and not ctx.stdout_tty then
      ctx.out(text)
      return
    end
    prefix = term.paint(prefix, style, ctx.color)
    ctx.out((text:gsub("([^\n]*)\n", function(line)
      return prefix .. (ctx.stdout_tty and term.clean_output(line, ctx.color) or line) .. "\n"
    end)))
  end
end

local function follow(ctx, store, attempt, sources, show)
  while true do
    local state = store:one("SELECT state FROM attempt WHERE id = ?", attempt.id)
    local over = not state or state.state == "ended"
    local known = {}
    for _, source in ipairs(sources) do known[source.path or ""] = true end
    for _, source in ipairs(find_streams(ctx, store, attempt)) do
      if source.path and not known[source.path] then sources[#sources + 1] = source end
    end
    for _, source in ipairs(sources) do
      read_more(source, over, function(text) show(source, text) end)
    end
    ctx.flush()
    if over then return end
    sys.sleep_ms(follow_ms)
  end
end

local function print_structured(ctx, run, attempt, sources)
  local list = json.array {}
  if ctx.csv then ctx.out(csv.line { "run", "attempt", "rank", "stream", "line" }) end
  for _, source in ipairs(sources) do
    local lines = json.array {}
    local stream = source.stream == "err" and "stderr" or "stdout"
    read_more(source, true, function(text)
      for line in (text:sub(-1) == "\n" and text or text .. "\n"):gmatch("([^\n]*)\n") do
        if ctx.csv then
          ctx.out(csv.line { run.name, attempt.number, source.rank, stream, line })
        else
          lines[#lines + 1] = term.utf8(line)
        end
      end
    end)
    list[#list + 1] = { rank = source.rank, stream = stream, attempt = attempt.number,
      lines = lines }
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
end

local function run(ctx)
  local store = ctx.reading()
  local found = runs.load(store, { runs.find(store, ctx.args[1]) })[1]
  local attempt = find_attempt(ctx, store, found)
  local sources = find_streams(ctx, store, attempt)
  local options = ctx.options
  if options.follow and (ctx.json or ctx.csv) then
    errors.raise("usage", "--follow prints lines as they come: without --json and --csv")
  end
  if #sources == 0 and not options.follow then
    if options.rank and options.rank >= attempt.world_size then
      errors.raise("not_found", "attempt %d of %s has no rank %d: ranks are 0 to %d",
        attempt.number, found.name, options.rank, attempt.world_size - 1)
    end
    ctx.note(string.format("%s, attempt %d: no output on record%s\n", found.name, attempt.number,
      attempt.launcher == "standalone" and ": it was started without pioche, which kept none" or ""))
    if ctx.json then ctx.out("[]\n") end
    return 0
  end
  if options.tail then
    for _, source in ipairs(sources) do start_at_tail(source, options.tail) end
  end
  if ctx.json or ctx.csv then
    print_structured(ctx, found, attempt, sources)
    return 0
  end
  local show = printer(ctx, sources)
  if options.follow then
    follow(ctx, store, attempt, sources, show)
    return 0
  end
  for _, source in ipairs(sources) do
    read_more(source, true, function(text) show(source, text) end)
    if source.file then source.file:close() end
  end
  return 0
end

return {
  summary = "what the ranks of a run wrote",
  usage = "logs RUN [--rank N] [--attempt N] [--stdout | --stderr] [--tail N] [--follow]",
  help = [[
The output of the newest attempt, rank by rank, each rank's stdout before its
stderr, as it was written; a terminal gets colours, but no other control
characters, and of a progress bar what came last. Where several ranks are shown a
line begins with [RANK] or [RANK err]. When the files are gone, the last lines
that the store keeps.

JSON: an array of {rank, stream, attempt, lines[]}.]],
  options = {
    { name = "rank", short = "r", arg = "N", type = "integer", min = 0, help = "only this rank" },
    { name = "attempt", arg = "N", type = "integer", min = 1, help = "this attempt, not the newest" },
    { name = "stdout", help = "only stdout" },
    { name = "stderr", help = "only stderr" },
    { name = "tail", short = "n", arg = "N", type = "integer", min = 0,
      help = "only the last N lines of each" },
    { name = "follow", short = "f", help = "go on until the attempt ends" },
  },
  examples = "pioche logs gpt-17 --stderr --tail 50\npioche logs gpt/last --follow --rank 0",
  args = { 1, 1, what = "one RUN" },
  run = run,
}
