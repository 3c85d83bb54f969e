-- Charts: the curve is where the numbers are.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local chart = require "pioche.chart"
local term = require "pioche.term"
local test, equal = tap.test, tap.equal
local nan = 0 / 0

local function lines_of(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do list[#list + 1] = line end
  return list
end

local function line_up(n)
  local s = { label = "up", x = {}, y = {} }
  for i = 1, n do s.x[i], s.y[i] = i, i * 1.0 end
  return s
end

test("smoothing has no bias at the start and none at a constant", function()
  equal(chart.smooth({ 5.0, 5.0, 5.0 }, 0.9), { 5.0, 5.0, 5.0 })
  local s = chart.smooth({ 1.0, 3.0 }, 0.5)
  equal(s[1], 1.0)
  assert(math.abs(s[2] - (0.25 * 1 + 0.5 * 3) / 0.75) < 1e-12)
end)

test("smoothing passes over what is not finite", function()
  local s = chart.smooth({ 1.0, nan, 1.0 }, 0.9)
  assert(s[2] ~= s[2])
  equal(s[3], 1.0)
end)

test("ticks are round and inside", function()
  equal(chart.ticks(0.0, 10.0, 5), { 0.0, 2.0, 4.0, 6.0, 8.0, 10.0 })
  for _, tick in ipairs(chart.ticks(1.97, 3.04, 4)) do assert(tick >= 1.97 and tick <= 3.04) end
  equal(chart.ticks(3.0, 3.0, 4), { 3.0 })
end)

test("a rising line rises from corner to corner", function()
  local text = chart.render({ line_up(50) }, { width = 60, height = 16 })
  local lines = lines_of(text)
  local function first_dot(line)
    local body = line:match("[│┤](.*)$")
    return body and body:find("[^ ]")
  end
  local previous = math.huge
  local rows = 0
  for _, line in ipairs(lines) do
    local at = first_dot(line)
    if at then
      assert(at <= previous, text)
      previous, rows = at, rows + 1
    end
  end
  equal(previous, 1)
  assert(rows >= 10, text)
end)

test("nothing is wider or higher than asked", function()
  for _, width in ipairs { 30, 80, 133 } do
    local text = chart.render({ line_up(1000) }, { width = width, height = 20, title = "t" })
    local lines = lines_of(text)
    assert(#lines <= 20, #lines)
    for _, line in ipairs(lines) do assert(term.width(line) <= width, line) end
  end
end)

test("without colours several series are letters", function()
  local down = line_up(20)
  down.label = "down"
  for i = 1, 20 do down.y[i] = 21.0 - i end
  local text = chart.render({ line_up(20), down }, { width = 50, height = 14 })
  tap.contains(text, "aaa")
  tap.contains(text, "bbb")
  tap.contains(text, "a up")
  tap.contains(text, "b down")
  tap.lacks(text, "\27")
end)

test("with colours each series has its own", function()
  local text = chart.render({ line_up(20), line_up(20) }, { width = 50, height = 14, color = true })
  tap.contains(text, "\27[36m")
  tap.contains(text, "\27[33m")
end)

test("gaps stay gaps", function()
  local s = line_up(40)
  for i = 10, 30 do s.y[i] = nan end
  local text = chart.render({ s }, { width = 50, height = 14 })
  local whole = chart.render({ line_up(40) }, { width = 50, height = 14 })
  assert(#text:gsub("[^\xe2]", "") < #whole:gsub("[^\xe2]", ""), text)
end)

test("a logarithmic axis leaves out what it cannot show", function()
  local s = { label = "x", x = { 1, 2, 3, 4 }, y = { -1.0, 0.01, 1.0, 100.0 } }
  local text = chart.render({ s }, { width = 50, height = 20, log = true })
  tap.contains(text, "0.01")
  tap.contains(text, "100")
  equal(chart.render({ { label = "x", x = { 1 }, y = { -1.0 } } }, { log = true }), nil)
end)

test("nothing finite, nothing drawn", function()
  equal(chart.render({ { label = "x", x = { 1, 2 }, y = { nan, math.huge } } }, {}), nil)
  equal(chart.render({}, {}), nil)
end)

test("one point and extreme steps are drawn", function()
  assert(chart.render({ { label = "x", x = { 5 }, y = { 1.0 } } }, { width = 40, height = 10 }))
  assert(chart.render({ { label = "x", x = { math.mininteger, math.maxinteger },
    y = { 0.0, 1.0 } } }, { width = 40, height = 10 }))
  assert(chart.render({ { label = "x", x = { 1, 2 }, y = { 1e-300, 1e300 } } },
    { width = 40, height = 10 }))
end)

tap.done()
