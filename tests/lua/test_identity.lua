-- Identities: what makes a run the same run, and what does not.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local identity = require "pioche.identity"
local test, equal = tap.test, tap.equal

local function run(change)
  local value = { code = "c0de", program = { command = { "./train" }, env = { A = "1" } },
    params = { lr = 0.1, width = 32, name = "x" }, inputs = { text = "d1" },
    launch = { nodes = 1, ranks_per_node = 2, parallel = 1 }, seed = 1 }
  for key, item in pairs(change or {}) do value[key] = item end
  return identity.of(value)
end

test("the same content is the same identity, for ever", function()
  equal(run(), run())
  equal(#run(), 64)
  equal(run(), "fc25b9fa6329b5b040c3276791f72c4304c26f1d132853eae3732eccd07f2b50")
end)

test("everything that decides what a run does changes it", function()
  local seen = { [run()] = "nothing" }
  local changes = {
    code = { code = "c0df" }, command = { program = { command = { "./train", "-v" }, env = { A = "1" } } },
    env = { program = { command = { "./train" }, env = { A = "2" } } },
    setup = { program = { command = { "./train" }, env = { A = "1" }, setup = "module load x" } },
    wrap = { program = { command = { "./train" }, env = { A = "1" }, wrap = { "nice" } } },
    build = { program = { command = { "./train" }, env = { A = "1" }, build = { "make" } } },
    value = { params = { lr = 0.10000000000000002, width = 32, name = "x" } },
    integer = { params = { lr = 0.1, width = 32.0, name = "x" } },
    text = { params = { lr = 0.1, width = "32", name = "x" } },
    input = { inputs = { text = "d2" } }, from = { from = "abc" },
    ranks = { launch = { nodes = 1, ranks_per_node = 1 } },
    nodes = { launch = { nodes = 2, ranks_per_node = 2 } },
    seed = { seed = 2 }, no_seed = { seed = false },
  }
  for name, change in pairs(changes) do
    local digest = run(change)
    assert(not seen[digest], name .. " does not differ from " .. tostring(seen[digest]))
    seen[digest] = name
  end
end)

test("how many runs go in parallel does not", function()
  equal(run { launch = { nodes = 1, ranks_per_node = 2, parallel = 7 } }, run())
end)

test("parameters reach the program as the shortest exact words", function()
  local words = { { 3e-4, "0.0003" }, { 0.1, "0.1" }, { 1 / 3, "0.3333333333333333" }, { 1e22, "1e+22" },
    { 100, "100" }, { 2.0, "2" }, { math.mininteger, "-9223372036854775808" }, { true, "true" },
    { "a b", "a b" }, { 5e-324, "4.94065645841247e-324" } }
  for _, case in ipairs(words) do
    local word = identity.word(case[1])
    if type(case[1]) == "number" then equal(tonumber(word) == case[1], true) end
    equal(word, case[2])
  end
end)

tap.done()
