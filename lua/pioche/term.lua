-- term.lua: what a terminal needs to know about text: how wide it is, how to
-- show it safely, colours, and one line of progress.
--
-- Widths follow East Asian Width as far as a table of ranges goes; emoji
-- sequences are approximated. Colours are names, so that a caller never writes
-- an escape sequence.
local sys = require "pioche.core.sys"

local term = {}

-- Ranges that take no column, and ranges that take two; sorted.
local zero = {
  0x300, 0x36F, 0x483, 0x489, 0x591, 0x5BD, 0x5BF, 0x5C7, 0x610, 0x61A, 0x64B, 0x65F,
  0x670, 0x670, 0x6D6, 0x6DC, 0x6DF, 0x6E4, 0x6E7, 0x6ED, 0x900, 0x902, 0x93A, 0x93A,
  0x93C, 0x93C, 0x941, 0x948, 0x94D, 0x94D, 0xE31, 0xE31, 0xE34, 0xE3A, 0xE47, 0xE4E,
  0x1AB0, 0x1AFF, 0x1DC0, 0x1DFF, 0x200B, 0x200F, 0x2060, 0x2064, 0x20D0, 0x20FF,
  0x302A, 0x302D, 0x3099, 0x309A, 0xFE00, 0xFE0F, 0xFE20, 0xFE2F, 0xFEFF, 0xFEFF,
  0x1F3FB, 0x1F3FF, 0xE0001, 0xE01EF,
}
local wide = {
  0x1100, 0x115F, 0x231A, 0x231B, 0x2329, 0x232A, 0x23E9, 0x23EC, 0x23F0, 0x23F0,
  0x23F3, 0x23F3, 0x25FD, 0x25FE, 0x2614, 0x2615, 0x2648, 0x2653, 0x267F, 0x267F,
  0x2693, 0x2693, 0x26A1, 0x26A1, 0x26AA, 0x26AB, 0x26BD, 0x26BE, 0x26C4, 0x26C5,
  0x26CE, 0x26CE, 0x26D4, 0x26D4, 0x26EA, 0x26EA, 0x26F2, 0x26F3, 0x26F5, 0x26F5,
  0x26FA, 0x26FA, 0x26FD, 0x26FD, 0x2705, 0x2705, 0x270A, 0x270B, 0x2728, 0x2728,
  0x274C, 0x274C, 0x274E, 0x274E, 0x2753, 0x2755, 0x2757, 0x2757, 0x2795, 0x2797,
  0x27B0, 0x27B0, 0x27BF, 0x27BF, 0x2B1B, 0x2B1C, 0x2B50, 0x2B50, 0x2B55, 0x2B55,
  0x2E80, 0x303E, 0x3041, 0x4DBF, 0x4E00, 0xA4CF, 0xA960, 0xA97F, 0xAC00, 0xD7A3,
  0xF900, 0xFAFF, 0xFE10, 0xFE19, 0xFE30, 0xFE6F, 0xFF00, 0xFF60, 0xFFE0, 0xFFE6,
  0x1F004, 0x1F004, 0x1F0CF, 0x1F0CF, 0x1F18E, 0x1F18E, 0x1F191, 0x1F19A,
  0x1F200, 0x1F320, 0x1F32D, 0x1F335, 0x1F337, 0x1F37C, 0x1F37E, 0x1F393,
  0x1F3A0, 0x1F3CA, 0x1F3CF, 0x1F3D3, 0x1F3E0, 0x1F3F0, 0x1F3F4, 0x1F3F4,
  0x1F3F8, 0x1F43E, 0x1F440, 0x1F440, 0x1F442, 0x1F4FC, 0x1F4FF, 0x1F53D,
  0x1F54B, 0x1F54E, 0x1F550, 0x1F567, 0x1F57A, 0x1F57A, 0x1F595, 0x1F596,
  0x1F5A4, 0x1F5A4, 0x1F5FB, 0x1F64F, 0x1F680, 0x1F6C5, 0x1F6CC, 0x1F6CC,
  0x1F6D0, 0x1F6D2, 0x1F6D5, 0x1F6DF, 0x1F6EB, 0x1F6EC, 0x1F6F4, 0x1F6FC,
  0x1F7E0, 0x1F7EB, 0x1F90C, 0x1F9FF, 0x1FA70, 0x1FAFF, 0x20000, 0x3FFFD,
}

local function inside(ranges, code)
  local low, high = 1, #ranges // 2
  while low <= high do
    local middle = (low + high) // 2
    if code < ranges[2 * middle - 1] then
      high = middle - 1
    elseif code > ranges[2 * middle] then
      low = middle + 1
    else
      return true
    end
  end
  return false
end

local function code_width(code)
  if code < 0x300 then return 1 end
  if inside(zero, code) then return 0 end
  return inside(wide, code) and 2 or 1
end

-- Columns that a clean string (see term.clean) takes.
function term.width(text)
  if not text:find("[\x80-\xff]") then return #text end
  local width, joined = 0, false
  for _, code in utf8.codes(text, true) do
    if not joined then width = width + code_width(code) end
    joined = code == 0x200D
  end
  return width
end

