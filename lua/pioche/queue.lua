-- queue.lua: what waits, in order: put at either end and taken from anywhere, which near the
-- front costs the same however long it is.
local queue = {}
local methods = {}
methods.__index = methods

function queue.new()
  return setmetatable({ first = 1, last = 0 }, methods)
end

function methods:count()
  return self.last - self.first + 1
end

-- Its items in order: for place, item in q:each().
function methods:each()
  return function(_, place)
    place = place + 1
    if place <= self.last then return place, self[place] end
  end, nil, self.first - 1
end

function methods:add(item)
  self.last = self.last + 1
  self[self.last] = item
end

function methods:add_first(item)
  self.first = self.first - 1
  self[self.first] = item
end

-- Take out the item at a place that each() gave; those behind it keep their places.
function methods:take(place)
  local item = self[place]
  for i = place, self.first + 1, -1 do self[i] = self[i - 1] end
  self[self.first] = nil
  self.first = self.first + 1
  return item
end

return queue
