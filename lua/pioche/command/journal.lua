-- journal: what a node of an attempt wrote, before and beside the store.
local json = require "pioche.core.json"
local journal = require "pioche.core.journal"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local format = require "pioche.format"
local term = require "pioche.term"

local NO_STEP = math.mininteger

local function check(...)
  return errors.check(...)
end

-- A step of its own kind says that something belongs to the run as a whole.
local function shown(name, value)
  if name == "step" and value == NO_STEP then return nil end
  if type(value) == "string" and not utf8.len(value) then
    return "x'" .. value:gsub(".", function(c) return string.format("%02x", c:byte()) end) .. "'"
  end
  return value
end

-- Names of keys hold for one rank, across the files of one journal.
local function key_names()
  local ranks = {}
  return {
    set = function(record)
      ranks[record.rank] = ranks[record.rank] or {}
      ranks[record.rank][record.number] = record.key
    end,
    get = function(rank, number)
      return ranks[rank] and ranks[rank][number]
    end,
  }
end

-- Call `each` with every record; a POINTS record becomes one a point.
local function walk(reader, names, each)
  while true do
    local record, rest = check(reader:next())
    if not record then return rest end
    if record.record == "key" then names.set(record) end
    if record.record == "points" and not record.damaged then
      for i = 1, #record.step do
        local number = record.number[i]
        each { record = "point", offset = record.offset, rank = record.rank,
          time_ns = record.time_ns[i], step = record.step[i], number = number,
          key = names.get(record.rank, number), value = record.value[i] }
      end
    else
      each(record)
    end
  end
end

local fields = setmetatable({ point = { "rank", "time_ns", "step", "key", "value" } },
  { __index = journal.fields })

local function json_line(ctx, record)
  local object = { offset = record.offset, record = record.record }
  if record.damaged then object.damaged = true end
  for _, name in ipairs(fields[record.record] or {}) do
    local value = shown(name, record[name])
    if name == "time_ns" then
      object.time = sys.format_time(value)
      object.time_ns = value
    elseif name == "json" then
      object.json = json.decode(value) or value
    elseif value ~= nil then
      object[name] = value
    end
  end
  if record.record == "point" and not record.key then object.number = record.number end
  ctx.out(ctx.encode(object) .. "\n")
end

local function text_line(ctx, record)
  local line = { string.format("%10d", record.offset), term.paint(string.format("%-10s", record.record),
    "bold", ctx.color) }
  if record.damaged then line[#line + 1] = "damaged: shorter than it should be" end
  for _, name in ipairs(record.damaged and {} or fields[record.record] or {}) do
    local value = shown(name, record[name])
    if name == "time_ns" then
      line[#line + 1] = term.paint(sys.format_time(value), "dim", ctx.color)
    elseif record.record == "point" and name == "key" then
      line[#line + 1] = term.clean(value or "key " .. record.number)
    elseif record.record == "point" and name == "value" then
      line[#line + 1] = math.type(value) == "integer" and tostring(value) or format.exact(value)
    elseif value ~= nil and value ~= "" then
      line[#line + 1] = term.paint(name, "dim", ctx.color) .. " " .. term.clean(tostring(value))
    end
  end
  ctx.out(table.concat(line, "  ") .. "\n")
end

local function cat(ctx, path, names)
  local reader <close>, header = check(journal.open(path))
  if ctx.json then
    ctx.out(ctx.encode { record = "journal", file = path, run = header.run, attempt = header.attempt,
      node = header.node, created = sys.format_time(header.created_ns) } .. "\n")
  else
    ctx.out(term.paint(string.format("%s: run %s, attempt %d, node %d, begun %s", path, header.run,
      header.attempt, header.node, sys.format_time(header.created_ns)), "bold", ctx.color) .. "\n")
  end
  local line = ctx.json and json_line or text_line
  local last
  local rest = walk(reader, names, function(record)
    last = record.offset
    line(ctx, record)
  end)
  if rest then
    ctx.flush()
    ctx.note(string.format("%s: what follows %s is no whole record: its writer lives, or died while"
      .. " writing\n", path, last and "the record at byte " .. last or "the header"))
  end
end

local function run(ctx)
  local names = key_names()
  for i = 2, #ctx.args do cat(ctx, ctx.args[i], names) end
  return 0
end

return {
  summary = "print what a node wrote before it was folded",
  usage = "journal cat FILE...",
  help = [[
A journal, .pioche/runs/ULID/ATTEMPT/journal.NODE, holds everything that the ranks
of one node said, in records with checksums. It is folded into the store while the
run goes on, and then kept, compressed as journal.NODE.zst. A long one has several
files: journal.NODE, journal.NODE.1, ... Given in this order they are read as one,
so that the names of metrics in the first are known in the others.

A line is a record, and a point is a line: where it stands in the file, what it
is, and what it holds. --json prints one object a line. A file whose end is torn
is printed up to there.]],
  options = {},
  examples = [[
pioche journal cat .pioche/runs/01J.../1/journal.0
pioche journal cat journal.0.zst journal.0.1 --json | jq 'select(.record == "text")']],
  args = { 2, choices = { "cat" }, what = "'cat' and a file" },
  run = run,
}
