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
  for place, item, lane in q:each() do
    if item == 3 or item == 5 then equal(q:take(place, lane), item) end
  end
  equal(items(q), { 0, 1, 2, 4 })
  for place, _, lane in q:each() do q:take(place, lane) end
  equal(items(q), {})
  q:add(7)
  q:add_first(6)
  equal(items(q), { 6, 7 })
end)

test("lanes do not change the order, and one of them can be left out from any item on", function()
  local q = queue.new(function(item) return item % 3 end)
  for i = 1, 9 do q:add(i) end
  q:add_first(-1)
  q:add_first(-3)
  equal(items(q), { -3, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9 })
  local seen, asked = {}, 0
  for place, item, lane in q:each(function(kind)
    asked = asked + 1
    return kind ~= 0 or #seen < 5
  end) do
    if item == 4 then equal(q:take(place, lane), 4) end
    seen[#seen + 1] = item
  end
  equal(seen, { -3, -1, 1, 2, 3, 4, 5, 7, 8 })
  equal(items(q), { -3, -1, 1, 2, 3, 5, 6, 7, 8, 9 })
  -- what nobody wants is not gone through
  for i = 10, 3000 do q:add(3 * i) end
  asked = 0
  for _ in q:each(function(kind)
    asked = asked + 1
    return kind ~= 0
  end) do end
  assert(asked < 50, asked)
end)

tap.done()
