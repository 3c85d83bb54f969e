-- JSON: plain values, which are written and read without a tree in between, and the others, which
-- are not, have the same texts and come back the same.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local json = require "pioche.core.json"
local sweep = require "pioche.core.sweep"
local test, equal = tap.test, tap.equal

local draws = 0
local function draw(low, high)
  draws = draws + 1
  return sweep.integer(1, draws, "json", low, high)
end

-- A string that is not plain makes the whole text one for the library.
local mark = "\u{e9}"

local function by_library(value)
  local text = json.encode { a = value, z = mark }
  return text:sub(#'{"a":' + 1, -#(',"z":"' .. mark .. '"}') - 1)
end

local function read_by_library(text)
  return json.decode(('{"a":%s,"z":"%s"}'):format(text, mark)).a
end

local function check(value)
  local text = json.encode(value)
  equal(text, by_library(value))
  equal(json.decode(text), read_by_library(text), text)
  equal(json.encode(json.decode(text)), text)
end

local function any_real()
  local kind = draw(1, 5)
  if kind == 1 then return string.unpack("d", string.pack("j", draw(math.mininteger, math.maxinteger))) end
  if kind == 2 then return draw(-1000, 1000) / 8 end
  if kind == 3 then return draw(1, 9) * 10.0 ^ draw(-20, 25) end
  if kind == 4 then return draw(-999999, 999999) / 10.0 ^ draw(0, 12) end
  return sweep.uniform(1, draws, "real")
end

local function any_string()
  local bytes = {}
  for i = 1, draw(0, 9) do bytes[i] = string.char(draw(0, 6) == 0 and draw(1, 127) or draw(97, 122)) end
  return table.concat(bytes)
end

local function any_value(depth)
  local kind = draw(1, depth < 6 and 8 or 5)
  if kind == 1 then return draw(0, 1) == 1 end
  if kind == 2 then return draw(math.mininteger, math.maxinteger) >> draw(0, 63) end
  if kind == 3 then return any_real() end
  if kind == 4 then return any_string() end
  if kind == 5 then return json.null end
  local result = kind == 6 and json.array {} or {}
  for i = 1, draw(0, 7) do
    if kind == 8 then result[any_string()] = any_value(depth + 1) else result[i] = any_value(depth + 1) end
  end
  return result
end

test("numbers are the same, whichever way they are written and read", function()
  for _, value in ipairs { 0, -1, math.mininteger, math.maxinteger, 10 ^ 15, 10 ^ 15 - 0.125, -10 ^ 15, 1e16, 1e17,
    1e21, 1e22, 1e23, 1.5e300, 0.0, -0.0, 1e-4, 1e-5, 5e-324, 2.2250738585072014e-308, 0.1, 1 / 3, 123456789012345.6,
    1234567890123456.0, 9007199254740993.0, 1.7976931348623157e308 } do
    check(value)
  end
  for _ = 1, 20000 do check(any_real()) end
  for _, text in ipairs { "0", "-0", "12", "-7", "999999999999999999", "9223372036854775807", "1.0", "1E3", "1e+3",
    "0.5e-3", "-0.0", "1e-400", "123456789.123456789123456789" } do
    equal(json.decode(text), read_by_library(text), text)
  end
end)

test("and so are tables, however deep, and strings of all bytes", function()
  for _ = 1, 3000 do check(any_value(0)) end
  local wide, long = {}, { ("x"):rep(5000) }
  for i = 1, 100 do wide["k" .. i] = i end
  check(wide)
  check(long)
  for c = 1, 127 do check { [string.char(c)] = string.char(c), k = "a" .. string.char(c) .. "b" } end
end)

test("what is no JSON, or cannot be written, is refused whichever way it begins", function()
  for _, text in ipairs { "", "{", "[1,]", '{"a":1,}', '{"a":1,"a":2}', '{"a" 1}', "01", "1.", "-", "+1", ".5", "1e",
    "nul", "truex",
    '"a', '"a\n"', "[1 2]", "{} x", "1 2", '{"a":{"b":1,"b":2}}', "1e400", "NaN", "99999999999999999999",
    '{1:2}', "[1,2", "\0", '"\0"' } do
    local value, message, word = json.decode(text, "spec")
    equal({ value, word }, { nil, "corrupt" }, text)
    tap.contains(message, "spec: line ")
  end
  equal(json.decode(' { "a" : [ 1 , 2 ] } '), { a = { 1, 2 } })
  for _, value in ipairs { { [1] = 1, a = 2 }, { { [2.5] = 1 } }, { print }, { "\xff" }, { ["a\0"] = 1 } } do
    local text, _, word = json.encode(value)
    equal({ text, word }, { nil, "invalid" })
  end
  local deep = {}
  for _ = 1, 200 do deep = { deep } end
  tap.contains(select(2, json.encode(deep)), "nested deeper than 100")
  equal({ json.encode(0 / 0), json.encode { math.huge, -math.huge } }, { '"NaN"', '["Infinity","-Infinity"]' })
end)

tap.done()
