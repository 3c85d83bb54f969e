-- csv.lua: RFC 4180: fields separated by commas, lines ended by CR LF, a field
-- quoted where it holds a quote, a comma or a line break.
local format = require "pioche.format"

local csv = {}

local function field(value)
  local kind = type(value)
  if value == nil then return "" end
  if kind == "number" then return format.exact(value) end
  if kind ~= "string" then return tostring(value) end
  if value:find('[",\r\n]') or value:find("^%s") or value:find("%s$") then
    return '"' .. value:gsub('"', '""') .. '"'
  end
  return value
end

-- One line of `count` fields; nil fields are empty.
function csv.line(fields, count)
  local texts = {}
  for i = 1, count or #fields do texts[i] = field(fields[i]) end
  return table.concat(texts, ",") .. "\r\n"
end

return csv
