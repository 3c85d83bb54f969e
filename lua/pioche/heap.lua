-- heap.lua: items of which the first by an order is at hand, at a cost that hardly grows with them.
local heap = {}
local methods = {}
methods.__index = methods

-- is_before(a, b): of two items, in a strict order.
function heap.new(is_before)
  return setmetatable({ is_before = is_before, items = {} }, methods)
end

function methods:count()
  return #self.items
end

-- The first one; nil where there is none.
function methods:first()
  return self.items[1]
end

function methods:add(item)
  local items, is_before = self.items, self.is_before
  local i = #items + 1
  items[i] = item
  while i > 1 and is_before(items[i], items[i // 2]) do
    items[i], items[i // 2] = items[i // 2], items[i]
    i = i // 2
  end
end

-- The first one has changed: it finds its place.
function methods:settle()
  local items, is_before, i = self.items, self.is_before, 1
  while true do
    local child = 2 * i
    if child > #items then return end
    if child < #items and is_before(items[child + 1], items[child]) then child = child + 1 end
    if not is_before(items[child], items[i]) then return end
    items[i], items[child] = items[child], items[i]
    i = child
  end
end

-- Take the first one out; gives it.
function methods:take()
  local items = self.items
  local first = items[1]
  items[1] = items[#items]
  items[#items] = nil
  self:settle()
  return first
end

return heap
