-- best.lua: which run stands for the best of several. Runs of one point that differ in their seed
-- are judged by their mean, as `compare` does, and the one in the middle of them is taken: a lucky
-- seed is called the best by nobody.
local best = {}

local function mean_of(items)
  local mean = 0.0
  for i, item in ipairs(items) do mean = mean + (item.loss - mean) / i end
  return mean
end

-- Of a list of { id, loss (the lower the better), point (that several have in common; nil: it is one
-- by itself) } the item, the mean of its point and how many it has; nil where the list is empty.
function best.of(list)
  local points, order = {}, {}
  for _, item in ipairs(list) do
    local key = item.point or item
    if not points[key] then
      points[key] = {}
      order[#order + 1] = points[key]
    end
    table.insert(points[key], item)
  end
  local chosen, least
  for _, items in ipairs(order) do
    local mean = mean_of(items)
    if not chosen or mean < least then chosen, least = items, mean end
  end
  if not chosen then return nil end
  table.sort(chosen, function(a, b)
    if a.loss ~= b.loss then return a.loss < b.loss end
    return a.id < b.id
  end)
  return chosen[(#chosen + 1) // 2], least, #chosen
end

-- Does a sweep, or its spec, run its points with several seeds?
function best.has_seeds(sweep)
  return sweep.race ~= nil or sweep.seeds ~= nil and #sweep.seeds > 1
end

return best
