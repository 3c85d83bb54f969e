-- queue.lua: what waits, in order: put at either end and taken from anywhere, which near the
-- front costs the same however long it is. Items stand in lanes of their kind, so that whoever
-- looks for one need not go through those of a kind of which he wants no more.
local queue = {}
local methods = {}
methods.__index = methods

-- lane_of(item): its kind, any value but nil; left out: all are of one.
function queue.new(lane_of)
  return setmetatable({ lane_of = lane_of or function() return true end, lanes = {}, by_kind = {}, size = 0,
    first = 1, last = 0 }, methods)
end

-- A lane is { kind, first, last, and from `first` to `last` the items and, in `order`, their numbers in
-- the whole queue }.
local function lane_for(self, item)
  local kind = self.lane_of(item)
  local lane = self.by_kind[kind]
  if not lane then
    lane = { kind = kind, first = 1, last = 0, order = {} }
    self.by_kind[kind], self.lanes[#self.lanes + 1] = lane, lane
  end
  return lane
end

function methods:count()
  return self.size
end

-- The lane whose next item comes first; nil where none has one.
local function next_lane(self, at, is_wanted)
  local found
  for _, lane in ipairs(self.lanes) do
    local place = at[lane] or lane.first
    if place <= lane.last and (not found or lane.order[place] < found.order[at[found] or found.first])
      and (not is_wanted or is_wanted(lane.kind)) then
      found = lane
    end
  end
  return found
end

-- Its items in order: for place, item, lane in q:each(). is_wanted(kind), where it is given, is asked
-- before each step whether any more of the kind are to come.
function methods:each(is_wanted)
  local at = {}
  return function()
    local lane = next_lane(self, at, is_wanted)
    if not lane then return nil end
    local place = at[lane] or lane.first
    at[lane] = place + 1
    return place, lane[place], lane
  end
end

function methods:add(item)
  local lane = lane_for(self, item)
  self.size, self.last, lane.last = self.size + 1, self.last + 1, lane.last + 1
  lane[lane.last], lane.order[lane.last] = item, self.last
end

function methods:add_first(item)
  local lane = lane_for(self, item)
  self.size, self.first, lane.first = self.size + 1, self.first - 1, lane.first - 1
  lane[lane.first], lane.order[lane.first] = item, self.first
end

-- Take out the item at a place of a lane, as each() gave them; those behind it keep their places.
function methods:take(place, lane)
  local item, order, first = lane[place], lane.order, lane.first
  for i = place, first + 1, -1 do lane[i], order[i] = lane[i - 1], order[i - 1] end
  lane[first], order[first] = nil, nil
  lane.first, self.size = first + 1, self.size - 1
  return item
end

return queue
