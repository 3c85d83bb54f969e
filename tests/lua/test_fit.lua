-- What is fitted to results: who is the best, where a curve ends, what law losses follow. The
-- formulas are compared with SciPy's by tests/cli/test_scipy.py.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local core = require "pioche.core.sweep"
local test, equal = tap.test, tap.equal

local function close(a, b, within, what)
  if not (math.abs(a - b) <= within) then error(("%s: %.17g is not %.17g"):format(what or "?", a, b), 2) end
end

-- Nearly normal, of variance 1: a function of its key.
local function noise(seed, number, name)
  local sum = -6
  for i = 1, 12 do sum = sum + core.uniform(seed, number, name .. i) end
  return sum
end

test("the same bits for ever", function()
  equal(core.student(-2.5, 7), 0x1.4fcee9c6ebdd5p-6)
  local chances = core.chances({ 0.0, 0.5, 1.0 }, { 2, 3, 1 }, 1.3, 4)
  equal(chances[2], 0x1.53612c452aef3p-3)
  equal(core.forecast({ 0.1, 0.2, 0.3, 0.4 }, { 1.0, 0.7, 0.6, 0.55 }, 0.01, 0.02, 0.4).below,
    0x1.060b9af89dc09p-5)
  equal(core.law({ 1e3, 2e3, 4e3, 8e3, 16e3 }, { 1, 1, 1, 1, 1 }, { 3.0, 2.5, 2.25, 2.1, 2.05 }, 1, 3)
    .samples[1].E, 0x1.fb2ff010676e5p+0)
end)

test("chances: of two it is Student's t, equals share, no noise is certain", function()
  for freedom, within in next, { [2] = 1e-4, [5] = 1e-5, [60] = 1e-6 } do
    local chances = core.chances({ 0, 0.7 }, { 2, 3 }, 0.4 * freedom, freedom)
    close(chances[1], core.student(0.7 / math.sqrt(0.4 * (1 / 2 + 1 / 3)), freedom), within)
    close(chances[1] + chances[2], 1, 1e-6)
  end
  for _, chance in ipairs(core.chances({ 1, 1, 1, 1 }, { 3, 3, 3, 3 }, 2, 8)) do close(chance, 0.25, 1e-9) end
  equal(core.chances({ 2, 1, 1 }, { 1, 1, 1 }, 0, 1), { 0.0, 0.5, 0.5 })
  tap.contains(tap.raises(core.chances, { 1, 0 / 0 }, { 1, 1 }, 1, 1), "expected finite numbers")
  tap.contains(tap.raises(core.chances, { 1, 2 }, { 1 }, 1, 1), "one number a mean")
end)

test("a forecast finds the end of curves of its kinds", function()
  local function check(shape, tolerance)
    local parts, values = {}, {}
    for i = 1, 10 do parts[i], values[i] = i / 40, shape(i / 40) end
    close(core.forecast(parts, values, 0, 0).value, shape(1), tolerance)
  end
  check(function(x) return 2 + 0.3 * x ^ -0.5 end, 0.01)
  check(function(x) return 2 + 0.3 * math.exp(-6 * x) end, 0.01)
  check(function(x) return 2 - 0.1 * math.log(x) end, 0.02)
  check(function() return 5 end, 1e-6)
end)

test("forecasts are as sure as they say, on curves with noise", function()
  local inside, below, total = 0, 0, 300
  for n = 1, total do
    local power, floor = 0.3 + core.uniform(1, n, "power"), core.uniform(1, n, "floor")
    local function at(i, x)
      local shape = n % 2 == 0 and 0.2 * x ^ -power or math.exp(-6 * power * x)
      return floor + shape + 0.01 * noise(n, i, "y")
    end
    local parts, values = {}, {}
    for i = 1, 8 do parts[i], values[i] = i / 24, at(i, i / 24) end
    local ending = at(99, 1)
    local said = core.forecast(parts, values, 0, 0)
    if ending >= said.low and ending <= said.high then inside = inside + 1 end
    if ending < said.low then below = below + 1 end
  end
  assert(inside / total > 0.8 and inside / total < 0.99, inside)
  assert(below / total < 0.1, below) -- what a rule would stop by mistake; 0.05 is meant
end)

