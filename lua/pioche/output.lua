-- output.lua: what the ranks of an attempt wrote to stdout and stderr: finding the
-- files, reading them as they grow, and bringing the lines of many into one order.
--
-- A file holds the bytes of its rank and no times. So lines of several are in the
-- order of the times that the lines begin with, where programs write such; a line
-- without one stays behind the line before it.
local heap = require "pioche.heap"
local sys = require "pioche.core.sys"

local output = {}
local stream_methods = {}
stream_methods.__index = stream_methods

local block_max, block_min = 65536, 4096
local memory = 33554432       -- of the blocks of all streams together
local line_max = 1048576      -- what is longer is taken in parts
local open_max = 64           -- files that are held open between two reads

-- ---- which files ----------------------------------------------------------------

-- Streams of an attempt: array of { rank, stream = "out"|"err" } that want(rank,
-- stream) says yes to, sorted by rank, stdout first. From the attempt's files, else
-- from the last lines that the store keeps.
function output.find(store, attempt, want)
  local dir = store:path() .. "/" .. attempt.dir
  local list = {}
  local function add(rank, stream, path, text)
    if want(rank, stream) then
      list[#list + 1] = setmetatable({ rank = rank, stream = stream, path = path, text = text,
        offset = 0, buffer = "", at = 1 }, stream_methods)
    end
  end
  for _, name in ipairs(sys.type(dir) == "dir" and sys.list(dir) or {}) do
    local rank, stream = name:match("^rank%-(%d+)%.(%l+)$")
    rank = math.tointeger(tonumber(rank))
    if rank and (stream == "out" or stream == "err") then add(rank, stream, dir .. "/" .. name) end
  end
  if #list == 0 then
    for _, row in ipairs(store:rows("SELECT rank, stdout_tail, stderr_tail FROM rank"
      .. " WHERE attempt_id = ?", attempt.id)) do
      if row.stdout_tail then add(row.rank, "out", nil, row.stdout_tail) end
      if row.stderr_tail then add(row.rank, "err", nil, row.stderr_tail) end
    end
  end
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    return a.stream == "out" and b.stream == "err"
  end)
  for i, stream in ipairs(list) do
    stream.number = i
    stream.block_bytes = math.max(block_min, math.min(block_max, memory // #list))
    stream.stays_open = #list <= open_max
  end
  return list
end

-- ---- one stream -------------------------------------------------------------------

-- Run visit(file) on the stream's file; nil when it cannot be opened.
local function with_file(self, visit)
  local file = self.file or io.open(self.path, "rb")
  if not file then return nil end
  local result = visit(file)
  if self.stays_open then self.file = file else file:close() end
  return result
end

function stream_methods:close()
  if self.file then self.file:close() end
  self.file = nil
end

-- At most `bytes` from where the stream stands; a file that became shorter is read
-- anew from its beginning.
local function read_here(self, bytes)
  return with_file(self, function(file)
    if file:seek("end") < self.offset then self.offset = 0 end
    file:seek("set", self.offset)
    return file:read(bytes)
  end)
end

-- The next bytes in whole lines, nil when there are none now. An unfinished last
-- line only when the stream `is_over`.
function stream_methods:block(is_over)
  if not self.path then
    local text = self.text
    self.text = nil
    if not text or text == "" then return nil end
    return text:sub(-1) == "\n" and text or text .. "\n"
  end
  local text
  for _, bytes in ipairs { self.block_bytes, line_max } do
    text = read_here(self, bytes)
    if not text then return nil end
    local last = text:match("^.*()\n")
    if last then
      self.offset = self.offset + last
      return text:sub(1, last)
    elseif #text < bytes and not is_over then
      return nil
    elseif #text < bytes then
      break
    end
  end
  self.offset = self.offset + #text
  return text .. "\n"
end

-- Offset where the last `count` lines of an open file begin.
local function tail_offset(file, count)
  local size = file:seek("end")
  local at, lines = size, 0
  while at > 0 do
    local from = math.max(0, at - block_max)
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

-- Go on from where the last `count` lines begin.
function stream_methods:tail(count)
  if not self.path then
    self.text = count == 0 and "" or tail_text(self.text, count)
    return
  end
  self.offset = with_file(self, function(file)
    return count == 0 and file:seek("end") or tail_offset(file, count)
  end) or 0
end

-- ---- many streams -----------------------------------------------------------------

-- Seconds of the time near the beginning of a line, nil when there is none:
-- 2026-11-29 20:22:57,123 and its like. Times without a zone are taken as UTC, so
-- of all ranks alike.
local function stamp(line)
  local at = line:find("%d%d%d%d%-%d%d%-%d%d[T ]%d%d:%d%d:%d%d")
  if not at or at > 48 then return nil end
  local year, month, day, hour, minute, second, fraction, zone = line:match(
    "^(%d+)%-(%d+)%-(%d+).(%d+):(%d+):(%d+)([.,]?%d*)([+-]?%d*:?%d*)", at)
  year, month = tonumber(year), tonumber(month)
  -- Days since some day, with March as the first month of the year.
  if month <= 2 then year, month = year - 1, month + 12 end
  local days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day
  local sign, zone_hours, zone_minutes = zone:match("^([+-])(%d%d):?(%d%d)$")
  local offset = sign and tonumber(zone_hours) * 60 + tonumber(zone_minutes) or 0
  if sign == "-" then offset = -offset end
  return ((days * 24 + hour) * 60 + minute - offset) * 60 + second
    + (tonumber("0." .. (fraction:match("%d+") or "0")))
end

-- Take the next line of a stream: into self.line, its time into self.time. False
-- when there is none now, or when it has given its share of this turn.
local function advance(self, is_over)
  if self.at > #self.buffer then
    if self.share <= 0 then return false end
    local text = self:block(is_over)
    if not text then return false end
    self.share = self.share - #text
    self.buffer, self.at = text, 1
  end
  local stop = self.buffer:find("\n", self.at, true)
  self.line = self.buffer:sub(self.at, stop - 1)
  self.at = stop + 1
  self.time = stamp(self.line) or self.time or -math.huge
  return true
end

local function is_before(a, b)
  if a.time ~= b.time then return a.time < b.time end
  return a.number < b.number
end

-- Give visit(stream, line) what there is to read now, in order, of each stream at
-- most about `share` bytes; true when one has more.
function output.merge(streams, is_over, share, visit)
  local waiting, has_more = heap.new(is_before), false
  for _, stream in ipairs(streams) do
    stream.share = share
    if advance(stream, is_over) then waiting:add(stream) end
  end
  while waiting:first() do
    local stream = waiting:first()
    visit(stream, stream.line)
    if advance(stream, is_over) then
      waiting:settle()
    else
      has_more = has_more or stream.share <= 0
      waiting:take()
    end
  end
  return has_more
end

return output
