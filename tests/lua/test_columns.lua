-- Rows that are kept in columns: the collector knows how much memory that takes.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local core = require "pioche.core.store"
local sys = require "pioche.core.sys"
local test, equal = tap.test, tap.equal

local path = os.tmpname()
os.remove(path)
local store = assert(core.open(path, "create"))

local sql = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < ?) SELECT n, n * 0.5 AS half"
  .. ", iif(n % 2 = 0, 'even', NULL) AS word FROM t"

test("values are those of the rows, and beyond them there is none", function()
  local rows = assert(store:columns(sql, 1000))
  equal({ #rows.n, #rows.word, rows.n[0], rows.n[1001] }, { 1000, 1000 })
  for i = 1, 1000 do
    equal({ rows.n[i], rows.half[i], rows.word[i] }, { i, i * 0.5, i % 2 == 0 and "even" or nil })
  end
end)

test("what nobody holds any more is freed before much of it is there", function()
  local held = setmetatable({}, { __mode = "v" })
  collectgarbage()
  for i = 1, 100 do
    local rows = assert(store:columns(sql, 20000)) -- about 600 KB, of which Lua has a few hundred bytes
    equal(rows.n[20000], 20000)
    held[i] = rows.n
  end
  local count = 0
  for _ in next, held do count = count + 1 end
  assert(count < 30, count .. " of 100 are there")
end)

store:close()
sys.remove_tree(path)
tap.done()
