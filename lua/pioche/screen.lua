-- screen.lua: a full-screen picture of lines: what changed is written, nothing else;
-- and keys by their names.
local sys = require "pioche.core.sys"

local screen = {}
local methods = {}
methods.__index = methods

-- Take the terminal; raises where there is none.
function screen.open()
  local ok, message, word = sys.tty_enter()
  if not ok then return nil, message, word end
  local self = setmetatable({ shown = {}, rest = "" }, methods)
  self.cols, self.rows = sys.tty_size()
  return self
end

function methods.close()
  sys.tty_leave()
end

-- Show these lines from the top, each at most self.cols columns wide.
function methods:draw(lines)
  local parts = {}
  for row = 1, self.rows do
    local line = lines[row] or ""
    if self.shown[row] ~= line then
      -- The line is erased first: behind a full one the cursor stands on its last cell.
      parts[#parts + 1] = ("\27[%d;1H\27[0m\27[K%s\27[0m"):format(row, line)
      self.shown[row] = line
    end
  end
  if #parts > 0 then sys.write(1, table.concat(parts)) end
end

local sequences = {
  ["\27[A"] = "up", ["\27[B"] = "down", ["\27[C"] = "right", ["\27[D"] = "left",
  ["\27OA"] = "up", ["\27OB"] = "down", ["\27OC"] = "right", ["\27OD"] = "left",
  ["\27[5~"] = "page up", ["\27[6~"] = "page down", ["\27[H"] = "home", ["\27[F"] = "end",
  ["\27[1~"] = "home", ["\27[4~"] = "end", ["\27OH"] = "home", ["\27OF"] = "end",
  ["\27[Z"] = "back tab", ["\r"] = "enter", ["\n"] = "enter", ["\t"] = "tab",
  ["\127"] = "backspace", ["\8"] = "backspace", ["\12"] = "redraw",
}

-- Split bytes into names of keys; a sequence that is not whole stays for the next
-- time, unless `is_all`: then an escape is the key of that name.
local function keys_of(bytes, is_all)
  local keys, at = {}, 1
  while at <= #bytes do
    local sequence = bytes:match("^\27%[[%d;]*[%a~]", at) or bytes:match("^\27O%a", at)
    if not sequence and bytes:sub(at, at) == "\27" then
      if not is_all and #bytes - at < 8 then break end
      keys[#keys + 1] = "escape"
      at = at + 1
    else
      sequence = sequence or bytes:match("^[%z\1-\127\xc2-\xf4][\x80-\xbf]*", at) or bytes:sub(at, at)
      keys[#keys + 1] = sequences[sequence] or sequence
      at = at + #sequence
    end
  end
  return keys, bytes:sub(at)
end

local escape_ms = 25

-- Names of the keys that were pressed within `ms`; nil when the terminal is gone.
function methods:read(ms)
  local bytes, news = sys.tty_read(self.rest == "" and ms or escape_ms)
  if news == "gone" then return nil end
  if news then
    self.cols, self.rows = sys.tty_size()
    self.shown = {}
    if news == "resized" then sys.write(1, "\27[0m\27[2J") end
  end
  local keys
  keys, self.rest = keys_of(self.rest .. bytes, bytes == "" and not news)
  for _, key in ipairs(keys) do
    if key == "redraw" then
      self.shown = {}
      sys.write(1, "\27[0m\27[2J")
    end
  end
  return keys
end

return screen
