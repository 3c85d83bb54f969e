-- Pools of a session: when one is asked for, and when a session gives up on them.
local tap = dofile(arg[0]:match("^(.*)/") .. "/tap.lua")
local test, equal = tap.test, tap.equal
local pools = require "pioche.pools"

-- A session whose store knows nothing yet, and whose supervisor submits at once.
local function session()
  local self = { submitted = 0, notes = {} }
  self.store = { rows = function() return {} end, one = function() return nil end }
  self.supervisor = {
    pool_start = function()
      self.submitted = self.submitted + 1
      return self.submitted
    end,
    pool_end = function() return true end }
  function self.note(_, format, ...) self.notes[#self.notes + 1] = format:format(...) end
  pools.open(self)
  return self
end

local function job(ranks, slots)
  local launch = { on = "slurm", nodes = 1, ranks_per_node = ranks, grace_s = 10,
    pool = { nodes = 2, time = "0-01:00:00", slots = slots } }
  return { name = "e-1", launch = launch, spec = { launch = launch } }
end

local function runs(self, id)
  return pools.on_event(self, { pool = id, state = "running", nodes = { "a", "b" }, job = "7",
    until_ns = math.maxinteger })
end

local function ended(self, id, fields)
  local event = { pool = id, state = "ended", ran = true, result = "ok" }
  for name, value in pairs(fields or {}) do event[name] = value end
  return pools.on_event(self, event)
end

test("three pools in a row in which nothing is started are enough", function()
  local self, wanted = session(), job(1)
  for id = 1, 2 do
    pools.provide(self, { wanted }, { wanted })
    equal(self.submitted, id)
    runs(self, id)
    equal(ended(self, id), nil)
  end
  pools.provide(self, { wanted }, { wanted })
  local spec, status, why = ended(self, 3)
  equal(pools.is_of(wanted, spec), true)
  equal(status, "failed")
  equal(why, "3 pools ended, one after another, in which nothing was started")
end)

test("one in which something was started begins the count anew", function()
  local self, wanted = session(), job(1)
  for id = 1, 5 do
    pools.provide(self, { wanted }, { wanted })
    runs(self, id)
    if id == 2 then
      local i, place = pools.next(self, { wanted })
      equal(i, 1)
      equal(pools.place(place), { hosts = { "a" } })
      pools.started(self, place, 10)
      pools.ended(self, 10, "ok")
    end
    equal(ended(self, id) ~= nil, id == 5)
  end
end)

test("what Slurm refuses ends at once, in its words", function()
  local self, wanted = session(), job(1)
  pools.provide(self, { wanted }, { wanted })
  local spec, status, why = ended(self, 1, { ran = false, result = "failed", message = "Invalid account" })
  equal(pools.is_of(wanted, spec), true)
  equal({ status, why }, { "failed", "Invalid account" })
end)

test("however many wait for one pool, another is asked for, and kept", function()
  local self, jobs, other = session(), {}, job(3, 4)
  for i = 1, pools.looked_at_max + 1 do jobs[i] = job(2, 2) end
  jobs[#jobs + 1] = other
  pools.provide(self, jobs, jobs)
  equal(self.submitted, 2)
  runs(self, 1)
  runs(self, 2)
  local let_go = 0
  function self.supervisor.pool_end() let_go = let_go + 1 return true end
  pools.provide(self, {}, jobs)
  equal(let_go, 0)
  pools.provide(self, {}, { other })
  equal(let_go, 1)
end)

test("runs of fewer ranks than a node has slots share one, and one pool", function()
  local self, two, three = session(), job(2, 4), job(3, 4)
  pools.provide(self, { two, three }, { two, three })
  equal(self.submitted, 1)
  runs(self, 1)
  for id, expected in ipairs { { hosts = { "a" }, slots = { { 0, 1 } }, slots_per_node = 4 },
    { hosts = { "a" }, slots = { { 2, 3 } }, slots_per_node = 4 },
    { hosts = { "b" }, slots = { { 0, 1 } }, slots_per_node = 4 } } do
    local _, place = pools.next(self, { two })
    equal(pools.place(place), expected)
    pools.started(self, place, id)
  end
  equal(pools.next(self, { three }), nil)
  pools.ended(self, 1, "ok")
  equal(pools.next(self, { three }), nil, "two are free on each node")
  pools.ended(self, 2, "ok")
  equal(pools.place(select(2, pools.next(self, { three }))).slots, { { 0, 1, 2 } })
end)

tap.done()
