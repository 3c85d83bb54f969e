-- race.lua: seeds = pioche.race { ... }: the points that may be the best are run again with
-- further seeds, one after another, until it is known which one is, or the budget is spent.
--
-- When the search proposes no more, each decision takes the best mean so far and its hardest
-- rival, by the cost of mistaking one for the other, (m - m')^2 / (2 s^2 (1/n + 1/n')) + log n'
-- (rule EB-TCI of Jourdan, Degenne, Baudry, de Heide, Kaufmann, "Top Two Algorithms Revisited",
-- arXiv:2206.05979), and repeats whichever of the two has fewer values. Runs that are under way
-- count as if they had come to the mean of theirs. The noise s is that of all repeats together;
-- as long as three of them are not known, the best points that have one value are repeated.
--
-- A decision is a function of the values seen, in their order, and of the decisions before: all
-- of it rows (core/store/repeat.h), so a sweep goes on, and is replayed, as it would have gone.
-- How sure the winner is: the posterior probability of core/sweep/race.h, in which each mean may
-- be anything beforehand.
local core = require "pioche.core.sweep"
local fields = require "pioche.fields"

local race = { name = "race" }

local freedom_min = 3          -- degrees of freedom by which noise is known well enough to decide
local rivals_max = 48          -- points, the best by their means, that are weighed at all
local few = 16                 -- points that changed, each of which is moved to its place alone
local negligible = 0.01        -- a rival that may be the best with less is not run again

local function probability(value)
  if type(value) == "number" and value > 0.5 and value < 1 then return value end
  return nil, "a number above 0.5, below 1"
end

race.schema = {
  min = { kind = "positive", default = 1, help = "seeds that each point begins with" },
  max = { kind = "positive", default = 5, help = "seeds that a point has at most" },
  runs = { kind = "positive", default = 16, help = "repeats at most, beyond the first seeds" },
  sure = { kind = probability, default = 0.95,
    help = "it is over where a point is the best with this probability" },
}

function race.check(where, given)
  local options = fields.check(where, given, race.schema)
  if options.max <= options.min then
    where.box:blame(where.at, where.path .. ".max", "expected more than min, which is %d, got %d",
      options.min, options.max)
  end
  return options
end

-- ---- what is known ---------------------------------------------------------------------

-- Points are { number, values (the lower the better), pending (runs under way), failed }.
--
-- A board has those of them that can be weighed in the order of their means, the best first, and
-- those with several values in that of their numbers: so a decision costs hardly more where there
-- are many points, of which few have changed since the one before.
local board = {}
board.__index = board

function race.board()
  return setmetatable({ ranked = {}, repeated = {}, item_of = {}, touched = {}, count = 0 }, board)
end

-- A point is new, or its values or `failed` have changed.
function board:touch(point)
  self.count = self.count + (self.touched[point] and 0 or 1)
  self.touched[point] = true
end

local function is_better(a, b)
  if a.mean ~= b.mean then return a.mean < b.mean end
  return a.point.number < b.point.number
end

local function is_earlier(a, b)
  return a.point.number < b.point.number
end

-- Where in a sorted list an item is, or would be.
local function place_of(list, item, is_before)
  local low, high = 1, #list + 1
  while low < high do
    local middle = (low + high) // 2
    if is_before(list[middle], item) then low = middle + 1 else high = middle end
  end
  return low
end

-- A point with its mean and the sum of squares about it; nil where it cannot be weighed, or is one
-- that has another number, too (of an enqueued one that the search proposes).
local function weighed(point)
  local n, mean, own = 0, 0.0, 0.0
  for _, value in ipairs(point.values) do
    n = n + 1
    local delta = value - mean
    mean = mean + delta / n
    own = own + delta * (value - mean)
  end
  return n > 0 and not point.failed and not point.is_double and { point = point, n = n, mean = mean, own = own } or nil
end

local function move(self, point, item)
  local was = self.item_of[point]
  if was then table.remove(self.ranked, place_of(self.ranked, was, is_better)) end
  if was and was.n > 1 then table.remove(self.repeated, place_of(self.repeated, was, is_earlier)) end
  if item then table.insert(self.ranked, place_of(self.ranked, item, is_better), item) end
  if item and item.n > 1 then table.insert(self.repeated, place_of(self.repeated, item, is_earlier), item) end
  self.item_of[point] = item
end

