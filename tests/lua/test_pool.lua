-- Packing runs into an allocation: who goes where, who waits, who may not start.
local tap = dofile(arg[0]:match("^(.*)/") .. "/tap.lua")
local test, equal = tap.test, tap.equal
local pool = require "pioche.pool"

local s = 1000000000

-- Four nodes a, b, c, d of 1,000 s, of which 100 are gone when `now` is 100 s.
local function four(fields)
  local p = { nodes = { "a", "b", "c", "d" }, slots = 1, last_ns = 1000 * s, usable_s = 1000, longest_s = 950,
    bad = {}, taken = {} }
  for name, value in pairs(fields or {}) do p[name] = value end
  return p
end

local function taken(until_s, ...)
  local slots = {}
  for _, slot in ipairs(select("#", ...) > 0 and { ... } or { 0 }) do slots[slot] = { until_ns = until_s * s } end
  return slots
end

-- A place as words: "a b", and "a:0,1 b:2,3" where nodes are shared.
local function next_of(p, wants, now_s)
  for _, want in ipairs(wants) do want.slots = want.slots or 1 end
  local i, place = pool.next(p, wants, (now_s or 100) * s)
  if not i then return {} end
  local words = {}
  for k, name in ipairs(place.hosts) do
    words[k] = name .. (p.slots > 1 and ":" .. table.concat(place.slots[k], ",") or "")
  end
  return { i = i, hosts = table.concat(words, " "), until_s = place.until_ns // s }
end

test("wants start in their order, each on nodes of its own", function()
  equal(next_of(four(), { { nodes = 1, need_s = 10 }, { nodes = 4, need_s = 5 } }),
    { i = 1, hosts = "a", until_s = 110 })
  equal(next_of(four { taken = { a = taken(110) } }, { { nodes = 2, need_s = 10 } }),
    { i = 1, hosts = "b c", until_s = 110 })
  equal(next_of(four(), {}), {})
end)

test("the best fit is the shortest row of neighbours that has enough", function()
  equal(next_of(four { taken = { b = taken(200) } }, { { nodes = 1, need_s = 10 } }).hosts, "a")
  equal(next_of(four { taken = { c = taken(200) } }, { { nodes = 1, need_s = 10 } }).hosts, "d")
  equal(next_of(four { taken = { c = taken(200) } }, { { nodes = 2, need_s = 10 } }).hosts, "a b")
  equal(next_of(four { taken = { b = taken(200) } }, { { nodes = 3, need_s = 10 } }).hosts, "a c d",
    "where no row has enough, any will do")
end)

test("nothing starts that may not end in time", function()
  local p = four()
  equal(next_of(p, { { nodes = 1, need_s = 900 } }, 100).i, 1)
  equal(next_of(p, { { nodes = 1, need_s = 901 } }, 100), {})
  equal(next_of(p, { { nodes = 1, need_s = 901 }, { nodes = 1, need_s = 20 } }, 100).i, 2, "what is short still may")
  equal(pool.may_start(p, { nodes = 1, need_s = 900 }, 100 * s), true)
  equal(pool.may_start(p, { nodes = 1, need_s = 901 }, 100 * s), false)
end)

test("where nobody knows how long it takes, half of the time must be left", function()
  equal(pool.need_s(four(), { nodes = 1 }), 500)
  equal(next_of(four(), { { nodes = 1 } }, 500), { i = 1, hosts = "a", until_s = 1000 })
  equal(next_of(four(), { { nodes = 1 } }, 501), {})
end)

test("a run that is longer than any pool starts all the same, with half of it left", function()
  equal(pool.need_s(four(), { nodes = 1, need_s = 950 }), 950)
  equal(pool.need_s(four(), { nodes = 1, need_s = 951 }), 500)
end)

test("what is short goes ahead of what waits for nodes, and does not delay it", function()
  -- c and d are free at 300 s, when the first want gets its nodes.
  local p = four { taken = { c = taken(300), d = taken(300) } }
  local big = { nodes = 3, need_s = 100 }
  equal(next_of(p, { big, { nodes = 1, need_s = 200 } }), { i = 2, hosts = "a", until_s = 300 })
  equal(next_of(p, { big, { nodes = 1, need_s = 201 } }), { i = 2, hosts = "a", until_s = 301 },
    "of four nodes it leaves the three that are needed")
  local all = { nodes = 4, need_s = 100 }
  equal(next_of(p, { all, { nodes = 1, need_s = 201 } }), {})
  equal(next_of(p, { all, { nodes = 1, need_s = 200 } }).i, 2)
end)

test("who has no prospect of its nodes in this pool holds back nobody", function()
  local p = four { taken = { c = taken(950) } }
  equal(next_of(p, { { nodes = 4, need_s = 100 }, { nodes = 1, need_s = 890 } }).i, 2)
end)

test("a run that takes longer than was thought is not counted as over", function()
  local p = four { taken = { a = taken(50), b = taken(50), c = taken(50), d = taken(50) } }
  equal(next_of(p, { { nodes = 1, need_s = 10 } }), {})
end)

test("bad nodes are used by nobody, unwanted ones not by who can do without", function()
  local p = four { bad = { a = true } }
  equal(next_of(p, { { nodes = 3, need_s = 10 } }).hosts, "b c d")
  equal(pool.may_start(p, { nodes = 4, need_s = 10 }, 0), false)
  equal(next_of(p, { { nodes = 1, need_s = 10, exclude = { b = true } } }).hosts, "c")
  equal(pool.can_avoid(p, 2, { "b", "elsewhere" }), { b = true, elsewhere = true })
  equal(pool.can_avoid(p, 3, { "b" }), nil)
end)

test("what is of use of an allocation's time", function()
  equal(pool.usable_s(4 * 3600, 130), 4 * 3600 - 130 - 60)
  equal(pool.longest_s(4 * 3600, 130), 4 * 3600 - 130 - 120)
  equal(pool.usable_s(120, 130), 54, "half of a short job's is left to work")
end)

test("runs share nodes, the fullest first that have room", function()
  local p = four { slots = 8, taken = { b = taken(500, 0, 1, 2), d = taken(500, 0, 1, 2, 3, 4, 6) } }
  local function place(want) return next_of(p, { want }).hosts end
  equal(place { nodes = 1, slots = 1, need_s = 10 }, "d:5")
  equal(place { nodes = 1, slots = 2, need_s = 10 }, "d:5,7", "where no neighbours are free, any will do")
  equal(place { nodes = 1, slots = 3, need_s = 10 }, "b:3,4,5")
  equal(place { nodes = 1, slots = 6, need_s = 10 }, "a:0,1,2,3,4,5")
  equal(place { nodes = 2, slots = 1, need_s = 10 }, "b:3 d:5")
  equal(place { nodes = 4, slots = 2, need_s = 10 }, "a:0,1 b:3,4 c:0,1 d:5,7")
  equal(place { nodes = 3, slots = 6, need_s = 10 }, nil)
end)

test("slots of a node are left for who waits for them", function()
  local p = four { nodes = { "a" }, slots = 4, taken = { a = taken(300, 0, 1) } }
  local all = { nodes = 1, slots = 4, need_s = 100 }
  equal(next_of(p, { all, { nodes = 1, slots = 2, need_s = 201 } }), {})
  equal(next_of(p, { all, { nodes = 1, slots = 2, need_s = 200 } }).hosts, "a:2,3")
  local three = { nodes = 1, slots = 3, need_s = 100 }
  equal(next_of(p, { three, { nodes = 1, slots = 1, need_s = 500 } }).hosts, "a:2", "one is left over")
end)

-- Runs of random size and length in a simulated allocation: all the promises at once.
local function simulate(slots)
  local p, wants, now, done = four { slots = slots }, {}, 0, 0
  for i = 1, math.random(1, 20) do
    wants[i] = { nodes = math.random(1, 4), slots = math.random(1, slots), need_s = math.random(1, 60) }
  end
  local total, first = #wants, wants[1]
  while true do
    local i, place = pool.next(p, wants, now)
    if i then
      local want = table.remove(wants, i)
      equal(#place.hosts, want.nodes)
      for k, name in ipairs(place.hosts) do
        equal(#place.slots[k], want.slots)
        p.taken[name] = p.taken[name] or {}
        for _, slot in ipairs(place.slots[k]) do
          assert(not p.taken[name][slot] and slot >= 0 and slot < slots)
          p.taken[name][slot] = { until_ns = place.until_ns }
        end
      end
      assert(place.until_ns <= p.last_ns)
      if want == first then equal(now, 0) end
      done = done + 1
    else
      local soonest = math.huge
      for _, of_node in pairs(p.taken) do
        for _, t in pairs(of_node) do soonest = math.min(soonest, t.until_ns) end
      end
      if soonest == math.huge then break end
      now = math.tointeger(soonest)
      for _, of_node in pairs(p.taken) do
        for slot, t in pairs(of_node) do
          if t.until_ns <= now then of_node[slot] = nil end
        end
      end
    end
  end
  for _, want in ipairs(wants) do assert(now + want.need_s * s > p.last_ns, "it would have found its time") end
  equal(done + #wants, total)
end

test("a thousand random queues: slots are never shared, nobody ends too late, all is done", function()
  math.randomseed(7)
  for round = 1, 1000 do simulate(round % 2 == 0 and 1 or math.random(2, 8)) end
end)

tap.done()
