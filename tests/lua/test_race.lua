-- Races: which point is run again, when it is over, and how sure the winner is.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local core = require "pioche.core.sweep"
local race = require "pioche.race"
local test, equal = tap.test, tap.equal

local function options(more)
  local box = { blame = function(_, _, field, format, ...)
    error(("%s: " .. format):format(field, ...), 0)
  end }
  return race.check({ box = box, at = {}, path = "seeds" }, more or {})
end

local function point(number, values, pending, failed)
  return { number = number, values = values, pending = pending or 0, failed = failed }
end

local function choice(points, more, asked)
  local found, why = race.choose(points, options(more), asked or 0)
  return found and found.number, why
end

test("first the best of those with one value are repeated, until something is known of the noise", function()
  local points = { point(1, { 3 }), point(2, { 1 }), point(3, { 2 }), point(4, { 9 }) }
  equal({ choice(points) }, { 2, "noise" })
  points[2].pending = 1
  equal({ choice(points) }, { 3, "noise" })
  points[3].pending = 1
  equal({ choice(points) }, { 1, "noise" })
  equal({ choice({ point(1, { 3 }), point(2, {}, 0, true) }) }, { nil, "few" }, "one point is no race")
end)

test("then the leader or its hardest rival, whichever has fewer values", function()
  local points = { point(1, { 1, 1.2 }), point(2, { 1.3, 1.1 }), point(3, { 2.8, 3 }), point(4, { 9, 9.1 }) }
  equal({ choice(points) }, { 1, "rivals" })
  points[1].pending = 1
  equal({ choice(points) }, { 2, "rivals" })
  points[2].pending = 2
  equal({ choice(points) }, { 1, "rivals" })
  local failed = { point(1, { 1, 1.2 }, 0, true), point(2, { 1.3, 1.1, 1.2 }), point(3, { 1.4, 1.2, 1.3 }) }
  equal({ choice(failed) }, { 2, "rivals" }, "what failed is no rival")
end)

test("it is over where one is surely the best, the budget is spent, or nothing can be told better", function()
  local clear = { point(1, { 1, 1.01, 0.99 }), point(2, { 5, 5.01 }), point(3, { 6 }) }
  equal({ choice(clear) }, { nil, "sure" })
  local close = { point(1, { 1, 1.2, 0.8 }), point(2, { 1.1, 0.9, 1.05 }) }
  equal({ choice(close, { runs = 4 }, 4) }, { nil, "spent" })
  equal({ choice(close, { max = 3 }) }, { nil, "even" })
  equal({ choice({ point(1, { 1, 1 }), point(2, { 1, 1, 1 }) }) }, { nil, "even" }, "no noise, and equal")
end)

