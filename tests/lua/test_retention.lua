-- What a session says of checkpoints and of room for them, and what watching costs it where
-- jobs are many.
local tap = dofile(arg[0]:match("^(.*)/") .. "/tap.lua")
local sys = require "pioche.core.sys"
local retention = require "pioche.retention"
local test, equal = tap.test, tap.equal

-- A session by a clock of its own, whose store takes `sum_ns` to add up its objects.
local function session(sum_ns)
  local self = { sums = 0, now = 1, stored = 70, said = {}, store = {}, progress = {} }
  sys.mono_ns = function() return self.now end
  function self.store.path() return "/" end
  function self.store.checkpoint_retain() return nil end
  function self.store.event() return true end
  function self.store.one(_, sql)
    if not sql:find("FROM object", 1, true) then return { bytes = 20 } end
    self.sums, self.now = self.sums + 1, self.now + sum_ns
    return { bytes = self.stored }
  end
  function self.progress.say(_, format, ...) self.said[#self.said + 1] = format:format(...) end
  return self
end

local function job(id)
  return { id = id, name = "e-" .. id, spec = { keep = { last = 1, quota = 100 } } }
end

test("what all objects take is added up once for all jobs, a hundredth of the time", function()
  local self, jobs = session(1000000), {}
  for id = 1, 50 do jobs[id] = job(id) end
  for _ = 1, 4 do
    for id = 1, 50 do retention.apply(self, jobs[id], false) end
    self.now = self.now + 20000000
  end
  equal(self.sums, 1)
  self.now = self.now + 100000000
  for id = 1, 50 do retention.apply(self, jobs[id], false) end
  equal(self.sums, 2)
end)

test("and who comes near the quota still hears of it, once", function()
  local self, one = session(1000000), job(1)
  retention.apply(self, one, false)
  equal(#self.said, 0)
  self.now, self.stored = self.now + 200000000, 90
  retention.apply(self, one, false)
  retention.apply(self, one, false)
  equal(#self.said, 1)
  tap.contains(self.said[1], "keep.quota")
end)

test("beyond the quota ranks are told not to save, until there is room", function()
  local self, one, written, removed = session(0), job(1), {}, {}
  local write_file, remove = sys.write_file, os.remove
  function self.store.one(_, sql)
    return { bytes = sql:find("FROM object", 1, true) and self.stored or 20, attempt = "ULID/3" }
  end
  sys.write_file = function(path, why) written[#written + 1] = path .. " " .. why return true end
  os.remove = function(path) removed[#removed + 1] = path end
  for _, stored in ipairs { 70, 90, 90, 80, 90 } do
    self.now, self.stored = self.now + 1, stored
    retention.apply(self, one, false)
  end
  equal(#written, 2)
  tap.contains(written[1], "//runs/ULID/3/no-room the store's files take 90 B, and with the next checkpoint of")
  -- First what an earlier session may have left.
  equal(removed, { "//runs/ULID/3/no-room", "//runs/ULID/3/no-room" })
  retention.apply(self, one, true)
  equal(#removed, 3)
  -- Nothing is known of what comes: none that was saved is left.
  function self.store.one(_, sql)
    return { bytes = sql:find("FROM object", 1, true) and 90 or nil, attempt = "ULID/3" }
  end
  one.forbidden = "as it was"
  retention.apply(self, one, false)
  equal(#removed, 4)
  sys.write_file, os.remove = write_file, remove
end)

test("and who comes near the end of the disk, each time anew", function()
  local self, one = session(0), job(1)
  local free = 30
  sys.free_bytes = function() return free end
  for _, left in ipairs { 30, 10, 10, 30, 19 } do
    free = left
    retention.apply(self, one, false)
  end
  equal(#self.said, 2)
  tap.contains(self.said[1], "the next checkpoint takes about 20 B, and the store's disk has 10 B free")
end)

test("a newest one that is found damaged is told, and the one before is read instead", function()
  local self, one = session(0), job(1)
  local unread, read, events = { 7, 5 }, {}, {}
  sys.free_bytes = function() return 1000 end
  function self.store.checkpoint_retain() return unread[1] end
  function self.store.verify(_, options)
    read[#read + 1] = options.checkpoint
    table.remove(unread, 1)
    return {}
  end
  function self.store.event(_, id, event)
    events[#events + 1] = { id, event.kind, event.step }
    return true
  end
  function self.store.one(_, _, id)
    return { bytes = 20, step = id, damaged = id == 7 and 1 or 0 }
  end
  retention.apply(self, one, false)
  equal(read, { 7, 5 })
  equal(events, { { 1, "checkpoint.damaged", 7 } })
  equal(#self.said, 1)
  tap.contains(self.said[1], "e-1: the checkpoint of step 7 is damaged")
end)

tap.done()
