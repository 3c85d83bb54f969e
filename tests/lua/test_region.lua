-- Where runs are out of memory: what is learned of it, and that the rest stays open.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local json = require "pioche.core.json"
local points = require "pioche.points"
local region = require "pioche.region"
local space_of = require "pioche.space"
local sweep = require "pioche.core.sweep"
local test, equal = tap.test, tap.equal

local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }

local function compile(given)
  return space_of.compile(box, {}, given)
end

local given = { width = space_of.log_int(16, 1024), batch = space_of.log_int(1, 256), kind = { "a", "b" },
  lr = space_of.log_uniform(1e-5, 1e-1), opt = space_of.one_of { x = { deep = space_of.int(1, 9) }, y = {} } }

-- A region that has seen `count` random points, and how many of 500 others it tells right, of
-- those that are out of memory and of the rest.
local function tried(is_bad, count)
  local space = compile(given)
  local known, right, total = region.new(space), { bad = 0, good = 0 }, { bad = 0, good = 0 }
  for n = 1, count + 500 do
    local params = space:complete(space:draw(1, n, 0))
    local bad = is_bad(params)
    if n <= count then
      known:learn(json.encode(params), bad)
    else
      local name = bad and "bad" or "good"
      total[name] = total[name] + 1
      if ((known:odds(params) or -1) > 0) == bad then right[name] = right[name] + 1 end
    end
  end
  return right.bad / total.bad, right.good / total.good
end

test("a product of parameters, a choice, a branch, and a region between two sides are learned", function()
  for _, is_bad in ipairs {
    function(p) return p.width * p.batch > 4096 end,
    function(p) return p.width * p.batch > (p.kind == "a" and 512 or 16384) end,
    function(p) return p.opt == "x" and p["opt.deep"] > 5 end,
    function(p) return p.lr > 1e-4 and p.lr < 1e-2 end,
  } do
    local bad, good = tried(is_bad, 60)
    assert(bad > 0.85 and good > 0.85, bad .. " " .. good)
  end
end)

test("as long as nothing was out of memory nothing is told", function()
  local known = region.new(compile(given))
  known:learn('{"width":16,"batch":1}', false)
  equal(known:odds({ width = 16, batch = 1 }), nil)
end)

test("where all is doubtful a point is proposed all the same, of a finite space each one once", function()
  local space = compile(given)
  space.region = { odds = function(_, params) return params.lr * 100 end }
  local list = points.new(space, 1, 1000)
  local lowest = 0
  for n = 1, 20 do lowest = math.max(lowest, list:random(n).lr) end
  assert(lowest < 1e-3, "the least doubtful of many")
  space = compile { a = { 1, 2, 3 }, b = { 1, 2 } }
  space.region = { odds = function(_, params) return params.a - 2.5 end }
  local seen, order = {}, {}
  list = points.new(space, 1, 1000)
  for n = 1, 6 do
    local params = list:random(n)
    seen[json.encode(params)], order[n] = true, params.a
  end
  equal(list:random(7), nil)
  local count = 0
  for _ in next, seen do count = count + 1 end
  equal(count, 6)
  equal({ order[5], order[6] }, { 3, 3 })
end)

test("what it says is a function of what it was told, whenever it is asked", function()
  local space = compile(given)
  local eager, lazy = region.new(space), region.new(space)
  for n = 1, 50 do
    local params = space:complete(space:draw(1, n, 0))
    local text, is_bad = json.encode(params), sweep.uniform(1, n, "bad") < 0.3
    eager:learn(text, is_bad)
    lazy:learn(text, is_bad)
    eager:odds(params)
  end
  local params = space:complete(space:draw(2, 1, 0))
  equal(eager:odds(params), lazy:odds(params))
end)

tap.done()
