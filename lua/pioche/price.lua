-- price.lua: what a model of values is told of points that violate constraints.
--
-- As a search is told, they are worse than all others (aims.penalty); but a step at the border of
-- what meets the constraints would hide how good its points are. So each has its own loss and a
-- price for its violation: the least with which none of them is better than the best that meets
-- the constraints. Where none does yet, the violation is all that counts. That is for a sweep without
-- constraints that was told of one with; else there are models of them (limits.lua).
local price = {}
price.__index = price

function price.new()
  return setmetatable({ violating = {} }, price)
end

-- What the sampler was told of a number (grid.lua).
function price:observe(number, how)
  local violation = how and how.violation or 0
  self.violating[number] = violation > 0 and { violation = violation, loss = how.loss } or nil
end

-- Of each of these numbers its value for the model, in place of the one that is given; false: it
-- failed.
function price:apply(numbers, values)
  local best, rate = math.huge, 0
  for i, number in ipairs(numbers) do
    if values[i] and not self.violating[number] then best = math.min(best, values[i]) end
  end
  for _, number in ipairs(numbers) do
    local own = self.violating[number]
    if own and own.loss and best < math.huge then
      rate = math.max(rate, (best - own.loss) / own.violation)
    end
  end
  for i, number in ipairs(numbers) do
    local own = values[i] and self.violating[number]
    local is_known = own and own.violation < math.huge
    if own and best == math.huge then
      values[i] = is_known and own.violation or false
    elseif own then
      values[i] = is_known and own.loss and own.loss + rate * own.violation or false
    end
  end
  return values
end

return price