test("what forecasts were off by corrects the next", function()
  local parts, values = { 0.1, 0.2, 0.3, 0.4 }, { 1.0, 0.7, 0.6, 0.55 }
  local plain, moved = core.forecast(parts, values, 0, 0, 0.4), core.forecast(parts, values, -0.1, 0.05, 0.4)
  close(moved.value, plain.value - 0.1, 0.03)
  assert(moved.high - moved.low > plain.high - plain.low and moved.below > plain.below)
end)

local sizes, tokens = { 1e6, 3e6, 1e7, 3e7, 1e8 }, { 2e7, 1e8, 5e8, 2e9 }

-- Losses of a law at each of these sizes and tokens, with noise of this size.
local function losses_of(law, seed, part)
  local s, t, losses = {}, {}, {}
  for _, size in ipairs(sizes) do
    for _, count in ipairs(tokens) do
      local i = #s + 1
      s[i], t[i] = size, count
      losses[i] = core.law_at(law, size, count) * (1 + part * noise(seed, i, "loss"))
    end
  end
  return s, t, losses
end

-- The exponents and the factors of arXiv:2203.15556, and others.
local hoffmann = { E = 1.69, A = 406.4, B = 410.7, alpha = 0.34, beta = 0.28 }
local steep = { E = 0.5, A = 5000, B = 9000, alpha = 0.6, beta = 0.5 }

test("a law without noise is found", function()
  for _, law in ipairs { hoffmann, steep } do
    local s, t, losses = losses_of(law, 1, 0)
    local found = core.law(s, t, losses, 0, 1)
    equal(found.terms, "both")
    for _, name in ipairs { "E", "A", "B", "alpha", "beta" } do
      close(found[name], law[name], 1e-3 * law[name], name)
    end
  end
end)

test("the exponents are within their intervals, about as often as these say", function()
  local inside, total, samples = 0, 0, 40
  for seed = 1, 16 do
    local s, t, losses = losses_of(hoffmann, seed, 0.004)
    local found = core.law(s, t, losses, samples, seed)
    for _, name in ipairs { "alpha", "beta", "E" } do
      local list = {}
      for i, sample in ipairs(found.samples) do list[i] = sample[name] end
      table.sort(list)
      total = total + 1
      if list[3] <= hoffmann[name] and hoffmann[name] <= list[samples - 2] then inside = inside + 1 end
    end
  end
  assert(inside / total > 0.75, ("%d of %d"):format(inside, total))
end)

test("where size or tokens do not vary, or go together, one term is left", function()
  local function terms(s, t)
    local losses = {}
    for i in ipairs(s) do losses[i] = 1 + 20 * s[i] ^ -0.4 + 30 * t[i] ^ -0.3 end
    return core.law(s, t, losses, 0, 1).terms
  end
  equal(terms({ 1e3, 2e3, 4e3, 8e3, 1.6e4, 3e4 }, { 1e5, 1e5, 1e5, 1e5, 1e5, 1e5 }), "size")
  equal(terms({ 1e3, 1e3, 1e3, 1e3, 1e3, 1e3 }, { 1e4, 2e4, 4e4, 8e4, 1.6e5, 3e5 }), "tokens")
  equal(terms({ 1e3, 2e3, 4e3, 8e3, 1.6e4, 3e4 }, { 2e4, 4e4, 8e4, 1.6e5, 3.2e5, 6e5 }), "size", "20 a parameter")
  equal(terms({ 1e3, 2e3, 4e3, 8e3 }, { 1e4, 2e5, 3e4, 4e5 }), "size", "too few for both")
  local _, message = core.law({ 1, 2, 3 }, { 1, 1, 1 }, { 3, 2, 1 }, 0, 1)
  tap.contains(message, "a law needs 4 points, and there are 3")
  local _, negative = core.law({ 1, 2, 3, 4 }, { 1, 1, 1, 1 }, { 3, 2, 1, -1 }, 0, 1)
  tap.contains(negative, "losses above 0")
end)

tap.done()
