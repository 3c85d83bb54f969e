-- attention.lua: a person's Ctrl-C while something takes long that looks for no event.
--
-- Whoever hears it otherwise, the loop of the driver, hears it afterwards (core/sys/interrupt.h).
local errors = require "pioche.errors"
local sys = require "pioche.core.sys"

local attention = {}

local every = 100000           -- instructions, between two looks

local function look()
  if sys.interrupted() then errors.raise("cancelled", "interrupted") end
end

-- fn(), which one keeps back; others within it may end by it.
function attention.hold(fn)
  sys.interrupt_begin()
  local ok, result = pcall(fn)
  sys.interrupt_end()
  if not ok then error(result, 0) end
  return result
end

-- fn(...), which it ends: a failure whose code is "cancelled".
function attention.call(fn, ...)
  sys.interrupt_begin()
  debug.sethook(look, "", every)
  local results = table.pack(pcall(fn, ...))
  debug.sethook()
  local is_ended = sys.interrupted()
  sys.interrupt_end()
  if is_ended then errors.raise("cancelled", "interrupted: the same command goes on from here") end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

return attention