test("what has another number, too, is one point", function()
  local repeats = require "pioche.sweep.repeats"
  local function standing(numbers)
    local rows, observed = {}, 0
    for _, number in ipairs(numbers) do
      for seed = 1, 2 do -- of a point that was enqueued, -1, the search's third has the runs
        local run = 10 * math.abs(number == 3 and -1 or number) + seed
        observed = observed + 1
        rows[#rows + 1] = { number = number, seed = seed, run_id = run, ulid = "u" .. run, observed = observed,
          value = run / 7 % 1 }
      end
    end
    return race.standing(repeats.board(rows, { goal = "minimize" }, {}))
  end
  local alone, both = standing { -1, 2 }, standing { -1, 2, 3 }
  equal(both.freedom, alone.freedom)
  equal(#both.points, #alone.points)
  for i, one in ipairs(alone.points) do equal(both.points[i].chance, one.chance) end
end)

-- A race of many points with a board of their own, of which one and now and then many change at a time.
test("a board that is kept gives the decisions of the points as they are, and orders them once", function()
  local points, board, more = {}, race.board(), options { max = 9, runs = 1000, sure = 0.999 }
  local function draw(number, i) return core.uniform(3, number * 100 + i, "value") + number % 7 / 7 end
  local function change(one)
    one.values[#one.values + 1] = draw(one.number, #one.values)
    one.failed = core.uniform(4, one.number * 100 + #one.values, "failed") < 0.02
    board:touch(one)
  end
  for i = 1, 200 do points[i] = point(201 - i, {}) end
  for i = 1, 150 do change(points[i]) end
  for turn = 1, 120 do
    for i = 1, turn % 40 == 0 and 30 or turn % 3 do change(points[(turn * 37 + i * 11) % 200 + 1]) end
    local from_board, why = race.choose(board, more, turn)
    local from_list, also = race.choose(points, more, turn)
    equal({ from_board and from_board.number, why }, { from_list and from_list.number, also })
    if from_board then from_board.pending = (from_board.pending + 1) % 3 end
    local one, other = race.standing(board), race.standing(points)
    equal({ one.noise, one.freedom, #one.points }, { other.noise, other.freedom, #other.points })
    for i, item in ipairs(one.points) do
      equal({ item.point.number, item.mean, item.chance }, { other.points[i].point.number, other.points[i].mean,
        other.points[i].chance })
    end
  end
  -- and what has not changed is not weighed again
  local looks, values = 0, points[1].values
  points[1].values = setmetatable({}, { __index = function(_, i)
    looks = looks + 1
    return values[i]
  end })
  race.choose(board, more, 0)
  equal(looks, 0)
  board:touch(points[1])
  race.choose(board, more, 0)
  assert(looks > 0)
end)

test("options are checked", function()
  equal(options(), { max = 5, min = 1, runs = 16, sure = 0.95 })
  tap.contains(tap.raises(options, { min = 5 }), "seeds.max: expected more than min, which is 5")
  tap.contains(tap.raises(options, { sure = 0.4 }), "a number above 0.5")
  tap.contains(tap.raises(options, { seeds = 3 }), "there is no such key")
end)

-- Nearly normal, of variance 1.
local function noise(world, number, repeated)
  local sum = -6
  for i = 1, 12 do sum = sum + core.uniform(world, number * 1000 + repeated, "n" .. i) end
  return sum
end

-- A race of `count` points whose means are `gap` apart: is the winner the best, and how sure was it?
local function run(world, count, gap, more)
  local points, asked = {}, 0
  local function draw(one)
    one.values[#one.values + 1] = (one.number - 1) * gap + noise(world, one.number, #one.values)
  end
  for i = 1, count do
    points[i] = point(i, {})
    draw(points[i])
  end
  while true do
    local chosen = race.choose(points, more, asked)
    if not chosen then break end
    asked = asked + 1
    draw(chosen)
  end
  local first = race.standing(points).points[1]
  return first.point.number == 1, first.chance, asked
end

-- The same with as many values of each.
local function even(world, count, gap, each)
  local best, best_mean
  for i = 1, count do
    local mean = 0
    for k = 0, each - 1 do mean = mean + ((i - 1) * gap + noise(world, i, k)) / each end
    if not best or mean < best_mean then best, best_mean = i, mean end
  end
  return best == 1
end

test("a race finds the best more often than an even share of the same budget, and says how surely", function()
  local more, worlds = options { max = 100, runs = 32, sure = 0.999 }, 150
  local raced, shared, claimed, spent = 0, 0, 0, 0
  for world = 1, worlds do
    local is_right, chance, asked = run(world, 8, 0.4, more)
    raced, claimed, spent = raced + (is_right and 1 or 0), claimed + chance, math.max(spent, asked)
    shared = shared + (even(world, 8, 0.4, 1 + 32 // 8) and 1 or 0)
  end
  assert(spent <= 32 and raced > shared + 10, ("%d of %d, and %d"):format(raced, worlds, shared))
  assert(math.abs(claimed - raced) / worlds < 0.1, ("%.1f said, %d true"):format(claimed, raced))
end)

test("where all are the same, nobody is called the best", function()
  local more, called = options { max = 6, runs = 20 }, 0
  for world = 1, 100 do
    local _, chance = run(world, 6, 0, more)
    called = called + (chance >= 0.95 and 1 or 0)
  end
  assert(called <= 8, called) -- 0.95 is meant, and it may stop at any of 20 looks
end)

tap.done()
