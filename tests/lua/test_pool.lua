-- Packing runs into an allocation: who goes where, who waits, who may not start.
local tap = dofile(arg[0]:match("^(.*)/") .. "/tap.lua")
local test, equal = tap.test, tap.equal
local pool = require "pioche.pool"

local s = 1000000000

-- Four nodes a, b, c, d of 1,000 s, of which 100 are gone when `now` is 100 s.
local function four(fields)
  local p = { nodes = { "a", "b", "c", "d" }, last_ns = 1000 * s, usable_s = 1000, longest_s = 950,
    bad = {}, taken = {} }
  for name, value in pairs(fields or {}) do p[name] = value end
  return p
end

local function taken(until_s) return { until_ns = until_s * s } end

local function next_of(p, wants, now_s)
  local i, hosts, until_ns = pool.next(p, wants, (now_s or 100) * s)
  return { i = i, hosts = hosts and table.concat(hosts, " "), until_s = until_ns and until_ns // s }
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

-- Runs of random size and length in a simulated allocation: all the promises at once.
test("a thousand random queues: nodes are never shared, nobody ends too late, all is done", function()
  math.randomseed(7)
  for _ = 1, 1000 do
    local p, wants, now, done = four(), {}, 0, 0
    for i = 1, math.random(1, 20) do wants[i] = { nodes = math.random(1, 4), need_s = math.random(1, 60) } end
    local total, first = #wants, wants[1]
    while true do
      local i, hosts, until_ns = pool.next(p, wants, now)
      if i then
        local want = table.remove(wants, i)
        equal(#hosts, want.nodes)
        for _, name in ipairs(hosts) do
          equal(p.taken[name], nil)
          p.taken[name] = { until_ns = until_ns }
        end
        assert(until_ns <= p.last_ns)
        if want == first then equal(now, 0) end
        done = done + 1
      else
        local soonest = math.huge
        for _, t in pairs(p.taken) do soonest = math.min(soonest, t.until_ns) end
        if soonest == math.huge then break end
        now = math.tointeger(soonest)
        for name, t in pairs(p.taken) do
          if t.until_ns <= now then p.taken[name] = nil end
        end
      end
    end
    for _, want in ipairs(wants) do assert(now + want.need_s * s > p.last_ns, "it would have found its time") end
    equal(done + #wants, total)
  end
end)

tap.done()
