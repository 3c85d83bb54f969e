-- Samplers and stopping rules: the interfaces that a lab's own ones keep.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local state = require "pioche.core.state"
local core = require "pioche.core.sweep"
local test, equal = tap.test, tap.equal

test("every sampler and rule in the executable keeps its interface", function()
  local seen = 0
  for _, name in ipairs(state.modules()) do
    local folder = name:match("^pioche%.(%l+)%.")
    if folder == "samplers" or folder == "stopping" then
      local module = require(name)
      equal(module.name, name:match("[^.]+$"))
      equal(type(module.summary), "string")
      equal(type(module.check), "function")
      equal(type(module.new), "function")
      seen = seen + 1
    end
  end
  assert(seen >= 3)
end)

test("none lets every run go on", function()
  local rule = require("pioche.stopping.none").new({}, nil)
  equal(rule:next_rung(0), nil)
  equal(rule:decide({}, 10, 1.5), "go")
end)

test("core draws: range, exactness, errors", function()
  for i = 1, 1000 do
    local u = core.uniform(1, i, "x")
    assert(u >= 0 and u < 1)
    local n = core.integer(1, i, "x", -3, 3)
    assert(n >= -3 and n <= 3)
  end
  equal(core.uniform(1, 2, "x"), core.uniform(1, 2, "x"))
  equal(core.integer(1, 1, "x", 5, 5), 5)
  tap.contains(tap.raises(core.integer, 1, 1, "x", 5, 4), "smaller than the low end")
  local shuffled, sum = core.shuffle(1, 100), 0
  for _, value in ipairs(shuffled) do sum = sum + value end
  equal(#shuffled, 100)
  equal(sum, 5050)
  assert(math.abs(core.exp(1) - math.exp(1)) < 1e-15)
  assert(math.abs(core.log(10) - math.log(10)) < 1e-15)
end)

tap.done()