local function sort_anew(self)
  self.ranked, self.repeated = {}, {}
  for _, item in next, self.item_of do
    self.ranked[#self.ranked + 1] = item
    if item.n > 1 then self.repeated[#self.repeated + 1] = item end
  end
  table.sort(self.ranked, is_better)
  table.sort(self.repeated, is_earlier)
end

-- The best points, each { point, n, mean, asked }; the sum of squares of all about their means, and
-- its degrees of freedom.
local function weigh(self)
  local is_few = self.count <= few
  for point in next, self.touched do
    local item = weighed(point)
    if is_few then move(self, point, item) else self.item_of[point] = item end
  end
  if not is_few then sort_anew(self) end
  self.touched, self.count = {}, 0
  local list, squares, freedom = {}, 0, 0
  for _, item in ipairs(self.repeated) do
    squares, freedom = squares + item.own, freedom + item.n - 1
  end
  for i = 1, math.min(rivals_max, #self.ranked) do
    local item = self.ranked[i]
    list[i] = { point = item.point, n = item.n, mean = item.mean, asked = item.n + item.point.pending }
  end
  return list, squares, freedom
end

-- A board of these points, unless they are one.
local function board_of(points)
  if getmetatable(points) == board then return points end
  local all = race.board()
  for _, point in ipairs(points) do all:touch(point) end
  return all
end

local function add_chances(list, squares, freedom)
  local means, repeats = {}, {}
  for i, item in ipairs(list) do means[i], repeats[i] = item.mean, item.n end
  for i, chance in ipairs(core.chances(means, repeats, squares, freedom)) do list[i].chance = chance end
end

-- How the race stands: { points = { { point, n, mean, chance } }, the best mean first, noise (the
-- standard deviation of a value, nil where no point has two), freedom }; chances are nil, too,
-- then. nil where no point has a value.
function race.standing(points)
  local list, squares, freedom = weigh(board_of(points))
  if #list == 0 then return nil end
  if #list == 1 then list[1].chance = 1 elseif freedom > 0 then add_chances(list, squares, freedom) end
  return { points = list, freedom = freedom, noise = freedom > 0 and math.sqrt(squares / freedom) or nil }
end

-- ---- decisions ---------------------------------------------------------------------------

-- Is the first surely the best? The chance against each rival alone bounds that against all,
-- and is quickly worked out.
local function is_sure(list, squares, freedom, sure)
  if squares == 0 then return list[2].mean > list[1].mean end
  local first, variance = list[1], squares / freedom
  for i = 2, #list do
    local z = (list[i].mean - first.mean) / math.sqrt(variance * (1 / list[i].n + 1 / first.n))
    if core.student(z, freedom) < sure then return false end
  end
  add_chances(list, squares, freedom)
  return first.chance >= sure
end

-- The rival that costs most to tell from the first, among those that can still be told better.
local function rival_of(list, variance, freedom, max)
  local first, rival, least = list[1], nil, math.huge
  for i = 2, #list do
    local other = list[i]
    local gap = other.mean - first.mean
    local cost = gap * gap / (2 * variance * (1 / other.asked + 1 / first.asked)) + core.log(other.asked)
    local z = gap / math.sqrt(variance * (1 / other.n + 1 / first.n))
    if (other.asked < max or first.asked < max) and cost < least
      and core.student(-z, freedom) >= negligible then
      rival, least = other, cost
    end
  end
  return rival
end

-- The point to run again, nil where none is to be, and why: "sure", "spent" (the budget), "few"
-- (there are not two points), "even" (all that may be the best have all their seeds). points: a list,
-- or their board; asked: how many repeats were decided on before.
function race.choose(points, options, asked)
  local list, squares, freedom = weigh(board_of(points))
  if #list < 2 then return nil, "few" end
  if freedom >= freedom_min and is_sure(list, squares, freedom, options.sure) then return nil, "sure" end
  if asked >= options.runs then return nil, "spent" end
  if freedom < freedom_min then
    local fewest
    for _, item in ipairs(list) do
      if item.asked < options.max and (not fewest or item.asked < fewest.asked) then fewest = item end
    end
    return fewest and fewest.point, fewest and "noise" or "even"
  end
  if squares == 0 then return nil, "even" end -- values that are equal, and would be again
  local rival = rival_of(list, squares / freedom, freedom, options.max)
  if not rival then return nil, "even" end
  local first = list[1]
  local chosen = (first.asked <= rival.asked and first.asked < options.max or rival.asked >= options.max)
    and first or rival
  return chosen.point, "rivals"
end

return race