-- The text with every byte that is not valid UTF-8 replaced by U+FFFD.
function term.utf8(text)
  if utf8.len(text) then return text end
  local parts, at = {}, 1
  while at <= #text do
    local ok, bad = utf8.len(text, at)
    if ok then
      parts[#parts + 1] = text:sub(at)
      break
    end
    parts[#parts + 1] = text:sub(at, bad - 1)
    parts[#parts + 1] = "\u{FFFD}"
    at = bad + 1
  end
  return table.concat(parts)
end

local names = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r" }

local function escape_bytes(bytes)
  return (bytes:gsub(".", function(c) return string.format("\\x%02x", c:byte()) end))
end

-- Safe to print: control characters, bytes that are not UTF-8 and characters
-- that turn the writing direction are shown as escapes.
function term.clean(text)
  if not text:find("[%c\x7f-\xff]") then return text end
  if not utf8.len(text) then
    local parts, at = {}, 1
    while at <= #text do
      local ok, bad = utf8.len(text, at)
      if ok then
        parts[#parts + 1] = text:sub(at)
        break
      end
      parts[#parts + 1] = text:sub(at, bad - 1) .. escape_bytes(text:sub(bad, bad))
      at = bad + 1
    end
    text = table.concat(parts)
  end
  text = text:gsub("[%c\x7f]", function(c) return names[c] or escape_bytes(c) end)
  text = text:gsub("\xc2[\x80-\x9f]", function(c)
    return string.format("\\u%04x", utf8.codepoint(c))
  end)
  return (text:gsub("\xe2[\x80\x81][\x8e\x8f\xaa-\xae\xa6-\xa9]", function(c)
    local code = utf8.codepoint(c)
    local turns = code == 0x200E or code == 0x200F or (code >= 0x202A and code <= 0x202E)
      or (code >= 0x2066 and code <= 0x2069)
    return turns and string.format("\\u%04x", code) or c
  end))
end

-- The text safe to print, and the columns that it takes.
function term.shown(text)
  if text:find("^[ -~]*$") then return text, #text end
  text = term.clean(text)
  return text, term.width(text)
end

-- Safe to print, line breaks kept.
function term.clean_lines(text)
  return (text:gsub("[^\n]+", term.clean))
end

-- A line that a program wrote, safe to print and much as a terminal would show it:
-- tabs stay, so do its colours where they are wanted, and of a line written over
-- itself (a progress bar, by \r) what came last.
function term.clean_output(line, color)
  line = line:gsub("\r+$", ""):match("[^\r]*$")
  color = color and line:find("\27[", 1, true)
  local parts = {}
  for text, code in (line .. "\27[0m"):gmatch("(.-)(\27%[[%d;:]*m)") do
    parts[#parts + 1] = text:gsub("[^\t]+", term.clean)
    if color then parts[#parts + 1] = code end
  end
  return table.concat(parts)
end

-- At most `width` columns, the last one being the ellipsis where text is left out.
function term.cut(text, width)
  if term.width(text) <= width then return text end
  if width < 1 then return "" end
  local used, last = 0, 0
  for at, code in utf8.codes(text, true) do
    local w = code_width(code)
    if used + w > width - 1 then break end
    used, last = used + w, at + #utf8.char(code) - 1
  end
  return text:sub(1, last) .. "…"
end

function term.pad(text, width, align)
  local gap = width - term.width(text)
  if gap <= 0 then return text end
  if align == "right" then return (" "):rep(gap) .. text end
  return text .. (" "):rep(gap)
end

-- Lines of at most `width` columns, broken at spaces.
function term.wrap(text, width)
  local lines, line = {}, ""
  for word in text:gmatch("%S+") do
    if line == "" then
      line = word
    elseif term.width(line) + 1 + term.width(word) <= width then
      line = line .. " " .. word
    else
      lines[#lines + 1], line = line, word
    end
  end
  lines[#lines + 1] = line
  return lines
end

local colors = {
  bold = "1", dim = "2", red = "31", green = "32", yellow = "33", blue = "34",
  magenta = "35", cyan = "36",
}

-- `style` is a colour's name or several joined by '+'; nil leaves it plain.
function term.paint(text, style, enabled)
  if not enabled or not style or text == "" then return text end
  local codes = {}
  for name in style:gmatch("[^+]+") do codes[#codes + 1] = colors[name] end
  return "\27[" .. table.concat(codes, ";") .. "m" .. text .. "\27[0m"
end

-- One line of progress on stderr for work longer than a second: how much of it is done, how
-- much a second, and how long it will take. Nothing is shown before, and nothing at all where
-- stderr is not a terminal.
-- progress(done, total) may be called as often as you like; progress() ends it.
-- What is done at the first call was done by somebody before.
function term.progress(label, format)
  local tty = sys.isatty(2)
  local started, shown, visible, before = sys.mono_ns(), 0, false, nil
  return function(done, total)
    if not tty then return end
    if not done then
      if visible then sys.write(2, "\r\27[K") end
      visible = false
      return
    end
    local now = sys.mono_ns()
    before = before or done
    if now - started < 1000000000 or now - shown < 100000000 then return end
    shown, visible = now, true
    local line = label .. " " .. format(done)
    if total and total > 0 then
      line = string.format("%s of %s  %d %%  %s/s", line, format(total), done * 100 // total,
        format(math.floor((done - before) * 1e9 / (now - started))))
      if done > before and done < total then
        local left_s = (now - started) / 1e9 * (total - done) / (done - before)
        line = string.format("%s  %d:%02d left", line, math.floor(left_s) // 60,
          math.floor(left_s) % 60)
      end
    end
    sys.write(2, "\r\27[K" .. term.cut(line, math.max(20, (sys.term_size() or 80) - 1)))
  end
end

return term
