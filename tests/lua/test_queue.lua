-- What waits: its order, whatever is put in and taken out where.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local queue = require "pioche.queue"
local test, equal = tap.test, tap.equal

local function items(q)
  local list = {}
  for _, item in q:each() do list[#list + 1] = item end
  equal(q:count(), #list)
  return list
end

test("a queue keeps its order at both ends and in the middle", function()
  local q = queue.new()
  equal(items(q), {})
  for i = 1, 5 do q:add(i) end
  q:add_first(0)
  equal(items(q), { 0, 1, 2, 3, 4, 5 })
  for place, item in q:each() do
    if item == 3 or item == 5 then equal(q:take(place), item) end
  end
  equal(items(q), { 0, 1, 2, 4 })
  for place in q:each() do q:take(place) end
  equal(items(q), {})
  q:add(7)
  q:add_first(6)
  equal(items(q), { 6, 7 })
end)

tap.done()
