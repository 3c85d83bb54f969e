-- preflight.lua: what a launch may say of the look at its nodes before it starts:
-- true, or how fast they must be together, { bandwidth = "200 GB/s" }.
--
-- What is looked at is C (core/launch/preflight.h, gate.h).
local fields = require "pioche.fields"

local preflight = {}

local scales = { [""] = 1, k = 1e3, M = 1e6, G = 1e9, T = 1e12 }
local units = { ["B/s"] = 1, ["bit/s"] = 1 / 8 }

-- Bytes a second of "200 GB/s" or "400 Gbit/s"; nil for anything else.
local function rate_of(text)
  if type(text) ~= "string" then return nil end
  local number, scale, unit = text:match("^(%d+%.?%d*) ?([kMGT]?)(%a+/s)$")
  local rate = number and units[unit] and tonumber(number) * scales[scale] * units[unit]
  return rate and rate > 0 and rate or nil
end

-- A kind of value (fields.lua); kept as it was given.
function preflight.kind(value)
  local expected = "true, false or { bandwidth = \"200 GB/s\" }"
  if type(value) == "boolean" then return value end
  if value == "true" or value == "false" then return value == "true" end -- of a command line, as is a rate
  if rate_of(value) then return { bandwidth = value } end
  if type(value) ~= "table" then return nil, expected end
  local bandwidth = rawget(value, "bandwidth")
  if next(value) ~= "bandwidth" or next(value, "bandwidth") then return nil, expected end
  if rate_of(bandwidth) then return { bandwidth = bandwidth } end
  return nil, ("%s; bandwidth is %s"):format(expected, fields.show(bandwidth))
end

-- The bus bandwidth that is expected, bytes a second; nil: none.
function preflight.bandwidth(value)
  return type(value) == "table" and rate_of(value.bandwidth) or nil
end

return preflight
