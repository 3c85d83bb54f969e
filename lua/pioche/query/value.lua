-- query/value.lua: what a word to the right of an operator means. Pure: text
-- in, value out, nil where it means no such thing.
local value = {}

-- An integer or a float, exactly as written in decimal; nan, inf, -inf.
function value.number(text)
  local sign, rest = text:lower():match("^([+-]?)(.*)$")
  if rest == "inf" or rest == "infinity" then return sign == "-" and -math.huge or math.huge end
  if text:lower() == "nan" then return 0.0 / 0.0 end
  if not (rest:match("^%d+%.?%d*$") or rest:match("^%.%d+$") or rest:match("^%d+%.?%d*e[+-]?%d+$")
    or rest:match("^%.%d+e[+-]?%d+$")) then
    return nil
  end
  return tonumber(sign == "+" and rest or text)
end

function value.boolean(text)
  if text == "true" then return true end
  if text == "false" then return false end
  return nil
end

local units = { ms = 1e6, s = 1e9, m = 60e9, h = 3600e9, d = 86400e9, w = 7 * 86400e9 }

-- 90s, 5m, 1h30m, 2.5d, 1w in nanoseconds.
function value.duration(text)
  local total, at = 0.0, 1
  while at <= #text do
    local number, unit, next_at = text:match("^(%d+%.?%d*)(%l+)()", at)
    if not number or not units[unit] then return nil end
    total, at = total + tonumber(number) * units[unit], next_at
  end
  return #text > 0 and total < 9e18 and math.tointeger(total // 1) or nil
end

-- Days since 1970-01-01 of a date of the Gregorian calendar.
local function days_of(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local era_days = 365 * year + year // 4 - year // 100 + year // 400
  return era_days + (153 * (month - 3) + 2) // 5 + day - 1 - 719468
end

local month_days = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_date(year, month, day)
  if month < 1 or month > 12 or day < 1 or day > month_days[month] then return false end
  return not (month == 2 and day == 29) or (year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0))
end

local second_ns = 1000000000
local day_ns = 86400 * second_ns

-- A day, 2026-11-01, or a moment in it, T or a space and 12, 12:30, 12:30:05 or
-- 12:30:05.25, Z or nothing after it: UTC, as every time that pioche shows. What
-- is written is as long as its last figure says: first and last nanosecond.
function value.date(text)
  local y, m, d, rest = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$")
  if not y then return nil end
  y, m, d = math.tointeger(y), math.tointeger(m), math.tointeger(d)
  if y < 1970 or y > 2200 or not is_date(y, m, d) then return nil end
  local start = days_of(y, m, d) * day_ns
  if rest == "" then return start, start + day_ns - 1 end
  local clock = rest:match("^[T ](.-)Z?$")
  if not clock then return nil end
  local hour, minute, second, fraction = clock:match("^(%d%d):?(%d?%d?):?(%d?%d?)%.?(%d*)$")
  if not hour then return nil end
  local span, parts = 3600 * second_ns, { math.tointeger(hour), 0, 0 }
  if minute ~= "" then span, parts[2] = 60 * second_ns, math.tointeger(minute) end
  if second ~= "" then span, parts[3] = second_ns, math.tointeger(second) end
  local written = hour .. (minute ~= "" and ":" .. minute or "") .. (second ~= "" and ":" .. second or "")
    .. (fraction ~= "" and "." .. fraction or "")
  if written ~= clock or (fraction ~= "" and second == "") or #fraction > 9
    or #minute == 1 or #second == 1 or parts[1] > 23 or parts[2] > 59 or parts[3] > 59 then
    return nil
  end
  start = start + (parts[1] * 3600 + parts[2] * 60 + parts[3]) * second_ns
  if fraction ~= "" then
    span = math.tointeger(10 ^ (9 - #fraction))
    start = start + math.tointeger(fraction) * span
  end
  return start, start + span - 1
end

-- What a time compares with: a duration is the moment that long ago; `today`
-- and `yesterday` are days of UTC. First and last nanosecond.
function value.time(text, now_ns)
  local ago = value.duration(text)
  if ago then return now_ns - ago, now_ns - ago end
  local today = now_ns // day_ns * day_ns
  if text == "now" then return now_ns, now_ns end
  if text == "today" then return today, today + day_ns - 1 end
  if text == "yesterday" then return today - day_ns, today - 1 end
  return value.date(text)
end

-- A pattern of ~ for SQL's LIKE with ESCAPE '\': it may stand anywhere in the
-- text, * is any text, ? any one character, \* and \? are themselves.
function value.pattern(text)
  local like = text:gsub("(\\?)(.)", function(slash, c)
    if slash == "" and c == "*" then return "%" end
    if slash == "" and c == "?" then return "_" end
    if c:match("[*?]") then return c end
    return (slash .. c):gsub("[%%_\\]", "\\%0")
  end)
  return "%" .. like .. "%"
end

return value
