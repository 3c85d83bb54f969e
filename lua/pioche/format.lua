-- format.lua: numbers, times and sizes for people. Nothing here is for
-- machines: JSON and CSV carry exact values.
local core = require "pioche.core.text"

local format = {}

local kind_of = math.type

-- Shortest decimal that reads back as the same double; integers as they are.
function format.exact(value)
  if math.type(value) == "integer" then return tostring(value) end
  if value ~= value then return "NaN" end
  if value == math.huge then return "Infinity" end
  if value == -math.huge then return "-Infinity" end
  -- %g leaves trailing zeros out, so the first that fits is short.
  for digits = 15, 17 do
    local text = string.format("%." .. digits .. "g", value)
    if tonumber(text) == value then
      return text
    end
  end
  return string.format("%.17g", value)
end

-- No number, or endless.
local function is_special(value)
  return value - value ~= 0
end

-- One number, five significant digits.
function format.number(value)
  return core.numbers({ value }, 1, "g", 5)[1]
end

local function magnitude(value)
  return math.floor(math.log(value, 10) + 1e-9)
end

local decimals_shown = 8      -- at most
local refined_rows = 200      -- in longer columns some values look alike anyway

-- printf style and digits that suit a whole column: the same number of decimals (or
-- of mantissa digits, where magnitudes are far apart) for every value.
local function column_format(low, high, digits, decimals_max)
  if high == 0 then return "g", 6 end
  if high < 1e-3 or high >= 1e8 or (high / low > 1e4 and low < 1e-3) then
    return "e", digits - 1
  end
  -- At least two digits of the smallest; three where it is small, as a rate is.
  local least = (magnitude(low) < -2 and 2 or 1) - magnitude(low)
  local decimals = math.max(digits - 1 - magnitude(high), least, 0)
  return "f", math.min(decimals, decimals_max)
end

local function distinct(list, count)
  local seen, n = {}, 0
  for i = 1, count do
    local item = list[i]
    if item ~= nil and item == item and not seen[item] then seen[item], n = true, n + 1 end
  end
  return n
end

-- Decimals that show every value exactly, at most decimals_shown. (The quotient
-- is what its decimal text reads back as: both are rounded once, from the same.)
local function exact_decimals(values, count)
  local decimals, scale = 0, 1
  for i = 1, count do
    local value = values[i]
    while value and not is_special(value) and (value * scale + 0.5) // 1 / scale ~= value do
      decimals, scale = decimals + 1, scale * 10
      if decimals == decimals_shown then return decimals end
    end
  end
  return decimals
end

-- Texts of a column of numbers (nil becomes ""), equally precise from top to
-- bottom: `digits` significant ones of the largest value (default 5), and up to
-- three more where different values would look the same. `beside` (values that
-- belong to them, such as deviations) is formatted alike: the second result,
-- empty where there are none.
function format.column(values, count, digits, beside)
  digits = digits or 5
  local low, high, integers, deviates = math.huge, 0, true, false
  for i = 1, count do
    local value = values[i]
    if integers and value and kind_of(value) == "float" then integers = false end
    if beside and beside[i] then integers, deviates = false, true end
    if value and value ~= 0 and value - value == 0 then
      local size = value < 0 and -value or value
      if size < low then low = size end
      if size > high then high = size end
    end
  end
  -- What is smaller than 1e-4 would need an exponent to be exact.
  local inexact = integers or deviates or low < 1e-4
  local decimals_max = inexact and decimals_shown or exact_decimals(values, count)
  local refined = not integers and count <= refined_rows
  local different = refined and distinct(values, count)
  for extra = 0, 3 do
    local style, shown = column_format(low, high, digits + extra, decimals_max)
    local texts = core.numbers(values, count, style, shown)
    if not refined or extra == 3 or distinct(texts, count) >= different then
      return texts, deviates and core.numbers(beside, count, style, shown) or {}
    end
  end
end

-- A parameter's value: exact where that is short.
function format.value(value)
  if type(value) == "number" then
    local exact = format.exact(value)
    return #exact <= 8 and exact or format.number(value)
  end
  return tostring(value)
end

-- 31102 -> "31,102".
function format.count(value)
  local sign, digits = tostring(value):match("^(-?)(%d+)")
  local text = digits:reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return sign .. text:gsub("^,", "")
end

function format.bytes(bytes)
  if bytes < 1000 then return bytes .. " B" end
  local units, i, value = { "kB", "MB", "GB", "TB", "PB" }, 0, bytes
  repeat
    value, i = value / 1000, i + 1
  until value < 999.5 or i == #units
  return string.format(value < 9.95 and "%.1f %s" or "%.0f %s", value, units[i])
end

-- Joules as "850 J", "3.4 kJ", or from a watt hour on as "1.2 kWh".
function format.energy(joules)
  local units, value, i = { "Wh", "kWh", "MWh", "GWh" }, joules / 3600, 1
  if value < 1 then return string.format(joules < 999.5 and "%.0f J" or "%.1f kJ", joules < 999.5 and joules
    or joules / 1000) end
  while value >= 999.5 and i < #units do value, i = value / 1000, i + 1 end
  return string.format(value < 9.95 and "%.1f %s" or "%.0f %s", value, units[i])
end

-- Nanoseconds as "850ms", "12.3s", "4m05s", "2h03m" or "3d04h".
function format.duration(ns)
  local s = ns / 1e9
  if s < 0 then return "0s" end
  if s < 0.9995 then return string.format("%.0fms", s * 1000) end
  if s < 59.95 then return string.format("%.1fs", s) end
  local whole = math.floor(s + 0.5)
  if whole < 3600 then return string.format("%dm%02ds", whole // 60, whole % 60) end
  if whole < 86400 then return string.format("%dh%02dm", whole // 3600, whole % 3600 // 60) end
  return string.format("%dd%02dh", whole // 86400, whole % 86400 // 3600)
end

-- How long ago, in one unit: "now", "40s", "5m", "3h", "2d", "5w", "3y".
function format.age(ns)
  local s = ns // 1000000000
  if s < 1 then return "now" end
  for _, unit in ipairs { { 60, 1, "s" }, { 3600, 60, "m" }, { 86400, 3600, "h" },
    { 86400 * 14, 86400, "d" }, { 86400 * 365, 86400 * 7, "w" } } do
    if s < unit[1] then return s // unit[2] .. unit[3] end
  end
  return s // (86400 * 365) .. "y"
end

local blocks = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

-- A line of block characters, one a value; a gap where a value is not finite.
function format.sparkline(values)
  local low, high = math.huge, -math.huge
  for _, value in ipairs(values) do
    if not is_special(value) then low, high = math.min(low, value), math.max(high, value) end
  end
  local parts = {}
  for i, value in ipairs(values) do
    if is_special(value) then
      parts[i] = " "
    else
      local share = high > low and (value - low) / (high - low) or 0
      parts[i] = blocks[1 + math.floor(share * 7 + 0.5)]
    end
  end
  return table.concat(parts)
end

return format
